// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel

/// A datagram that is to be sent on its way once more.
struct HeldDatagram {
    /// Which side listens.
    var direction: ForwardDirection
    var datagram: ReceivedDatagram
    /// Where it leads, if its rule is gone by the time; nil if that is known by its rule only.
    var target: Endpoint?
}

/// Datagrams that came to the socket of another client, or for which there is no socket yet.
struct HeldDatagrams {
    /// How many wait at most; what comes on top is lost, as in any queue that is full.
    private static let limit = 256

    private var waiting: [HeldDatagram] = []

    var isEmpty: Bool { waiting.isEmpty }

    /// Puts one aside, if there is room.
    mutating func add(_ datagram: ReceivedDatagram, _ direction: ForwardDirection, to target: Endpoint? = nil) {
        guard waiting.count < Self.limit else { return }
        waiting.append(HeldDatagram(direction: direction, datagram: datagram, target: target))
    }

    /// All of them, which are the caller's then.
    mutating func take() -> [HeldDatagram] {
        defer { waiting = [] }
        return waiting
    }
}

/// UDP clients whose sockets the data path has been given a moment ago: what they have sent before those sockets were
/// there comes to the listening one still, and needs no other socket.
struct RecentClients {
    /// A client and what it has written to.
    struct Client: Hashable {
        var peer: Endpoint
        var local: Endpoint
    }

    /// How long a client is remembered, in milliseconds: longer than datagrams wait on a listening socket.
    private static let memory: Int64 = 1000
    private static let limit = 4096

    private var moments: [Client: MonotonicTime] = [:]

    /// Whether a client has been given a socket a moment ago.
    func contains(_ client: Client, now: MonotonicTime) -> Bool {
        moments[client].map { now.milliseconds(since: $0) < Self.memory } ?? false
    }

    mutating func insert(_ client: Client, now: MonotonicTime) {
        if moments.count >= Self.limit {
            moments = moments.filter { now.milliseconds(since: $0.value) < Self.memory }
            if moments.count >= Self.limit { moments = [:] }
        }
        moments[client] = now
    }

    mutating func remove(_ client: Client) {
        moments[client] = nil
    }
}
