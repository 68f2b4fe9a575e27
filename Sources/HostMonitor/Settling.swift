// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem

/// When to read the host's tables after events: a pure state machine.
///
/// Idle -> (event) -> gathering -> (due, read) -> idle. Reading is due `quiet` after the last event, so that a burst is
/// read once, but at most `limit` after the first event, so that steady changes cannot delay it for ever. It also waits
/// for a back-off in proportion to the cost of the last reading, so that a host with a full routing table does not
/// occupy a core.
public struct Settling: Hashable, Sendable {
    /// The time without an event, in milliseconds.
    public var quietMilliseconds: Int64 = 100
    /// The longest time after the first event, in milliseconds.
    public var limitMilliseconds: Int64 = 1000
    /// The back-off as a multiple of a reading's cost: 9 keeps reading below a tenth of one processor.
    public var backOffFactor: Int64 = 9

    private var first: MonotonicTime?
    private var last: MonotonicTime?
    private var notBefore: MonotonicTime?

    /// Begins idle.
    public init() {}

    /// Whether there are events that have not been handled.
    public var isGathering: Bool { first != nil }
    /// When the first unhandled event arrived.
    public var firstEvent: MonotonicTime? { first }

    /// Records an event.
    public mutating func eventArrived(at now: MonotonicTime) {
        if first == nil { first = now }
        last = now
    }

    /// The time to read; nil while idle.
    public var deadline: MonotonicTime? {
        guard let first, let last else { return nil }
        let settled = min(
            last.advanced(milliseconds: quietMilliseconds), first.advanced(milliseconds: limitMilliseconds))
        return notBefore.map { max(settled, $0) } ?? settled
    }

    /// Whether the time to read has come.
    public func isDue(at now: MonotonicTime) -> Bool {
        deadline.map { $0 <= now } ?? false
    }

    /// Records that the tables were read, and the cost; the events so far stay unhandled.
    public mutating func readingEnded(at now: MonotonicTime, costNanoseconds: Int64) {
        let wait = max(0, costNanoseconds).multipliedReportingOverflow(by: backOffFactor).partialValue
        notBefore = MonotonicTime(nanoseconds: now.nanoseconds &+ max(0, wait))
    }

    /// Whether the unhandled events must not wait for others any longer.
    public func isAtLimit(at now: MonotonicTime) -> Bool {
        first.map { $0.advanced(milliseconds: limitMilliseconds) <= now } ?? false
    }

    /// Records that the events so far have been handled.
    public mutating func finish() {
        first = nil
        last = nil
    }
}
