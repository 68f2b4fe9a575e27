// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem

/// Values in numbered slots that are used again; index and generation together name a value.
///
/// The index and the generation of a slot are parts of the token of its descriptors' events. A slot's generation changes
/// with each use, so an event that is left over from a removed value does not reach the next value of the slot.
///
/// The flow table of the data path does not use this type: its slots are one slab of memory that is reserved at start,
/// and its free list and its queue are links inside the flows (FlowTable.swift).
struct SlotTable<Value> {
    /// The links of slots that hold a value; other links are the index of the next free slot, or -1 at the end.
    private static var inUse: Int32 { -2 }

    /// The values; that of a free slot is the last one it held.
    private var values: [Value] = []
    private var generations: [UInt32] = []
    private var links: [Int32] = []
    private var firstFree: Int32 = -1
    /// The number of values.
    private(set) var count = 0

    /// The value of a slot in use.
    subscript(index: Int) -> Value {
        get { values[index] }
        _modify { yield &values[index] }
    }

    /// One past the highest index that was ever used.
    var end: Int { values.count }

    /// The indices of the values, in order.
    var indices: some Sequence<Int> { (0..<links.count).lazy.filter { [links] in links[$0] == Self.inUse } }

    /// Whether a slot holds a value.
    func isInUse(_ index: Int) -> Bool { links[index] == Self.inUse }

    /// The generation of a slot: its number of uses, modulo 2^24.
    func generation(_ index: Int) -> UInt32 { generations[index] }

    /// The index of the value that a token names; nil if the value was removed.
    func index(of token: EventToken) -> Int? {
        let index = Int(token.index)
        guard index < links.count, links[index] == Self.inUse, generations[index] == token.generation else {
            return nil
        }
        return index
    }

    /// The token of a value, for the events of one of its descriptors.
    func token(_ index: Int, kind: UInt8) -> EventToken {
        EventToken(kind: kind, generation: generations[index], index: UInt32(index))
    }

    /// Reserves memory for further values.
    mutating func reserve(_ further: Int) {
        values.reserveCapacity(count + further)
        generations.reserveCapacity(count + further)
        links.reserveCapacity(count + further)
    }

    /// Puts a value into a free slot.
    ///
    /// - Returns: The index of the slot.
    mutating func insert(_ value: Value) -> Int {
        count += 1
        guard firstFree >= 0 else {
            values.append(value)
            generations.append(1)
            links.append(Self.inUse)
            return values.count - 1
        }
        let index = Int(firstFree)
        firstFree = links[index]
        values[index] = value
        generations[index] = (generations[index] &+ 1) & 0xFF_FFFF
        links[index] = Self.inUse
        return index
    }

    /// Frees the slot of a value.
    mutating func remove(_ index: Int) {
        precondition(isInUse(index), "the slot is free already")
        links[index] = firstFree
        firstFree = Int32(index)
        count -= 1
    }
}
