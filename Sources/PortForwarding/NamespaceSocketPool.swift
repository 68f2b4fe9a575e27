// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(ports): socket

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import SystemPackage

/// Unconnected sockets of the target namespace, made in advance.
///
/// Nobody waits for one: where there is none left, whoever needs it stands back until the next have come. `ForwardedPorts`
/// sends the pool's requests and hands it the answers.
struct NamespaceSocketPool {
    /// The kinds of sockets that connections into the namespace, and listening there, need.
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

    /// What asking for a socket came to.
    enum Outcome {
        /// A socket, which the caller owns.
        case socket(CInt)
        /// There is none now; more have been asked for.
        case later
        /// None could be made a moment ago.
        case failed(Errno)
    }

    /// Sockets of a kind after a refill.
    private let target: Int
    /// How long a kind that could not be made is not asked for again, in milliseconds.
    private static let failurePause: Int64 = 1000

    private struct Supply {
        var free: [CInt] = []
        /// How many were wanted and not there since the last answer.
        var shortage = 0
        var isLow = false
        var failure: (error: Errno, until: MonotonicTime)?
    }

    private var supplies: [Supply] = .init(repeating: Supply(), count: Kind.allCases.count)
    /// The kinds whose sockets are on their way, one for each request.
    private var requested: [Kind] = []

    /// Makes an empty pool.
    ///
    /// - Parameter target: sockets of a kind after a refill; with 0 each is made when it is needed.
    init(target: Int) {
        self.target = target
    }

    /// Below how many sockets of a kind a refill is due.
    private var lowMark: Int { max(target / 2, 1) }

    /// Has sockets of a kind made before anybody needs one.
    mutating func prepare(_ kind: Kind) {
        if supplies[kind.rawValue].free.count < lowMark { supplies[kind.rawValue].isLow = true }
    }

    /// Takes a socket out.
    mutating func take(_ kind: Kind) -> Outcome {
        let socket = supplies[kind.rawValue].free.popLast()
        if supplies[kind.rawValue].free.count < lowMark { supplies[kind.rawValue].isLow = true }
        if let socket { return .socket(socket) }
        if let failure = supplies[kind.rawValue].failure {
            if MonotonicTime.now < failure.until { return .failed(failure.error) }
            supplies[kind.rawValue].failure = nil
        }
        supplies[kind.rawValue].shortage += 1
        return .later
    }

    /// What to ask the namespace's thread for now: nothing while answers are awaited.
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

    /// Takes the answers to ``nextRequests()`` in.
    ///
    /// - Returns: The error of kinds that are wanted and of which none could be made.
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

    /// Forgets that kinds could not be made: descriptors have become free.
    mutating func forgetFailures() {
        for index in supplies.indices where supplies[index].failure != nil {
            supplies[index].failure = nil
            supplies[index].isLow = true
        }
    }

    /// Closes what is left.
    mutating func close() {
        for index in supplies.indices {
            for socket in supplies[index].free { HostSocket.close(socket) }
            supplies[index].free = []
        }
    }
}
