// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Collects the reasons for each decision of a plan, and the warnings for the user.
struct Report {
    /// The decisions, in order.
    private(set) var reasons: [Reason] = []
    /// The warnings, each once.
    private(set) var warnings: [String] = []

    /// Records a decision.
    mutating func note(_ family: AddressFamily?, _ cause: Reason.Cause, _ placement: Reason.Placement = .detail) {
        reasons.append(Reason(family, cause, placement))
    }

    /// The number of routes of a table that are reported one by one; the rest is counted.
    ///
    /// 100,000 lines would be of no use, and writing them would be most of the cost of planning a full table.
    private static let mostRoutes = 256
    /// The number of routes with a warning of their own.
    private static let mostRouteWarnings = 16
    private var routes = (copied: 0, leftOut: 0, warned: 0)

    /// Begins with a table, whose first routes are reported one by one.
    mutating func beginTable() {
        routes = (0, 0, 0)
    }

    /// Counts a copied route; returns whether it is reported.
    mutating func reportsNextCopy() -> Bool {
        routes.copied += 1
        return routes.copied <= Self.mostRoutes
    }

    /// Counts a route that is left out; returns whether it is reported.
    mutating func reportsNextOmission() -> Bool {
        routes.leftOut += 1
        return routes.leftOut <= Self.mostRoutes
    }

    /// Records that a route is skipped, which is a warning.
    mutating func warnOfRoute(_ family: AddressFamily, _ cause: @autoclosure () -> Reason.Cause) {
        routes.warned += 1
        if routes.warned <= Self.mostRouteWarnings { warn(family, cause()) }
    }

    /// Ends a table: counts what was not reported one by one.
    mutating func endTable(_ family: AddressFamily, of name: String) {
        let copied = routes.copied - Self.mostRoutes
        let leftOut = routes.leftOut - Self.mostRoutes
        let warned = routes.warned - Self.mostRouteWarnings
        if copied > 0 { note(family, .moreRoutes(copied, .copied, of: name)) }
        if leftOut > 0 { note(family, .moreRoutes(leftOut, .leftOut, of: name), .remark) }
        if warned > 0 { warn(family, .moreRoutes(warned, .unreachable, of: name)) }
    }

    /// Records a decision with a warning; the same text is recorded once.
    mutating func warn(_ family: AddressFamily?, _ cause: Reason.Cause) {
        note(family, cause)
        let text = cause.text(family)
        if !warnings.contains(text) { warnings.append(text) }
    }
}
