// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): close fcntl getsockopt pidfd_getfd

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// The supervisor's own descriptor of a socket of a caller: the same socket, which nobody can exchange behind our back.
struct CallerSocket: ~Copyable {
    /// The network namespace that a socket belongs to.
    enum Origin {
        /// The host's: a switched socket, or one that the command has inherited.
        case host
        /// The command's own.
        case namespace
        /// Another one, nested in the command's.
        case elsewhere
    }

    /// Our descriptor.
    let owned: OwnedFileDescriptor
    /// Its family, AF_*.
    let domain: CInt
    /// Whether it is a TCP socket over IPv4 or IPv6.
    let isTCP: Bool
    /// The namespace that it belongs to.
    let origin: Origin

    var number: CInt { owned.rawValue }

    /// Takes a descriptor of a thread.
    ///
    /// - Throws: EBADF, ENOTSOCK; EPERM if the thread's descriptors are out of reach; ESRCH if it has ended.
    init(_ descriptor: CInt, of thread: CInt, host: UInt64, namespace: UInt64) throws(Errno) {
        let number = tapas_take_descriptor(thread, descriptor)
        guard number >= 0 else { throw currentErrno }
        var cookie: UInt64 = 0
        guard unsafe tapas_network_namespace_cookie(number, &cookie) == 0 else {
            let error = currentErrno
            close(number)
            throw error
        }
        owned = OwnedFileDescriptor(taking: number)
        origin = cookie == host ? .host : cookie == namespace ? .namespace : .elsewhere
        domain = HostSocket.get(number, SOL_SOCKET, SO_DOMAIN) ?? 0
        isTCP =
            (domain == AF_INET || domain == AF_INET6)
            && HostSocket.get(number, SOL_SOCKET, SO_PROTOCOL) == CInt(IPPROTO_TCP)
            && HostSocket.get(number, SOL_SOCKET, SO_TYPE) == HostSocket.stream
    }

    /// The number that the kernel gives a socket for its life (SO_COOKIE).
    var cookie: UInt64 { Self.cookie(of: number) }

    /// As ``cookie``, for any socket.
    static func cookie(of number: CInt) -> UInt64 {
        var cookie: UInt64 = 0
        var length = socklen_t(MemoryLayout<UInt64>.size)
        return unsafe getsockopt(number, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 ? cookie : 0
    }

    /// Whether calls on it wait.
    var waits: Bool { fcntl(number, F_GETFL) & O_NONBLOCK == 0 }

    /// TCP's state (TCP_INFO).
    var state: UInt8 {
        var info = tcp_info()
        var length = socklen_t(MemoryLayout<tcp_info>.size)
        return unsafe getsockopt(number, CInt(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 ? info.tcpi_state : 0
    }
}
