// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The socket of a single UDP client is bound to the very address and port that the client has written to, and then
// connected to the client: two calls, and between them it is the socket that fits best whatever anybody sends there. A
// datagram of another client that the kernel has looked up a socket for in that moment is queued on this one, or will
// be. It must neither pass for the first client's nor be lost; whoever reads the sockets of clients therefore looks at
// the sources and puts aside what is somebody else's, and the forwarded ports send it on as if it had come to the
// listening socket (`sendAgain`).
//
// The clients' sockets share the port among them (SO_REUSEADDR), the listening one with them for the moment of bind(2)
// only, so that nobody else can.
//
// syscalls: running(ports): socket

internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// A datagram that has come to a forwarded port, where it was received.
@safe
struct ArrivedDatagram {
    /// Who sent it.
    var peer: Endpoint
    /// What it was sent to, as far as answers can leave from there.
    var local: Endpoint
    /// The device that the port is bound to.
    var device: String?
    /// The socket that listens on the port.
    var listener: CInt
    /// Where it lies.
    var payload: UnsafeRawPointer
    /// Its length in bytes.
    var count: Int

    /// A copy to be kept or handed over.
    var copy: ReceivedDatagram { unsafe ReceivedDatagram(peer: peer, local: local, payload: payload, count: count) }
}

/// Sockets of single UDP clients.
enum ClientSocket {
    /// Makes a socket of the host that is bound to what a datagram was sent to and connected to its sender.
    ///
    /// - Parameters:
    ///   - datagram: the client's first datagram.
    ///   - queuesErrors: whether errors of the network are queued for whoever reads the socket (`IP_RECVERR`).
    /// - Returns: The socket, which the caller owns, or why there is none.
    static func make(for datagram: ArrivedDatagram, queuesErrors: Bool) -> Result<CInt, Errno> {
        let isIPv4 = datagram.peer.family == .v4
        let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let number = socket(isIPv4 ? AF_INET : AF_INET6, HostSocket.datagram | flags, 0)
        guard number >= 0 else { return .failure(currentErrno) }
        if queuesErrors {
            HostSocket.set(
                number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_RECVERR : IPV6_RECVERR, 1)
        }
        if connect(number, toSenderOf: datagram) { return .success(number) }
        let error = currentErrno
        HostSocket.close(number)
        return .failure(error)
    }

    /// Binds a socket to what a datagram was sent to, beside the socket that listens there, and connects it to the
    /// datagram's sender.
    static func connect(_ number: CInt, toSenderOf datagram: ArrivedDatagram) -> Bool {
        if let device = datagram.device, !ListeningPlace.mayBind(number, toDevice: device) { return false }
        HostSocket.set(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 1)
        HostSocket.set(number, SOL_SOCKET, SO_REUSEADDR, 1)
        let isIPv4 = datagram.local.family == .v4
        // The address may be one that the host is about to lose, or has not finished to get.
        HostSocket.set(number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_FREEBIND : IPV6_FREEBIND, 1)
        let isBound = datagram.local.bind(number) == 0
        HostSocket.set(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 0)
        return isBound && datagram.peer.connect(number) == 0
    }
}
