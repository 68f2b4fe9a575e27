// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("TCP handshake")
struct TCPHandshakeTests {
    @Test("a SYN is answered once the server has accepted, with size and scale", arguments: [AddressFamily.v4, .v6])
    func aSynIsAnsweredOnceTheServerHasAccepted(family: AddressFamily) throws {
        let world = try World()
        let server = try HostEnd.listener(family)
        let connection = GuestConnection(world, family: family, port: server.port)
        connection.sendSyn()
        let answer = try connection.nextSegment("SYN-ACK")
        expectPacket(
            answer.packet.frame,
            .ethernet(from: .defaultGateway, to: World.guestMAC),
            .ip(from: Lab.host(family), to: Lab.guest(family)),
            .tcp(
                from: Int(server.port), to: 40000, acknowledgment: 1001, flags: 0x12,
                maximumSegmentSize: 65520 - (family == .v4 ? 40 : 60), windowScale: 7))
        #expect(answer.window > 0)
        #expect(server.accept() != nil)
    }

    @Test("no scale is offered to a namespace that offers none, and windows are not scaled then")
    func noScaleIsOfferedToANamespaceThatOffersNone() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server, scale: nil)
        guest.window = 3
        #expect(host.write([1, 2, 3, 4, 5]) == 5)
        guest.acknowledge()
        try guest.run(until: "as much as the window allows") { guest.received.count >= 3 }
        try world.settle()
        guest.take()
        #expect(guest.received == [1, 2, 3] || guest.received.count == 5)
        guest.push([7])
        let answer = try guest.nextSegment("an acknowledgment") { $0.acknowledgment == guest.next }
        #expect(answer.window == 65535)
    }

    @Test("a SYN-ACK without options of the namespace is taken as the least")
    func aSynWithoutOptions() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server, mss: nil, scale: nil)
        guest.window = 65535
        #expect(host.write([UInt8](repeating: 1, count: 3000)) == 3000)
        guest.acknowledge()
        try guest.receive(3000)
        for segment in guest.segments where !segment.payload.isEmpty {
            #expect(segment.payload.count <= 536 || segment.header.segmentSize == 536)
        }
    }

    @Test("nobody listens: the SYN is reset", arguments: [AddressFamily.v4, .v6])
    func nobodyListens(family: AddressFamily) throws {
        let world = try World()
        let port = try HostEnd.closedPort(family)
        let connection = GuestConnection(world, family: family, port: port)
        connection.sendSyn()
        let answer = try connection.nextSegment("a reset")
        #expect(answer.flags == [.rst, .ack])
        #expect(answer.acknowledgment == 1001)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("the SYN again: silence while connecting, the same SYN-ACK afterwards")
    func theSynAgain() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        connection.sendSyn()
        let first = try connection.nextSegment("SYN-ACK")
        try world.settle()
        connection.clear()
        connection.sendSyn()
        let second = try connection.nextSegment("SYN-ACK again")
        #expect(second.flags == [.syn, .ack])
        #expect(second.sequence == first.sequence)
        #expect(second.acknowledgment == first.acknowledgment)
        #expect(server.accept() != nil)
        #expect(server.accept() == nil, "one SYN or three, one connection")
        #expect(world.forwarder.flowCount == 1)
    }

    /// When a connection's SYN (or SYN-ACK) came again and when it was reset, in milliseconds from the first.
    static func tries(_ connection: GuestConnection) -> (again: [Int], reset: Int?) {
        connection.clear()
        var again: [Int] = []
        for time in stride(from: 100, through: 2_000_000, by: 100) {
            connection.world.advance(milliseconds: 100)
            connection.take()
            again += connection.segments.filter { $0.flags.contains(.syn) }.map { _ in time }
            connection.segments = []
            if connection.isReset { return (again, time) }
        }
        return (again, nil)
    }

    /// Six tries in all, each gap twice the one before, and the end after as long again: about a minute (RFC 9293
    /// §3.8.3 leaves it open; Linux does the same, tcp_synack_retries in tcp(7)).
    static func expectSixTries(_ tries: (again: [Int], reset: Int?)) {
        // 100 ms is how closely this looks, and a tick of the timers comes on top.
        let expected = [1000, 3000, 7000, 15_000, 31_000]
        #expect(tries.again.count == 5, "again at \(tries.again)")
        for (time, wanted) in zip(tries.again, expected) { #expect(abs(time - wanted) <= 500, "\(tries.again)") }
        #expect(abs((tries.reset ?? 0) - 63_000) <= 1000, "reset after \(tries.reset ?? -1)")
    }

    @Test("a SYN-ACK that gets no answer is sent six times within a minute, then both sides are reset")
    func aSynAckThatGetsNoAnswerIsSentAgain() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK")
        let host = try #require(server.accept())
        Self.expectSixTries(Self.tries(connection))
        try world.run(until: "a reset at the server") { host.read() == nil }
        #expect(host.lastError == ECONNRESET)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a namespace that repeats its SYN but never ends the handshake does not get more time")
    func aRepeatedSynGetsNoMoreTime() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK")
        for _ in 0..<70 where !connection.isReset {
            world.advance(milliseconds: 1000)
            connection.take()
            if !connection.isReset {
                connection.sendSyn()
                try world.settle()
                connection.take()
            }
        }
        #expect(connection.isReset)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("data and FIN on the last segment of the handshake are taken")
    func dataOnTheLastSegmentOfTheHandshake() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK")
        connection.send([.ack, .psh, .fin], payload: Array("hello".utf8))
        connection.next &+= 6
        try connection.run(until: "an acknowledgment of all") { connection.acknowledged == connection.next }
        let host = try #require(server.accept())
        #expect(host.read() == Array("hello".utf8))
        #expect(host.read() == nil)
    }

    @Test("a server that answers and closes before anybody looks is heard to its end")
    func aServerThatAnswersAndClosesBeforeAnybodyLooks() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        // The connection is there after this turn, at the latest; its event has not been handed out.
        try world.run(until: "a connection at the server") {
            guard let host = server.accept() else { return false }
            #expect(host.write(Array("bye".utf8)) == 3)
            host.end()
            return true
        }
        try connection.nextSegment("SYN-ACK") { $0.flags == [.syn, .ack] }
        connection.acknowledge()
        try connection.run(until: "data and FIN") { connection.hasFinished }
        #expect(connection.received == Array("bye".utf8))
    }

    @Test("an acknowledgment of something else than our SYN is reset, and the handshake goes on")
    func anAcknowledgmentOfSomethingElse() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK")
        connection.send(.ack, acknowledging: connection.expected &+ 100)
        let reset = try connection.nextSegment("a reset") { $0.flags.contains(.rst) }
        #expect(reset.sequence == connection.expected &+ 100)
        #expect(world.forwarder.flowCount == 1)
        connection.push([1])
        try connection.run(until: "an acknowledgment") { connection.acknowledged == connection.next }
    }

    @Test("a segment size of next to nothing or of everything is survived", arguments: [0, 1, 88, 65535] as [UInt16])
    func aSegmentSizeOfNextToNothing(mss: UInt16) throws {
        for offloads in [World.allOffloads, []] as [LinkCapabilities] {
            let world = try World(offloads: offloads)
            let server = try HostEnd.listener()
            let (guest, host) = try GuestConnection.open(world, to: server, mss: mss)
            guest.mss = max(mss, 88)
            let data = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            var sent = host.write(data)
            try guest.receive(data.count) { sent += host.write(data[sent...]) }
            #expect(guest.received == data)
        }
    }
}
