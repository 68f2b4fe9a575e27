// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Limits of memory, flows and descriptors")
struct LimitTests {
    @Test("with the memory for backlogs used up, streams slow down and stay whole", arguments: 1...2)
    func withTheMemoryForBacklogsUsedUp(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World { $0.backlogChunks = 12 }
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        var pairs: [(guest: GuestConnection, host: HostEnd)] = []
        for port in 0..<4 {
            pairs.append(try GuestConnection.open(world, to: server, from: UInt16(42_000 + port)))
        }
        let data = stream(6_000_000)
        var arrived = [[UInt8]](repeating: [], count: 4)
        var ended = [Bool](repeating: false, count: 4)
        for (guest, _) in pairs { guest.send(.ack, at: guest.next &- 1) }
        var round = 0
        try world.run(until: "all bytes at the servers; \(arrived.map(\.count)) have come", limit: 60_000) {
            round += 1
            for (index, (guest, host)) in pairs.enumerated() {
                guest.take()
                guest.segments = []
                let edge = guest.acknowledged &- guest.initial &- 1
                let allowed = min(Int(edge) + guest.offered, data.count)
                // Everything from the last acknowledgment again now and then: what a kernel does after a time-out.
                if generator.chance(15) { guest.next = guest.acknowledged }
                var start = Int(guest.sentCount)
                while start < allowed {
                    let size = min(60_000, allowed - start)
                    let isLast = start + size == data.count
                    guest.send(isLast ? [.ack, .fin] : .ack, payload: data[start..<start + size])
                    guest.next &+= UInt32(size) + (isLast ? 1 : 0)
                    start += size
                }
                // A reader that stalls for long, then reads a little.
                if round > 300, generator.chance(30) {
                    if let bytes = host.read(upTo: Int.random(in: 1...400_000, using: &generator)) {
                        arrived[index] += bytes
                    } else {
                        ended[index] = true
                    }
                }
                #expect(!guest.isReset)
            }
            // The model's `next` goes back; what is acknowledged may lie before what was sent at most.
            for (guest, _) in pairs where isAfter(guest.acknowledged, guest.next) { guest.next = guest.acknowledged }
            return ended.allSatisfy { $0 }
        }
        for index in 0..<4 { #expect(arrived[index] == data, "seed \(seed), flow \(index)") }
        #expect(world.drops(.backlogFull) > 0, "the pool was never used up: the test shows nothing")
    }

    @Test("what was acknowledged reaches the server without coming again, however the memory ran out", arguments: 1...4)
    func whatWasAcknowledgedReachesTheServer(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World { $0.backlogChunks = 4 }
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.ack, at: guest.next &- 1)
        try guest.run(until: "a window") { guest.offered > 0 }
        let data = stream(8_000_000)
        let base = guest.next
        // The edge of the first window stays good, but the memory does not suffice for it.
        var edge = Int(guest.acknowledged &- base) + guest.offered
        guest.next = base &+ UInt32(data.count)
        var stalls = 0
        while stalls < 20 {
            let start = Int(guest.acknowledged &- base)
            var position = start
            for _ in 0..<8 where position < edge {
                let size = min(Int.random(in: 1...60_000, using: &generator), edge - position)
                guest.send([.ack, .psh], at: base &+ UInt32(position), payload: data[position..<position + size])
                position += size
                if generator.chance(40) {
                    // Beyond a gap in the same batch: wants an answer before the batch has gone to the socket.
                    guest.send(.ack, at: base &+ UInt32(position + 1), payload: [0])
                }
                if generator.chance(20) { guest.send(.syn, at: base &+ UInt32(position)) }
            }
            if stalls > 10, position > start {
                // FIN with the last of it must wait for what does not fit.
                guest.send(
                    [.ack, .psh, .fin], at: base &+ UInt32(position - 1), payload: data[position - 1..<position])
            }
            try world.settle()
            guest.take()
            guest.segments = []
            edge = max(edge, Int(guest.acknowledged &- base) + guest.offered)
            if Int(guest.acknowledged &- base) == start { stalls += 1 }
        }
        let acknowledged = Int(guest.acknowledged &- base)
        #expect(world.drops(.backlogFull) > 0, "the pool was never used up: the test shows nothing")
        var arrived: [UInt8] = []
        var hasEnded = false
        try world.run(until: "\(acknowledged) bytes, \(arrived.count) have come") {
            if let bytes = host.read() { arrived += bytes } else { hasEnded = true }
            return hasEnded || arrived.count >= acknowledged
        }
        // A FIN that was taken has a number, too.
        #expect(arrived == Array(data[..<(hasEnded ? acknowledged - 1 : acknowledged)]))
    }

    @Test("a program that has ended, and whose server reads nothing, is given up after a minute (issue 19)")
    func aProgramThatHasEndedIsGivenUp() throws {
        let world = try World()
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        for _ in 0..<200 where world.forwarder.counters.backlogBytes == 0 {
            guest.push(stream(60_000))
            try world.settle()
            guest.take()
        }
        #expect(world.forwarder.counters.backlogBytes > 0, "the server took everything: the test shows nothing")
        guest.finish()
        try world.settle()
        world.advance(milliseconds: 50_000)
        #expect(world.forwarder.flowCount == 1)
        world.advance(milliseconds: 20_000)
        #expect(world.forwarder.flowCount == 0)
        withExtendedLifetime(host) {}
    }

    @Test("a full table gives up the flow idle longest, with a reset to both sides, and goes on")
    func aFullTableGivesUpTheFlowIdleLongest() throws {
        let world = try World { $0.maximumFlows = 4 }
        let server = try HostEnd.listener()
        var pairs: [(guest: GuestConnection, host: HostEnd)] = []
        for port in 0..<10 {
            world.advance(milliseconds: 1000)
            pairs.append(try GuestConnection.open(world, to: server, from: UInt16(43_000 + port)))
        }
        #expect(world.forwarder.flowCount == 4)
        #expect(world.forwarder.counters.flowsEvicted == 6)
        for (index, (guest, host)) in pairs.enumerated() {
            guest.take()
            #expect(guest.isReset == (index < 6), "flow \(index)")
            if index < 6 {
                try world.run(until: "a reset at the server") { host.read() == nil }
                #expect(host.lastError == ECONNRESET)
            } else {
                guest.push([UInt8(index)])
                try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
                #expect(host.read() == [UInt8(index)])
            }
        }
    }

    @Test("a flood of SYNs and of datagrams does not end a connection that exists, idle or not")
    func aFloodDoesNotEndAConnectionThatExists() throws {
        let world = try World { $0.maximumFlows = 64 }
        let server = try HostEnd.listener(backlog: 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        world.advance(milliseconds: 5000)
        for number in 0..<10_000 {
            var path = GuestFrame.Path(from: UInt16(truncatingIfNeeded: 1024 + number), to: server.port)
            if path.guestPort == guest.path.guestPort { continue }
            if number.isMultiple(of: 5) {
                path.remotePort = 9
                world.send(GuestFrame.udp(path, [1]))
            } else {
                world.send(GuestFrame.tcp(path, .syn, sequence: UInt32(number), options: guest.options))
            }
            if number.isMultiple(of: 16) {
                world.turn()
                guest.take()
                world.frames.removeAll()
                while let extra = server.accept() { extra.end() }
            }
            if number.isMultiple(of: 1000) { world.advance(milliseconds: 1) }
        }
        try world.settle()
        guest.take()
        #expect(!guest.isReset)
        #expect(world.forwarder.flowCount <= 64)
        #expect(world.forwarder.counters.flowsEvicted > 5000)
        guest.push([1, 2, 3])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [1, 2, 3])
        #expect(host.write([4]) == 1)
        try guest.receive(1)
    }

    @Test(
        "without descriptors left a SYN gets no answer, nothing traps, and it works again afterwards",
        .startsPrograms)
    func withoutDescriptorsLeft() async {
        await #expect(processExitsWith: .success) {
            let world = try World()
            let server = try HostEnd.listener()
            // All descriptors up to the limit are taken.
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(7), &limit)
            limit.rlim_cur = 200
            setrlimit(__rlimit_resource_t(7), &limit)
            var taken: [CInt] = []
            while true {
                let number = dup(server.number)
                if number < 0 { break }
                taken.append(number)
            }
            let first = GuestConnection(world, port: server.port, from: 44_000)
            first.sendSyn()
            try world.settle()
            first.take()
            try #require(first.segments.isEmpty, "answered with \(first.segments)")
            try #require(world.forwarder.flowCount == 0, "a flow without a socket")
            // With two flows, one goes to make room for the next.
            for _ in 0..<2 { close(taken.removeLast()) }
            for port in [44_001, 44_002, 44_003] as [UInt16] {
                let next = GuestConnection(world, port: server.port, from: port)
                next.sendSyn()
                try next.nextSegment("SYN-ACK") { $0.flags == [.syn, .ack] }
            }
            // The runtime may have taken one of the two for itself.
            try #require((1...2).contains(world.forwarder.flowCount), "\(world.forwarder.flowCount) flows")
            for number in taken { close(number) }
        }
    }
}
