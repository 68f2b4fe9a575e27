// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import SystemPackage

/// A listening socket.
struct Listener {
    /// The descriptor.
    var socket: CInt
    /// The index of its rule.
    var rule: Int
    /// The index of its place among the rule's.
    var place: Int
    /// The port it listens on.
    var port: UInt16
    /// The name by which it is kept for a successor of this process; nil without one.
    var keptAs: String?
}

/// All listening sockets, by index and generation.
struct ListenerStore {
    private var slots = SlotTable<Listener>()
    private let keeper: (any ListenerKeeper)?

    /// Makes an empty store.
    ///
    /// - Parameter keeper: keeps the sockets for a successor of this process.
    init(keeper: (any ListenerKeeper)? = nil) {
        self.keeper = keeper
    }

    /// The number of listeners.
    var count: Int { slots.count }

    subscript(index: Int) -> Listener {
        get { slots[index] }
        set { slots[index] = newValue }
    }

    /// The indices of the listeners.
    var indices: some Sequence<Int> { slots.indices }

    /// The listener that a token names; nil if it was closed.
    func current(_ token: EventToken) -> Listener? {
        slots.index(of: token).map { slots[$0] }
    }

    func token(_ index: Int) -> EventToken {
        slots.token(index, kind: TokenKind.listener)
    }

    mutating func reserve(_ count: Int) {
        slots.reserve(count)
    }

    mutating func add(_ socket: CInt, rule: Int, place: Int, port: UInt16, keptAs: String? = nil) -> Int {
        if let keptAs { keeper?.keepListener(keptAs, FileDescriptor(rawValue: socket)) }
        return slots.insert(Listener(socket: socket, rule: rule, place: place, port: port, keptAs: keptAs))
    }

    /// Frees a slot and closes its socket.
    mutating func close(_ index: Int) {
        if let name = slots[index].keptAs { keeper?.releaseListener(name) }
        HostSocket.close(slots[index].socket)
        slots.remove(index)
    }

    /// Closes all sockets at the end; a successor has them still.
    mutating func closeAll() {
        for index in slots.indices { HostSocket.close(slots[index].socket) }
        slots = SlotTable<Listener>()
    }
}
