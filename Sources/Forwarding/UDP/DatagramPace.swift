// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Datagrams arrive one by one, and each wakes the event loop. In a fast stream, waking up costs more than the datagram,
// and no batches form. So the loop rests for a moment before it waits again, as a network card delays its interrupts:
// long enough for more datagrams to arrive, and too short to fill a socket's queue (212,992 bytes: some 90 datagrams of
// 1,400 bytes, 250 of 64) or to be noticed beside the other delays of a stream's path.
//
// It does so only in a stream: many datagrams one way with none the other way between them. Questions and answers
// alternate, however fast they are, and are never delayed.

/// Decides when the event loop should rest, so that the datagrams of a fast stream come in batches.
struct DatagramPace {
    /// The rest, in nanoseconds.
    static let rest: Int64 = 50_000
    /// The number of datagrams in one direction, with none in the other between them, that makes a stream.
    private static let stream = 64
    /// The number of them in a millisecond that makes it fast.
    private static let fast = 24
    /// After a turn with this number, no rest is needed to form a batch.
    private static let batch = 32
    private static let window: Int64 = 1_000_000

    /// The number of datagrams since the direction last changed; negative for those from the namespace.
    private var streak = 0
    /// The number in this turn of the event loop.
    private var inTurn = 0
    /// The number since the window began.
    private var inWindow = 0
    private var windowStart: Int64 = 0
    private var isFast = false

    /// Counts datagrams towards the namespace.
    @inline(__always)
    mutating func countInbound(_ count: Int) {
        streak = min(max(streak, 0) &+ count, Self.stream)
        inTurn &+= count
    }

    /// Counts datagrams from the namespace.
    @inline(__always)
    mutating func countOutbound(_ count: Int) {
        streak = max(min(streak, 0) &- count, -Self.stream)
        inTurn &+= count
    }

    /// Ends a turn of the event loop.
    ///
    /// - Parameter now: the time, in nanoseconds of the monotonic clock.
    /// - Returns: The rest before the next turn, in nanoseconds; mostly 0.
    @inline(__always)
    mutating func endTurn(_ now: Int64) -> Int64 {
        guard inTurn > 0 else { return 0 }
        let count = inTurn
        inTurn = 0
        inWindow &+= count
        let elapsed = now &- windowStart
        if elapsed >= Self.window {
            isFast = Int64(inWindow) &* Self.window >= elapsed &* Int64(Self.fast)
            inWindow = 0
            windowStart = now
        }
        let isStream = streak == Self.stream || streak == -Self.stream
        return isFast && isStream && count < Self.batch ? Self.rest : 0
    }
}
