// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem

/// Detects that the machine has slept: a pure comparison of two clocks.
///
/// `CLOCK_BOOTTIME` goes on while the machine sleeps, `CLOCK_MONOTONIC` does not.
public struct SleepDetector: Hashable, Sendable {
    /// The shortest sleep that counts, in nanoseconds.
    public static let threshold: Int64 = 500_000_000
    private var lead: Int64

    /// Begins with the two clocks' readings.
    public init(monotonic: MonotonicTime, sinceBoot: MonotonicTime) {
        lead = sinceBoot.nanoseconds &- monotonic.nanoseconds
    }

    /// Compares the clocks again.
    ///
    /// - Returns: How long the machine slept since the last comparison, in milliseconds; nil if it did not.
    public mutating func slept(monotonic: MonotonicTime, sinceBoot: MonotonicTime) -> Int64? {
        let newLead = sinceBoot.nanoseconds &- monotonic.nanoseconds
        let sleep = newLead &- lead
        guard sleep >= Self.threshold else { return nil }
        lead = newLead
        return sleep / 1_000_000
    }
}
