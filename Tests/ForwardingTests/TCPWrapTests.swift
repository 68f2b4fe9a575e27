// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// Sequence numbers are modulo 2^32: every comparison has to hold across the wrap (RFC 9293 §3.4).
@Suite("TCP sequence numbers that wrap around")
struct TCPWrapTests {
    /// How far before the wrap our own numbers begin, at the least and at the most.
    private static let before: ClosedRange<UInt32> = 1...20_000

    /// Sets the world's clock so that our initial sequence number lies just before the wrap, for a flow that begins now.
    private static func wrapOurNumbers(_ world: World, port: UInt16, from guestPort: UInt16) {
        let key = FlowKey(
            family: .v4, guest: Lab.guest(.v4).asIPv6, remote: Lab.host(.v4).asIPv6, guestPort: guestPort,
            remotePort: port,
            transport: .tcp)
        // The number is a hash plus the time in units of 4.096 us: some 244 in a millisecond.
        let number = key.hash &* 0x9E37_79B1 &+ UInt32(truncatingIfNeeded: world.clock.nanoseconds >> 12)
        let distance = 0 &- number &- 10_000
        world.advance(milliseconds: Int64(distance) * 4096 / 1_000_000)
    }

    /// An open connection whose numbers wrap within some thousand bytes, both ways.
    private static func open(
        _ world: World, to server: HostEnd
    ) throws -> (guest: GuestConnection, host: HostEnd) {
        wrapOurNumbers(world, port: server.port, from: 40_100)
        let (guest, host) = try GuestConnection.open(world, to: server, from: 40_100, initial: 0 &- 5000)
        try #require(before.contains(0 &- guest.expected), "our first number is \(guest.expected)")
        return (guest, host)
    }

    @Test(
        "a stream is whole, both ways at once, with and without super-frames",
        arguments: [World.allOffloads, []] as [LinkCapabilities])
    func aStreamIsWhole(offloads: LinkCapabilities) throws {
        let world = try World(offloads: offloads)
        let server = try HostEnd.listener()
        let (guest, host) = try Self.open(world, to: server)
        let data = stream(300_000)
        var sent = 0
        var written = 0
        var arrived: [UInt8] = []
        var last = guest.expected
        guest.acknowledge()
        try guest.run(until: "both; \(arrived.count) and \(guest.received.count) have come") {
            let allowed = min(Int(guest.acknowledged &- guest.initial &- 1) + guest.offered, data.count)
            while sent < allowed {
                let size = min(1460, allowed - sent)
                guest.push(data[sent..<sent + size])
                sent += size
            }
            written += host.write(data[written...])
            arrived += host.read() ?? []
            if guest.expected != last { guest.acknowledge() }
            last = guest.expected
            return arrived.count == data.count && guest.received.count == data.count
        }
        #expect(arrived == data)
        #expect(guest.received == data)
        #expect(guest.next < 1 << 31 && guest.expected < 1 << 31, "both have wrapped")
        host.end()
        try guest.run(until: "FIN") { guest.hasFinished }
        guest.finish()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(!guest.isReset)
        #expect(world.drops(.outOfOrder) == 0 && world.drops(.outOfWindow) == 0)
    }

    @Test(
        "what was lost on the wrap comes again after a time-out and after three duplicates", arguments: [true, false])
    func whatWasLostOnTheWrapComesAgain(byDuplicates: Bool) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try Self.open(world, to: server)
        let start = guest.expected
        let data = stream(60_000)
        #expect(host.write(data) == data.count)
        try guest.run(until: "all of it") { guest.received.count == data.count }
        try #require(guest.expected < start, "the bytes in flight lie on both sides of the wrap")
        // All but the first thousand were lost.
        guest.expected = start &+ 1000
        guest.received = Array(data[..<1000])
        guest.acknowledge()
        try world.settle()
        guest.clear()
        if byDuplicates {
            for _ in 0..<3 { guest.send(.ack, acknowledging: start &+ 1000) }
        } else {
            world.advance(milliseconds: 1000)
        }
        try guest.receive(data.count)
        #expect(guest.received == data)
        #expect(world.forwarder.counters.retransmissions == 1)
    }

    @Test("old duplicates, segments beyond the window and inexact resets are told apart on the wrap")
    func segmentsOutOfPlaceOnTheWrap() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try Self.open(world, to: server)
        let data = stream(9000)
        let base = guest.next
        guest.push(data[..<4990])
        // Straddles the wrap: 4,999 bytes in, the number is 0.
        guest.push(data[4990..<5010])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        try #require(guest.next == 11)
        guest.clear()
        // From before the wrap, wholly and partly known.
        guest.send([.ack, .psh], at: base &+ 1000, payload: data[1000..<2000])
        let old = try guest.nextSegment("an answer to an old duplicate")
        #expect(old.flags == .ack && old.acknowledgment == 11)
        guest.next = 21
        guest.send([.ack, .psh], at: base &+ 4990, payload: data[4990..<5020])
        try guest.run(until: "the new bytes") { guest.acknowledged == 21 }
        // Half of the number space away, and beyond the window.
        guest.send([.ack, .psh], at: 1 << 31, payload: [66])
        guest.send([.ack, .psh], at: 21 &+ (4 << 20), payload: [66])
        for sequence in [0 &- 1, 20, 22] as [UInt32] { guest.send(.rst, at: sequence, acknowledging: 0) }
        try world.settle()
        guest.push(data[5020...])
        try guest.run(until: "an acknowledgment of all") { guest.acknowledged == guest.next }
        let arrived = host.read()
        #expect(arrived == data, "\(arrived?.count ?? -1) bytes")
        #expect(world.forwarder.flowCount == 1)
        #expect(!guest.isReset)
    }
}
