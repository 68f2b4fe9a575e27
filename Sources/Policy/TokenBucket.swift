// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A token bucket (RFC 2697 §3): it limits the average rate and the burst.
///
/// Units are flows for `--max-flow-rate`. The level is kept in units times
/// nanoseconds, without rounding, so that no rate drifts. A single request may overdraw the bucket: a super-frame
/// larger than the burst passes when the bucket is not empty, and the following ones wait longer.
public struct TokenBucket: Hashable, Sendable {
    /// Units a second.
    public let rate: UInt64
    /// The greatest number of available units.
    public let burst: UInt64

    private static let second: Int128 = 1_000_000_000

    private var level: Int128
    private var last: UInt64

    /// Makes a full bucket.
    ///
    /// - Parameters:
    ///   - rate: units a second, at least 1.
    ///   - burst: the greatest number of available units, at least 1.
    ///   - now: the time, in nanoseconds.
    public init(rate: UInt64, burst: UInt64, now: UInt64) {
        precondition(rate > 0 && burst > 0, "a bucket that never fills")
        self.rate = rate
        self.burst = burst
        level = Int128(burst) * Self.second
        last = now
    }

    /// Takes units if any are available.
    ///
    /// - Parameters:
    ///   - units: the number of units.
    ///   - now: the time, in nanoseconds; a time before the last one counts as the last one.
    /// - Returns: Whether they were taken.
    public mutating func take(_ units: UInt64, now: UInt64) -> Bool {
        refill(now)
        guard level > 0 else { return false }
        level -= Int128(units) * Self.second
        return true
    }

    /// The time until units are available.
    ///
    /// - Parameter now: the time, in nanoseconds.
    /// - Returns: The time in nanoseconds; 0 if units are available.
    public mutating func delay(now: UInt64) -> UInt64 {
        refill(now)
        guard level <= 0 else { return 0 }
        return UInt64(clamping: -level / Int128(rate) + 1)
    }

    /// The number of whole available units, by which a window may grow.
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
