// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Flows that were evicted, counted for one log line a minute.
struct Evictions {
    /// The limits at which flows are evicted.
    struct Bounds: OptionSet {
        let rawValue: UInt8
        /// The flow table is full.
        static let table = Bounds(rawValue: 1)
        /// The process has no descriptors left.
        static let descriptors = Bounds(rawValue: 2)
        /// The kind has reached its limit.
        static let kind = Bounds(rawValue: 4)
    }

    /// The time from the first eviction to the line, in nanoseconds, so that one line covers a burst.
    private static let gatheringTime: Int64 = 1_000_000_000
    /// The time between two lines.
    private static let interval: Int64 = 60_000_000_000

    private var counts: InlineArray<8, UInt32> = .init(repeating: 0)
    private var bounds: Bounds = []
    private var lastLine: Int64 = .min
    /// When the line is due, in nanoseconds; `.max` while there is nothing to report.
    private(set) var deadline: Int64 = .max

    /// Counts an evicted flow.
    mutating func count(_ kind: FlowKind, at bound: Bounds, now: Int64) {
        counts[Int(kind.rawValue)] &+= 1
        bounds.insert(bound)
        guard deadline == .max else { return }
        let next = lastLine == .min ? now : lastLine &+ Self.interval
        deadline = max(now &+ Self.gatheringTime, next)
    }

    /// Returns the line, and starts a new count.
    ///
    /// - Parameters:
    ///   - now: the time, in nanoseconds.
    ///   - descriptorLimit: the greatest number of descriptors of the process.
    ///   - flowLimit: the greatest number of flows.
    /// - Returns: the text of the line.
    mutating func take(now: Int64, descriptorLimit: Int, flowLimit: Int) -> String {
        var parts: [String] = []
        for kind in FlowKind.allCases where counts[Int(kind.rawValue)] > 0 {
            parts.append("\(kind.name) \(counts[Int(kind.rawValue)])")
        }
        var reasons: [String] = []
        if bounds.contains(.descriptors) {
            reasons.append(
                "the limit of \(descriptorLimit) open files is reached (raise it with `ulimit -n` or LimitNOFILE=)")
        }
        if bounds.contains(.kind) { reasons.append("there may be \(FlowKind.handshake.most) of a kind at most") }
        if bounds.contains(.table) { reasons.append("there may be \(flowLimit) flows at most") }
        counts = .init(repeating: 0)
        bounds = []
        deadline = .max
        lastLine = now
        return "given up to make room for others: \(parts.joined(separator: ", ")); "
            + reasons.joined(separator: ", and ")
    }
}
