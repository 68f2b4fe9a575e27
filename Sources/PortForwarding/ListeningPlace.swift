// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main, ports): listen setsockopt
// syscalls: running(ports): listen setsockopt

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// Where a socket listens, apart from the port.
struct ListeningPlace: Hashable {
    /// The address, IPv4 in mapped form; nil for both families' wildcard on one socket.
    var address: IPv6Address?
    /// The device.
    var device: String?

    /// The family of its socket.
    var isIPv4: Bool { address?.isIPv4Mapped ?? false }

    /// A socket for this place, to be made in the right namespace.
    func request(_ transport: TransportProtocol) -> NamespaceRequest {
        .socket(
            domain: isIPv4 ? AF_INET : AF_INET6, type: transport == .tcp ? HostSocket.stream : HostSocket.datagram,
            ipProtocol: 0)
    }

    /// What prepares to take connections or datagrams came to.
    enum Outcome: Equatable {
        /// It listens.
        case listening
        /// It listens on an address that the host does not have at present (`IP_FREEBIND`).
        case listeningWhileAbsent
        /// It does not.
        case failed(SystemCallError)
    }

    /// Connections that may wait to be accepted; the kernel's `net.core.somaxconn` bounds it.
    static let backlog: CInt = 4096

    /// Binds a new socket here and makes it listen.
    func listen(_ number: CInt, port: UInt16, transport: TransportProtocol) -> Outcome {
        if !isIPv4 { HostSocket.set(number, CInt(IPPROTO_IPV6), IPV6_V6ONLY, address == nil ? 0 : 1) }
        if transport == .tcp {
            // For ports that connections of a predecessor still hold (TIME_WAIT); two may not listen all the same.
            HostSocket.set(number, SOL_SOCKET, SO_REUSEADDR, 1)
        } else {
            if !isIPv4 { HostSocket.set(number, CInt(IPPROTO_IPV6), IPV6_RECVPKTINFO, 1) }
            if isIPv4 || address == nil { HostSocket.set(number, CInt(IPPROTO_IP), IP_PKTINFO, 1) }
        }
        if let device, !Self.bind(number, toDevice: device) { return failure("setsockopt", port) }
        let endpoint = Endpoint(address: address ?? .unspecified, port: port)
        var isAbsent = false
        if endpoint.bind(number) != 0 {
            guard currentErrno == .addressNotAvailable, address != nil else { return failure("bind", port) }
            isAbsent = true
            HostSocket.set(
                number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_FREEBIND : IPV6_FREEBIND, 1)
            guard endpoint.bind(number) == 0 else { return failure("bind", port) }
        }
        if transport == .tcp, Glibc.listen(number, Self.backlog) != 0 { return failure("listen", port) }
        return isAbsent ? .listeningWhileAbsent : .listening
    }

    private func failure(_ call: StaticString, _ port: UInt16) -> Outcome {
        let error = currentErrno
        return .failed(SystemCallError("\(call)", text(port: port), error))
    }

    private static func bind(_ number: CInt, toDevice device: String) -> Bool {
        unsafe device.withCString {
            unsafe setsockopt(number, SOL_SOCKET, SO_BINDTODEVICE, $0, socklen_t(device.utf8.count))
        } == 0
    }

    /// Whether sockets may be bound to a device without privilege (Linux 5.7), tried on one that is not used yet.
    static func mayBind(_ number: CInt, toDevice device: String) -> Bool {
        bind(number, toDevice: device)
    }

    /// `8080`, `127.0.0.1:8080`, `[::1]:8080`, `*%eth0:8080`.
    func text(port: UInt16) -> String {
        guard address != nil || device != nil else { return "\(port)" }
        var text = "*"
        if let address {
            text = address.isIPv4Mapped ? "\(IPAddress(unmapping: address))" : "[\(address)]"
        }
        if let device { text += "%\(device)" }
        return "\(text):\(port)"
    }
}
