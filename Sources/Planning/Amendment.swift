// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

// Theory of operation.
//
// A host may have 100,000 routes, of which one is added or removed. `plan()` and `diff()` examine all of them. For an
// ordinary route the result is known in advance: an IPv4 route through one router, in the main table or in a table that
// is not copied, which is neither a default route nor a route to the probe. Such a route affects only its own copy:
// neither the template nor the router, and since it has a router, no other route's router is reached through it. The
// settings of the services are computed anew. All other changes are not amended, and the caller calls `plan()`.

/// Amends a plan by changes of single routes of a large table.
///
/// The plan then equals the result of `plan()`, except for ``NamespacePlan/reasons``, which stay as they are. It is
/// changed in place, so that a large table is not copied.
///
/// - Parameters:
///   - plan: the plan before the changes; if nil is returned, it may contain some of them.
///   - changes: the routes that were added or removed; nothing else has changed.
///   - snapshot: the host after the changes.
///   - configuration: what the user asked for.
/// - Returns: the operations that turn the earlier plan into the new one; nil if `plan()` and `diff()` are needed.
/// - Complexity: O(routes), some nanoseconds for each.
public func amend(
    _ plan: inout NamespacePlan, by changes: [RouteEvent], snapshot: HostSnapshot, configuration: Configuration
) -> [NamespaceOperation]? {
    guard case .template(let interface, _) = plan.families.v4.mode, configuration.copiesRoutes,
        // With several address sources, routes get a preferred source, which only `plan()` determines.
        configuration.sources(of: .v4) == [.template],
        // Without a default route, any route may decide which interface is the template.
        plan.families.v4.routes.hasOne(where: { $0.isDefault })
    else { return nil }
    // The templates are those of the earlier plan; only their links matter here.
    var templates = PerFamily<Template?>(v4: nil, v6: nil)
    for family in AddressFamily.allCases {
        let link = plan.services.neighbourLinks[family].flatMap { snapshot.link($0) }
        templates[family] = link.map { Template(link: $0, isPinned: false, hasDefault: true, gateway: nil) }
    }
    guard let template = templates.v4, template.link.index == interface else { return nil }
    // These reasons are in the earlier plan already, so they are discarded.
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

/// The facts that decide how a plan is amended.
private struct Amendment {
    let copier: RouteCopier
    let interface: InterfaceIndex
    /// The number of the host's routes after an added one that are searched in the plan.
    private static let followers = 16

    /// Applies a change to the plan's routes; false if more than the route's own copy may depend on it.
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
            // Its router can be reached if another route has the same one.
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

    /// The position of the copy of a host's route: before the copy of the route that follows on the host.
    ///
    /// - Returns: The position; nil if it cannot be determined, or the plan has a route that the kernel would take for
    ///   the copy.
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
