// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import Synchronization
import TestSupport
import Testing

@testable import PortForwarding

/// A data path that writes down what it is given.
private final class RecordedTap: TapFlows {
    private struct State {
        var connections: [ForwardedConnection] = []
        var datagrams: [ForwardedDatagram] = []
        var turns = 0
        var evictions = 0
    }
    private let state = Mutex(State())

    deinit {
        for connection in connections { HostSocket.close(connection.socket) }
        for datagram in datagrams { if let socket = datagram.socket { HostSocket.close(socket) } }
    }

    var connections: [ForwardedConnection] { state.withLock { $0.connections } }
    var datagrams: [ForwardedDatagram] { state.withLock { $0.datagrams } }
    var turns: Int { state.withLock { $0.turns } }
    var evictions: Int { state.withLock { $0.evictions } }

    func take(_ arrivals: consuming Arrivals) {
        let arrivals = arrivals
        state.withLock { state in
            state.connections += arrivals.connections
            state.datagrams += arrivals.datagrams
            state.turns += 1
        }
    }

    func makeRoom(_ completion: @escaping @Sendable () -> Void) {
        state.withLock { $0.evictions += 1 }
        completion()
    }

    var spliceTargets: SpliceTargets { SpliceTargets() }
}

@Suite("What forwarded ports hand to the data path", .serialized, .takesPortsBack, .timeLimit(.minutes(2)))
struct TapFlowsTests {
    fileprivate static func bench(_ tap: RecordedTap) throws -> Bench {
        try Bench(tapFlows: tap) { $0.splicesInbound = false }
    }

    @Test("accepted connections, with the client and where they go")
    func connections() throws {
        let tap = RecordedTap()
        let bench = try Self.bench(tap)
        let port = try freePort()
        var named = rule(port, to: 77)
        named.targetAddress = .v4(IPv4Address(10, 0, 0, 7))
        try bench.ports.setForwards([named])
        let clients = try (0..<40).map { _ in try Peer.client(HostSocket.stream, to: port) }
        #expect(try bench.run { tap.connections.count == 40 })
        #expect(Set(tap.connections.map(\.peer.port)) == Set(clients.map(\.port)))
        #expect(tap.connections.allSatisfy { $0.port == 77 && $0.address == .v4(IPv4Address(10, 0, 0, 7)) })
        #expect(tap.turns < 40, "several go with one call")
        // The socket is the client's connection.
        let first = try #require(tap.connections.first { $0.peer.port == clients[0].port })
        #expect(send(first.socket, [5], 1, 0) == 1)
        #expect(try bench.run { try clients[0].receive() == [5] })
    }

    @Test("a datagram with a socket for its client; the next that come to the listening socket need none")
    func datagrams() throws {
        let tap = RecordedTap()
        let bench = try Self.bench(tap)
        let port = try freePort(HostSocket.datagram)
        try bench.ports.setForwards([rule(port, to: 77, .udp)])
        let client = try Peer.client(HostSocket.datagram, to: port)
        for number in 0..<3 as Range<UInt8> { #expect(client.send([number]) == 1) }
        #expect(try bench.run { tap.datagrams.count == 3 })
        #expect(tap.datagrams.map(\.datagram.bytes) == [[0], [1], [2]])
        #expect(tap.datagrams.map { $0.socket != nil } == [true, false, false])
        let socket = try #require(tap.datagrams[0].socket)
        #expect(HostSocket.peerEndpoint(socket)?.port == client.port && HostSocket.localEndpoint(socket)?.port == port)
        #expect(send(socket, [9], 1, 0) == 1)
        #expect(try bench.run { try client.receive() == [9] }, "answers leave from the port that was written to")
        // What comes now comes to that socket.
        #expect(client.send([3]) == 1)
        var byte: UInt8 = 0
        #expect(try bench.run { recv(socket, &byte, 1, CInt(MSG_DONTWAIT)) == 1 && byte == 3 })
        #expect(tap.datagrams.count == 3)
    }

    @Test("a datagram that comes back because its flow has ended gets a new socket; one that strayed does not")
    func datagramsThatComeBack() throws {
        let tap = RecordedTap()
        let bench = try Self.bench(tap)
        let port = try freePort(HostSocket.datagram)
        try bench.ports.setForwards([rule(port, to: 77, .udp)])
        let client = try Peer.client(HostSocket.datagram, to: port)
        #expect(client.send([1]) == 1)
        #expect(try bench.run { tap.datagrams.count == 1 })
        bench.ports.takeBack([tap.datagrams[0].datagram], hasFlow: true)
        #expect(try bench.run { tap.datagrams.count == 2 })
        #expect(tap.datagrams[1].socket == nil && tap.datagrams[1].datagram.bytes == [1])
        bench.ports.takeBack([tap.datagrams[0].datagram], hasFlow: false)
        #expect(try bench.run { tap.datagrams.count == 3 })
        #expect(tap.datagrams[2].socket != nil && tap.datagrams[2].datagram.bytes == [1])
    }
}

@Suite("Forwarded ports by the tap with few descriptors", .startsPrograms, .timeLimit(.minutes(2)))
struct TapFlowsLimitTests {
    @Test("without descriptors the data path is asked for one, once for each datagram")
    func withoutDescriptors() async {
        await #expect(processExitsWith: .success) {
            let tap = RecordedTap()
            let bench = try TapFlowsTests.bench(tap)
            let port = try freePort(HostSocket.datagram)
            try bench.ports.setForwards([rule(port, to: 77, .udp)])
            let client = try Peer.client(HostSocket.datagram, to: port)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(7), &limit)
            limit.rlim_cur = 3
            setrlimit(__rlimit_resource_t(7), &limit)
            try #require(client.send([1]) == 1)
            try #require(try bench.run { tap.evictions > 0 })
            for _ in 0..<10 { try #require(try bench.run { true }) }
            try #require(tap.evictions == 1 && tap.datagrams.isEmpty, "\(tap.evictions)")
            limit.rlim_cur = 200
            setrlimit(__rlimit_resource_t(7), &limit)
            try #require(client.send([2]) == 1)
            try #require(try bench.run { tap.datagrams.count == 1 })
        }
    }
}
