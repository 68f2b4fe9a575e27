// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close getsockname listen setsockopt socket
// syscalls: setup(namespace): socket
// syscalls: running(data-path, ports): close getpeername getsockname getsockopt recvfrom sendto setsockopt socket
// syscalls: running(ports): accept4 listen; running(control): accept4 close
// syscalls: running(namespace): socket
// syscalls: running(native-sockets): close getpeername getsockname getsockopt setsockopt socket

internal import CLinux
internal import Glibc
public import NetworkTypes
public import SystemPackage

/// Sockets by number: all calls on a socket except those that move bulk data.
///
/// The holder of the number owns the socket and closes it. All rooms use one error convention for sockets:
///
/// - A call that moves bytes or datagrams returns an ``IOResult``; `EAGAIN` is a result, not an error.
/// - Every other call that can fail throws its `Errno`, a trivial value: a flow that cannot be opened costs no
///   allocation. Code that reports the error to a person wraps it in a ``SystemCallError``, with the call and the
///   object.
/// - A query whose answer may be missing (an address, an option, the pending error) returns an optional.
public enum HostSocket {
    /// `SOCK_STREAM`.
    public static let stream = CInt(SOCK_STREAM.rawValue)
    /// `SOCK_DGRAM`.
    public static let datagram = CInt(SOCK_DGRAM.rawValue)

    /// Makes a non-blocking socket in the calling thread's network namespace (socket(2)).
    ///
    /// - Throws: The error of socket(2).
    public static func open(_ family: AddressFamily, type: CInt, ipProtocol: CInt = 0) throws(Errno) -> CInt {
        try open(domain: family == .v4 ? AF_INET : AF_INET6, type: type, ipProtocol: ipProtocol)
    }

    /// Makes a non-blocking socket of any domain in the calling thread's network namespace (socket(2)).
    ///
    /// - Throws: The error of socket(2).
    public static func open(domain: CInt, type: CInt, ipProtocol: CInt) throws(Errno) -> CInt {
        let number = socket(domain, type | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), ipProtocol)
        guard number >= 0 else { throw currentErrno }
        return number
    }

    /// Makes a socket of the destination's family, binds it as asked and connects it without waiting.
    ///
    /// A UDP socket for a multicast group is not connected, because each member of the group answers from its own
    /// address. It is bound to the address that the kernel sends from, so that only answers to that address come in,
    /// and to a free port in place of `sourcePort`, so that it takes no datagrams of a service of the host (mDNS has
    /// one port for all).
    ///
    /// - Parameters:
    ///   - destination: the address and port to connect to.
    ///   - type: ``stream`` or ``datagram``.
    ///   - ipProtocol: the protocol, for ping sockets; 0 for the type's own.
    ///   - source: the address to bind to if the host has it; with nil, or without it, the kernel chooses one.
    ///   - sourcePort: the port to bind to if it is free; with 0 the kernel chooses it.
    ///   - device: the link to bind to; nil for none.
    /// - Returns: The socket, connected or connecting.
    /// - Throws: The error of the first call that failed.
    public static func connect(
        to destination: Endpoint, type: CInt, ipProtocol: CInt = 0, source: IPAddress?, sourcePort: UInt16 = 0,
        device: String?
    ) throws(Errno) -> CInt {
        if type == datagram, ipProtocol == 0, IPAddress(destination.family, destination.address).isMulticast {
            return try openForGroup(destination, source: source, device: device)
        }
        return try connected(
            to: destination, type: type, ipProtocol: ipProtocol, source: source, sourcePort: sourcePort, device: device)
    }

    private static func openForGroup(_ group: Endpoint, source: IPAddress?, device: String?) throws(Errno) -> CInt {
        // Only a connected socket shows which address the kernel would send from.
        let probe = try connected(
            to: group, type: datagram, ipProtocol: 0, source: source, sourcePort: 0, device: device)
        let chosen = localEndpoint(probe)
        Glibc.close(probe)
        guard var local = chosen else { throw .addressNotAvailable }
        local.port = 0
        let number = try open(group.family, type: datagram)
        do throws(Errno) {
            try prepare(number, for: group, isStream: false, source: nil, sourcePort: 0, device: device)
            try local.bind(number)
        } catch {
            Glibc.close(number)
            throw error
        }
        return number
    }

    private static func connected(
        to destination: Endpoint, type: CInt, ipProtocol: CInt, source: IPAddress?, sourcePort: UInt16, device: String?
    ) throws(Errno) -> CInt {
        let number = try open(destination.family, type: type, ipProtocol: ipProtocol)
        do throws(Errno) {
            try prepare(
                number, for: destination, isStream: type == stream, source: source, sourcePort: sourcePort,
                device: device)
            try destination.connect(number, mayGoOn: true)
        } catch {
            Glibc.close(number)
            throw error
        }
        if type == datagram, source != nil || sourcePort != 0 { empty(number) }
        return number
    }

    private static func prepare(
        _ number: CInt, for destination: Endpoint, isStream: Bool, source: IPAddress?, sourcePort: UInt16,
        device: String?
    ) throws(Errno) {
        if isStream {
            // The namespace's kernel has decided already when to send: Nagle's algorithm would only delay the data.
            setIfPossible(number, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        } else {
            // 4 MiB, or the host's limit (net.core.rmem_max), so that a burst is not lost while other flows are served.
            setIfPossible(number, SOL_SOCKET, SO_RCVBUF, 1 << 22)
            prepareDatagrams(number, for: destination)
        }
        if let device { try bind(number, toDevice: device) }
        guard source != nil || sourcePort != 0 else { return }
        try bindLocally(number, destination.family, isStream: isStream, source: source, sourcePort: sourcePort)
    }

    /// Binds a socket that is going to be connected.
    ///
    /// A port that is taken or reserved is no reason to fail, since any other will do. Nor is an address that the host
    /// does not have at present (`-o`): its kernel chooses one then, as it does without the option.
    private static func bindLocally(
        _ number: CInt, _ family: AddressFamily, isStream: Bool, source: IPAddress?, sourcePort: UInt16
    ) throws(Errno) {
        let any: IPAddress = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
        if isStream { setIfPossible(number, CInt(IPPROTO_IP), CInt(TAPAS_IP_BIND_ADDRESS_NO_PORT), 1) }
        // All flows from one port of the namespace share one port of the host; each socket is connected to its own peer.
        if sourcePort != 0 { setIfPossible(number, SOL_SOCKET, SO_REUSEADDR, 1) }
        do throws(Errno) {
            try Endpoint(address: (source ?? any).asBindable, port: sourcePort).bind(number)
        } catch {
            if source != nil, error == .addressNotAvailable {
                guard sourcePort != 0 else { return }
                return try bindLocally(number, family, isStream: isStream, source: nil, sourcePort: sourcePort)
            }
            guard sourcePort != 0 else { throw error }
            // The other port must not be shared with another flow, which may have the same destination.
            if !isStream { setIfPossible(number, SOL_SOCKET, SO_REUSEADDR, 0) }
            guard let source else { return }
            try Endpoint(address: source.asBindable, port: 0).bind(number)
        }
    }

    /// Sets what a datagram socket needs before it is bound and connected.
    ///
    /// A datagram that the namespace sends to a multicast group leaves by the link, but is not looped back to the host's
    /// own sockets. The kernel has no such switch for broadcasts. So `SO_BROADCAST` stays off, and connect(2) refuses
    /// broadcasts with EACCES, also those of the host's subnets, which only its routes know (decision 0008).
    private static func prepareDatagrams(_ number: CInt, for destination: Endpoint) {
        let isGroup = IPAddress(destination.family, destination.address).isMulticast
        if destination.family == .v4 {
            setIfPossible(number, CInt(IPPROTO_IP), IP_RECVERR, 1)
            if isGroup { setIfPossible(number, CInt(IPPROTO_IP), IP_MULTICAST_LOOP, 0) }
        } else {
            setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_RECVERR, 1)
            // The namespace may use the same port with both families.
            setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 1)
            if isGroup { setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_MULTICAST_LOOP, 0) }
        }
    }

    /// Whether the process may open a ping socket of a family (net.ipv4.ping_group_range).
    public static func canPing(_ family: AddressFamily) -> Bool {
        let ipProtocol = family.isIPv4 ? CInt(IPPROTO_ICMP) : CInt(IPPROTO_ICMPV6)
        guard let number = try? open(family, type: datagram, ipProtocol: ipProtocol) else { return false }
        Glibc.close(number)
        return true
    }

    /// Sets an integer option (setsockopt(2)).
    ///
    /// - Throws: The error of setsockopt(2).
    public static func set(_ number: CInt, _ level: CInt, _ option: CInt, _ value: CInt) throws(Errno) {
        var value = value
        if unsafe setsockopt(number, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) != 0 {
            throw currentErrno
        }
    }

    /// Sets an integer option if the kernel allows it; every caller works with the default, too.
    public static func setIfPossible(_ number: CInt, _ level: CInt, _ option: CInt, _ value: CInt) {
        try? set(number, level, option, value)
    }

    /// Binds a socket to a link (`SO_BINDTODEVICE`), which works once, without privilege, at any time of its life.
    ///
    /// - Throws: The error of setsockopt(2): EPERM if it is bound already, ENODEV if there is no such link.
    public static func bind(_ number: CInt, toDevice device: String) throws(Errno) {
        let result = unsafe device.withCString {
            unsafe setsockopt(number, SOL_SOCKET, SO_BINDTODEVICE, $0, socklen_t(device.utf8.count))
        }
        if result != 0 { throw currentErrno }
    }

    /// Listens for connections (listen(2)).
    ///
    /// - Throws: The error of listen(2).
    public static func listen(_ number: CInt, backlog: CInt) throws(Errno) {
        if Glibc.listen(number, backlog) != 0 { throw currentErrno }
    }

    /// Accepts a connection without waiting (accept4(2)); the new socket does not block.
    ///
    /// - Returns: The socket and its peer, which is nil for families other than IPv4 and IPv6; nil if none waits.
    /// - Throws: The error of accept4(2), which may be that of the connection (accept(2), "Error handling").
    public static func accept(_ listener: CInt) throws(Errno) -> (socket: CInt, peer: Endpoint?)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let number = unsafe tapas_accept(listener, &storage, &length)
        if number >= 0 { return (number, unsafe Endpoint(&storage)) }
        let error = currentErrno
        if error == .resourceTemporarilyUnavailable { return nil }
        throw error
    }

    /// The link that a socket is bound to; nil if it is bound to none.
    public static func device(of number: CInt) -> String? {
        // IFNAMSIZ, the NUL included.
        var name: [UInt8] = .init(repeating: 0, count: 16)
        var length = socklen_t(name.count)
        guard unsafe getsockopt(number, SOL_SOCKET, SO_BINDTODEVICE, &name, &length) == 0 else { return nil }
        let text = name.prefix { $0 != 0 }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }

    /// The value of an integer option; nil if the kernel does not have it.
    public static func get(_ number: CInt, _ level: CInt, _ option: CInt) -> CInt? {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return unsafe getsockopt(number, level, option, &value, &length) == 0 ? value : nil
    }

    /// The smoothed round-trip time of a connection in microseconds (`tcpi_rtt`).
    public static func roundTripTime(_ number: CInt) -> UInt32? {
        var info = tcp_info()
        var length = socklen_t(MemoryLayout<tcp_info>.size)
        return unsafe getsockopt(number, CInt(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 ? info.tcpi_rtt : nil
    }

    /// Takes the pending error (`SO_ERROR`); nil if there is none.
    public static func takeError(_ number: CInt) -> Errno? {
        guard let value = get(number, SOL_SOCKET, SO_ERROR), value != 0 else { return nil }
        return Errno(rawValue: value)
    }

    /// The socket's own address (getsockname(2)).
    public static func localEndpoint(_ number: CInt) -> Endpoint? {
        let name = unsafe Endpoint.written { unsafe getsockname(number, $0, &$1) }
        return name.result == 0 ? name.endpoint : nil
    }

    /// The address that a socket is connected to (getpeername(2)).
    public static func peerEndpoint(_ number: CInt) -> Endpoint? {
        let name = unsafe Endpoint.written { unsafe getpeername(number, $0, &$1) }
        return name.result == 0 ? name.endpoint : nil
    }

    /// Closes a connection with a reset in place of FIN (`SO_LINGER` of zero seconds).
    public static func abort(_ number: CInt) {
        var linger = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        Glibc.close(number)
    }

    /// Discards the datagrams that other hosts have sent to a socket between bind(2) and connect(2).
    ///
    /// The peer cannot have sent any of them, since it does not know the socket yet.
    public static func empty(_ number: CInt) {
        var attempts = 0
        while attempts < 256, recv(number, nil, 0, CInt(MSG_DONTWAIT | MSG_TRUNC)) >= 0 { attempts += 1 }
    }

    /// Sends a datagram on a connected socket, without waiting.
    public static func send(_ number: CInt, _ payload: UnsafeRawPointer, _ count: Int) -> IOResult {
        transferring { unsafe Glibc.send(number, payload, count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL)) }
    }

    /// Closes a socket.
    public static func close(_ number: CInt) {
        Glibc.close(number)
    }
}

extension Errno {
    /// The process or the system has no descriptors left (`EMFILE`, `ENFILE`).
    public var meansNoDescriptors: Bool { self == .tooManyOpenFiles || self == .tooManyOpenFilesInSystem }
}

extension IPAddress {
    /// The form that bind(2) takes on a socket of the address's family: 0.0.0.0 must stay IPv4.
    public var asBindable: IPv6Address { asIPv6 }
}
