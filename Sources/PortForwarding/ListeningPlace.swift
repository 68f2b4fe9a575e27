// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

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

    /// The request for a socket of this place, which must be made in the right namespace.
    func request(_ transport: TransportProtocol) -> NamespaceRequest {
        .socket(
            domain: isIPv4 ? AF_INET : AF_INET6, type: transport == .tcp ? HostSocket.stream : HostSocket.datagram,
            ipProtocol: 0)
    }

    /// Connections that may wait to be accepted; the kernel's `net.core.somaxconn` bounds it.
    static let backlog: CInt = 4096

    /// Whether the address is one that the kernel lets nobody bind to at present: the host does not have it.
    ///
    /// - Returns: False if there is no address, or if no socket can be made to ask with.
    var isAbsent: Bool {
        guard let address, let probe = try? request(.udp).open().rawValue else { return false }
        defer { HostSocket.close(probe) }
        if let device { try? HostSocket.bind(probe, toDevice: device) }
        do throws(Errno) {
            try Endpoint(address: address, port: 0).bind(probe)
            return false
        } catch {
            return error == .addressNotAvailable
        }
    }

    /// Binds a new socket here, also to an address that the host does not have at present, and makes it listen.
    ///
    /// - Throws: The error of setsockopt(2), bind(2) or listen(2), with this place and the port.
    func listen(_ number: CInt, port: UInt16, transport: TransportProtocol) throws(SystemCallError) {
        if !isIPv4 { HostSocket.setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_V6ONLY, address == nil ? 0 : 1) }
        if transport == .tcp {
            // Connections of a predecessor may still hold the port (TIME_WAIT). Two sockets still cannot listen on it.
            HostSocket.setIfPossible(number, SOL_SOCKET, SO_REUSEADDR, 1)
        } else {
            if !isIPv4 { HostSocket.setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_RECVPKTINFO, 1) }
            if isIPv4 || address == nil { HostSocket.setIfPossible(number, CInt(IPPROTO_IP), IP_PKTINFO, 1) }
        }
        var call = "setsockopt"
        do throws(Errno) {
            if let device { try HostSocket.bind(number, toDevice: device) }
            call = "bind"
            try bind(number, Endpoint(address: address ?? .unspecified, port: port))
            call = "listen"
            if transport == .tcp { try HostSocket.listen(number, backlog: Self.backlog) }
        } catch {
            throw SystemCallError(call, text(port: port), error)
        }
    }

    /// Binds a socket, also to an address that the host does not have at present (`IP_FREEBIND`).
    ///
    /// - Throws: The error of bind(2).
    private func bind(_ number: CInt, _ endpoint: Endpoint) throws(Errno) {
        do throws(Errno) {
            return try endpoint.bind(number)
        } catch {
            guard error == .addressNotAvailable, address != nil else { throw error }
        }
        HostSocket.setIfPossible(
            number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_FREEBIND : IPV6_FREEBIND, 1)
        try endpoint.bind(number)
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
