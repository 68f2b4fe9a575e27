// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Each UDP client gets a socket that is bound to the address and port that the client sends to, and connected to the
// client. That takes two calls, and between them the socket is the best match for every datagram to that address and
// port. The kernel may queue a datagram of another client on it in that moment. Such a datagram must neither pass for
// the first client's nor be lost. So the readers of client sockets compare the sources and set aside the datagrams of
// other clients, and the forwarded ports handle those as if they had arrived at the listening socket (`sendAgain`).
//
// The clients' sockets share the port with each other (SO_REUSEADDR). The listening socket shares it with them during
// bind(2) only, so that no other process can take the port.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// A datagram that has arrived at a forwarded port, in the memory where it was received.
@safe
struct ArrivedDatagram {
    /// The sender.
    var peer: Endpoint
    /// The destination, as far as answers can be sent from there.
    var local: Endpoint
    /// The device that the port is bound to.
    var device: String?
    /// The socket that listens on the port.
    var listener: CInt
    /// The address of the payload.
    var payload: UnsafeRawPointer
    /// The length of the payload in bytes.
    var count: Int

    /// A copy that can be kept or handed over.
    var copy: ReceivedDatagram { unsafe ReceivedDatagram(peer: peer, local: local, payload: payload, count: count) }
}

/// The sockets of single UDP clients.
enum ClientSocket {
    /// Makes a socket of the host that is bound to the datagram's destination and connected to its sender.
    ///
    /// - Parameters:
    ///   - datagram: the client's first datagram.
    ///   - queuesErrors: whether the kernel queues network errors for the reader of the socket (`IP_RECVERR`).
    /// - Returns: The socket, which the caller owns.
    /// - Throws: The error of the first call that failed.
    static func make(for datagram: ArrivedDatagram, queuesErrors: Bool) throws(Errno) -> CInt {
        let isIPv4 = datagram.peer.family == .v4
        let number = try HostSocket.open(datagram.peer.family, type: HostSocket.datagram)
        if queuesErrors {
            HostSocket.setIfPossible(
                number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_RECVERR : IPV6_RECVERR, 1)
        }
        do throws(Errno) {
            try connect(number, toSenderOf: datagram)
        } catch {
            HostSocket.close(number)
            throw error
        }
        return number
    }

    /// Binds a socket to the datagram's destination, beside the listening socket there, and connects it to the sender.
    ///
    /// - Throws: The error of setsockopt(2), bind(2) or connect(2).
    static func connect(_ number: CInt, toSenderOf datagram: ArrivedDatagram) throws(Errno) {
        if let device = datagram.device { try HostSocket.bind(number, toDevice: device) }
        let isIPv4 = datagram.local.family == .v4
        HostSocket.setIfPossible(number, SOL_SOCKET, SO_REUSEADDR, 1)
        // The host may be about to lose the address, or may not have finished adding it.
        HostSocket.setIfPossible(
            number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_FREEBIND : IPV6_FREEBIND, 1)
        do {
            HostSocket.setIfPossible(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 1)
            defer { HostSocket.setIfPossible(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 0) }
            try datagram.local.bind(number)
        }
        try datagram.peer.connect(number)
    }
}
