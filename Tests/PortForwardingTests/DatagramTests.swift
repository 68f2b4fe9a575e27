// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing

@testable import PortForwarding

extension ForwardedPortsTests {
    /// Clients of a forwarded port, and the server that it leads to.
    private static func clients(_ count: Int, _ address: String) throws -> (Bench, Peer, [Peer]) {
        let bench = try Bench()
        let server = try Peer.server(HostSocket.datagram, address)
        let port = try freePort(HostSocket.datagram)
        try bench.ports.setForwards([rule(port, to: server.port, .udp, on: address)])
        return (bench, server, try (0..<count).map { _ in try Peer.client(HostSocket.datagram, to: port, address) })
    }

    /// What each client hears from a server that echoes, once it is as many datagrams as it should be.
    private static func answers(
        _ bench: Bench, _ server: Peer, _ clients: [Peer], counts: [Int]
    ) throws -> [[[UInt8]]] {
        var answers = clients.map { _ in [[UInt8]]() }
        #expect(
            try bench.run {
                while server.echo() {}
                for (number, client) in clients.enumerated() {
                    while let answer = try client.receive() { answers[number].append(answer) }
                }
                return answers.map(\.count) == counts
            })
        return answers
    }

    /// The number of this process's UDP socket that is connected to an endpoint.
    ///
    /// Other tests may have opened thousands of descriptors before it.
    private static func datagramSocket(connectedTo endpoint: Endpoint) -> CInt? {
        (3..<CInt(min(sysconf(CInt(_SC_OPEN_MAX)), 1 << 20))).first { number in
            var type: CInt = 0
            var length = socklen_t(MemoryLayout<CInt>.size)
            return getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == HostSocket.datagram
                && HostSocket.peerEndpoint(number) == endpoint
        }
    }

    @Test("relay datagrams of several clients, empty ones too, both ways", arguments: addresses)
    func relayDatagrams(address: String) throws {
        let (bench, server, clients) = try Self.clients(5, address)
        // Each says its number, nothing, and its number again; the server echoes to whom it hears.
        for (number, client) in clients.enumerated() {
            for bytes in [[UInt8(number)], [], [UInt8(number), 7]] { #expect(client.send(bytes) == bytes.count) }
        }
        let answers = try Self.answers(bench, server, clients, counts: .init(repeating: 3, count: 5))
        for number in 0..<5 { #expect(answers[number] == [[UInt8(number)], [], [UInt8(number), 7]]) }
        #expect(bench.ports.relayedClientCount == 5)
    }

    @Test("a datagram that has come to another client's socket goes its own way", arguments: addresses)
    func aStrayDatagram(address: String) throws {
        let (bench, server, clients) = try Self.clients(2, address)
        #expect(clients[0].send([0]) == 1)
        #expect(try bench.run { server.echo() })
        // The moment between bind(2) and connect(2), again: the first client's socket is connected to nobody.
        let first = try Peer.endpoint(address, clients[0].port)
        let number = try #require(Self.datagramSocket(connectedTo: first))
        var nobody = sockaddr()
        nobody.sa_family = sa_family_t(AF_UNSPEC)
        try #require(connect(number, &nobody, socklen_t(MemoryLayout<sockaddr>.size)) == 0)
        #expect(clients[1].send([1]) == 1)
        var waiting: [UInt8] = [0]
        try #require(recv(number, &waiting, 1, CInt(MSG_PEEK)) == 1 && waiting == [1], "it has come to the right one")
        try first.connect(number)
        #expect(clients[0].send([2]) == 1)
        let answers = try Self.answers(bench, server, clients, counts: [2, 1])
        #expect(answers == [[[0], [2]], [[1]]])
        #expect(bench.ports.relayedClientCount == 2)
    }

    @Test("forget datagram clients that are silent")
    func forgetSilentClients() throws {
        let bench = try Bench {
            $0.udpTimeout = 50
            $0.udpStreamTimeout = 50
        }
        let server = try Peer.server(HostSocket.datagram)
        let port = try freePort(HostSocket.datagram)
        try bench.ports.setForwards([rule(port, to: server.port, .udp)])
        let client = try Peer.client(HostSocket.datagram, to: port)
        #expect(client.send([1]) == 1)
        #expect(try bench.run { try server.receive() == [1] })
        #expect(bench.ports.relayedClientCount == 1)
        #expect(try bench.run { bench.ports.relayedClientCount == 0 })
        #expect(client.send([2]) == 1, "and comes again")
        #expect(try bench.run { try server.receive() == [2] })
    }
}

@Suite("Forwarded ports of a process with few descriptors", .startsPrograms, .timeLimit(.minutes(2)))
struct ForwardedPortsLimitTests {
    @Test("without descriptors left the datagram clients that have been silent longest give theirs to new ones")
    func datagramClientsWithoutDescriptors() async {
        await #expect(processExitsWith: .success) {
            let bench = try Bench()
            let server = try Peer.server(HostSocket.datagram)
            let port = try freePort(HostSocket.datagram)
            try bench.ports.setForwards([rule(port, to: server.port, .udp)])
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(7), &limit)
            limit.rlim_cur = 200
            setrlimit(__rlimit_resource_t(7), &limit)
            for number in 0..<300 as Range<UInt16> {
                let client = try Peer.client(HostSocket.datagram, to: port)
                let word = [UInt8(number >> 8), UInt8(number & 0xFF)]
                try #require(client.send(word) == 2)
                try #require(try bench.run { server.echo() }, "client \(number)")
                try #require(try bench.run { try client.receive() == word }, "client \(number)")
            }
            try #require((40..<100).contains(bench.ports.relayedClientCount), "\(bench.ports.relayedClientCount)")
        }
    }
}
