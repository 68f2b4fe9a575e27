// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Each flow has at most one deadline, and most deadlines are moved later long before they pass (every segment moves a
// retransmission or idle time-out). So the wheel is lazy. A flow is in the slot of the deadline that it had when it was
// filed; a later deadline changes only the flow. When its slot comes up and the deadline has moved, the flow is filed
// again. Only an earlier deadline moves it at once.
//
// There are four levels of 64 slots; a slot of the first has 8 ms (the resolution), the last level spans 36 h, and
// later deadlines wait in its last slot. A 64-bit map for each level shows which slots are occupied, so that the next
// deadline is found with a few bit operations, and an empty wheel causes no wake-up. Links are indices into arrays as
// long as the flow table, which are allocated once.

internal import LinuxSystem

/// The deadlines of flows, by index.
@safe
struct TimerWheel: ~Copyable {
    private static let slotBits = 6
    private static let levels = 4
    private static let tick: Int64 = 8_000_000
    private static let none: Int32 = -1

    private let next: UnsafeMutablePointer<Int32>
    private let previous: UnsafeMutablePointer<Int32>
    /// The slot an index is filed in, or -1.
    private let slots: UnsafeMutablePointer<Int16>
    private let deadlines: UnsafeMutablePointer<Int64>
    private let heads: UnsafeMutablePointer<Int32>
    private var occupied: InlineArray<4, UInt64> = .init(repeating: 0)
    /// The tick up to which all has been expired.
    private var current: Int64
    private let capacity: Int

    init(capacity: Int, now: MonotonicTime) {
        self.capacity = capacity
        unsafe next = .allocate(capacity: capacity)
        unsafe previous = .allocate(capacity: capacity)
        unsafe slots = .allocate(capacity: capacity)
        unsafe deadlines = .allocate(capacity: capacity)
        unsafe heads = .allocate(capacity: Self.levels << Self.slotBits)
        unsafe heads.initialize(repeating: Self.none, count: Self.levels << Self.slotBits)
        current = now.nanoseconds / Self.tick
    }

    deinit {
        unsafe next.deallocate()
        unsafe previous.deallocate()
        unsafe slots.deallocate()
        unsafe deadlines.deallocate()
        unsafe heads.deallocate()
    }

    /// Prepares an index for use: no deadline.
    mutating func adopt(_ index: Int) {
        unsafe slots[index] = -1
        unsafe deadlines[index] = .max
    }

    /// The deadline of an index in nanoseconds, `.max` for none.
    func deadline(of index: Int) -> Int64 {
        unsafe deadlines[index]
    }

    /// Sets, moves or (with `.max`) removes the deadline of an index.
    mutating func set(_ index: Int, deadline: Int64) {
        let old = unsafe deadlines[index]
        unsafe deadlines[index] = deadline
        let slot = unsafe slots[index]
        if slot >= 0 {
            // A later deadline, or none: the flow moves when its slot comes up.
            if deadline >= old { return }
            unlink(index)
        } else if deadline == .max {
            return
        }
        link(index)
    }

    /// Removes an index.
    mutating func remove(_ index: Int) {
        if unsafe slots[index] >= 0 { unlink(index) }
        unsafe deadlines[index] = .max
    }

    /// When to call ``expire(now:_:)``; never later than any deadline's tick, perhaps earlier.
    var nextDeadline: MonotonicTime? {
        var earliest: Int64 = .max
        for level in 0..<Self.levels where occupied[level] != 0 {
            let shift = level * Self.slotBits
            let position = Int((current >> Int64(shift)) & 63)
            // Rotate so that the slot after the present one is bit 0.
            let start = (position + 1) & 63
            let map = occupied[level]
            let rotated = start == 0 ? map : map >> UInt64(start) | map << UInt64(64 - start)
            let distance = Int64(rotated.trailingZeroBitCount + 1)
            let base = (current >> Int64(shift)) + distance
            earliest = min(earliest, base << Int64(shift))
        }
        return earliest == .max ? nil : MonotonicTime(nanoseconds: earliest * Self.tick)
    }

    /// Appends each index whose deadline has passed to `expired`; it has no deadline then and may get a new one.
    mutating func expire(now: MonotonicTime, into expired: inout [Int32]) {
        let target = now.nanoseconds / Self.tick
        while current < target {
            guard let next = nextDeadline else {
                current = target
                return
            }
            let tick = next.nanoseconds / Self.tick
            if tick > target {
                current = target
                return
            }
            // Nothing is filed in between: jump, then empty the slots that begin at this tick, coarse ones first.
            current = tick
            var level = Self.levels - 1
            while level >= 0 {
                let shift = level * Self.slotBits
                if level == 0 || tick & ((1 << Int64(shift)) - 1) == 0 {
                    drain(level << Self.slotBits | Int((tick >> Int64(shift)) & 63), now: now, into: &expired)
                }
                level -= 1
            }
        }
    }

    private mutating func drain(_ slot: Int, now: MonotonicTime, into expired: inout [Int32]) {
        var index = unsafe heads[slot]
        unsafe heads[slot] = Self.none
        occupied[slot >> Self.slotBits] &= ~(1 << UInt64(slot & 63))
        while index != Self.none {
            let following = unsafe next[Int(index)]
            unsafe slots[Int(index)] = -1
            let deadline = unsafe deadlines[Int(index)]
            if deadline <= now.nanoseconds {
                unsafe deadlines[Int(index)] = .max
                expired.append(index)
            } else if deadline != .max {
                link(Int(index))
            }
            index = following
        }
    }

    private mutating func link(_ index: Int) {
        // At least one tick ahead, so that a slot is never filled while it is being emptied.
        let tick = max(unsafe deadlines[index] / Self.tick + 1, current + 1)
        let distance = tick - current
        var level = 0
        while level < Self.levels - 1 && distance >> Int64((level + 1) * Self.slotBits) != 0 { level += 1 }
        let shift = Int64(level * Self.slotBits)
        var position = tick >> shift
        let furthest = (current >> shift) + 63
        if position > furthest { position = furthest }
        if level > 0 && position <= current >> shift { position = (current >> shift) + 1 }
        let slot = level << Self.slotBits | Int(position & 63)
        unsafe slots[index] = Int16(slot)
        unsafe previous[index] = Self.none
        unsafe next[index] = heads[slot]
        if unsafe heads[slot] != Self.none { unsafe previous[Int(heads[slot])] = Int32(index) }
        unsafe heads[slot] = Int32(index)
        occupied[level] |= 1 << UInt64(slot & 63)
    }

    private mutating func unlink(_ index: Int) {
        let slot = Int(unsafe slots[index])
        let before = unsafe previous[index]
        let after = unsafe next[index]
        if before == Self.none {
            unsafe heads[slot] = after
            if after == Self.none { occupied[slot >> Self.slotBits] &= ~(1 << UInt64(slot & 63)) }
        } else {
            unsafe next[Int(before)] = after
        }
        if after != Self.none { unsafe previous[Int(after)] = before }
        unsafe slots[index] = -1
    }
}
