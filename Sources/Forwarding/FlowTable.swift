// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Flows are stored in one slab, which is reserved completely at start and touched as it fills; they are named by index
// and generation. A second array, with open addressing, linear probing and twice the length, finds them by key: each
// slot holds an index plus one, 0 for free. A flow stores its hash, so removal can close the gap (backward shift), and
// no tombstones accumulate under floods.
//
// Memory: 8 bytes of slot and 18 of timer for each possible flow, and the flow's own record once it exists.
// `FlowShares` decides which flow is evicted when there is no room.

internal import CLinux
internal import Glibc
internal import NetworkTypes

/// All flows, by index and by key; bounded.
@safe
struct FlowTable: ~Copyable {
    /// The greatest number of flows.
    let capacity: Int
    /// The number of flows.
    private(set) var count = 0

    private let flows: UnsafeMutablePointer<Flow>
    private let slots: UnsafeMutablePointer<UInt32>
    private let mask: Int
    private var firstFree: Int32 = -1
    private var highWater = 0
    private(set) var shares = FlowShares()

    /// Reserves the memory without touching it.
    init(capacity: Int) {
        precondition(capacity > 0 && capacity < 1 << 24)
        self.capacity = capacity
        var size = 2
        while size < capacity * 2 { size *= 2 }
        mask = size - 1
        unsafe flows = .allocate(capacity: capacity)
        // calloc, because fresh pages are zero without being touched.
        guard let memory = unsafe calloc(size, MemoryLayout<UInt32>.size) else {
            preconditionFailure("no memory for a flow table of \(capacity)")
        }
        unsafe slots = memory.assumingMemoryBound(to: UInt32.self)
    }

    deinit {
        unsafe flows.deallocate()
        unsafe free(slots)
    }

    /// The flow at an index that is in use.
    subscript(index: Int) -> Flow {
        @inline(__always) unsafeAddress { unsafe UnsafePointer(flows + index) }
        @inline(__always) unsafeMutableAddress { unsafe flows + index }
    }

    /// Whether an index and generation name a flow that still exists.
    @inline(__always)
    func isCurrent(_ index: Int, generation: UInt32) -> Bool {
        guard index < highWater else { return false }
        return unsafe flows[index].generation == generation && flows[index].state != .free
    }

    /// One past the highest index ever used: the bound for a walk over all flows.
    var end: Int { highWater }

    /// The memory of all slots that were ever used, in bytes.
    var touchedBytes: Int { highWater * MemoryLayout<Flow>.stride }

    /// The index of the flow with a key.
    @inline(__always)
    func find(_ key: FlowKey, hash: UInt32) -> Int? {
        var slot = Int(hash) & mask
        while true {
            let entry = unsafe slots[slot]
            if entry == 0 { return nil }
            let index = Int(entry) - 1
            if unsafe flows[index].hash == hash && flows[index].key == key { return index }
            slot = (slot + 1) & mask
        }
    }

    /// Adds a flow with a new key; nil if the table is full.
    ///
    /// - Parameters:
    ///   - key: the flow's key.
    ///   - hash: the key's hash.
    ///   - kind: the kind until ``file(_:as:)``.
    ///   - now: the moment, in nanoseconds.
    /// - Returns: the flow's index.
    mutating func insert(_ key: FlowKey, hash: UInt32, as kind: FlowKind = .question, now: Int64 = 0) -> Int? {
        let index: Int
        if firstFree >= 0 {
            index = Int(firstFree)
            firstFree = unsafe flows[index].link
            let generation = unsafe (flows[index].generation &+ 1) & 0xFF_FFFF
            unsafe flows[index] = Flow(key: key, hash: hash, generation: generation)
        } else if highWater < capacity {
            index = highWater
            highWater += 1
            unsafe (flows + index).initialize(to: Flow(key: key, hash: hash, generation: 1))
        } else {
            return nil
        }
        var slot = Int(hash) & mask
        while unsafe slots[slot] != 0 { slot = (slot + 1) & mask }
        unsafe slots[slot] = UInt32(index + 1)
        count += 1
        unsafe flows[index].activity = now
        unsafe flows[index].opened = now
        unsafe shares.file(index, as: kind, in: flows)
        return index
    }

    /// Removes the flow at an index; its slot may be used again at once.
    mutating func remove(_ index: Int) {
        var slot = Int(unsafe flows[index].hash) & mask
        while unsafe slots[slot] != UInt32(index + 1) {
            precondition(unsafe slots[slot] != 0, "a flow is not in the table that holds it")
            slot = (slot + 1) & mask
        }
        // Close the gap: move back each entry of the run that could not be found otherwise.
        var gap = slot
        var probe = slot
        while true {
            probe = (probe + 1) & mask
            let entry = unsafe slots[probe]
            if entry == 0 { break }
            let home = Int(unsafe flows[Int(entry) - 1].hash) & mask
            if (probe - home) & mask >= (probe - gap) & mask {
                unsafe slots[gap] = entry
                gap = probe
            }
        }
        unsafe slots[gap] = 0
        unsafe shares.remove(index, in: flows)
        unsafe flows[index].state = .free
        unsafe flows[index].link = firstFree
        firstFree = Int32(index)
        count -= 1
    }

    /// Changes the kind of a flow.
    mutating func file(_ index: Int, as kind: FlowKind) {
        guard unsafe FlowShares.kind(of: flows[index]) != kind else { return }
        unsafe shares.finish(index, in: flows)
        unsafe shares.remove(index, in: flows)
        unsafe shares.file(index, as: kind, in: flows)
    }

    /// How a new flow compares with the unfinished flows.
    mutating func standing(of key: FlowKey, as kind: FlowKind, now: Int64) -> FlowShares.Standing {
        unsafe shares.standing(of: key, as: kind, now: now, in: flows)
    }

    /// The flow of a kind to evict when the kind has reached its limit.
    func evictionCandidate(of kind: FlowKind) -> Int? { unsafe shares.candidate(of: kind, in: flows) }

    /// The flow to evict when there is no room; nil if there is none.
    ///
    /// - Parameters:
    ///   - now: the moment, in nanoseconds.
    ///   - spared: an index that must stay, or -1.
    /// - Returns: its index.
    /// - Complexity: a bounded number of steps, however many flows there are.
    mutating func evictionCandidate(now: Int64 = 0, sparing spared: Int = -1) -> Int? {
        unsafe shares.candidate(now: now, sparing: spared, in: flows)
    }
}
