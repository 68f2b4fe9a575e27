// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// Resets that come together with data in the same batch, a backlog, or after an end.
@Suite("TCP resets together with other events")
struct TCPResetTests {
    @Test("data and a reset in one batch: the server reads the data, then the reset", arguments: [1, 3, 40])
    func dataAndAResetInOneBatch(segments: Int) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        let data = stream(segments * 700)
        for start in stride(from: 0, to: data.count, by: 700) { guest.push(data[start..<start + 700]) }
        guest.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(host.read() == data)
        try world.run(until: "a reset at the server") { host.read() == nil }
        #expect(host.lastError == ECONNRESET)
    }

    @Test("the handshake's end, data and a reset in one batch: the server reads the data, then the reset")
    func theHandshakesEndDataAndAReset() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let guest = GuestConnection(world, port: server.port)
        guest.sendSyn()
        try guest.nextSegment("SYN-ACK")
        guest.acknowledge()
        guest.push([1, 2, 3])
        guest.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        let host = try #require(server.accept())
        #expect(host.read() == [1, 2, 3])
        try world.run(until: "a reset at the server") { host.read() == nil }
        #expect(host.lastError == ECONNRESET)
    }

    @Test("data, FIN and a reset in one batch: the server reads the data, and the flow goes")
    func dataFinAndAReset() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1, 2, 3])
        guest.finish()
        guest.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(host.read() == [1, 2, 3])
        try world.run(until: "an end at the server") { host.read() == nil }
    }

    @Test("data of another flow in the batch is not lost to a reset, nor the reset to it")
    func dataOfAnotherFlow() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let first = try GuestConnection.open(world, to: server, from: 40_200)
        let second = try GuestConnection.open(world, to: server, from: 40_201)
        first.guest.push([1, 2])
        second.guest.push([3, 4])
        first.guest.send(.rst, acknowledging: 0)
        second.guest.push([5])
        try world.run(until: "one flow to go") { world.forwarder.flowCount == 1 }
        try world.settle()
        #expect(first.host.read() == [1, 2])
        try world.run(until: "a reset at the server") { first.host.read() == nil }
        #expect(second.host.read() == [3, 4, 5])
    }

    @Test("a reset while the server's socket is full frees the backlog at once")
    func aResetWithABacklog() throws {
        let world = try World { $0.backlogChunks = 256 }
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        for round in 0..<20 {
            let (guest, host) = try GuestConnection.open(world, to: server, from: UInt16(40_300 + round))
            let piece = stream(50_000)
            let backlog = world.forwarder.counters.backlogBytes
            guest.send(.ack, at: guest.next &- 1)
            try guest.run(until: "a backlog") {
                let size = min(Int(guest.acknowledged &- guest.next) + guest.offered, piece.count)
                if size > 0 { guest.push(piece[..<size]) }
                return world.forwarder.counters.backlogBytes > backlog + 500_000
            }
            guest.send(.rst, acknowledging: 0)
            try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
            try world.run(until: "a reset at the server") {
                host.read() == nil && host.lastError == ECONNRESET
            }
        }
        // 20 times half a MiB would not have fitted otherwise.
        #expect(world.drops(.backlogFull) == 0)
    }

    @Test("after both have ended but for the last acknowledgment, a reset ends the flow")
    func aResetAfterBothEnds() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.finish()
        host.finish()
        try guest.run(until: "both ends") { guest.hasFinished && guest.acknowledged == guest.next }
        #expect(world.forwarder.flowCount == 1, "our FIN has not been acknowledged")
        guest.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(host.read() == nil)
        #expect(host.lastError == 0, "the server had its orderly end before")
    }

    /// The namespace's kernel forgets a connection that has ended both ways, and resets whatever still comes for it.
    @Test(
        "after both sides have ended for the namespace, the rest of the data still reaches the server, and nothing resets it"
    )
    func aResetWhileTheLastBytesGo() throws {
        let world = try World()
        let server = try HostEnd.listener()
        server.set(SOL_SOCKET, SO_RCVBUF, 4096)
        let (guest, host) = try GuestConnection.open(world, to: server)
        host.finish()
        try guest.run(until: "FIN") { guest.hasFinished }
        // Asks for the window, which has grown.
        guest.send(.ack, at: guest.next &- 1)
        let data = stream(50_000)
        var sent: [UInt8] = []
        try guest.run(until: "a backlog") {
            let inFlight = Int(guest.next &- guest.acknowledged)
            let size = min(guest.offered - inFlight, data.count)
            if size > 0 {
                guest.push(data[..<size])
                sent += data[..<size]
            }
            return world.forwarder.counters.backlogBytes > 500_000
        }
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        guest.clear()
        for sequence in [guest.next, guest.next &- 1] { guest.send(.rst, at: sequence, acknowledging: 0) }
        try world.settle()
        host.set(SOL_SOCKET, SO_RCVBUF, 1 << 20)
        var arrived: [UInt8] = []
        try world.run(until: "the end at the server") {
            guard let bytes = host.read() else { return true }
            arrived += bytes
            return false
        }
        #expect(host.lastError == 0 || host.lastError == EAGAIN, "an orderly end")
        // Not compared in #expect, which would print the difference of millions of bytes.
        let isWhole = arrived == sent
        #expect(isWhole, "\(arrived.count) of \(sent.count) bytes")
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        guest.take()
        #expect(guest.segments.isEmpty, "there is nobody left to tell anything")
    }

    @Test("the namespace reuses a port whose flow is still there: challenged, reset, opened anew")
    func aPortIsReused() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (old, host) = try GuestConnection.open(world, to: server, from: 40_400)
        // The namespace's program is gone without a word; a new one has its port.
        let new = GuestConnection(world, port: server.port, from: 40_400, initial: 777_000)
        new.sendSyn()
        let challenge = try new.nextSegment("a challenge")
        #expect(challenge.flags == .ack && challenge.acknowledgment == old.next)
        new.acknowledged = new.initial
        new.send(.rst, at: challenge.acknowledgment, acknowledging: 0)
        try world.run(until: "the old flow to go") { world.forwarder.flowCount == 0 }
        try world.run(until: "a reset at the server") { host.read() == nil }
        new.sendSyn()
        try new.nextSegment("SYN-ACK") { $0.flags == [.syn, .ack] }
        #expect(world.forwarder.flowCount == 1)
    }
}
