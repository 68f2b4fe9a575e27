// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import NetworkModel
package import NetworkTypes
package import SystemPackage

/// A socket as the kernel lists it.
package struct ListedSocket: Hashable, Sendable {
    /// Its own port.
    package var port: UInt16
    /// The user it belongs to.
    package var user: UInt32
    /// The inode by which /proc names it.
    package var inode: UInt32

    /// Makes a socket's entry.
    package init(port: UInt16, user: UInt32, inode: UInt32) {
        self.port = port
        self.user = user
        self.inode = inode
    }
}

/// A TCP connection as the kernel lists it.
package struct ListedConnection: Hashable, Sendable {
    /// Its own address; IPv4 in mapped form.
    package var local: IPv6Address
    /// Its own port.
    package var localPort: UInt16
    /// The other end's address.
    package var remote: IPv6Address
    /// The other end's port.
    package var remotePort: UInt16

    /// Whether it never leaves the namespace.
    package var isLocal: Bool {
        local == remote || IPAddress(unmapping: local).isLoopback || IPAddress(unmapping: remote).isLoopback
    }
}

/// `SOCK_DIAG_BY_FAMILY`: the sockets of a namespace that can be connected to (sock_diag(7)).
package enum SocketListMessage {
    /// How far an answer has come.
    package enum Progress: Equatable {
        /// More messages follow.
        case more
        /// That was the last.
        case done
        /// The kernel refused.
        case failed(Errno)
    }

    /// The length of `struct inet_diag_sockid`.
    private static let identityLength = 48
    /// The length of `struct inet_diag_msg`.
    private static let messageLength = 72

    /// The states of a socket that can be connected to, as bits: a TCP socket listens (`TCP_LISTEN`), a UDP socket is not
    /// connected (`TCP_CLOSE`).
    private static func states(_ transport: TransportProtocol) -> UInt32 {
        transport == .tcp ? 1 << 10 : 1 << 7
    }

    /// Builds the request for all sockets of a family that can be connected to.
    package static func dump(_ family: AddressFamily, _ transport: TransportProtocol) -> MessageWriter {
        dump(family, transport, states: states(transport))
    }

    private static func dump(
        _ family: AddressFamily, _ transport: TransportProtocol, states: UInt32
    ) -> MessageWriter {
        var writer = MessageWriter(type: Int(SOCK_DIAG_BY_FAMILY), flags: NLM_F_DUMP)
        // struct inet_diag_req_v2: family, protocol, extensions, padding, states, and an identity that names no socket.
        writer.append(UInt8(family == .v4 ? AF_INET : AF_INET6))
        writer.append(UInt8(transport == .tcp ? IPPROTO_TCP : IPPROTO_UDP))
        writer.append(UInt16(0))
        writer.append(states)
        for _ in 0..<identityLength { writer.append(UInt8(0)) }
        return writer
    }

    /// The states of a connection that waits for something of its other end: established, FIN-WAIT-1 and -2, CLOSE-WAIT,
    /// LAST-ACK, CLOSING.
    private static let connectedStates: UInt32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11

    /// Builds the request for all TCP connections of a family.
    package static func dumpConnections(_ family: AddressFamily) -> MessageWriter {
        dump(family, .tcp, states: connectedStates)
    }

    /// The connection that a message of an answer to ``dumpConnections(_:)`` names.
    private static func connection(_ payload: Span<UInt8>) -> ListedConnection? {
        func port(_ offset: Int) -> UInt16 { UInt16(payload[offset]) << 8 | UInt16(payload[offset + 1]) }
        func word(_ offset: Int) -> UInt64 { (0..<8).reduce(0) { $0 << 8 | UInt64(payload[offset + $1]) } }
        func address(_ offset: Int) -> IPv6Address {
            guard Int32(payload[0]) == AF_INET else {
                return IPv6Address(high: word(offset), low: word(offset + 8))
            }
            return IPAddress.v4(IPv4Address(rawValue: UInt32(word(offset) >> 32))).asIPv6
        }
        return ListedConnection(local: address(8), localPort: port(4), remote: address(24), remotePort: port(6))
    }

    /// Parses one datagram of an answer; messages of other requests are passed over.
    ///
    /// - Parameters:
    ///   - datagram: the datagram.
    ///   - sequence: the number of the request.
    ///   - sockets: where the sockets are added to.
    /// - Returns: Whether the answer is complete.
    package static func parse(
        _ datagram: Span<UInt8>, sequence: UInt32, into sockets: inout [ListedSocket]
    ) -> Progress {
        parse(datagram, sequence: sequence) { payload in
            guard let user = payload.uint32(at: 64), let inode = payload.uint32(at: 68) else { return }
            // The port is in network byte order.
            let port = UInt16(payload[4]) << 8 | UInt16(payload[5])
            sockets.append(ListedSocket(port: port, user: user, inode: inode))
        }
    }

    /// As ``parse(_:sequence:into:)-([ListedSocket])`` for an answer to ``dumpConnections(_:)``.
    package static func parse(
        _ datagram: Span<UInt8>, sequence: UInt32, into connections: inout [ListedConnection]
    ) -> Progress {
        parse(datagram, sequence: sequence) { payload in
            if let connection = connection(payload) { connections.append(connection) }
        }
    }

    private static func parse(
        _ datagram: Span<UInt8>, sequence: UInt32, _ take: (Span<UInt8>) -> Void
    ) -> Progress {
        var walk = MessageWalk()
        while let (header, range) = walk.next(in: datagram) {
            guard header.sequence == sequence else { continue }
            let payload = datagram.extracting(range)
            switch Int32(header.type) {
            case NLMSG_DONE, NLMSG_ERROR:
                guard let end = Acknowledgement(header, payload), (0..<4096).contains(end.errno) else {
                    return .failed(.badMessage)
                }
                if end.errno != 0 { return .failed(Errno(rawValue: end.errno)) }
                return Int32(header.type) == NLMSG_DONE ? .done : .failed(.badMessage)
            case SOCK_DIAG_BY_FAMILY where payload.count >= messageLength:
                take(payload)
            default:
                break
            }
        }
        return walk.isDamaged ? .failed(.badMessage) : .more
    }
}
