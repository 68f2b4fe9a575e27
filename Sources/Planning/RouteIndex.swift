// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Finds the routes of an array by the keys that the kernel uses: positions in an open-addressed table.
///
/// A dictionary would store every identity a second time and hash it at each step, which would be most of the cost of
/// planning with a full routing table. The index stores positions and fingerprints only; the caller compares the
/// routes.
struct RouteIndex {
    private struct Slot {
        var fingerprint: UInt32
        /// Negative for a free slot.
        var position: Int32
    }

    private var slots: [Slot]
    private var used = 0

    /// Makes an empty index with room for so many routes.
    init(capacity: Int = 0) {
        var count = 16
        while count < capacity * 2 { count *= 2 }
        slots = Array(repeating: Slot(fingerprint: 0, position: -1), count: count)
    }

    /// Adds the route at a position, behind those of equal identity.
    mutating func insert(_ fingerprint: UInt64, at position: Int) {
        if (used + 1) * 2 > slots.count { grow() }
        place(Slot(fingerprint: UInt32(truncatingIfNeeded: fingerprint), position: Int32(clamping: position)))
        used += 1
    }

    private mutating func place(_ new: Slot) {
        let mask = slots.count - 1
        var slot = Int(new.fingerprint) & mask
        while slots[slot].position >= 0 { slot = (slot + 1) & mask }
        slots[slot] = new
    }

    private mutating func grow() {
        let old = slots.filter { $0.position >= 0 }.sorted { $0.position < $1.position }
        slots = Array(repeating: Slot(fingerprint: 0, position: -1), count: slots.count * 2)
        for slot in old { place(slot) }
    }

    /// The first position, in the order of insertion, of a route that `isMeant` accepts.
    func first(_ fingerprint: UInt64, where isMeant: (Int) -> Bool) -> Int? {
        let mask = slots.count - 1
        let wanted = UInt32(truncatingIfNeeded: fingerprint)
        var slot = Int(wanted) & mask
        while slots[slot].position >= 0 {
            if slots[slot].fingerprint == wanted, isMeant(Int(slots[slot].position)) {
                return Int(slots[slot].position)
            }
            slot = (slot + 1) & mask
        }
        return nil
    }
}
