// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close getpeername getsockname getsockopt recvfrom sendto setsockopt socket
// syscalls: running(data-path, ports): close getpeername getsockname getsockopt recvfrom sendto setsockopt socket

internal import CLinux
internal import Glibc
public import NetworkTypes
public import SystemPackage

/// Sockets by number: what is done to them apart from moving bulk data.
///
/// Whoever holds the number owns the socket and closes it.
public enum HostSocket {
    /// `SOCK_STREAM`.
    public static let stream = CInt(SOCK_STREAM.rawValue)
    /// `SOCK_DGRAM`.
    public static let datagram = CInt(SOCK_DGRAM.rawValue)

    /// What a connection attempt came to at once.
    public enum Start {
        /// Connected or on its way.
        case socket(CInt)
        /// Refused at once, by the kernel's own tables or by the limits of the process.
        case failed(Errno)
    }

    /// Makes a socket of the destination's family, binds it as asked and connects it without waiting.
    ///
    /// A UDP socket for a multicast group is not connected, because whoever has joined the group answers from an address
    /// of its own: it is bound to the address that the kernel sends from, so that nothing but answers to that address
    /// comes in, and to a free port in place of `sourcePort`, so that it takes no datagrams of a service of the host
    /// (mDNS has one port for all).
    public static func connect(
        to destination: Endpoint, type: CInt, ipProtocol: CInt = 0, source: IPAddress?, sourcePort: UInt16 = 0,
        device: String?
    ) -> Start {
        if type == datagram, ipProtocol == 0, IPAddress(destination.family, destination.address).isMulticast {
            return openForGroup(destination, source: source, device: device)
        }
        return connected(
            to: destination, type: type, ipProtocol: ipProtocol, source: source, sourcePort: sourcePort, device: device)
    }

    private static func openForGroup(_ group: Endpoint, source: IPAddress?, device: String?) -> Start {
        // Only a connected socket tells which address the kernel would send from.
        let probe = connected(
            to: group, type: datagram, ipProtocol: 0, source: source, sourcePort: 0, device: device)
        guard case .socket(let connected) = probe else { return probe }
        let chosen = localEndpoint(connected)
        Glibc.close(connected)
        guard var local = chosen else { return .failed(.addressNotAvailable) }
        local.port = 0
        let domain = group.family == .v4 ? AF_INET : AF_INET6
        let number = socket(domain, datagram | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { return .failed(currentErrno) }
        let refusal = prepare(number, for: group, isStream: false, source: nil, sourcePort: 0, device: device)
        if refusal == nil, local.bind(number) == 0 { return .socket(number) }
        let failure = refusal ?? currentErrno
        Glibc.close(number)
        return .failed(failure)
    }

    private static func connected(
        to destination: Endpoint, type: CInt, ipProtocol: CInt, source: IPAddress?, sourcePort: UInt16, device: String?
    ) -> Start {
        let domain = destination.family == .v4 ? AF_INET : AF_INET6
        let number = socket(domain, type | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), ipProtocol)
        guard number >= 0 else { return .failed(currentErrno) }
        if let failure = prepare(
            number, for: destination, isStream: type == stream, source: source,
            sourcePort: sourcePort, device: device)
        {
            Glibc.close(number)
            return .failed(failure)
        }
        let result = destination.connect(number)
        if result == 0 || currentErrno == .nowInProgress {
            if type == datagram, source != nil || sourcePort != 0 { empty(number) }
            return .socket(number)
        }
        let failure = currentErrno
        Glibc.close(number)
        return .failed(failure)
    }

    private static func prepare(
        _ number: CInt, for destination: Endpoint, isStream: Bool, source: IPAddress?, sourcePort: UInt16,
        device: String?
    ) -> Errno? {
        if isStream {
            // The namespace's kernel has decided when to send: hold nothing back.
            set(number, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        } else {
            // 4 MiB, or the host's limit (net.core.rmem_max): a burst is not to be lost while others have their turn.
            set(number, SOL_SOCKET, SO_RCVBUF, 1 << 22)
            prepareDatagrams(number, for: destination)
        }
        if let device {
            guard bind(number, toDevice: device) else { return currentErrno }
        }
        guard source != nil || sourcePort != 0 else { return nil }
        let any: IPAddress = destination.family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
        if isStream { set(number, CInt(IPPROTO_IP), CInt(TAPAS_IP_BIND_ADDRESS_NO_PORT), 1) }
        // One port of the namespace is one port of the host towards all others; each socket is connected to its own.
        if sourcePort != 0 { set(number, SOL_SOCKET, SO_REUSEADDR, 1) }
        let local = Endpoint(address: (source ?? any).asBindable, port: sourcePort)
        let bound = local.bind(number)
        if bound == 0 { return nil }
        let failure = currentErrno
        // A port that is taken or reserved is no reason to fail: any other will do. An address is.
        guard sourcePort != 0 else { return failure }
        // It must be free, though, and not shared with another flow: that one may have the same destination.
        if !isStream { set(number, SOL_SOCKET, SO_REUSEADDR, 0) }
        guard let source else { return nil }
        let fallback = Endpoint(address: source.asBindable, port: 0)
        return fallback.bind(number) == 0 ? nil : currentErrno
    }

    /// Sets what a datagram socket needs before it is bound and connected.
    ///
    /// What the namespace sends to a group leaves by the link but does not come back to the host's own sockets. The
    /// kernel has no such switch for broadcasts, so `SO_BROADCAST` stays off and connect(2) refuses them with EACCES,
    /// those of the host's subnets, which only its routes know, included (decision 0008).
    private static func prepareDatagrams(_ number: CInt, for destination: Endpoint) {
        let isGroup = IPAddress(destination.family, destination.address).isMulticast
        if destination.family == .v4 {
            set(number, CInt(IPPROTO_IP), IP_RECVERR, 1)
            if isGroup { set(number, CInt(IPPROTO_IP), IP_MULTICAST_LOOP, 0) }
        } else {
            set(number, CInt(IPPROTO_IPV6), IPV6_RECVERR, 1)
            // The namespace may use a port with both families.
            set(number, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 1)
            if isGroup { set(number, CInt(IPPROTO_IPV6), IPV6_MULTICAST_LOOP, 0) }
        }
    }

    /// Whether the kernel lets us have a ping socket of a family (net.ipv4.ping_group_range).
    public static func canPing(_ family: AddressFamily) -> Bool {
        let number = socket(
            family.isIPv4 ? AF_INET : AF_INET6, datagram | CInt(SOCK_CLOEXEC.rawValue),
            family.isIPv4 ? CInt(IPPROTO_ICMP) : CInt(IPPROTO_ICMPV6))
        if number >= 0 { Glibc.close(number) }
        return number >= 0
    }

    /// Sets an integer option; failure leaves the default, which every caller can live with.
    @discardableResult
    public static func set(_ number: CInt, _ level: CInt, _ option: CInt, _ value: CInt) -> Bool {
        var value = value
        return unsafe setsockopt(number, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) == 0
    }

    /// Binds a socket to a link (`SO_BINDTODEVICE`): once, without privilege, at any time of its life.
    @discardableResult
    public static func bind(_ number: CInt, toDevice device: String) -> Bool {
        unsafe device.withCString {
            unsafe setsockopt(number, SOL_SOCKET, SO_BINDTODEVICE, $0, socklen_t(device.utf8.count))
        } == 0
    }

    /// The link that a socket is bound to; nil if to none.
    public static func device(of number: CInt) -> String? {
        // IFNAMSIZ, the NUL included.
        var name: [UInt8] = .init(repeating: 0, count: 16)
        var length = socklen_t(name.count)
        guard unsafe getsockopt(number, SOL_SOCKET, SO_BINDTODEVICE, &name, &length) == 0 else { return nil }
        let text = name.prefix { $0 != 0 }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }

    /// Reads an integer option.
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

    /// The socket's own address.
    public static func localEndpoint(_ number: CInt) -> Endpoint? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(number, $0, &length)
            }
        }
        return result == 0 ? unsafe Endpoint(&storage) : nil
    }

    /// What a socket is connected to.
    public static func peerEndpoint(_ number: CInt) -> Endpoint? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getpeername(number, $0, &length)
            }
        }
        return result == 0 ? unsafe Endpoint(&storage) : nil
    }

    /// Closes a connection with a reset in place of FIN (`SO_LINGER` of zero seconds).
    public static func abort(_ number: CInt) {
        var linger = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
        Glibc.close(number)
    }

    /// Forgets what strangers have sent to a datagram socket between bind(2) and connect(2); its peer does not know of it
    /// yet.
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
    /// The form that bind(2) of the family's socket takes: "any" IPv4 must stay IPv4.
    public var asBindable: IPv6Address { asIPv6 }
}
