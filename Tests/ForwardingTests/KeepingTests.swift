// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Flows that keep an address that is no longer planned")
struct KeepingTests {
    private static let unplanned: Set<IPAddress> = [.v4(Lab.guest4)]

    private func kept(_ world: World, after milliseconds: Int64 = 0) -> Int {
        let now = world.clock.advanced(milliseconds: milliseconds)
        return world.forwarder.connectionCounts(Self.unplanned, now: now)[.v4(Lab.guest4)] ?? 0
    }

    @Test("an established connection does, until it ends")
    func established() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        #expect(kept(world) == 1)
        #expect(world.forwarder.connectionCounts([.v4(IPv4Address(10, 0, 2, 16))]).isEmpty)
        #expect(world.forwarder.connectionCounts([]).isEmpty)
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        #expect(host.read() == nil)
        host.end()
        try guest.run(until: "FIN") { guest.hasFinished }
        guest.acknowledge()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(kept(world) == 0)
    }

    @Test("datagrams and queries do not")
    func datagrams() throws {
        var rules = TranslationRules.lab
        let server = try HostEnd.datagram()
        rules.families.v4.dnsForward = .v4(IPv4Address(10, 0, 2, 3))
        rules.dnsServers = [.init(.v4(.loopback))]
        let world = try World(rules: rules)
        world.send(GuestFrame.udp(GuestFrame.Path(.v4, from: 5000, to: server.port), [1]))
        try world.run(until: "a datagram at the server") { server.receive() != nil }
        let query = [0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x78, 0, 0, 1, 0, 1].map(UInt8.init)
        var path = GuestFrame.Path(.v4, from: 5001, to: 53)
        path.remote = .v4(IPv4Address(10, 0, 2, 3))
        world.send(GuestFrame.udp(path, query))
        try world.run(until: "both flows") { world.forwarder.flowCount == 2 }
        #expect(kept(world) == 0)
    }

    @Test("a handshake does not, whichever side began it")
    func handshakes() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK") { $0.flags == [.syn, .ack] }
        #expect(world.forwarder.flowCount == 1)
        #expect(kept(world) == 0)
        connection.acknowledge()
        try world.settle()
        #expect(kept(world) == 1)
    }

    @Test("a connection that one side has ended does while something passes, and not when it is silent")
    func oneSideHasEnded() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        #expect(kept(world, after: 1900) == 1)
        #expect(kept(world, after: 2100) == 0)
        // The answer is on its way: it counts again.
        world.clock = world.clock.advanced(milliseconds: 5000)
        #expect(host.write([1, 2, 3]) == 3)
        try guest.receive(3)
        #expect(kept(world) == 1)
        let (other, end) = try GuestConnection.open(world, to: server, from: 40001)
        end.finish()
        try other.run(until: "FIN") { other.hasFinished }
        other.acknowledge()
        try world.settle()
        #expect(kept(world) == 2)
        #expect(kept(world, after: 2100) == 0)
    }

    @Test("a connection that both sides have ended does not")
    func bothSidesHaveEnded() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        host.finish()
        guest.finish()
        // The last acknowledgment is missing.
        try guest.run(until: "both") { guest.hasFinished && guest.acknowledged == guest.next }
        #expect(world.forwarder.flowCount == 1)
        #expect(kept(world) == 0)
    }

    @Test("an idle connection is probed: one whose end in the namespace is gone is found out")
    func probes() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        #expect(kept(world) == 1)
        try world.settle()
        guest.take()
        #expect(guest.segments.isEmpty, "it has not been idle")
        #expect(kept(world, after: 1500) == 1)
        let probe = try guest.nextSegment("a probe")
        #expect(probe.flags == .ack && probe.sequence == guest.expected &- 1)
        // As a kernel answers that knows no such connection.
        guest.send(.rst, at: probe.acknowledgment, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(kept(world) == 0)
        #expect(host.read() == nil, "the server hears of it, too")
    }

    @Test("a flow whose host address came and went between two snapshots ends with the next one")
    func unseenHostAddress() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let other: IPAddress = .v4(IPv4Address(192, 0, 2, 10))
        // The flow's own address is the host's loopback, which no snapshot has to show.
        #expect(world.forwarder.apply(FlowAdjustments(present: [other])) == 0)
        world.forwarder.withPath { path in
            let unseen = IPAddress.v4(IPv4Address(192, 0, 2, 99)).asIPv6
            for index in 0..<path.table.end { path.table[index].local = unseen }
        }
        #expect(world.forwarder.apply(FlowAdjustments()) == 0, "without knowledge nothing ends")
        #expect(world.forwarder.apply(FlowAdjustments(present: [.v4(IPv4Address(192, 0, 2, 99))])) == 0)
        #expect(world.forwarder.apply(FlowAdjustments(present: [other])) == 1)
        try guest.run(until: "a reset") { guest.isReset }
        #expect(world.forwarder.flowCount == 0)
        #expect(host.read() == nil)
    }

    @Test("what an ended namespace side has sent reaches the server when its address goes")
    func closesGently() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1, 2, 3])
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        #expect(world.forwarder.resetFlows(guestAddress: .v4(Lab.guest4)) == 1)
        try guest.run(until: "a reset") { guest.isReset }
        #expect(host.read() == [1, 2, 3])
        #expect(host.read() == nil)
    }

    @Test("its packets do not draw new flows of the host's side back to it")
    func isNotLearned() {
        var rules = TranslationRules.lab
        let old = IPAddress.v4(IPv4Address(10, 0, 2, 99))
        rules.families.v4.learnsGuestAddress = true
        var seen = SeenAddresses()
        seen.adopt(rules)
        seen.observe(old.asIPv6, rules: rules)
        #expect(seen.v4 == old.asIPv6)
        seen.exclude([old], rules: rules)
        #expect(seen.v4 == IPAddress.v4(Lab.guest4).asIPv6)
        seen.observe(old.asIPv6, rules: rules)
        #expect(seen.v4 == IPAddress.v4(Lab.guest4).asIPv6)
        seen.exclude([], rules: rules)
        seen.observe(old.asIPv6, rules: rules)
        #expect(seen.v4 == old.asIPv6)
    }
}
