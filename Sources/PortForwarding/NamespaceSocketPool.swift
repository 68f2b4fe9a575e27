// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import SystemPackage

/// Unconnected sockets of the target namespace, made ahead of time.
///
/// No thread waits for a socket: when none is left, the work that needs one is postponed until more have been made.
/// `ForwardedPorts` sends the pool's requests and passes the answers on.
struct NamespaceSocketPool {
    /// The kinds of sockets that are needed for connecting and listening in the namespace.
    enum Kind: Int, CaseIterable {
        case tcpv4
        case tcpv6
        case udpv4
        case udpv6

        init(isStream: Bool, isIPv4: Bool) {
            self = isStream ? (isIPv4 ? .tcpv4 : .tcpv6) : (isIPv4 ? .udpv4 : .udpv6)
        }

        var request: NamespaceRequest {
            .socket(
                domain: self == .tcpv4 || self == .udpv4 ? AF_INET : AF_INET6,
                type: self == .tcpv4 || self == .tcpv6 ? HostSocket.stream : HostSocket.datagram, ipProtocol: 0)
        }
    }

    /// The number of sockets of a kind after a refill.
    private let target: Int
    /// How long a kind that was refused is not requested again, in milliseconds.
    private static let failurePause: Int64 = 1000

    private struct Supply {
        var free: [CInt] = []
        /// The number of sockets that were needed and missing since the last answer.
        var shortage = 0
        var isLow = false
        var failure: (error: Errno, until: MonotonicTime)?
    }

    private var supplies: [Supply] = .init(repeating: Supply(), count: Kind.allCases.count)
    /// The kinds of the requested sockets, one for each request.
    private var requested: [Kind] = []

    /// Makes an empty pool.
    ///
    /// - Parameter target: the number of sockets of a kind after a refill; with 0 each is made when it is needed.
    init(target: Int) {
        self.target = target
    }

    /// The number of sockets of a kind below which they are refilled.
    private var lowMark: Int { max(target / 2, 1) }

    /// Requests sockets of a kind before one is needed.
    mutating func prepare(_ kind: Kind) {
        if supplies[kind.rawValue].free.count < lowMark { supplies[kind.rawValue].isLow = true }
    }

    /// Takes a socket out.
    ///
    /// - Returns: A socket, which the caller owns; nil if there is none now and more have been requested.
    /// - Throws: The error with which the kernel refused such sockets a moment ago.
    mutating func take(_ kind: Kind) throws(Errno) -> CInt? {
        let socket = supplies[kind.rawValue].free.popLast()
        if supplies[kind.rawValue].free.count < lowMark { supplies[kind.rawValue].isLow = true }
        if let socket { return socket }
        if let failure = supplies[kind.rawValue].failure {
            if MonotonicTime.now < failure.until { throw failure.error }
            supplies[kind.rawValue].failure = nil
        }
        supplies[kind.rawValue].shortage += 1
        return nil
    }

    /// The requests for the namespace's thread; none while answers are outstanding.
    mutating func nextRequests() -> [NamespaceRequest] {
        guard requested.isEmpty else { return [] }
        for kind in Kind.allCases where supplies[kind.rawValue].isLow {
            supplies[kind.rawValue].isLow = false
            if let failure = supplies[kind.rawValue].failure, MonotonicTime.now < failure.until { continue }
            let missing = target + min(supplies[kind.rawValue].shortage, 256) - supplies[kind.rawValue].free.count
            requested += [Kind](repeating: kind, count: max(missing, 0))
        }
        return requested.map(\.request)
    }

    /// Stores the answers to ``nextRequests()``.
    ///
    /// - Returns: The error of a kind that is needed and of which none could be made.
    mutating func add(_ answers: NamespaceAnswers) -> Errno? {
        var lacking: Errno?
        for (kind, answer) in zip(requested, answers) {
            switch answer {
            case .success(let descriptor):
                supplies[kind.rawValue].free.append(descriptor.rawValue)
            case .failure(let error):
                supplies[kind.rawValue].failure = (error, .now.advanced(milliseconds: Self.failurePause))
            }
        }
        for index in supplies.indices {
            if !supplies[index].free.isEmpty { supplies[index].failure = nil }
            if supplies[index].shortage > 0, let failure = supplies[index].failure { lacking = failure.error }
            supplies[index].shortage = 0
        }
        requested = []
        return lacking
    }

    /// Forgets earlier refusals, because descriptors have become free.
    mutating func forgetFailures() {
        for index in supplies.indices where supplies[index].failure != nil {
            supplies[index].failure = nil
            supplies[index].isLow = true
        }
    }

    /// Closes the remaining sockets.
    mutating func close() {
        for index in supplies.indices {
            for socket in supplies[index].free { HostSocket.close(socket) }
            supplies[index].free = []
        }
    }
}
