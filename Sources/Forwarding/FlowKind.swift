// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// What a flow counts as when another has to make room: flows of one kind share what that kind has.
enum FlowKind: UInt8, CaseIterable {
    /// A TCP connection whose handshake is complete.
    case connection
    /// A TCP connection that the namespace opens.
    case handshake
    /// A TCP connection that the host opens, by a forwarded port.
    case inboundHandshake
    /// UDP in both directions.
    case exchange
    /// UDP from the namespace that nobody has answered.
    case question
    /// UDP to a forwarded port that the namespace has not answered.
    case inboundQuestion
    /// ICMP echo.
    case echo

    /// Whether the kind is TCP that is not established yet.
    var isHandshake: Bool { self == .handshake || self == .inboundHandshake }

    /// Whether a forwarded port has opened it, and nobody in the namespace has answered yet.
    var isInbound: Bool { self == .inboundHandshake || self == .inboundQuestion }

    /// The most flows of the kind, far above what programs have at once: a handshake is over in moments, and the more
    /// sockets wait for the answer to an echo request, or have the port of a forwarded one, the longer the kernel looks
    /// for the one that a packet is for.
    var most: Int {
        switch self {
        case .handshake, .inboundHandshake, .inboundQuestion, .echo: 4096
        case .connection, .exchange, .question: .max
        }
    }

    /// How much a flow of the kind weighs against one of another: one that nobody has answered goes sooner.
    var weight: Int {
        switch self {
        case .connection, .exchange: 1
        case .handshake, .inboundHandshake, .echo: 2
        case .question, .inboundQuestion: 4
        }
    }

    /// What a person calls several of the kind.
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
    /// Hashes of who opens a flow and of whom it is opened to: the lists that the flow may stand in.
    ///
    /// A flood from one source, or to one destination, shares its lists with few other flows. Both hashes are keyed at
    /// random, so nobody can choose addresses that share the lists of somebody else.
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
