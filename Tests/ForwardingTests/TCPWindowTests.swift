// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("TCP windows")
struct TCPWindowTests {
    @Test("no more is sent than the namespace's window takes, and the rest when it opens")
    func noMoreIsSentThanTheWindowTakes() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.window = 100  // 3,200 bytes
        guest.acknowledge()
        try world.settle()
        let data = stream(50_000)
        #expect(host.write(data) == data.count)
        try guest.run(until: "a window of bytes") { guest.received.count >= 3200 }
        try world.settle()
        guest.take()
        #expect(guest.received.count == 3200)
        guest.acknowledge()
        try guest.receive(data.count)
        #expect(guest.received == data)
    }

    @Test("a closed window is probed with growing gaps for hours and not given up, then the stream goes on")
    func aClosedWindowIsProbed() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.window = 0
        guest.acknowledge()
        try world.settle()
        #expect(host.write([1, 2, 3]) == 3)
        try world.settle()
        guest.clear()
        var probes = 0
        for _ in 0..<2000 {
            world.advance(milliseconds: 1000)
            guest.take()
            for segment in guest.segments {
                #expect(segment.flags == .ack && segment.payload.count <= 1)
                probes += 1
                guest.acknowledge()
                try world.settle()
            }
            guest.segments = []
        }
        #expect(probes > 20 && probes < 1000, "\(probes) probes in 2,000 s")
        #expect(!guest.isReset)
        #expect(guest.received.isEmpty)
        guest.window = 10
        guest.acknowledge()
        try guest.run(until: "the bytes") { guest.received == [1, 2, 3] }
    }

    @Test("a window that closes over bytes in flight, which the namespace had to drop, is probed and not given up")
    func aWindowThatClosesOverBytesInFlight() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(1000)
        let start = guest.expected
        #expect(host.write(data) == 1000)
        try guest.nextSegment("the bytes") { !$0.payload.isEmpty }
        // The namespace's kernel was out of buffer: the bytes are lost and the window is shut.
        guest.expected = start
        guest.received = []
        guest.window = 0
        guest.acknowledge()
        try world.settle()
        guest.clear()
        var answers = 0
        for _ in 0..<3000 {
            world.advance(milliseconds: 1000)
            guest.take()
            guest.expected = start
            guest.received = []
            if !guest.segments.isEmpty {
                answers += 1
                guest.acknowledge()
                try world.settle()
            }
            guest.segments = []
            if guest.isReset { break }
        }
        #expect(!guest.isReset, "given up although the namespace answered \(answers) times")
        #expect(answers > 5, "probed \(answers) times in 3,000 s")
        guest.window = 100
        guest.acknowledge()
        try guest.run(until: "the bytes") {
            world.advance(milliseconds: 10)
            return guest.received == data
        }
    }

    @Test("a server that does not read closes our window, and when it reads the stream goes on to its end")
    func aServerThatDoesNotRead() throws {
        let world = try World()
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 8192)
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(8_000_000)
        var sent = 0
        func fill() -> Bool {
            let allowed = min(Int(guest.acknowledged &- guest.initial &- 1) + guest.offered, data.count)
            guard sent < allowed else { return false }
            let size = min(30_000, allowed - sent)
            guest.push(data[sent..<sent + size])
            sent += size
            return true
        }
        guest.acknowledge()
        guest.send(.ack, at: guest.next &- 1)
        try guest.run(until: "a window") { guest.offered > 0 }
        // Until nothing more may be sent.
        var idle = 0
        try guest.run(until: "our window to close") {
            idle = fill() ? 0 : idle + 1
            return idle > 50 && guest.acknowledged == guest.next
        }
        #expect(guest.offered < 30_000, "still \(guest.offered) offered after \(sent) bytes")
        #expect(sent < data.count)
        #expect(world.forwarder.counters.backlogBytes > 0)
        // Beyond the edge nothing is taken.
        guest.send([.ack, .psh], payload: data[sent..<sent + guest.offered + 500])
        let edge = guest.next &+ UInt32(guest.offered)
        guest.next &+= UInt32(guest.offered) &+ 500
        try guest.nextSegment("an answer")
        #expect(!isAfter(guest.acknowledged, edge), "\(guest.acknowledged &- edge) bytes beyond the edge were taken")
        #expect(world.drops(.outOfWindow) == 1)
        guest.next = guest.acknowledged
        sent = Int(guest.sentCount)
        var arrived: [UInt8] = []
        try guest.run(until: "all bytes at the server; \(arrived.count) of \(sent) sent have come") {
            while fill() {}
            arrived += host.read() ?? []
            return arrived.count == data.count
        }
        #expect(arrived == data)
        try guest.run(until: "an open window") { guest.offered >= 1 << 19 }
    }

    @Test("FIN behind a backlog is passed on behind it")
    func finBehindABacklog() throws {
        let world = try World()
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.ack, at: guest.next &- 1)
        try guest.run(until: "a window") { guest.offered > 0 }
        var data: [UInt8] = []
        let piece = stream(50_000)
        try guest.run(until: "a backlog") {
            let allowed = Int(guest.acknowledged &- guest.next) + guest.offered
            let size = min(allowed, piece.count)
            if size > 0 {
                guest.push(piece[..<size])
                data += piece[..<size]
            }
            return world.forwarder.counters.backlogBytes > 0
        }
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        var arrived: [UInt8] = []
        var hasEnded = false
        try guest.run(until: "the end at the server") {
            if let bytes = host.read() { arrived += bytes } else { hasEnded = true }
            return hasEnded
        }
        #expect(host.lastError != ECONNRESET)
        #expect(arrived == data)
        #expect(host.write([1]) == 1, "the other direction is open")
        try guest.receive(1)
    }

    @Test("the offered window's right edge never moves back", arguments: 1...3)
    func theOfferedEdgeNeverMovesBack(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World()
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.ack, at: guest.next &- 1)
        try guest.run(until: "a window") { guest.offered > 0 }
        var edge = guest.acknowledged &+ UInt32(guest.offered)
        let piece = stream(60_000)
        for _ in 0..<300 {
            let room = Int(Int32(bitPattern: edge &- guest.next))
            let size = min(Int.random(in: 1...60_000, using: &generator), max(room, 0))
            if size > 0 { guest.push(piece[..<size]) }
            if generator.chance(30) { _ = host.read(upTo: Int.random(in: 1...200_000, using: &generator)) }
            world.turn()
            guest.take()
            for segment in guest.segments where segment.flags.contains(.ack) {
                let offered = segment.acknowledgment &+ UInt32(segment.window) << 7
                #expect(!isBefore(offered, edge), "moved back by \(edge &- offered)")
                if isAfter(offered, edge) { edge = offered }
            }
            guest.segments = []
        }
        #expect(!guest.isReset)
    }
}
