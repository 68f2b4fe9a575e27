// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A socket keeps the network namespace of its making, so all that has to happen on the thread that lives in the target
// namespace is socket(2); binding, connecting and accepting work from here. Requests are handed over in batches: one
// round trip for the listening sockets of a whole rule, and one for a handful of sockets that spliced connections will
// need (`NamespaceSocketPool`), so that a connection costs none.
//
// syscalls: socket open close

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// A descriptor that is wanted from the target network namespace.
public enum NamespaceRequest: Hashable, Sendable {
    /// A socket (socket(2)); it is made non-blocking.
    case socket(domain: Int32, type: Int32, ipProtocol: Int32)
    /// A file opened for reading: one of /proc/thread-self/net.
    case file(String)

    /// Makes the descriptor in the network namespace of the calling thread, with `O_CLOEXEC`.
    ///
    /// - Returns: The descriptor, which the caller owns, or the error.
    public func open() -> Result<FileDescriptor, Errno> {
        let number: CInt
        switch self {
        case .socket(let domain, let type, let ipProtocol):
            number = Glibc.socket(domain, type | CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), ipProtocol)
        case .file(let path):
            number = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        }
        return number >= 0 ? .success(FileDescriptor(rawValue: number)) : .failure(currentErrno)
    }
}

/// Answers requests on a thread that is in the target network namespace; blocks until all are answered.
public typealias NamespaceFactory = ([NamespaceRequest]) -> [Result<FileDescriptor, Errno>]

/// Unconnected sockets of the target namespace, made in advance.
struct NamespaceSocketPool {
    /// The kinds of sockets that connections into the namespace need.
    enum Kind: Int, CaseIterable {
        case tcpv4
        case tcpv6
        case udpv4
        case udpv6

        init(isStream: Bool, isIPv4: Bool) {
            self = isStream ? (isIPv4 ? .tcpv4 : .tcpv6) : (isIPv4 ? .udpv4 : .udpv6)
        }

        var request: NamespaceRequest {
            switch self {
            case .tcpv4: .socket(domain: AF_INET, type: HostSocket.stream, ipProtocol: 0)
            case .tcpv6: .socket(domain: AF_INET6, type: HostSocket.stream, ipProtocol: 0)
            case .udpv4: .socket(domain: AF_INET, type: HostSocket.datagram, ipProtocol: 0)
            case .udpv6: .socket(domain: AF_INET6, type: HostSocket.datagram, ipProtocol: 0)
            }
        }
    }

    /// Sockets of a kind after a refill, and below how many it is due.
    private static let target = 32
    private static let lowMark = 16

    private let factory: NamespaceFactory
    private var free: [[CInt]] = .init(repeating: [], count: Kind.allCases.count)
    /// Kinds that ran low.
    private var low: Set<Kind> = []

    init(factory: @escaping NamespaceFactory) {
        self.factory = factory
    }

    /// A socket, which the caller owns; nil if none can be made.
    mutating func take(_ kind: Kind) -> CInt? {
        if free[kind.rawValue].isEmpty { fill(kind, to: Self.lowMark) }
        let socket = free[kind.rawValue].popLast()
        if free[kind.rawValue].count < Self.lowMark { low.insert(kind) }
        return socket
    }

    /// Makes more of what ran low; to be called between bursts of work.
    mutating func refill() {
        if low.isEmpty { return }
        for kind in low { fill(kind, to: Self.target) }
        low = []
    }

    private mutating func fill(_ kind: Kind, to count: Int) {
        let missing = count - free[kind.rawValue].count
        guard missing > 0 else { return }
        for case .success(let descriptor) in factory(.init(repeating: kind.request, count: missing)) {
            free[kind.rawValue].append(descriptor.rawValue)
        }
    }

    /// Closes what is left.
    mutating func close() {
        for index in free.indices {
            for socket in free[index] { HostSocket.close(socket) }
            free[index] = []
        }
    }
}
