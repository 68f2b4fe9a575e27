// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Whether flows are opened faster than they can be.
///
/// Opening a flow costs some 50 us, most of it in the kernel. Under a flood that is faster than that, frames stand in the
/// queue of the tap: everybody's are late or lost there, and go on to be until the queue has been worked off. So once
/// the tap has not been found empty for a while in which many flows were opened, those who have many unfinished ones
/// already (`FlowShares.Standing`) get no more, for the price of a look, until the tap is empty again.
struct OpeningLoad {
    /// How long the tap may have something waiting, in nanoseconds.
    private static let patience: Int64 = 20_000_000
    /// Openings meanwhile that make a flood.
    private static let flood = 256

    private var since: Int64 = 0
    private var openings = 0

    /// Counts an opening; true if those who have many unfinished flows are to get no more.
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
