// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The routes of a difference: compares the tables, adds, replaces and removes routes.

internal import NetworkModel
internal import NetworkTypes

extension Difference {
    /// The planned routes that are not present as planned, and our present routes that are not planned.
    ///
    /// Both tables have nearly the same order, so they are walked side by side, and only a route that does not match
    /// within a few steps is looked up.
    mutating func compareRoutes() -> (missing: [Route], stale: [Route]) {
        let present = kernel.routes.entries
        var isMatched = [Bool](repeating: false, count: present.count)
        var missing: [Route] = []
        for routes in plannedRoutes {
            let planned = routes.span
            // In both tables, the routes of the two families are separate.
            var next = 0
            for position in planned.indices {
                let reach = next..<min(next + Self.lookAhead, present.count)
                var match = present.firstPosition(in: reach) { $0.isOurs(planned[position]) }
                if match == nil, position == 0 {
                    match = present.firstPosition(in: present.indices) { $0.isOurs(planned[position]) }
                }
                if let match {
                    isMatched[match] = true
                    next = match + 1
                } else {
                    let route = planned[position]
                    let isThere = kernel.routes.contains(route.identity) { $0.isOurs(route) }
                    if !isThere { missing.append(route) }
                }
            }
        }
        let entries = present.span
        var unmatched: [Route] = []
        for position in entries.indices where !isMatched[position] && entries[position].origin == .ours {
            unmatched.append(entries[position].value)
        }
        guard unmatched.count > Self.lookAhead else {
            return (missing, unmatched.filter { !isPlanned($0.identity) })
        }
        let planned = Set(plannedRoutes.joined().lazy.map(\.identity))
        return (missing, unmatched.filter { !planned.contains($0.identity) })
    }

    /// Whether a route of an identity is planned, by a search through all routes.
    func isPlanned(_ identity: Route.Identity) -> Bool {
        plannedRoutes.contains { routes in
            routes.hasOne { $0.destination.length == identity.destination.length && $0.identity == identity }
        }
    }

    /// Adds and replaces routes in the plan's order; returns those that the kernel would refuse now.
    mutating func addRoutes() -> [Route] {
        let (missing, stale) = compareRoutes()
        staleRoutes = stale
        var refused: [Route] = []
        for route in missing where !settle(route) { refused.append(route) }
        wasRefused = !refused.isEmpty
        return refused
    }

    /// Makes sure that a planned route is present; false if the kernel would refuse it.
    ///
    /// - Parameters:
    ///   - route: the route.
    ///   - done: on the last try, the routes that were sent already: the model may be wrong, so in the end the kernel
    ///     is asked, but once.
    /// - Returns: Whether nothing is left to do for the route.
    @discardableResult
    mutating func settle(_ route: Route, lastTryAfter done: Set<NamespaceOperation>? = nil) -> Bool {
        var operation = NamespaceOperation.addRoute(route)
        let identity = route.identity
        if let own = kernel.routes.first(identity, where: { $0.origin == .ours }) {
            if own.value.canonical == route { return true }
            operation = .replaceRoute(route)
        } else if kernel.routes.contains(identity) {
            return true
        }
        if kernel.carryOut(operation) != nil {
            guard let done, !done.contains(operation) else { return false }
        }
        operations.append(operation)
        return true
    }

    /// Restores what removed addresses have taken along, and asks the kernel once for what the model refuses.
    mutating func restoreDependentRoutes() {
        // Without such steps, nothing has changed since.
        guard wasRefused || operations.contains(where: \.mayTakeRoutesAlong) else { return }
        var missing = compareRoutes().missing
        guard !missing.isEmpty else { return }
        // Defaults first: each of the steps leaves flows without these routes for a moment.
        for step in [{ $0.isDefault }, { _ in true }] as [(Route) -> Bool] where missing.contains(where: needsRoom) {
            var trial = self
            trial.makeRoom(byRemoving: step)
            let rest = trial.compareRoutes().missing
            guard rest.count < missing.count else { continue }
            self = trial
            missing = rest
        }
        let done = Set(operations)
        for route in missing { settle(route, lastTryAfter: done) }
    }

    /// Whether the kernel would refuse an IPv6 route because of the gateway.
    ///
    /// The kernel looks a gateway up in the table. A route through a router hides a wider one on the link that makes the
    /// gateway reachable, above all among defaults. A fresh start adds the routes in the plan's order and gets this one,
    /// where a later change does not.
    func needsRoom(_ route: Route) -> Bool {
        guard route.family == .v6 else { return false }
        var trial = kernel
        let isThere = trial.routes.contains(route.identity)
        return trial.carryOut(isThere ? .replaceRoute(route) : .addRoute(route)) == .unreachableGateway
    }

    /// Removes IPv6 routes of ours, and adds what is missing in the plan's order, as a fresh start does.
    mutating func makeRoom(byRemoving isMeant: (Route) -> Bool) {
        for entry in kernel.routes.entries where entry.origin == .ours && entry.value.family == .v6 {
            if isMeant(entry.value) { emit(.removeRoute(entry.value)) }
        }
        let refused = compareRoutes().missing.filter { $0.family == .v6 && !settle($0) }
        for route in refused { settle(route) }
    }

    /// Removes our routes that are not planned; those that depend on others first.
    mutating func removeRoutes(where isMeant: (Route) -> Bool) {
        for route in staleRoutes.reversed() where isMeant(route) {
            guard route.preferredSource != nil else {
                emit(.removeRoute(route))
                continue
            }
            // When its source address goes, an IPv4 route goes with it, and an IPv6 route loses the source and is not found
            // by it any more.
            let present = kernel.routes.first(route.identity) { $0.origin == .ours }
            if let present { emit(.removeRoute(present.value)) }
        }
        staleRoutes.removeAll(where: isMeant)
    }

    /// Removes default routes that are not planned.
    ///
    /// If a planned one of the family is still missing, the old one stays until it is there.
    mutating func removeDefaults() {
        for family in AddressFamily.allCases {
            let planned = plannedRoutes.flatMap { routes in
                routes.picked { $0.isDefault && $0.family == family }.map(\.identity)
            }
            let isThere = planned.contains { kernel.routes.contains($0) }
            if planned.isEmpty || isThere { removeRoutes { $0.isDefault && $0.family == family } }
        }
    }
}

extension NamespaceOperation {
    /// Whether this removal can remove routes, or this addition can add routes.
    fileprivate var mayTakeRoutesAlong: Bool {
        switch self {
        case .addRoute, .replaceRoute, .removeRoute, .setMAC, .setMTU, .resetFlows: false
        default: true
        }
    }
}

extension AppliedState.RouteEntry {
    /// Whether this is a planned route that we have added.
    fileprivate func isOurs(_ planned: borrowing Route) -> Bool {
        guard origin == .ours else { return false }
        return value.isCanonical ? value.equals(planned) : value.canonical.equals(planned)
    }
}
