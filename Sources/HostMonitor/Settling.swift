// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem

/// When to read the host's tables after events: a pure state machine.
///
/// Idle -> (event) -> gathering -> (due, read) -> idle. It is due `quiet` after the last event, so that a burst is read
/// once, but at most `limit` after the first, so that steady churn cannot starve it; and not before the back-off from
/// the last reading, in proportion to what that cost, so that a host with a full routing table does not burn a core.
public struct Settling: Hashable, Sendable {
    /// How long without an event, in milliseconds.
    public var quietMilliseconds: Int64 = 100
    /// How long after the first event at most, in milliseconds.
    public var limitMilliseconds: Int64 = 1000
    /// How many times a reading's cost is waited before the next: 9 keeps reading below a tenth of one processor.
    public var backOffFactor: Int64 = 9

    private var first: MonotonicTime?
    private var last: MonotonicTime?
    private var notBefore: MonotonicTime?

    /// Begins idle.
    public init() {}

    /// Whether events wait to be acted on.
    public var isGathering: Bool { first != nil }
    /// When the first of the events that wait arrived.
    public var firstEvent: MonotonicTime? { first }

    /// Notes that something changed.
    public mutating func eventArrived(at now: MonotonicTime) {
        if first == nil { first = now }
        last = now
    }

    /// When to read; nil while idle.
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

    /// Notes that the tables were read, and what that cost; the events so far are still being gathered.
    public mutating func readingEnded(at now: MonotonicTime, costNanoseconds: Int64) {
        let wait = max(0, costNanoseconds).multipliedReportingOverflow(by: backOffFactor).partialValue
        notBefore = MonotonicTime(nanoseconds: now.nanoseconds &+ max(0, wait))
    }

    /// Whether the events that wait may no longer be kept waiting for others.
    public func isAtLimit(at now: MonotonicTime) -> Bool {
        first.map { $0.advanced(milliseconds: limitMilliseconds) <= now } ?? false
    }

    /// Notes that the events so far have been acted on.
    public mutating func finish() {
        first = nil
        last = nil
    }
}
