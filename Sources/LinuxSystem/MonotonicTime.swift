// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// A moment of `CLOCK_MONOTONIC`, in nanoseconds.
public struct MonotonicTime: Hashable, Sendable, Comparable {
    /// Nanoseconds since the clock's start: the machine's boot, without the time asleep.
    public var nanoseconds: Int64

    /// Makes a moment.
    @inlinable
    public init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    /// Now (clock_gettime(2), a vDSO call).
    public static var now: MonotonicTime { read(CLOCK_MONOTONIC) }

    /// Now on `CLOCK_BOOTTIME`, which also counts the time that the machine sleeps.
    public static var sinceBoot: MonotonicTime { read(CLOCK_BOOTTIME) }

    /// The seconds since 1970 by the wall clock.
    public static var secondsSince1970: Int64 { read(CLOCK_REALTIME).nanoseconds / 1_000_000_000 }

    /// Nanoseconds since 1970 by the wall clock.
    public static var wallNanoseconds: Int64 { read(CLOCK_REALTIME).nanoseconds }

    private static func read(_ clock: clockid_t) -> MonotonicTime {
        var time = timespec()
        // This cannot fail: the clock exists and the pointer is ours.
        unsafe clock_gettime(clock, &time)
        return MonotonicTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// A moment that is later by some milliseconds.
    @inlinable
    public func advanced(milliseconds: Int64) -> MonotonicTime {
        MonotonicTime(nanoseconds: nanoseconds &+ milliseconds &* 1_000_000)
    }

    /// The milliseconds from another moment to this one, rounded down.
    @inlinable
    public func milliseconds(since other: MonotonicTime) -> Int64 {
        (nanoseconds &- other.nanoseconds) / 1_000_000
    }

    /// Orders by time.
    @inlinable
    public static func < (a: MonotonicTime, b: MonotonicTime) -> Bool { a.nanoseconds < b.nanoseconds }
}
