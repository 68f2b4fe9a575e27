// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Flows that had to make room for others, counted for one line a minute.
struct Evictions {
    /// The bounds at which flows have to go.
    struct Bounds: OptionSet {
        let rawValue: UInt8
        /// The flow table is full.
        static let table = Bounds(rawValue: 1)
        /// The process has no more descriptors.
        static let descriptors = Bounds(rawValue: 2)
        /// There are as many of the kind as there may be.
        static let kind = Bounds(rawValue: 4)
    }

    /// The time from the first one to the line, so that a burst is told of as a whole, in nanoseconds.
    private static let gatheringTime: Int64 = 1_000_000_000
    /// The time from one line to the next.
    private static let interval: Int64 = 60_000_000_000

    private var counts: InlineArray<8, UInt32> = .init(repeating: 0)
    private var bounds: Bounds = []
    private var lastTold: Int64 = .min
    /// When the line is due, in nanoseconds; `.max` while there is nothing to tell.
    private(set) var deadline: Int64 = .max

    /// Counts a flow that had to go.
    mutating func count(_ kind: FlowKind, at bound: Bounds, now: Int64) {
        counts[Int(kind.rawValue)] &+= 1
        bounds.insert(bound)
        guard deadline == .max else { return }
        let next = lastTold == .min ? now : lastTold &+ Self.interval
        deadline = max(now &+ Self.gatheringTime, next)
    }

    /// The line, which begins anew then.
    ///
    /// - Parameters:
    ///   - now: the moment, in nanoseconds.
    ///   - descriptorLimit: the most descriptors the process may have.
    ///   - flowLimit: the most flows there may be.
    /// - Returns: what a person reads.
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
        lastTold = now
        return "given up to make room for others: \(parts.joined(separator: ", ")); "
            + reasons.joined(separator: ", and ")
    }
}
