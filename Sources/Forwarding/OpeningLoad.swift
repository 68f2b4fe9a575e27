// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Detects that flows are opened faster than possible.
///
/// Opening a flow costs about 50 us, most of it in the kernel. Under a faster flood, frames wait in the queue of the tap,
/// where the frames of all senders are late or lost until the queue is empty. So if the tap has not been empty for a
/// while in which many flows were opened, senders that have many unfinished flows (`FlowShares.Standing`) may open no
/// more until the tap is empty again; refusing a flow costs only the comparison.
struct OpeningLoad {
    /// How long frames may wait in the tap, in nanoseconds.
    private static let patience: Int64 = 20_000_000
    /// The number of openings in this time that makes a flood.
    private static let flood = 256

    private var since: Int64 = 0
    private var openings = 0

    /// Counts an opening; true if senders with many unfinished flows may open no more.
    mutating func isTooHigh(tapHasMore: Bool, now: Int64) -> Bool {
        if !tapHasMore {
            since = now
            openings = 0
            return false
        }
        openings += 1
        return openings > Self.flood && now &- since > Self.patience
    }
}
