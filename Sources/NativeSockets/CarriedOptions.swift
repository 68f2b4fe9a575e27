// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): fcntl getsockopt setsockopt

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// The options of a socket that its replacement gets, too, and those with which a socket is not replaced.
enum CarriedOptions {
    /// An option with an integer value.
    private struct Option {
        var level: CInt
        var name: CInt
        /// The value of a new socket, which need not be set; nil if it depends on the system.
        var standard: CInt?

        init(_ level: CInt, _ name: CInt, _ standard: CInt? = 0) {
            self.level = level
            self.name = name
            self.standard = standard
        }
    }

    // Numbers that the headers keep from Swift: asm-generic/socket.h, linux/in.h, linux/in6.h, linux/tcp.h.
    private static let zeroCopy: CInt = 60, tcpInq: CInt = 36, tcpTransmissionDelay: CInt = 37
    private static let mark: CInt = 36, fastOpenConnect: CInt = 30, upperProtocol: CInt = 31, repair: CInt = 19
    private static let (tcp, ip, ip6) = (CInt(IPPROTO_TCP), CInt(IPPROTO_IP), CInt(IPPROTO_IPV6))

    private static let common: [Option] = [
        Option(SOL_SOCKET, SO_KEEPALIVE), Option(SOL_SOCKET, SO_OOBINLINE), Option(SOL_SOCKET, SO_PRIORITY),
        Option(SOL_SOCKET, SO_RCVLOWAT, 1), Option(SOL_SOCKET, SO_TIMESTAMP), Option(SOL_SOCKET, SO_TIMESTAMPNS),
        Option(SOL_SOCKET, zeroCopy), Option(SOL_SOCKET, SO_MAX_PACING_RATE, -1),
        Option(tcp, TCP_NODELAY), Option(tcp, TCP_CORK), Option(tcp, TCP_USER_TIMEOUT),
        Option(tcp, TCP_KEEPIDLE, nil), Option(tcp, TCP_KEEPINTVL, nil), Option(tcp, TCP_KEEPCNT, nil),
        Option(tcp, TCP_SYNCNT, nil), Option(tcp, TCP_NOTSENT_LOWAT, nil), Option(tcp, TCP_LINGER2, nil),
        Option(tcp, tcpInq), Option(tcp, tcpTransmissionDelay), Option(tcp, TCP_THIN_LINEAR_TIMEOUTS),
        Option(ip, IP_TOS), Option(ip, IP_TTL, nil), Option(ip, IP_RECVTOS), Option(ip, IP_RECVTTL),
        Option(ip, IP_MTU_DISCOVER, nil),
    ]

    private static let ipv6: [Option] = [
        Option(ip6, IPV6_V6ONLY, nil), Option(ip6, IPV6_TCLASS), Option(ip6, IPV6_UNICAST_HOPS, nil),
        Option(ip6, IPV6_RECVTCLASS), Option(ip6, IPV6_MTU_DISCOVER, nil),
    ]

    /// Whether a socket has nothing that its replacement could not have: it has no address, is bound to no device, and
    /// no signals are sent for it.
    static func allowReplacement(of socket: borrowing CallerSocket) -> Bool {
        let number = socket.number
        guard let local = HostSocket.localEndpoint(number), local.port == 0 else { return false }
        // An IPv4 socket without an address has ::ffff:0.0.0.0.
        guard IPAddress(unmapping: local.address).isUnspecified else { return false }
        guard HostSocket.device(of: number) == nil, HostSocket.get(number, SOL_SOCKET, mark) ?? 0 == 0 else {
            return false
        }
        for name in [fastOpenConnect, repair] where HostSocket.get(number, tcp, name) ?? 0 != 0 { return false }
        // A name such as "tls".
        if let name = text(number, tcp, upperProtocol), !name.isEmpty { return false }
        // Source routes, and headers of extension.
        if length(number, ip, IP_OPTIONS) != 0 { return false }
        if socket.domain == AF_INET6 {
            for name in [IPV6_RTHDR, IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDRDSTOPTS]
            where length(number, ip6, name) != 0 { return false }
        }
        guard fcntl(number, F_GETFL) & O_ASYNC == 0, fcntl(number, F_GETOWN) == 0 else { return false }
        // TCP_CLOSE (linux/tcp.h): neither connected nor listening.
        return socket.state == 7
    }

    /// Sets the options of one socket on another.
    ///
    /// - Returns: Whether all could be set.
    static func copy(from socket: borrowing CallerSocket, to number: CInt) -> Bool {
        let lists = socket.domain == AF_INET6 ? [common, ipv6] : [common]
        for option in lists.joined() {
            guard let value = HostSocket.get(socket.number, option.level, option.name), value != option.standard,
                option.standard != nil || value != HostSocket.get(number, option.level, option.name)
            else { continue }
            guard (try? HostSocket.set(number, option.level, option.name, value)) != nil else { return false }
        }
        return copyBuffers(socket.number, number) && copyStructure(socket.number, number, SO_LINGER, linger())
            && copyStructure(socket.number, number, SO_RCVTIMEO, timeval())
            && copyStructure(socket.number, number, SO_SNDTIMEO, timeval())
            && copyCongestionControl(socket.number, number)
    }

    /// Sizes that were set, in place of being left to the kernel (SO_BUF_LOCK); the kernel reports twice what was set.
    private static func copyBuffers(_ from: CInt, _ to: CInt) -> Bool {
        let locks = HostSocket.get(from, SOL_SOCKET, CInt(TAPAS_SO_BUF_LOCK)) ?? 0
        for (bit, name) in [(CInt(1), SO_SNDBUF), (2, SO_RCVBUF)] where locks & bit != 0 {
            guard let size = HostSocket.get(from, SOL_SOCKET, name) else { return false }
            HostSocket.setIfPossible(to, SOL_SOCKET, name, size / 2)
        }
        return true
    }

    private static func copyStructure<Value: BitwiseCopyable>(
        _ from: CInt, _ to: CInt, _ name: CInt, _ empty: Value
    ) -> Bool {
        var value = empty
        var length = socklen_t(MemoryLayout<Value>.size)
        guard unsafe getsockopt(from, SOL_SOCKET, name, &value, &length) == 0 else { return false }
        let isEmpty = unsafe withUnsafeBytes(of: &value) { unsafe $0.allSatisfy { $0 == 0 } }
        return unsafe isEmpty || setsockopt(to, SOL_SOCKET, name, &value, length) == 0
    }

    /// The namespace may have another default than the host, which is no choice of the program.
    private static func copyCongestionControl(_ from: CInt, _ to: CInt) -> Bool {
        guard var name = text(from, tcp, TCP_CONGESTION), name != text(to, tcp, TCP_CONGESTION) else { return true }
        // If the host does not let everybody use it, its own remains.
        _ = unsafe setsockopt(to, tcp, TCP_CONGESTION, &name, socklen_t(name.count))
        return true
    }

    private static func text(_ number: CInt, _ level: CInt, _ name: CInt) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 16)
        var length = socklen_t(bytes.count)
        guard unsafe getsockopt(number, level, name, &bytes, &length) == 0 else { return nil }
        return Array(bytes.prefix(Int(length)).prefix { $0 != 0 })
    }

    /// The length of an option's value; 0 if there is none or the kernel does not have it.
    private static func length(_ number: CInt, _ level: CInt, _ name: CInt) -> Int {
        var bytes = [UInt8](repeating: 0, count: 256)
        var length = socklen_t(bytes.count)
        return unsafe getsockopt(number, level, name, &bytes, &length) == 0 ? Int(length) : 0
    }
}
