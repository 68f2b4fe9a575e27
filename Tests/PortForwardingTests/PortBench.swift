// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import PortForwarding

/// Forwarded ports whose "namespace" is the test's own, on a loop that runs until a condition holds.
///
/// Rules listen on 127.0.0.1 or ::1 and lead to the same address (`--host-lo-to-ns-lo`).
final class Bench {
    let loop: EventLoop
    let ports: ForwardedPorts
    /// How often the namespace was asked for sockets.
    var requests: Int { asked.value }
    private let asked = Asked()

    init(
        namespace: NamespaceSockets? = nil, tapFlows: (any TapFlows)? = nil,
        _ change: (inout PortForwardingOptions) -> Void = { _ in }
    ) throws {
        loop = try EventLoop()
        var options = PortForwardingOptions(logger: Logger(label: "test"))
        options.hostLoopbackToNamespaceLoopback = true
        options.patience = 0
        change(&options)
        let asked = asked
        let namespace =
            namespace
            ?? NamespaceSockets(
                open: { requests in
                    asked.count()
                    return NamespaceRequest.answers(to: requests)
                },
                openLater: { requests, completion in
                    asked.count()
                    completion(NamespaceRequest.answers(to: requests))
                })
        ports = ForwardedPorts(options: options, loop: loop, namespace: namespace, tapFlows: tapFlows)
    }

    /// Runs the loop until a condition holds, looked at every millisecond and after each turn.
    func run(until condition: @escaping () throws -> Bool) throws -> Bool {
        let limit = MonotonicTime.now.advanced(milliseconds: 10_000)
        var outcome = Result<Bool, any Error>.success(false)
        func look(_ now: MonotonicTime) {
            outcome = Result { try condition() }
            if case .success(false) = outcome, now < limit {
                loop.schedule(at: now.advanced(milliseconds: 1), handler: look)
            } else {
                loop.stop()
            }
        }
        loop.schedule(at: .now, handler: look)
        try loop.run(sink: ports)
        return try outcome.get()
    }
}

/// Counts requests from any thread.
final class Asked: Sendable {
    private let number = Mutex(0)

    func count() { number.withLock { $0 += 1 } }
    var value: Int { number.withLock { $0 } }
}

/// A socket of the test; everything is non-blocking.
final class Peer {
    let number: CInt

    init(_ number: CInt) throws {
        try #require(number >= 0)
        self.number = number
    }

    deinit { close(number) }

    static func make(_ type: CInt, _ address: String = "127.0.0.1") throws -> Peer {
        let family = address.contains(":") ? AF_INET6 : AF_INET
        // Not for the programs that other tests start: a port would stay taken as long as they run.
        let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        return try Peer(socket(family, type | flags, 0))
    }

    static func endpoint(_ address: String, _ port: UInt16) throws -> Endpoint {
        Endpoint(address: try #require(IPAddress(address)).asIPv6, port: port)
    }

    /// A listening or bound socket on a port of the kernel's choice.
    static func server(_ type: CInt, _ address: String = "127.0.0.1", port: UInt16 = 0) throws -> Peer {
        let peer = try make(type, address)
        try endpoint(address, port).bind(peer.number)
        if type == HostSocket.stream { try #require(listen(peer.number, 100) == 0) }
        return peer
    }

    static func client(_ type: CInt, to port: UInt16, _ address: String = "127.0.0.1") throws -> Peer {
        let peer = try make(type, address)
        try endpoint(address, port).connect(peer.number, mayGoOn: true)
        return peer
    }

    var port: UInt16 { HostSocket.localEndpoint(number)?.port ?? 0 }

    func accepted() throws -> Peer? {
        let connection = accept(number, nil, nil)
        guard connection >= 0 else { return nil }
        _ = fcntl(connection, F_SETFL, O_NONBLOCK)
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        return try Peer(connection)
    }

    func send(_ bytes: [UInt8]) -> Int { Glibc.send(number, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }

    /// The next bytes or datagram; nil if there are none yet.
    func receive(_ limit: Int = 65536) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = recv(number, &bytes, limit, 0)
        if count >= 0 { return Array(bytes[..<count]) }
        guard errno == EAGAIN else { throw SystemCallError("recv", "", Errno(rawValue: errno)) }
        return nil
    }

    /// Sends one datagram back to whom it came from; false if there is none.
    func echo() -> Bool {
        var bytes = [UInt8](repeating: 0, count: 100)
        var place = [UInt8](repeating: 0, count: 128)
        var length = socklen_t(place.count)
        return place.withUnsafeMutableBytes { buffer in
            guard let address = buffer.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return false }
            let count = recvfrom(number, &bytes, bytes.count, 0, address, &length)
            return count >= 0 && sendto(number, bytes, count, 0, address, length) == count
        }
    }

    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
    }
}

func rule(
    _ port: UInt16, to target: UInt16, _ transport: TransportProtocol = .tcp, _ direction: ForwardDirection = .inbound,
    on address: String? = "127.0.0.1", policy: PortForward.Policy = .explicit
) -> PortForward {
    PortForward(
        direction: direction, transport: transport, address: address.flatMap { IPAddress($0) }, first: Port(port),
        last: Port(port), targetFirst: Port(target), policy: policy)
}

/// The first of some ports that were free a moment ago and that no other test is given.
func freePort(_ type: CInt = HostSocket.stream, count: UInt16 = 1) throws -> UInt16 {
    for _ in 0..<1000 {
        guard let first = ReservedPorts.next(count: count) else { break }
        let isFree = try (first..<first + count).allSatisfy { port in
            let peer = try Peer.make(type, "0.0.0.0")
            let endpoint = try Peer.endpoint("0.0.0.0", port)
            return (try? endpoint.bind(peer.number)) != nil
        }
        if isFree { return first }
    }
    throw SystemCallError("bind", "any port", .addressInUse)
}

/// The test's own namespace behind a thread that answers on the test's command.
final class SlowNamespace: Sendable {
    private let waiting = Mutex<[@Sendable () -> Void]>([])
    private let mayBeWaitedFor: Bool

    /// - Parameter mayBeWaitedFor: whether the caller may wait, as it does at start; otherwise that is an issue.
    init(mayBeWaitedFor: Bool = true) { self.mayBeWaitedFor = mayBeWaitedFor }

    var sockets: NamespaceSockets {
        NamespaceSockets(
            open: { [mayBeWaitedFor] requests in
                if !mayBeWaitedFor { Issue.record("a change at run time waits for the namespace") }
                return NamespaceRequest.answers(to: requests)
            },
            openLater: { requests, completion in
                self.waiting.withLock { $0.append { completion(NamespaceRequest.answers(to: requests)) } }
            })
    }

    var isAsked: Bool { waiting.withLock { !$0.isEmpty } }

    /// Answers the requests so far.
    func answer() {
        let due = waiting.withLock { queue in
            defer { queue = [] }
            return queue
        }
        for answer in due { answer() }
    }
}
