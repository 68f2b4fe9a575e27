// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// Bytes whose period is prime, so that a piece out of place shows.
func stream(_ count: Int) -> [UInt8] {
    let period = (0..<251).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 251)
    while bytes.count < count { bytes += period }
    return Array(bytes.prefix(count))
}

@Suite("TCP data")
struct TCPDataTests {
    /// The ways of a tap and the families.
    static let ways: [(LinkCapabilities, AddressFamily)] = [
        (World.allOffloads, .v4), (World.allOffloads, .v6), ([.header, .checksum], .v4), ([.header], .v6), ([], .v4),
        ([], .v6),
    ]

    @Test("the queue of a near server is bounded once a stream is long, or left to the kernel where that may not be")
    func theQueueOfANearServer() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        func option(_ name: CInt) throws -> CInt {
            try #require(world.forwarder.withPath { HostSocket.get($0.table[0].socket, SOL_SOCKET, name) })
        }
        #expect(try option(CInt(TAPAS_SO_BUF_LOCK)) & 2 == 0, "a short stream has the kernel's own measure")
        let data = stream(1 << 18)
        var sent = 0
        let count = Int(DataPath.Size.queueLook) + data.count
        try guest.receive(count) {
            while sent < count {
                let taken = host.write(data[(sent % data.count)...])
                sent += taken
                if taken == 0 { break }
            }
        }
        let other = try HostEnd.datagram()
        other.set(SOL_SOCKET, SO_RCVBUF, DataPath.Size.nearQueue)
        if HostSocket.get(other.number, SOL_SOCKET, SO_RCVBUF) == 2 * DataPath.Size.nearQueue {
            #expect(try option(SO_RCVBUF) == 2 * DataPath.Size.nearQueue)
        } else {
            #expect(try option(CInt(TAPAS_SO_BUF_LOCK)) & 2 == 0, "net.core.rmem_max is too low here")
        }
    }

    @Test("bytes from the namespace reach the server in order, in segments of any size", arguments: ways)
    func bytesFromTheNamespaceReachTheServer(offloads: LinkCapabilities, family: AddressFamily) throws {
        let world = try World(offloads: offloads)
        let server = try HostEnd.listener(family)
        let (guest, host) = try GuestConnection.open(world, to: server, family: family)
        var generator = SplitMix64(seed: 5)
        let data = stream(2_000_000)
        var sent = 0
        var arrived: [UInt8] = []
        try guest.run(until: "all bytes at the server") {
            let allowed = Int(guest.acknowledged &- guest.initial &- 1) + guest.offered
            for _ in 0..<8 where sent < min(data.count, allowed) {
                let most = offloads.contains(.tcpSegmentation) ? 60_000 : 1460
                let size = min(Int.random(in: 1...most, using: &generator), data.count - sent, allowed - sent)
                guest.push(data[sent..<sent + size])
                sent += size
            }
            while let bytes = host.read(), !bytes.isEmpty { arrived += bytes }
            return arrived.count == data.count
        }
        #expect(arrived == data)
        try guest.run(until: "an acknowledgment of all") { guest.acknowledged == guest.next }
    }

    @Test("bytes of the server reach the namespace in order, in segments it can take", arguments: ways)
    func bytesOfTheServerReachTheNamespace(offloads: LinkCapabilities, family: AddressFamily) throws {
        let world = try World(offloads: offloads)
        let server = try HostEnd.listener(family)
        let (guest, host) = try GuestConnection.open(world, to: server, family: family)
        let data = stream(1_000_000)
        var sent = 0
        try guest.receive(data.count) { sent += host.write(data[sent..<min(sent + 200_000, data.count)]) }
        #expect(guest.received == data)
        #expect(world.forwarder.counters.retransmissions == 0)
        let largest = guest.segments.map(\.payload.count).max() ?? 0
        if offloads.contains(.tcpSegmentation) {
            #expect(largest > 1460, "super-frames are used")
        } else {
            #expect(largest <= 1460)
        }
    }

    @Test("both directions at once")
    func bothDirectionsAtOnce() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(300_000)
        var sent = 0
        var arrived: [UInt8] = []
        try guest.receive(data.count) {
            sent += host.write(data[sent..<min(sent + 10_000, data.count)])
            if Int(guest.sentCount) < data.count {
                let start = Int(guest.sentCount)
                guest.push(data[start..<min(start + 1460, data.count)])
            }
            arrived += host.read() ?? []
        }
        try guest.run(until: "all bytes at the server") {
            arrived += host.read() ?? []
            if Int(guest.sentCount) < data.count {
                let start = Int(guest.sentCount)
                guest.push(data[start..<min(start + 1460, data.count)])
            }
            return arrived.count == data.count
        }
        #expect(arrived == data)
        #expect(guest.received == data)
    }

    @Test(
        "any deliveries of segments, repeated, overlapping, out of order, beyond the window, yield exactly the stream",
        arguments: zip(1...12, [1000, .max - 5, .max - 20_000, 0, .max] as [UInt32] + [77, 1 << 31, 5, 6, 7, 8, 9]))
    func anyDeliveriesYieldExactlyTheStream(seed: UInt64, initial: UInt32) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World(offloads: seed.isMultiple(of: 2) ? World.allOffloads : [])
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server, initial: initial)
        let data = stream(60_000)
        var arrived: [UInt8] = []
        let base = initial &+ 1
        // What may be acknowledged at most; the model checks it.
        guest.next = base &+ UInt32(data.count)
        try guest.run(until: "all bytes at the server") {
            let edge = Int(guest.acknowledged &- base)
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                var start = edge + Int.random(in: -3000...6000, using: &generator)
                if generator.chance(40) { start = edge }
                start = min(max(start, 0), data.count)
                let size = min(Int.random(in: 0...2000, using: &generator), data.count - start)
                if generator.chance(3) {
                    // Far beyond the window: nothing of it may be taken.
                    guest.send([.ack, .psh], at: base &+ UInt32(edge) &+ (3 << 20), payload: [1, 2, 3])
                } else if generator.chance(3) {
                    // A SYN or reset inside the window must not end the connection (RFC 5961).
                    guest.send(generator.chance(50) ? .syn : .rst, at: base &+ UInt32(edge) &+ 7777)
                } else {
                    guest.send([.ack, .psh], at: base &+ UInt32(start), payload: data[start..<start + size])
                }
            }
            while let bytes = host.read(), !bytes.isEmpty { arrived += bytes }
            #expect(!guest.isReset)
            return arrived.count >= data.count
        }
        #expect(arrived == data, "seed \(seed)")
        #expect(host.read() == [], "the connection is still open")
        try guest.run(until: "an acknowledgment of all") { guest.acknowledged == guest.next }
    }

    @Test("segments without ACK are ignored")
    func segmentsWithoutAckAreIgnored() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.psh, payload: [1, 2, 3])
        guest.send([], payload: [4])
        guest.send(.fin)
        try world.settle()
        guest.take()
        #expect(guest.segments.isEmpty)
        #expect(host.read() == [])
        guest.push([9])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [9])
    }

    @Test("each segment beyond a gap is answered at once with what is missing")
    func eachSegmentBeyondAGapIsAnsweredAtOnce() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1, 2, 3])
        for _ in 0..<3 { guest.send([.ack, .psh], at: guest.next &+ 100, payload: [5]) }
        try guest.run(until: "an answer to each") { guest.segments.count >= 3 }
        #expect(guest.segments.allSatisfy { $0.flags == .ack && $0.acknowledgment == guest.next })
        #expect(world.drops(.outOfOrder) == 3)
        #expect(host.read() == [1, 2, 3])
    }

    @Test("an acknowledgment of what was never sent is answered and counted, its payload dropped")
    func anAcknowledgmentOfWhatWasNeverSent() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send([.ack, .psh], acknowledging: guest.expected &+ 5, payload: [1])
        let answer = try guest.nextSegment("an answer")
        #expect(answer.flags == .ack)
        #expect(answer.acknowledgment == guest.next)
        #expect(world.drops(.outOfWindow) == 1)
        #expect(host.read() == [])
        #expect(host.write([7]) == 1)
        try guest.receive(1)
    }

    @Test("a keepalive probe is answered", arguments: [[], [0]] as [[UInt8]])
    func aKeepaliveProbeIsAnswered(payload: [UInt8]) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        guest.clear()
        guest.send(.ack, at: guest.next &- 1, payload: payload)
        let answer = try guest.nextSegment("an answer")
        #expect(answer.flags == .ack)
        #expect(answer.acknowledgment == guest.next)
        #expect(host.read() == [1])
        #expect(host.read() == [])
    }

    @Test("a SYN on an open connection is challenged", arguments: [0, 5, -5000] as [Int32])
    func aSynOnAnOpenConnectionIsChallenged(distance: Int32) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.syn, at: guest.next &+ UInt32(bitPattern: distance))
        let answer = try guest.nextSegment("a challenge")
        #expect(answer.flags == .ack)
        #expect(answer.acknowledgment == guest.next)
        guest.push([1])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [1])
    }

    @Test("three duplicate acknowledgments bring what follows them at once")
    func threeDuplicateAcknowledgments() throws {
        let world = try World(offloads: [])
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(14_600)
        #expect(host.write(data) == data.count)
        try guest.run(until: "all bytes") { guest.received.count == data.count }
        // As if the second segment had been lost.
        let base = guest.expected &- UInt32(data.count)
        guest.segments = []
        guest.send(.ack, acknowledging: base &+ 1460)
        for _ in 0..<2 { guest.send(.ack, acknowledging: base &+ 1460) }
        try world.settle()
        guest.take()
        #expect(guest.segments.isEmpty, "not yet: \(guest.segments)")
        guest.send(.ack, acknowledging: base &+ 1460)
        let again = try guest.nextSegment("a retransmission")
        #expect(again.sequence == base &+ 1460)
        #expect(again.payload == Array(data[1460..<2920]))
        #expect(world.forwarder.counters.retransmissions == 1)
        guest.acknowledge()
        try guest.run(until: "no more bytes on the host") { host.write([1]) == 1 }
        try guest.run(until: "the next byte") { guest.received.count == data.count + 1 }
    }

    @Test("what is not acknowledged comes again with growing gaps, then both sides are reset")
    func whatIsNotAcknowledgedComesAgain() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        #expect(host.write([1, 2, 3]) == 3)
        try guest.run(until: "the bytes") { guest.received.count == 3 }
        guest.segments = []
        var gaps: [Int] = []
        var waited = 0
        while !guest.isReset && waited < 300_000 {
            world.advance(milliseconds: 50)
            waited += 50
            guest.take()
            for segment in guest.segments where !segment.isReset {
                #expect(segment.payload == [1, 2, 3])
                gaps.append(waited)
                waited = 0
            }
            guest.segments = []
        }
        #expect(guest.isReset)
        #expect(gaps.first.map { (200...300).contains($0) } == true, "\(gaps)")
        #expect(zip(gaps, gaps.dropFirst()).allSatisfy { $1 >= $0 - 50 }, "gaps \(gaps)")
        try world.run(until: "a reset at the server") { host.read() == nil }
        #expect(host.lastError == ECONNRESET)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("after a time-out all unacknowledged bytes come again, also where the answer says some had arrived")
    func afterATimeOutAllUnacknowledgedBytesComeAgain() throws {
        let world = try World(offloads: [])
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(10_000)
        #expect(host.write(data) == data.count)
        try guest.run(until: "all bytes") { guest.received.count == data.count }
        let base = guest.expected &- 10_000
        guest.segments = []
        world.advance(milliseconds: 250)
        guest.take()
        #expect(guest.segments.first?.sequence == base)
        #expect(guest.segments.flatMap(\.payload) == data)
        // In the middle of what came again.
        guest.send(.ack, acknowledging: base &+ 5000)
        guest.segments = []
        try world.settle()
        world.advance(milliseconds: 450)
        guest.take()
        #expect(guest.segments.first?.sequence == base &+ 5000)
        #expect(guest.segments.flatMap(\.payload) == Array(data[5000...]))
        guest.acknowledge()
        let more = stream(3000)
        #expect(host.write(more) == 3000)
        try guest.receive(13_000)
        #expect(guest.received == data + more)
    }

    @Test("after going back, acknowledgments and resets still come behind all that was sent")
    func afterGoingBackAcknowledgmentsStillComeBehind() throws {
        let world = try World(offloads: [])
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(14_600)
        #expect(host.write(data) == data.count)
        try guest.run(until: "all bytes") { guest.received.count == data.count }
        // Only the first two segments are acknowledged, with a window for three more: the next time-out goes back.
        let base = guest.expected &- 14_600
        guest.send(.ack, acknowledging: base &+ 2920, window: 137)
        try world.settle()
        world.advance(milliseconds: 250)
        guest.clear()
        guest.send([.ack, .psh], acknowledging: base &+ 2920, window: 137, payload: [1])
        guest.next &+= 1
        let answer = try guest.nextSegment("an acknowledgment") { $0.payload.isEmpty }
        #expect(answer.sequence == guest.expected, "older ones the namespace would not take")
        #expect(host.read() == [1])
        host.reset()
        let reset = try guest.nextSegment("a reset") { $0.isReset }
        #expect(reset.sequence == guest.expected)
    }

    @Test("urgent data does not stop the stream behind it")
    func urgentDataDoesNotStopTheStream() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        #expect(host.write(Array("before".utf8)) == 6)
        #expect(send(host.number, [UInt8(ascii: "!")], 1, CInt(MSG_OOB)) == 1)
        #expect(host.write(Array("behind".utf8)) == 6)
        try guest.run(until: "all bytes") {
            guest.acknowledge()
            return guest.received.count >= 12
        }
        #expect(String(decoding: guest.received.filter { $0 != UInt8(ascii: "!") }, as: UTF8.self) == "beforebehind")
        host.finish()
        try guest.run(until: "FIN") { guest.hasFinished }
    }
}

extension GuestFrame {
    var isReset: Bool { flags.contains(.rst) }
}
