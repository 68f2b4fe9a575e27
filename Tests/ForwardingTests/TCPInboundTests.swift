// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("TCP connections from the host")
struct TCPInboundTests {
    /// A client on the host and the connection that is to reach the namespace's port 8080.
    private static func connect(
        _ world: World, _ family: AddressFamily = .v4, prepare: (HostEnd) -> Void = { _ in }
    ) throws -> (client: HostEnd, guest: GuestConnection) {
        let listener = try HostEnd.listener(family)
        let client = try HostEnd(family, type: HostSocket.stream)
        let loopback: IPv6Address = family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
        try Endpoint(address: loopback, port: listener.port).connect(client.number, mayGoOn: true)
        var accepted: CInt = -1
        try world.run(until: "a client") {
            accepted = Glibc.accept(listener.number, nil, nil)
            return accepted >= 0
        }
        // Before `prepare`, which may close the client: then its number can be another test's socket.
        let port = client.port
        prepare(client)
        let peer = Endpoint(address: loopback, port: port)
        let isTaken = world.forwarder.accept(accepted, from: peer, to: 8080, at: nil)
        try #require(isTaken)
        return (client, GuestConnection(world, family: family, port: port, from: 8080, initial: 70_000))
    }

    /// The namespace's part of the handshake.
    private static func answer(_ guest: GuestConnection) throws {
        let syn = try guest.nextSegment("SYN")
        #expect(syn.flags == .syn)
        guest.send([.syn, .ack], at: guest.initial, options: guest.options)
        guest.next = guest.initial &+ 1
        let end = try guest.nextSegment("the handshake's end")
        #expect(end.flags.contains(.ack) && end.acknowledgment == guest.next)
    }

    @Test(
        "a connection is a SYN with size and scale to the namespace, and data goes both ways",
        arguments: [AddressFamily.v4, .v6])
    func aConnectionIsASyn(family: AddressFamily) throws {
        let world = try World()
        world.send(GuestFrame.arpRequest(target: Lab.host4))
        let (client, guest) = try Self.connect(world, family)
        try Self.answer(guest)
        let syn = try #require(guest.segments.first)
        expectPacket(
            syn.packet.frame,
            .ip(from: Lab.host(family), to: Lab.guest(family)),
            .tcp(
                from: Int(client.port), to: 8080, acknowledgment: 0, flags: 2,
                maximumSegmentSize: 65520 - (family == .v4 ? 40 : 60), windowScale: 7))
        let data = stream(200_000)
        var sent = 0
        try guest.receive(data.count) { sent += client.write(data[sent...]) }
        #expect(guest.received == data)
        guest.push(data[..<1460])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(client.read() == Array(data[..<1460]))
        client.end()
        try guest.run(until: "FIN") { guest.hasFinished }
        guest.finish()
        try world.run(until: "the flow to go") { world.forwarder.flowCount == 0 }
        #expect(!guest.isReset)
    }

    @Test("a client that has sent and closed before the handshake is heard to its end")
    func aClientThatHasSentAndClosedBeforeTheHandshake() throws {
        let world = try World()
        let (_, guest) = try Self.connect(world) { client in
            #expect(client.write([1, 2, 3]) == 3)
            client.end()
        }
        try world.settle()
        try Self.answer(guest)
        try guest.run(until: "data and FIN") { guest.hasFinished }
        #expect(guest.received == [1, 2, 3])
    }

    @Test("the namespace refuses: the client is reset")
    func theNamespaceRefuses() throws {
        let world = try World()
        let (client, guest) = try Self.connect(world)
        try guest.nextSegment("SYN")
        guest.send([.rst, .ack], at: 0)
        try world.run(until: "a reset at the client") { client.read() == nil }
        #expect(client.lastError == ECONNRESET)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test("a reset or answer with a wrong number does not end the attempt, and the answer is reset")
    func aResetWithAWrongNumber() throws {
        let world = try World()
        let (client, guest) = try Self.connect(world)
        try guest.nextSegment("SYN")
        guest.send([.rst, .ack], at: 0, acknowledging: guest.expected &+ 9)
        guest.send(.rst, at: 0)
        guest.send([.syn, .ack], at: guest.initial, acknowledging: guest.expected &+ 9, options: guest.options)
        let reset = try guest.nextSegment("a reset")
        #expect(reset.flags == .rst && reset.sequence == guest.expected &+ 9)
        guest.isReset = false
        #expect(world.forwarder.flowCount == 1)
        guest.send([.syn, .ack], at: guest.initial, options: guest.options)
        guest.next = guest.initial &+ 1
        try guest.nextSegment("the handshake's end") { $0.flags == .ack }
        #expect(client.write([5]) == 1)
        try guest.receive(1)
    }

    @Test("the SYN comes six times within a minute; without an answer the client is reset")
    func theSynComesAgain() throws {
        let world = try World()
        let (client, guest) = try Self.connect(world)
        try guest.nextSegment("SYN")
        TCPHandshakeTests.expectSixTries(TCPHandshakeTests.tries(guest))
        #expect(world.forwarder.flowCount == 0)
        try world.run(until: "a reset at the client") { client.read() == nil }
        #expect(client.lastError == ECONNRESET)
    }

    @Test("a client that gives up before the answer resets the namespace's side")
    func aClientThatGivesUp() throws {
        let world = try World()
        let (client, guest) = try Self.connect(world)
        try guest.nextSegment("SYN")
        client.reset()
        try guest.run(until: "a reset") { guest.isReset }
        #expect(world.forwarder.flowCount == 0)
    }
}
