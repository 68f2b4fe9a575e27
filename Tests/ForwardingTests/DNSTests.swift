// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// The resolvers of these tests are sockets of the test on one port of 127.0.0.1 and ::1.
@Suite("Forwarded DNS")
struct DNSTests {
    private static let forward = IPv4Address(10, 0, 2, 3)
    private static let addresses: [AddressFamily: IPAddress] = [.v4: .v4(.loopback), .v6: .v6(.loopback)]

    private static func rules(_ servers: [AddressFamily]) -> TranslationRules {
        var rules = TranslationRules.lab
        rules.families.v4.dnsForward = .v4(forward)
        rules.dnsServers = servers.compactMap { addresses[$0].map { .init($0) } }
        return rules
    }

    /// Two sockets of one port, of which the caller may close either.
    private static func servers() throws -> (v4: HostEnd, v6: HostEnd) {
        for _ in 0..<100 {
            let v4 = try HostEnd.datagram(.v4)
            if let v6 = try? HostEnd(.v6, type: HostSocket.datagram, port: v4.port) { return (v4, v6) }
        }
        throw World.Waited(description: "no port is free for both families")
    }

    private static func path(_ port: UInt16 = 31_000) -> GuestFrame.Path {
        var path = GuestFrame.Path(from: port, to: 53)
        path.remote = .v4(forward)
        return path
    }

    /// A query for "example." of type A, or its answer.
    private static func message(_ identifier: UInt16, flags: UInt16 = 0x0100) -> [UInt8] {
        [UInt8(identifier >> 8), UInt8(identifier & 0xFF), UInt8(flags >> 8), UInt8(flags & 0xFF)]
            + hex("0001 0000 0000 0000 07 65 78 61 6d 70 6c 65 00 0001 0001")
    }

    private static func answer(_ identifier: UInt16) -> [UInt8] { message(identifier, flags: 0x8180) }

    /// The response that the namespace gets: its identifier and code.
    private static func response(_ world: World) throws -> (identifier: UInt16, code: UInt8) {
        let frame = try world.next("a response") { $0.isUDP }
        #expect(frame.packet.source == .v4(forward) && frame.sourcePort == 53)
        let bytes = frame.payload
        try #require(bytes.count >= 12)
        #expect(bytes[2] & 0x80 != 0)
        return (UInt16(bytes[0]) << 8 | UInt16(bytes[1]), bytes[3] & 0xF)
    }

    /// A query that has reached a server.
    private static func query(at server: HostEnd, _ world: World) throws -> (bytes: [UInt8], from: Endpoint) {
        var found: (bytes: [UInt8], from: Endpoint)?
        try world.run(until: "a query at the server") {
            found = server.receive()
            return found != nil
        }
        return try #require(found)
    }

    /// Answers by the server's own socket without connecting it.
    private static func reply(_ bytes: [UInt8], from server: HostEnd, to client: Endpoint) {
        #expect(client.send(bytes, on: server.number))
    }

    @Test("without resolvers every query fails at once; over TCP it is refused")
    func withoutResolvers() throws {
        let world = try World(rules: Self.rules([]))
        world.send(GuestFrame.udp(Self.path(), Self.message(7)))
        #expect(try Self.response(world) == (7, 2))
        #expect(world.forwarder.flowCount == 0)
        world.send(GuestFrame.tcp(Self.path(), .syn, sequence: 5))
        let reset = try world.next("a reset") { $0.isTCP }
        #expect(reset.flags == [.rst, .ack])
    }

    @Test("a resolver that refuses passes the query on; if all do, it fails at once", arguments: [1, 2, 5])
    func aResolverThatRefuses(count: Int) throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4, .v6])) { $0.resolverPort = servers.v4.port }
        servers.v4.end()
        for number in 0..<count { world.send(GuestFrame.udp(Self.path(), Self.message(UInt16(number)))) }
        // Each refusal is heard for itself, as from a server some way off.
        for _ in 0..<20 { world.turn() }
        for _ in 0..<count {
            let (bytes, client) = try Self.query(at: servers.v6, world)
            #expect(world.take { $0.isUDP } == nil, "given up while a resolver was at it")
            Self.reply(
                Self.answer(UInt16(bytes[0]) << 8 | UInt16(bytes[1])), from: servers.v6,
                to: Endpoint(
                    address: .loopback, port: client.port))
        }
        var answered: Set<UInt16> = []
        for _ in 0..<count {
            let response = try Self.response(world)
            #expect(response.code == 0)
            answered.insert(response.identifier)
        }
        #expect(answered.count == count)

        servers.v6.end()
        world.send(GuestFrame.udp(Self.path(31_001), Self.message(99)))
        #expect(try Self.response(world) == (99, 2))
    }

    @Test("a refusal moves only the queries that wait for the one who refuses")
    func aRefusalMovesOnlyTheQueriesThatWaitForIt() throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4, .v6])) { $0.resolverPort = servers.v4.port }
        servers.v4.end()
        // One query after the other, each refused by the first resolver; the second takes its time.
        for number in 1...6 {
            world.send(GuestFrame.udp(Self.path(), Self.message(UInt16(number))))
            let (_, client) = try Self.query(at: servers.v6, world)
            try world.settle()
            #expect(world.take { $0.isUDP } == nil, "query \(number) made an earlier one fail")
            if number == 6 {
                for identifier in 1...6 {
                    Self.reply(
                        Self.answer(UInt16(identifier)), from: servers.v6,
                        to: Endpoint(address: .loopback, port: client.port))
                }
            }
        }
        for _ in 1...6 { #expect(try Self.response(world).code == 0) }
    }

    @Test("a silent resolver costs its patience, then the next is asked; in the end the query fails")
    func aSilentResolver() throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4, .v6])) { $0.resolverPort = servers.v4.port }
        world.send(GuestFrame.udp(Self.path(), Self.message(8)))
        for round in 0..<2 {
            let (first, _) = try Self.query(at: servers.v4, world)
            #expect(first == Self.message(8), "round \(round)")
            world.advance(milliseconds: DNSRelay.patience - 100)
            #expect(servers.v6.receive() == nil)
            world.advance(milliseconds: 110)
            #expect(try Self.query(at: servers.v6, world).bytes == Self.message(8))
            world.advance(milliseconds: DNSRelay.patience + 10)
        }
        #expect(try Self.response(world) == (8, 2))
        // An answer that comes too late is not delivered.
        world.advance(milliseconds: 40_000)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("an answer counts only from a server that was asked, with the identifier of a query")
    func anAnswerCountsOnlyFromAServerThatWasAsked() throws {
        let servers = try Self.servers()
        let stranger = try HostEnd.datagram(.v4)
        let world = try World(rules: Self.rules([.v4])) { $0.resolverPort = servers.v4.port }
        world.send(GuestFrame.udp(Self.path(), Self.message(8)))
        let (_, client) = try Self.query(at: servers.v4, world)
        let relay = Endpoint(address: IPv6Address(mapping: .loopback), port: client.port)
        stranger.connect(to: relay)
        _ = send(stranger.number, Self.answer(8), Self.answer(8).count, 0)
        servers.v4.connect(to: relay)
        for forged in [Self.answer(9), Self.message(8), [8]] { _ = send(servers.v4.number, forged, forged.count, 0) }
        try world.settle()
        #expect(world.take { $0.isUDP } == nil)
        #expect(world.drops(.unknownFlow) == 4)
        _ = send(servers.v4.number, Self.answer(8), Self.answer(8).count, 0)
        #expect(try Self.response(world) == (8, 0))
        // Once answered, the query is gone.
        _ = send(servers.v4.number, Self.answer(8), Self.answer(8).count, 0)
        try world.settle()
        #expect(world.take { $0.isUDP } == nil)
    }

    @Test("when the resolvers change, queries in flight go to the new ones at once")
    func whenTheResolversChange() throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4])) { $0.resolverPort = servers.v4.port }
        world.send(GuestFrame.udp(Self.path(), Self.message(8)))
        _ = try Self.query(at: servers.v4, world)
        world.forwarder.publish(Self.rules([.v6]))
        let (bytes, client) = try Self.query(at: servers.v6, world)
        #expect(bytes == Self.message(8))
        Self.reply(Self.answer(8), from: servers.v6, to: Endpoint(address: .loopback, port: client.port))
        #expect(try Self.response(world) == (8, 0))
    }

    @Test("a flow of queries that is evicted takes its queries along")
    func aFlowOfQueriesThatIsEvicted() throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4])) {
            $0.resolverPort = servers.v4.port
            $0.maximumFlows = 1
        }
        world.send(GuestFrame.udp(Self.path(), Self.message(8)))
        _ = try Self.query(at: servers.v4, world)
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        world.forwarder.publish(Self.rules([.v6]))
        world.advance(milliseconds: 2000)
        guest.push([1])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [1], "no query gets into another's stream")
        #expect(servers.v6.receive() == nil)
    }

    @Test("what is no query is dropped")
    func whatIsNoQueryIsDropped() throws {
        let servers = try Self.servers()
        let world = try World(rules: Self.rules([.v4])) { $0.resolverPort = servers.v4.port }
        var generator = SplitMix64(seed: 4)
        for message in [[], [1], Self.answer(3), stream(5000)] { world.send(GuestFrame.udp(Self.path(), message)) }
        for _ in 0..<200 { world.send(GuestFrame.udp(Self.path(), generator.bytes(upTo: 11))) }
        try world.settle()
        #expect(servers.v4.receive() == nil)
        #expect(world.drops(.notSent) >= 203)
    }

    @Test("over TCP a resolver that refuses passes the connection on")
    func overTCPAResolverThatRefuses() throws {
        let server = try HostEnd.listener(.v6)
        let world = try World(rules: Self.rules([.v4, .v6])) { $0.resolverPort = server.port }
        world.send(
            GuestFrame.tcp(Self.path(), .syn, sequence: 5, options: TCPOptions(maximumSegmentSize: 1460)))
        let answer = try world.next("SYN-ACK") { $0.isTCP }
        #expect(answer.flags == [.syn, .ack])
        #expect(server.accept() != nil)
        // The resolver that refused has not used up a try of the handshake.
        var again = 0
        var isReset = false
        for _ in 0..<700 where !isReset {
            world.advance(milliseconds: 100)
            while let frame = world.take({ $0.isTCP }) {
                if frame.flags.contains(.syn) { again += 1 }
                if frame.flags.contains(.rst) { isReset = true }
            }
        }
        #expect(isReset && again == 5, "sent again \(again) times")
        let closed = try World(rules: Self.rules([.v4])) { $0.resolverPort = server.port }
        closed.send(GuestFrame.tcp(Self.path(), .syn, sequence: 5))
        #expect(try closed.next("a reset") { $0.isTCP }.flags == [.rst, .ack])
    }
}
