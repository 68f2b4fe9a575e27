// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel

// Passes over a whole routing table, of which there may be hundreds of thousands of routes. An ordinary loop copies
// each route, and with it counts a reference of its next hops up and down; these look at the routes where they are.

extension [Route] {
    /// The positions of the routes that a condition holds for.
    func positions(where isMeant: (borrowing Route) -> Bool) -> [Int] {
        let routes = span
        var found: [Int] = []
        for position in routes.indices where isMeant(routes[position]) { found.append(position) }
        return found
    }

    /// The routes that a condition holds for.
    func picked(where isMeant: (borrowing Route) -> Bool) -> [Route] {
        positions(where: isMeant).map { self[$0] }
    }

    /// Whether a condition holds for a route.
    func hasOne(where isMeant: (borrowing Route) -> Bool) -> Bool {
        let routes = span
        for position in routes.indices where isMeant(routes[position]) { return true }
        return false
    }
}

extension [AppliedState.RouteEntry] {
    /// The first position, in a range, of an entry that a condition holds for.
    func firstPosition(
        in range: Range<Int>, where isMeant: (borrowing AppliedState.RouteEntry) -> Bool
    ) -> Int? {
        let entries = span
        for position in range where isMeant(entries[position]) { return position }
        return nil
    }
}
