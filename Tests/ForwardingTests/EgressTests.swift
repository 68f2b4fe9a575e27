// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import Policy
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// The gate in the data path, with a resolver of the test on 127.0.0.1.
@Suite("What may leave, in the data path")
struct EgressTests {
    private static let forward = IPv4Address(10, 0, 2, 3)

    private static var rules: TranslationRules {
        var rules = TranslationRules.lab
        rules.families.v4.dnsForward = .v4(forward)
        rules.dnsServers = [.init(.v4(.loopback))]
        return rules
    }

    private static func settings(_ default: Verdict, _ lines: [String]) throws -> EgressSettings {
        let text = lines.map { $0 + "\n" }.joined()
        let rules = try RuleFile.read(Array(text.utf8), name: "test")
        return EgressSettings(policy: EgressPolicy(rules: rules, default: `default`))
    }

    private static func world(_ default: Verdict, _ lines: String..., port: UInt16 = 9) throws -> World {
        let settings = try settings(`default`, lines)
        return try World(rules: rules) {
            $0.egress = settings
            $0.resolverPort = port
        }
    }

    private static func path(to port: UInt16 = 53) -> GuestFrame.Path {
        var path = GuestFrame.Path(from: 31_000, to: port)
        path.remote = .v4(forward)
        return path
    }

    /// A message with one question of type A; `name` is in its wire form.
    private static func message(_ name: [UInt8], flags: UInt16 = 0x0100, answers: [IPv4Address] = []) -> [UInt8] {
        var bytes: [UInt8] = [0, 7, UInt8(flags >> 8), UInt8(flags & 0xFF), 0, 1, 0, UInt8(answers.count), 0, 0, 0, 0]
        bytes += name + [0, 1, 0, 1]
        for address in answers {
            let raw = address.rawValue
            bytes += [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]
            bytes += [UInt8(raw >> 24), UInt8(raw >> 16 & 0xFF), UInt8(raw >> 8 & 0xFF), UInt8(raw & 0xFF)]
        }
        return bytes
    }

    private static func wire(_ labels: String...) -> [UInt8] {
        labels.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    private static func code(_ world: World) throws -> UInt8 {
        let bytes = try world.next("an answer") { $0.isUDP }.payload
        return try #require(bytes.count > 3 ? bytes[3] & 0xF : nil)
    }

    @Test("a denied SYN is reset and makes no flow")
    func deniedSyn() throws {
        let world = try Self.world(.allow, "deny any")
        world.send(GuestFrame.tcp(GuestFrame.Path(to: 80), .syn, sequence: 5))
        #expect(try world.next("a reset") { $0.isTCP }.flags == [.rst, .ack])
        #expect(world.forwarder.flowCount == 0 && world.drops(.denied) == 1)
    }

    @Test(
        "names that no rule allows are refused, and asked nowhere",
        arguments: [
            wire("other", "org"), wire("example", "org", "evil"), wire("a.example", "org"), wire("example\0", "org"),
            [0],
        ])
    func names(name: [UInt8]) throws {
        let world = try Self.world(.deny, "allow example.org")
        world.send(GuestFrame.udp(Self.path(), Self.message(name)))
        #expect(try Self.code(world) == 5)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a question that cannot be read is a format error", arguments: [0, 2])
    func malformed(questions: UInt8) throws {
        let world = try Self.world(.deny, "allow example.org")
        var bytes = Self.message(Self.wire("example", "org"))
        bytes[5] = questions
        world.send(GuestFrame.udp(Self.path(), bytes))
        #expect(try Self.code(world) == 1)
    }

    @Test("TCP and port 853 of the relay are refused when names are", arguments: [53, 853])
    func streams(port: UInt16) throws {
        let world = try Self.world(.deny, "allow example.org", "allow any:853")
        world.send(GuestFrame.tcp(Self.path(to: port), .syn, sequence: 5))
        #expect(try world.next("a reset") { $0.isTCP }.flags == [.rst, .ack])
    }

    @Test("an answer is learned before it is delivered; one with a private address, or to another question, is not")
    func answers() throws {
        let server = try HostEnd.datagram(.v4)
        let world = try Self.world(.deny, "allow example.org", port: server.port)
        let far = IPv4Address(198, 51, 100, 7)
        func ask(_ answer: [UInt8]) throws {
            world.send(GuestFrame.udp(Self.path(), Self.message(Self.wire("example", "org"))))
            var client: Endpoint?
            try world.run(until: "a query") {
                client = server.receive()?.from
                return client != nil
            }
            let sent = try #require(client).withSockaddr { sendto(server.number, answer, answer.count, 0, $0, $1) }
            #expect(sent == answer.count)
        }
        func isOpen() throws -> Bool {
            let opening = EgressPolicy.Opening(.tcp, to: .v4(far), port: 443)
            return try #require(world.forwarder.decide(opening)).verdict == .allow
        }
        #expect(try !isOpen())
        let name = Self.wire("EXAMPLE", "org")
        try ask(Self.message(name, flags: 0x8180, answers: [IPv4Address(10, 1, 2, 3)]))
        #expect(try Self.code(world) == 5)
        #expect(try !isOpen())
        try ask(Self.message(name, flags: 0x8180, answers: [far]))
        #expect(try Self.code(world) == 0)
        #expect(try isOpen())
        #expect(world.forwarder.egressState?.names.map(\.name.text) == ["example.org"])
        // An answer to another question goes nowhere; the next server is asked.
        try ask(Self.message(Self.wire("other", "org"), flags: 0x8180, answers: [IPv4Address(198, 51, 100, 8)]))
        try world.run(until: "the query again") { server.receive() != nil }
        #expect(world.take { $0.isUDP } == nil)
    }

    @Test("flows beyond --max-flows are refused, those beyond --max-flow-rate are dropped")
    func limits() throws {
        let server = try HostEnd.datagram(.v4)
        func drops(_ change: (inout EgressSettings) -> Void) throws -> (world: World, sent: Int) {
            var settings = EgressSettings.allowingAll
            change(&settings)
            let world = try World(rules: Self.rules) { $0.egress = settings }
            for number in 0..<5 {
                world.send(GuestFrame.udp(GuestFrame.Path(from: 41_000 + UInt16(number), to: server.port), [1]))
            }
            try world.settle()
            return (world, world.forwarder.flowCount)
        }
        let few = try drops { $0.maximumFlows = 2 }
        #expect(few.sent == 2 && few.world.drops(.limited) == 3)
        let slow = try drops { $0.maximumFlowRate = 3 }
        #expect(slow.sent == 3 && slow.world.drops(.limited) == 2)
        // The bucket is not empty any more, and may go into debt once.
        slow.world.advance(milliseconds: 300)
        slow.world.send(GuestFrame.udp(GuestFrame.Path(from: 42_000, to: server.port), [1]))
        slow.world.send(GuestFrame.udp(GuestFrame.Path(from: 42_001, to: server.port), [1]))
        try slow.world.settle()
        #expect(slow.world.forwarder.flowCount == 4)
    }

    @Test("new rules end the flows that they deny")
    func change() throws {
        let server = try HostEnd.datagram(.v4)
        let world = try Self.world(.allow)
        let path = GuestFrame.Path(to: server.port)
        world.send(GuestFrame.udp(path, [1, 2, 3]))
        try world.run(until: "a datagram") { server.receive() != nil }
        #expect(world.forwarder.flowCount == 1)
        #expect(world.forwarder.publish(egress: try Self.settings(.allow, ["deny tcp:any"])) == 0)
        #expect(world.forwarder.publish(egress: try Self.settings(.allow, ["deny udp:any"])) == 1)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a connection to the relay, whose queries are not read, ends when names are refused from then on")
    func streamOfQueries() throws {
        let server = try HostEnd.listener(.v4)
        let world = try Self.world(.allow, port: server.port)
        world.send(GuestFrame.tcp(Self.path(), .syn, sequence: 5))
        #expect(try world.next("an answer") { $0.isTCP }.flags == [.syn, .ack])
        #expect(world.forwarder.publish(egress: try Self.settings(.allow, ["deny private"])) == 0)
        #expect(world.forwarder.publish(egress: try Self.settings(.allow, ["deny tracker.example"])) == 1)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("opening and end of a flow are recorded")
    func record() throws {
        let queue = FlowEventQueue {}
        let server = try HostEnd.datagram(.v4)
        let world = try World(rules: Self.rules) { $0.flowEvents = queue }
        world.send(GuestFrame.udp(GuestFrame.Path(to: server.port), [1, 2, 3]))
        try world.run(until: "a datagram") { server.receive() != nil }
        #expect(queue.take().events.map(\.record.event) == [.open])
        world.forwarder.endRecord()
        let end = try #require(queue.take().events.first?.record)
        #expect(end.event == .close && end.traffic?.bytesOut == 3 && end.reason == "ended")
    }

    @Test("a queue that nobody reads drops and counts")
    func fullQueue() {
        let queue = FlowEventQueue {}
        let record = Policy.FlowRecord(
            .deny, time: 0, verdict: .deny, rule: nil, transport: .tcp, guest: .init(.v4(.loopback), 1),
            remote: .init(.v4(.loopback), 2))
        for _ in 0..<(FlowEventQueue.capacity + 5) { queue.add(FlowEvent(record)) }
        let taken = queue.take()
        #expect(taken.events.count == FlowEventQueue.capacity && taken.dropped == 5)
    }
}
