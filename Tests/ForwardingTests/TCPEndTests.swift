// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("TCP ends")
struct TCPEndTests {
    // MARK: FIN

    @Test("the namespace ends first: the server hears it and may still send", arguments: [AddressFamily.v4, .v6])
    func theNamespaceEndsFirst(family: AddressFamily) throws {
        let world = try World()
        let server = try HostEnd.listener(family)
        let (guest, host) = try GuestConnection.open(world, to: server, family: family)
        guest.push([1, 2, 3])
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        #expect(host.read() == [1, 2, 3])
        #expect(host.read() == nil)
        let data = stream(100_000)
        var sent = 0
        try guest.receive(data.count) { sent += host.write(data[sent...]) }
        #expect(guest.received == data)
        #expect(!guest.hasFinished)
        host.end()
        try guest.run(until: "FIN") { guest.hasFinished }
        guest.acknowledge()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        guest.clear()
        try world.settle()
        #expect(!guest.isReset)
    }

    @Test("the server ends first: the namespace hears it and may still send", arguments: [AddressFamily.v4, .v6])
    func theServerEndsFirst(family: AddressFamily) throws {
        let world = try World()
        let server = try HostEnd.listener(family)
        let (guest, host) = try GuestConnection.open(world, to: server, family: family)
        #expect(host.write([1, 2, 3]) == 3)
        host.finish()
        try guest.run(until: "FIN") { guest.hasFinished }
        #expect(guest.received == [1, 2, 3])
        guest.acknowledge()
        let data = stream(100_000)
        var arrived: [UInt8] = []
        try guest.run(until: "all bytes at the server") {
            if Int(guest.sentCount) < data.count {
                let start = Int(guest.sentCount)
                guest.push(data[start..<min(start + 1460, data.count)])
            }
            arrived += host.read() ?? []
            return arrived.count == data.count
        }
        #expect(arrived == data)
        #expect(world.forwarder.flowCount == 1)
        guest.finish()
        try guest.run(until: "an acknowledgment of FIN") { guest.acknowledged == guest.next }
        #expect(host.read() == nil)
        #expect(host.lastError == EAGAIN || host.lastError == 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(!guest.isReset)
    }

    @Test("both end at once: each FIN is acknowledged, and the flow goes")
    func bothEndAtOnce() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        host.finish()
        // The namespace's FIN does not acknowledge ours: they cross.
        guest.finish()
        try guest.run(until: "both") { guest.hasFinished && guest.acknowledged == guest.next }
        guest.acknowledge()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(host.read() == nil)
        #expect(!guest.isReset)
    }

    @Test("FIN with data, and data with FIN that had partly come, are taken once")
    func finWithDataIsTakenOnce() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1, 2, 3])
        guest.send([.ack, .psh, .fin], at: guest.next &- 2, payload: [2, 3, 4, 5])
        guest.next &+= 3
        for _ in 0..<3 { guest.send([.ack, .psh, .fin], at: guest.next &- 5, payload: [2, 3, 4, 5]) }
        try guest.run(until: "an acknowledgment of all") { guest.acknowledged == guest.next }
        try world.settle()
        #expect(host.read() == [1, 2, 3, 4, 5])
        #expect(host.read() == nil)
    }

    @Test("a FIN beyond a gap or beyond the window does not end the stream")
    func aFinBeyondAGapDoesNotEndTheStream() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send([.ack, .fin], at: guest.next &+ 1)
        guest.send([.ack, .fin], at: guest.next &+ (5 << 20))
        try world.settle()
        guest.clear()
        guest.push([1])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [1])
        #expect(host.read() == [])
    }

    @Test("the namespace's FIN again is acknowledged again; what lies behind it is not taken")
    func theNamespacesFinAgain() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.finish()
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        guest.clear()
        guest.send([.ack, .fin], at: guest.next &- 1)
        let again = try guest.nextSegment("an acknowledgment again")
        #expect(again.flags == .ack && again.acknowledgment == guest.next)
        guest.send([.ack, .psh], payload: [66])
        let behind = try guest.nextSegment("an acknowledgment")
        #expect(behind.acknowledgment == guest.next)
        #expect(host.read() == nil)
    }

    @Test("our FIN comes again until it is acknowledged")
    func ourFinComesAgain() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        #expect(host.write([1, 2]) == 2)
        host.end()
        try guest.run(until: "FIN") { guest.hasFinished }
        for _ in 0..<3 {
            guest.clear()
            world.advance(milliseconds: 5000)
            guest.take()
            let last = try #require(guest.segments.last)
            #expect(last.flags.contains(.fin))
            #expect(last.sequence == guest.expected &- 1 &- UInt32(last.payload.count))
        }
        // Acknowledging the data only brings FIN alone.
        guest.send(.ack, acknowledging: guest.expected &- 1)
        try world.settle()
        guest.clear()
        world.advance(milliseconds: 30_000)
        guest.take()
        #expect(guest.segments.last?.flags.contains(.fin) == true)
        let isBare = guest.segments.allSatisfy { $0.payload.isEmpty }
        #expect(isBare)
        guest.acknowledge()
        try world.settle()
        guest.clear()
        world.advance(milliseconds: 100_000)
        guest.take()
        #expect(guest.segments.isEmpty, "acknowledged, and sent again")
        guest.finish()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
    }

    // MARK: RST from the namespace

    /// Where a connection stands when it is reset.
    enum Moment: CaseIterable {
        case open, dataInFlight, guestFinished, hostFinished, windowClosed
    }

    private static func bring(_ guest: GuestConnection, _ host: HostEnd, to moment: Moment) throws {
        switch moment {
        case .open: break
        case .dataInFlight:
            _ = host.write(stream(5000))
            try guest.run(until: "data") { guest.received.count == 5000 }
        case .guestFinished:
            guest.finish()
            try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        case .hostFinished:
            host.finish()
            try guest.run(until: "FIN") { guest.hasFinished }
        case .windowClosed:
            guest.send(.ack, window: 0)
            _ = host.write([1])
            try guest.world.settle()
        }
        guest.clear()
    }

    @Test("a reset of the namespace reaches the server in every state", arguments: Moment.allCases)
    func aResetOfTheNamespaceReachesTheServer(moment: Moment) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        try Self.bring(guest, host, to: moment)
        guest.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        try world.run(until: "a reset at the server") {
            _ = host.read()
            return host.lastError == ECONNRESET || (host.write([1]) == 0 && errno == EPIPE)
        }
        try world.settle()
        guest.take()
        #expect(guest.segments.isEmpty, "a reset is not answered")
    }

    @Test("a reset of the server reaches the namespace in every state", arguments: Moment.allCases)
    func aResetOfTheServerReachesTheNamespace(moment: Moment) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        try Self.bring(guest, host, to: moment)
        host.reset()
        let reset = try guest.nextSegment("a reset") { $0.isReset }
        #expect(reset.sequence == guest.expected, "another number the namespace would not accept")
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a server that closes with unread bytes resets the namespace's side")
    func aServerThatClosesWithUnreadBytes() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.push([1, 2, 3])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        host.end()
        try guest.run(until: "a reset") { guest.isReset }
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a reset inside the window that is not exact is challenged", arguments: [1, 1000, -1, -1000] as [Int32])
    func aResetThatIsNotExactIsChallenged(distance: Int32) throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.send(.rst, at: guest.next &+ UInt32(bitPattern: distance), acknowledging: 0)
        let challenge = try guest.nextSegment("a challenge")
        #expect(challenge.flags == .ack && challenge.acknowledgment == guest.next)
        #expect(host.read() == [])
        #expect(world.forwarder.flowCount == 1)
    }

    @Test("a reset takes back a connection that is still being made, and one whose SYN-ACK has just come")
    func aResetTakesBackAConnectionBeingMade() throws {
        let world = try World()
        // A server that accepts nothing: with its queue full, further SYNs are dropped.
        let server = try HostEnd.listener(backlog: 0)
        var fillers: [HostEnd] = []
        for _ in 0..<4 {
            let filler = try HostEnd(.v4, type: HostSocket.stream)
            try Endpoint(address: IPv6Address(mapping: .loopback), port: server.port)
                .connect(filler.number, mayGoOn: true)
            fillers.append(filler)
        }
        let pending = GuestConnection(world, port: server.port, from: 41000)
        pending.sendSyn()
        try world.settle()
        pending.sendSyn()
        try world.settle()
        pending.take()
        #expect(pending.segments.isEmpty)
        #expect(world.forwarder.flowCount == 1)
        pending.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }

        let other = try HostEnd.listener()
        let half = GuestConnection(world, port: other.port, from: 41001)
        half.sendSyn()
        try half.nextSegment("SYN-ACK")
        half.send(.rst, acknowledging: 0)
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        let host = try #require(other.accept())
        try world.run(until: "a reset at the server") { host.read() == nil }
        #expect(host.lastError == ECONNRESET)
        withExtendedLifetime(fillers) {}
    }

    @Test("a server that resets before the handshake has ended resets the namespace")
    func aServerThatResetsBeforeTheHandshakeHasEnded() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let connection = GuestConnection(world, port: server.port)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK")
        try #require(server.accept()).reset()
        let reset = try connection.nextSegment("a reset") { $0.isReset }
        #expect(reset.sequence == connection.expected)
        #expect(world.forwarder.flowCount == 0)
    }

    // MARK: No flow

    @Test("a segment of no flow is reset as RFC 9293 says; a reset is not answered")
    func aSegmentOfNoFlowIsReset() throws {
        let world = try World()
        let guest = GuestConnection(world, port: 9)
        guest.send(.ack, at: 500, acknowledging: 7777, payload: [1, 2])
        var reset = try guest.nextSegment("a reset")
        #expect(reset.flags == .rst && reset.sequence == 7777)
        guest.isReset = false
        guest.send([.psh], at: 500, payload: [1, 2])
        reset = try guest.nextSegment("a reset")
        #expect(reset.flags == [.rst, .ack] && reset.sequence == 0 && reset.acknowledgment == 502)
        guest.send([.syn, .fin], at: 500)
        reset = try guest.nextSegment("a reset")
        #expect(reset.flags == [.rst, .ack] && reset.acknowledgment == 502)
        guest.send([.syn, .ack], at: 500, acknowledging: 9)
        reset = try guest.nextSegment("a reset")
        #expect(reset.flags == .rst && reset.sequence == 9)
        guest.clear()
        guest.send(.rst, at: 500)
        guest.send([.rst, .ack], at: 500)
        try world.settle()
        guest.take()
        #expect(guest.segments.isEmpty)
        #expect(world.forwarder.flowCount == 0)
        #expect(world.drops(.unknownFlow) == 6)
    }

    @Test("a namespace that is silent for hours is probed; one that answers keeps its flow, one that does not is reset")
    func aNamespaceThatIsSilentForHoursIsProbed() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        world.advance(milliseconds: 7_100_000)
        guest.take()
        #expect(guest.segments.isEmpty)
        for _ in 0..<3 {
            world.advance(milliseconds: 7_300_000)
            guest.take()
            let probe = try #require(guest.segments.last)
            #expect(probe.flags == .ack && probe.sequence == guest.expected &- 1)
            guest.acknowledge()
            try world.settle()
            guest.clear()
        }
        #expect(host.read() == [])
        for _ in 0..<40 where !guest.isReset {
            world.advance(milliseconds: 1_000_000)
            guest.take()
        }
        #expect(guest.isReset)
        #expect(world.forwarder.flowCount == 0)
        try world.run(until: "a reset at the server") { host.read() == nil }
    }
}
