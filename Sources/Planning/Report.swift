// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Collects why each choice of a plan was made, and what the user should know.
struct Report {
    /// The decisions in the order they were made.
    private(set) var reasons: [Reason] = []
    /// The warnings, each once.
    private(set) var warnings: [String] = []

    /// Records a decision.
    mutating func note(_ family: AddressFamily?, _ cause: Reason.Cause, _ weight: Reason.Weight = .detail) {
        reasons.append(Reason(family, cause, weight))
    }

    /// How many routes of a table are told of one by one; the rest is counted.
    ///
    /// Nobody reads 100,000 lines, and writing them would be most of what planning a full table costs.
    private static let mostRoutes = 256
    /// How many routes are warned of one by one.
    private static let mostRouteWarnings = 16
    private var routes = (copied: 0, leftOut: 0, warned: 0)

    /// Begins with a table, whose first routes are told of one by one.
    mutating func beginTable() {
        routes = (0, 0, 0)
    }

    /// Counts a route that is copied; whether it is one of those that are told of.
    mutating func tellsNextCopy() -> Bool {
        routes.copied += 1
        return routes.copied <= Self.mostRoutes
    }

    /// Counts a route that is left out; whether it is one of those that are told of.
    mutating func tellsNextLeftOut() -> Bool {
        routes.leftOut += 1
        return routes.leftOut <= Self.mostRoutes
    }

    /// Records that a route is skipped, which the user should know.
    mutating func warnOfRoute(_ family: AddressFamily, _ cause: @autoclosure () -> Reason.Cause) {
        routes.warned += 1
        if routes.warned <= Self.mostRouteWarnings { warn(family, cause()) }
    }

    /// Ends a table: what was not told of one by one is counted.
    mutating func endTable(_ family: AddressFamily, of name: String) {
        let copied = routes.copied - Self.mostRoutes
        let leftOut = routes.leftOut - Self.mostRoutes
        let warned = routes.warned - Self.mostRouteWarnings
        if copied > 0 { note(family, .moreRoutes(copied, .copied, of: name)) }
        if leftOut > 0 { note(family, .moreRoutes(leftOut, .leftOut, of: name), .remark) }
        if warned > 0 { warn(family, .moreRoutes(warned, .unreachable, of: name)) }
    }

    /// Records a decision that the user should know; the same text is recorded once.
    mutating func warn(_ family: AddressFamily?, _ cause: Reason.Cause) {
        note(family, cause)
        let text = cause.text(family)
        if !warnings.contains(text) { warnings.append(text) }
    }
}
