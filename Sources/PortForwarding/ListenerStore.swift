// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import LinuxSystem
internal import NetworkModel

/// A listening socket.
struct Listener {
    /// The descriptor, or -1 if the slot is free.
    var socket: CInt = -1
    /// Counts the uses of the slot.
    var generation: UInt32 = 0
    /// The index of its rule.
    var rule = 0
    /// The index of its place among the rule's.
    var place = 0
    /// The port it listens on.
    var port: UInt16 = 0
    /// The next free slot, or -1.
    var link = -1
}

/// All listening sockets, by index and generation.
struct ListenerStore {
    private var slots: [Listener] = []
    private var firstFree = -1
    /// How many there are.
    private(set) var count = 0

    subscript(index: Int) -> Listener {
        get { slots[index] }
        set { slots[index] = newValue }
    }

    /// Indices that may be in use.
    var indices: Range<Int> { slots.indices }

    /// The listener that a token stands for; nil if it is gone.
    func current(_ token: EventToken) -> Listener? {
        let index = Int(token.index)
        guard index < slots.count, slots[index].socket >= 0, slots[index].generation == token.generation else {
            return nil
        }
        return slots[index]
    }

    func token(_ index: Int) -> EventToken {
        EventToken(kind: TokenKind.listener, generation: slots[index].generation, index: UInt32(index))
    }

    mutating func reserve(_ count: Int) {
        slots.reserveCapacity(self.count + count)
    }

    mutating func add(_ socket: CInt, rule: Int, place: Int, port: UInt16) -> Int {
        let index: Int
        if firstFree >= 0 {
            index = firstFree
            firstFree = slots[index].link
        } else {
            index = slots.count
            slots.append(Listener())
        }
        let generation = (slots[index].generation &+ 1) & 0xFF_FFFF
        slots[index] = Listener(socket: socket, generation: generation, rule: rule, place: place, port: port)
        count += 1
        return index
    }

    /// Frees a slot and closes its socket.
    mutating func close(_ index: Int) {
        HostSocket.close(slots[index].socket)
        slots[index].socket = -1
        slots[index].link = firstFree
        firstFree = index
        count -= 1
    }
}
