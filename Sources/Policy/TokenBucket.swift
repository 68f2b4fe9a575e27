// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A token bucket (RFC 2697 §3): so many units a second in the long run, and a burst at once.
///
/// Units are bits for `--rate-out` and `--rate-in`, flows for `--max-flow-rate`. The level is kept in units times
/// nanoseconds, without rounding, so that no rate drifts. What is taken may overdraw the bucket once: a super-frame larger than
/// the burst passes when the bucket is not empty, and what follows waits longer.
public struct TokenBucket: Hashable, Sendable {
    /// Units a second.
    public let rate: UInt64
    /// The most units that lie ready.
    public let burst: UInt64

    private static let second: Int128 = 1_000_000_000

    private var level: Int128
    private var last: UInt64

    /// Makes a full bucket.
    ///
    /// - Parameters:
    ///   - rate: units a second, at least 1.
    ///   - burst: the most units that lie ready, at least 1.
    ///   - now: the time, in nanoseconds.
    public init(rate: UInt64, burst: UInt64, now: UInt64) {
        precondition(rate > 0 && burst > 0, "a bucket that never fills")
        self.rate = rate
        self.burst = burst
        level = Int128(burst) * Self.second
        last = now
    }

    /// Takes units if any lie ready.
    ///
    /// - Parameters:
    ///   - units: how many.
    ///   - now: the time, in nanoseconds; an earlier one than the last counts as that.
    /// - Returns: Whether they were taken.
    public mutating func take(_ units: UInt64, now: UInt64) -> Bool {
        refill(now)
        guard level > 0 else { return false }
        level -= Int128(units) * Self.second
        return true
    }

    /// How long it takes until units lie ready.
    ///
    /// - Parameter now: the time, in nanoseconds.
    /// - Returns: The time in nanoseconds; 0 if units lie ready.
    public mutating func delay(now: UInt64) -> UInt64 {
        refill(now)
        guard level <= 0 else { return 0 }
        return UInt64(clamping: -level / Int128(rate) + 1)
    }

    /// How many whole units lie ready: what a window may still grow by.
    ///
    /// - Parameter now: the time, in nanoseconds.
    /// - Returns: The number of units.
    public mutating func available(now: UInt64) -> UInt64 {
        refill(now)
        return level > 0 ? UInt64(level / Self.second) : 0
    }

    private mutating func refill(_ now: UInt64) {
        guard now > last else { return }
        let gained = Int128(now - last).multipliedReportingOverflow(by: Int128(rate))
        last = now
        let full = Int128(burst) * Self.second
        guard !gained.overflow else { return level = full }
        level += min(gained.partialValue, full - level)
    }
}
