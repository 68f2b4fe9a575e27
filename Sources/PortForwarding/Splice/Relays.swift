// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A spliced UDP client has two connected sockets, one to the client and one to its target in the other namespace.
// Datagrams that arrive on one are sent by the other, many with one call. Datagrams on the listening socket (the first
// ones, and those that arrived before the client's socket existed) are assigned to a client by their key and forwarded
// likewise. A client that has been silent for the time-out is removed. When there are too many clients, one is removed
// that belongs to the sender with most clients (`RelayShares`).

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// All spliced UDP clients.
struct Relays: ~Copyable {
    /// What identifies a client.
    struct Key: Hashable {
        var direction: ForwardDirection
        var peer: Endpoint
        var local: Endpoint
        var target: Endpoint
    }

    private struct Relay {
        var key: Key
        var client: CInt
        var server: CInt
        /// Whether the target has answered.
        var isAnswered = false
        /// Whether several datagrams have gone both ways, so that the longer time-out applies.
        var isStream = false
        var activity: Int64 = 0
        /// The ``activity`` when it was filed in its list.
        var filed: Int64 = 0
        var opened: Int64 = 0
        var bytesFromClient: UInt64 = 0
        var bytesToClient: UInt64 = 0
    }

    /// How many clients that are in use are skipped before one is evicted.
    private static let secondChances = 64

    private let loop: EventLoop
    private let timeout: Int64
    private let streamTimeout: Int64
    private let maximum: Int
    private var slots = SlotTable<Relay>()
    private var indices: [Key: Int] = [:]
    /// When to look for clients whose time-out has passed; nil without clients.
    private(set) var nextDeadline: MonotonicTime?
    private var shares = RelayShares()
    /// Datagrams of other clients that arrived at the sockets of these.
    var strays = HeldDatagrams()

    init(loop: EventLoop, options: PortForwardingOptions) {
        self.loop = loop
        timeout = options.udpTimeout
        streamTimeout = options.udpStreamTimeout
        maximum = options.maximumRelays
    }

    /// The number of clients.
    var count: Int { indices.count }

    /// Adds a client; the relay owns the sockets then.
    mutating func add(_ key: Key, client: CInt, server: CInt, now: MonotonicTime) {
        if indices.count >= maximum { evict() }
        let index = slots.insert(Relay(key: key, client: client, server: server, opened: now.nanoseconds))
        indices[key] = index
        touch(index, now)
        file(index)
        let deadline = self.deadline(of: index)
        nextDeadline = nextDeadline.map { min($0, deadline) } ?? deadline
        do {
            try watch(client, TokenKind.relayClient, index)
            try watch(server, TokenKind.relayServer, index)
        } catch {
            remove(index)
        }
    }

    private func watch(_ socket: CInt, _ kind: UInt8, _ index: Int) throws(SystemCallError) {
        try loop.add(
            FileDescriptor(rawValue: socket), for: .readable,
            token: slots.token(index, kind: kind))
    }

    /// Forwards a datagram that has arrived on a listening socket to the target of its client; false if there is no
    /// such client.
    mutating func send(_ key: Key, _ datagram: ArrivedDatagram, now: MonotonicTime) -> Bool {
        guard let index = indices[key] else { return false }
        touch(index, now)
        slots[index].bytesFromClient &+= UInt64(datagram.count)
        unsafe passOn(datagram.payload, datagram.count, to: slots[index].server)
        return true
    }

    /// Sends one datagram to a target.
    private func passOn(_ payload: UnsafeRawPointer, _ count: Int, to server: CInt) {
        // The socket reports the error of an earlier datagram once; that is no reason to drop this one.
        if case .failed = unsafe HostSocket.send(server, payload, count) {
            _ = unsafe HostSocket.send(server, payload, count)
        }
    }

    /// A socket of a client is ready.
    mutating func ready(
        _ token: EventToken, _ readiness: Readiness, batch: borrowing MessageBatch, now: MonotonicTime
    ) {
        guard let index = slots.index(of: token) else { return }
        let isClient = token.kind == TokenKind.relayClient
        let source = isClient ? slots[index].client : slots[index].server
        let target = isClient ? slots[index].server : slots[index].client
        if readiness.contains(.error), HostSocket.takeError(source) != nil, isClient {
            // The client's socket is closed.
            remove(index)
            return
        }
        for _ in 0..<8 {
            guard case .bytes(let count) = batch.receive(source), count > 0 else { return }
            if !isClient {
                if slots[index].isAnswered { slots[index].isStream = true }
                noteAnswer(index, now)
            }
            touch(index, now)
            let bytes = (0..<count).reduce(UInt64(0)) { $0 &+ UInt64(batch.length($1)) }
            if isClient { slots[index].bytesFromClient &+= bytes } else { slots[index].bytesToClient &+= bytes }
            if isClient, !isFromClient(batch, count: count, slots[index].key.peer) {
                sendSorted(batch, count: count, index)
                if count < batch.capacity { return }
                continue
            }
            // Datagrams that the other socket does not accept are dropped, as by any full queue.
            if case .failed = batch.send(target, count: count) { _ = batch.send(target, count: count) }
            if count < batch.capacity { return }
        }
    }

    private func isFromClient(_ batch: borrowing MessageBatch, count: Int, _ peer: Endpoint) -> Bool {
        for position in 0..<count where batch.source(position) != peer { return false }
        return true
    }

    /// Forwards a client's datagrams one by one, and sets aside those of other clients.
    private mutating func sendSorted(_ batch: borrowing MessageBatch, count: Int, _ index: Int) {
        let key = slots[index].key
        for position in 0..<count {
            guard let source = batch.source(position) else { continue }
            let payload = unsafe UnsafeRawPointer(batch.payload(position))
            let length = batch.length(position)
            if source == key.peer {
                unsafe passOn(payload, length, to: slots[index].server)
            } else {
                strays.add(
                    unsafe ReceivedDatagram(peer: source, local: key.local, payload: payload, count: length),
                    key.direction)
            }
        }
    }

    /// One past the last slot that may be in use.
    var end: Int { slots.end }

    /// A description of the client of a slot; nil if it has none.
    func record(_ index: Int, now: Int64) -> SplicedFlow? {
        guard slots.isInUse(index) else { return nil }
        let slot = slots[index]
        return SplicedFlow(
            transport: .udp, direction: slot.key.direction, client: slot.key.peer, local: slot.key.local,
            target: slot.key.target,
            state: slot.isAnswered ? .answered : .unanswered, age: max(now - slot.opened, 0),
            idle: max(now - slot.activity, 0), bytesFromClient: slot.bytesFromClient,
            bytesToClient: slot.bytesToClient)
    }

    /// Removes the client of a slot.
    mutating func drop(_ index: Int) {
        if slots.isInUse(index) { remove(index) }
    }

    private mutating func touch(_ index: Int, _ now: MonotonicTime) {
        slots[index].activity = now.nanoseconds
    }

    /// When the client's time-out passes.
    private func deadline(of index: Int) -> MonotonicTime {
        MonotonicTime(nanoseconds: slots[index].activity)
            .advanced(milliseconds: slots[index].isStream ? streamTimeout : timeout)
    }

    /// Removes the clients whose time-out has passed, and schedules the next check.
    ///
    /// Deadlines move with each datagram, so they are checked together, and at most four times within a time-out.
    mutating func expire(now: MonotonicTime) {
        var next: MonotonicTime?
        for index in slots.indices {
            let deadline = self.deadline(of: index)
            if deadline <= now {
                remove(index)
            } else {
                next = next.map { min($0, deadline) } ?? deadline
            }
        }
        let soonest = now.advanced(milliseconds: max(min(timeout, streamTimeout) / 4, 1))
        nextDeadline = next.map { max($0, soonest) }
    }

    // MARK: Making room

    private mutating func file(_ index: Int) {
        slots[index].filed = slots[index].activity
        let key = slots[index].key
        shares.file(
            index, isAnswered: slots[index].isAnswered, peer: key.peer.address, port: key.local.port)
    }

    /// Records that the target has answered a client; with the first answer the client changes its kind.
    private mutating func noteAnswer(_ index: Int, _ now: MonotonicTime) {
        guard !slots[index].isAnswered else { return }
        slots[index].isAnswered = true
        touch(index, now)
        file(index)
    }

    /// Evicts a client of the sender that has most: of a few of them, the one that has been silent for longest.
    mutating func evict() {
        var idlest: Int?
        for _ in 0..<Self.secondChances {
            guard let index = shares.candidate else { return }
            // A client without an answer gains nothing by repeating its datagram.
            if !slots[index].isAnswered || slots[index].activity == slots[index].filed { return remove(index) }
            if idlest.map({ slots[index].activity < slots[$0].activity }) ?? true { idlest = index }
            slots[index].filed = slots[index].activity
            shares.renew(index)
        }
        if let idlest { remove(idlest) }
    }

    private mutating func remove(_ index: Int) {
        HostSocket.close(slots[index].client)
        HostSocket.close(slots[index].server)
        indices[slots[index].key] = nil
        shares.remove(index)
        if indices.isEmpty { nextDeadline = nil }
        slots.remove(index)
    }

    /// Closes everything, at the end.
    mutating func closeAll() {
        for index in slots.indices { remove(index) }
    }
}
