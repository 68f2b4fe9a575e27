// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// The kind of a flow, which decides which flow is evicted when there is no room: flows of one kind share its room.
enum FlowKind: UInt8, CaseIterable {
    /// A TCP connection whose handshake is complete.
    case connection
    /// A TCP connection that the namespace opens.
    case handshake
    /// A TCP connection that a client opens to a forwarded port.
    case inboundHandshake
    /// UDP in both directions.
    case exchange
    /// UDP from the namespace without an answer.
    case question
    /// UDP to a forwarded port without an answer from the namespace.
    case inboundQuestion
    /// ICMP echo.
    case echo

    /// Whether the kind is TCP that is not established yet.
    var isHandshake: Bool { self == .handshake || self == .inboundHandshake }

    /// Whether it came to a forwarded port, and the namespace has not answered yet.
    var isInbound: Bool { self == .inboundHandshake || self == .inboundQuestion }

    /// The greatest number of flows of the kind, far above what programs have at once.
    ///
    /// A handshake takes only moments. The more sockets wait for answers to echo requests, or share the port of a
    /// forwarded one, the longer the kernel takes to find the socket of a packet.
    var most: Int {
        switch self {
        case .handshake, .inboundHandshake, .inboundQuestion, .echo: 4096
        case .connection, .exchange, .question: .max
        }
    }

    /// The factor by which flows of the kind count in comparisons of kinds: flows without an answer are evicted sooner.
    var evictionFactor: Int {
        switch self {
        case .connection, .exchange: 1
        case .handshake, .inboundHandshake, .echo: 2
        case .question, .inboundQuestion: 4
        }
    }

    /// The name of several flows of the kind in messages.
    var name: String {
        switch self {
        case .connection: "TCP connections"
        case .handshake: "TCP connection attempts"
        case .inboundHandshake: "TCP connection attempts to forwarded ports"
        case .exchange: "UDP flows"
        case .question: "UDP flows without an answer"
        case .inboundQuestion: "UDP flows to forwarded ports without an answer"
        case .echo: "echo flows"
        }
    }
}

extension FlowKey {
    /// Hashes of the source and of the destination of a flow, which select its list.
    ///
    /// A flood from one source, or to one destination, shares its lists with few other flows. Both hashes have a random
    /// key, so no sender can choose addresses that share the lists of another.
    func parties(isInbound: Bool) -> (source: Int, peer: Int) {
        var source = Hasher()
        var peer = Hasher()
        if isInbound {
            source.combine(remote.high)
            source.combine(remote.low)
            peer.combine(guestPort)
        } else {
            source.combine(guest.high)
            source.combine(guest.low)
            peer.combine(remote.high)
            peer.combine(remote.low)
            peer.combine(remotePort)
        }
        return (source.finalize(), peer.finalize())
    }
}
