// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel

/// A datagram that will be forwarded again.
struct HeldDatagram {
    /// Which side listens.
    var direction: ForwardDirection
    var datagram: ReceivedDatagram
    /// The target, in case its rule no longer exists then; nil if only the rule knows it.
    var target: Endpoint?
}

/// Datagrams that arrived at the socket of another client, or for which there is no socket yet.
struct HeldDatagrams {
    /// The greatest number of waiting datagrams; more are dropped, as by any full queue.
    private static let limit = 256

    private var waiting: [HeldDatagram] = []

    var isEmpty: Bool { waiting.isEmpty }

    /// Stores a datagram, if there is room.
    mutating func add(_ datagram: ReceivedDatagram, _ direction: ForwardDirection, to target: Endpoint? = nil) {
        guard waiting.count < Self.limit else { return }
        waiting.append(HeldDatagram(direction: direction, datagram: datagram, target: target))
    }

    /// Removes and returns all datagrams.
    mutating func take() -> [HeldDatagram] {
        defer { waiting = [] }
        return waiting
    }
}

/// UDP clients whose sockets were handed to the data path a moment ago.
///
/// What they sent before those sockets existed still arrives at the listening socket, and needs no other socket.
struct RecentClients {
    /// A client and the destination of its datagrams.
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
