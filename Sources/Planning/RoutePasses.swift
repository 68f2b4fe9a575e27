// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel

// Passes over a whole routing table, which may have hundreds of thousands of routes. An ordinary loop copies each route
// and changes the reference count of its next hops; these functions read the routes in place.

extension [Route] {
    /// The positions of the routes that meet a condition.
    func positions(where isMeant: (borrowing Route) -> Bool) -> [Int] {
        let routes = span
        var found: [Int] = []
        for position in routes.indices where isMeant(routes[position]) { found.append(position) }
        return found
    }

    /// The routes that meet a condition.
    func picked(where isMeant: (borrowing Route) -> Bool) -> [Route] {
        positions(where: isMeant).map { self[$0] }
    }

    /// Whether a route meets a condition.
    func hasOne(where isMeant: (borrowing Route) -> Bool) -> Bool {
        let routes = span
        for position in routes.indices where isMeant(routes[position]) { return true }
        return false
    }
}

extension [AppliedState.RouteEntry] {
    /// The first position in a range whose entry meets a condition.
    func firstPosition(
        in range: Range<Int>, where isMeant: (borrowing AppliedState.RouteEntry) -> Bool
    ) -> Int? {
        let entries = span
        for position in range where isMeant(entries[position]) { return position }
        return nil
    }
}
