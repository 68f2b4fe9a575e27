// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

// Theory of operation.
//
// Of 100,000 routes one comes or goes. `plan()` and `diff()` look at all of them; what they come to is known beforehand,
// though, where the route is an ordinary one: IPv4, in the main table or none that is copied, by way of one router, no
// default and not on the way to the probe. Such a route decides about nothing but its own copy: not about the template,
// not about the router, and as it has a router it is not the way to that of any other. What the services tell is made
// anew. For everything else there is no amendment, and the caller plans as ever.

/// Amends a plan by changes of single routes of a large table.
///
/// The plan is then as `plan()` makes it but for ``NamespacePlan/reasons``, which stay. It is changed in place, so that a
/// large table is not copied.
///
/// - Parameters:
///   - plan: the plan before them; where nil is returned, some of them may be in it.
///   - changes: the routes that have come or gone: all that has changed.
///   - snapshot: the host after them.
///   - configuration: what the user asked for.
/// - Returns: the operations from what was planned before; nil if it takes `plan()` and `diff()`.
/// - Complexity: O(routes), some nanoseconds for each.
public func amend(
    _ plan: inout NamespacePlan, by changes: [RouteEvent], snapshot: HostSnapshot, configuration: Configuration
) -> [NamespaceOperation]? {
    guard case .template(let interface, _) = plan.families.v4.mode, configuration.copiesRoutes else { return nil }
    // What these say has been said by the plan before.
    var report = Report()
    var templates = PerFamily<Template?>(v4: nil, v6: nil)
    for family in AddressFamily.allCases where plan.families[family].mode != .off {
        templates[family] =
            TemplateChooser(snapshot: snapshot, configuration: configuration, family: family).choose(&report)
    }
    guard let template = templates.v4, template.link.index == interface, template.hasDefault else { return nil }
    let copier = RouteCopier(
        snapshot: snapshot, family: .v4, template: template, addresses: plan.families.v4.addresses,
        areAddressesGiven: configuration.addresses.v4 != nil, hasIPv6: plan.families.v6.mode != .off)
    let amendment = Amendment(copier: copier, interface: interface)
    var operations: [NamespaceOperation] = []
    for change in changes {
        guard amendment.take(change, into: &plan.families.v4.routes, &operations) else { return nil }
    }
    plan.services = ServicePlanner(
        snapshot: snapshot, configuration: configuration, plans: plan.families, templates: templates,
        rules: plan.rules
    ).settings(&report)
    return operations
}

/// What the changes of a plan are judged by.
private struct Amendment {
    let copier: RouteCopier
    let interface: InterfaceIndex
    /// How many of the host's routes behind one that comes are looked for in the plan.
    private static let followers = 16

    /// Takes a change into the plan's routes; false if more than the route's own copy may depend on it.
    func take(_ change: RouteEvent, into routes: inout [Route], _ operations: inout [NamespaceOperation]) -> Bool {
        let route = change.route
        guard route.family == .v4, !route.destination.contains(HostSnapshot.probe(.v4)) else { return false }
        guard route.table == .main else { return true }
        guard route.type == .unicast, route.nextHopID == nil, route.nextHops.count == 1,
            route.nextHops[0].gateway?.family == .v4, !route.nextHops[0].flags.contains(.dead)
        else { return false }
        guard route.nextHops[0].interface == interface else { return true }
        guard let copy = copier.plainCopy(route) else { return false }
        let own = copy.identity
        let position = routes.positions { $0.destination == copy.destination && $0.identity == own }
        switch change {
        case .added:
            // Its router is reached as that of another route is.
            let hasNeighbour = routes.hasOne { $0.nextHops == copy.nextHops && $0.scope == copy.scope }
            guard position.isEmpty, hasNeighbour, let place = place(of: route, in: routes) else {
                return false
            }
            routes.insert(copy, at: place)
            operations.append(.addRoute(copy))
        case .removed:
            guard position.count == 1, routes[position[0]].equals(copy) else { return false }
            routes.remove(at: position[0])
            operations.append(.removeRoute(copy))
        }
        return true
    }

    /// Where the copy of a route of the host stands: before the copy of the route that follows on the host.
    private func place(of route: Route, in routes: [Route]) -> Int? {
        let all = copier.snapshot.routes
        guard let own = all.positions(where: { $0.destination == route.destination && $0.equals(route) }).first else {
            return nil
        }
        for position in all.indices[(own + 1)...].prefix(Self.followers) where all[position].isInMainTable(of: .v4) {
            let identity = all[position].identity
            let destination = all[position].destination
            let place = routes.positions {
                $0.destination == destination && $0.identity == identity
            }
            if let place = place.first { return place }
        }
        return nil
    }
}
