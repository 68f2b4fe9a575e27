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
    guard case .template(let interface, _) = plan.families.v4.mode, configuration.copiesRoutes,
        // Several sources give routes a preferred source; the plan knows which.
        configuration.sources(of: .v4) == [.template],
        // Without a default, any route may be why the template is one.
        plan.families.v4.routes.hasOne(where: { $0.isDefault })
    else { return nil }
    // The templates are those of the plan before; of them nothing but the link matters here.
    var templates = PerFamily<Template?>(v4: nil, v6: nil)
    for family in AddressFamily.allCases {
        let link = plan.services.neighbourLinks[family].flatMap { snapshot.link($0) }
        templates[family] = link.map { Template(link: $0, isPinned: false, hasDefault: true, gateway: nil) }
    }
    guard let template = templates.v4, template.link.index == interface else { return nil }
    // What this says has been said by the plan before.
    var report = Report()
    let copier = RouteCopier(
        snapshot: snapshot, family: .v4, template: template, addresses: plan.families.v4.addresses,
        areAddressesGiven: false, hasIPv6: plan.families.v6.mode != .off)
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
        switch change {
        case .added:
            // Its router is reached as that of another route is.
            let hasNeighbour = routes.hasOne { $0.nextHops == copy.nextHops && $0.scope == copy.scope }
            guard hasNeighbour, let place = place(of: route, in: routes, unless: copy.identity) else { return false }
            routes.insert(copy, at: place)
            operations.append(.addRoute(copy))
        case .removed:
            let own = routes.positions { $0.destination == copy.destination && $0.identity == copy.identity }
            guard own.count == 1, routes[own[0]].equals(copy) else { return false }
            routes.remove(at: own[0])
            operations.append(.removeRoute(copy))
        }
        return true
    }

    /// Where the copy of a route of the host stands: before the copy of the route that follows on the host.
    ///
    /// - Returns: The place; nil if there is no telling, or the plan has a route that the kernel would take for the copy.
    private func place(of route: Route, in routes: [Route], unless own: Route.Identity) -> Int? {
        if routes.hasOne(where: { $0.destination == own.destination && $0.identity == own }) { return nil }
        let all = copier.snapshot.routes.span
        var next = all.count
        for position in all.indices where all[position].destination == route.destination && all[position].equals(route)
        {
            next = position + 1
            break
        }
        for position in next..<min(next + Self.followers, all.count) where all[position].isInMainTable(of: .v4) {
            let identity = all[position].identity
            if let place = routes.place(of: identity) { return place }
        }
        return nil
    }
}

extension [Route] {
    /// The first position of a route of an identity.
    fileprivate func place(of identity: Route.Identity) -> Int? {
        let routes = span
        for position in routes.indices
        where routes[position].destination == identity.destination && routes[position].identity == identity {
            return position
        }
        return nil
    }
}
