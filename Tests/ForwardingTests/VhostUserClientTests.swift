// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import Logging
import NetworkTypes
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

private typealias Server = LinkServer<VhostUserLink>

extension LinkServer where Link == VhostUserLink {
    fileprivate convenience init(isForOneClient: Bool = false) throws {
        try self.init(
            { VhostUserLink(listener: $0, isForOneClient: isForOneClient) }, as: GuestLink.vhostUser,
            describe: { "\($0.counters)" })
    }

    /// A client that has begun, or was sent away.
    fileprivate func connect(features: UInt64 = VhostUserPeer.allFeatures, begins: Bool = true) throws -> VhostUserPeer
    {
        let socket = try UnixSocketAddress.socket(.stream, waits: true)
        try address.connect(socket.descriptor)
        let peer = try VhostUserPeer(socket)
        // What has been sent by now is answered in one turn, one of which lets the client in.
        peer.turn = { [unowned self] _, _ in for _ in 0..<2 { try? loop.run(sink: self) } }
        if begins {
            try peer.begin(features: features)
            peer.giveBuffers()
        }
        return peer
    }

    /// Has the guest ask for a neighbour, and waits for the answer.
    fileprivate func resolve(_ peer: VhostUserPeer, last: UInt8 = 200) throws {
        let target = IPv4Address(10, 0, 2, last)
        #expect(peer.put(GuestFrame.arpRequest(target: target)))
        peer.kick(1)
        try run(until: "an ARP reply") {
            defer { peer.giveBuffers() }
            return peer.take().contains { GuestFrame(received: $0.frame, offloads: []).isReply(for: target) }
        }
        _ = peer.reclaim(1)
    }
}

@Suite("Clients of vhost-user", .timeLimit(.minutes(1)))
struct VhostUserClientTests {
    @Test("a client is served; one that comes meanwhile is sent away; the next one finds nothing of the first")
    func clientsComeAndGo() throws {
        let server = try Server()
        let host = try HostEnd.datagram()
        do {
            let first = try server.connect()
            try server.resolve(first)
            #expect(first.put(GuestFrame.udp(GuestFrame.Path(to: host.port), [1, 2, 3])))
            first.kick(1)
            try server.run(until: "a flow") { server.forwarder.flowCount == 1 }
            let second = try server.connect(begins: false)
            try server.run(until: "the second to be sent away") { second.isClosed }
            #expect(server.link.clients.refused == 1)
            try server.resolve(first, last: 201)
        }
        try server.run(until: "the first to be gone") { !server.link.hasClient }
        #expect(server.forwarder.flowCount == 0, "its flows have ended")
        #expect(server.link.capabilities == [.header, .backPressure])
        let third = try server.connect()
        try server.resolve(third)
        #expect(server.link.clients.connected == 2)
        #expect(server.link.clients.lost == 1)
        #expect(!server.hasEnded)
    }

    @Test("a client that is lost for what it did leaves room for the next, again and again")
    func clientsFollowEachOther() throws {
        let server = try Server()
        for round in 0..<10 {
            let peer = try server.connect()
            try server.resolve(peer)
            if round % 3 == 0 { peer.send(99) }
            if round % 3 == 1 { try #require(ftruncate(peer.file.rawValue, 0) == 0) }
            if round % 3 == 1 {
                peer.turn(peer, 1)
                var one: UInt64 = 1
                _ = Glibc.write(peer.rings[1].kick, &one, 8)
                try server.run(until: "the memory to be missed") { !server.link.hasClient }
            }
        }
        try server.run(until: "the last to be gone") { !server.link.hasClient }
        #expect(server.link.clients.connected == 10 && server.link.clients.lost == 10)
        #expect(server.link.counters.lostMemory == 3)
    }

    @Test("a link for one client ends with it")
    func oneClientOnly() throws {
        let server = try Server(isForOneClient: true)
        do {
            let peer = try server.connect()
            try server.resolve(peer)
        }
        try server.run(until: "the end") { server.hasEnded }
        #expect(server.link.clients.lost == 1)
    }

    @Test("a connection carries data both ways as super-frames, as over a tap", arguments: [true, false])
    func aConnection(hasOffloads: Bool) throws {
        let server = try Server()
        let plain = VhostUserPeer.mergeable | VhostUserPeer.protocolFeatures | VhostUserPeer.version1
        let peer = try server.connect(features: hasOffloads ? VhostUserPeer.allFeatures : plain)
        let listener = try HostEnd.listener()
        let path = GuestFrame.Path(to: listener.port)
        var sequence: UInt32 = 1000
        func send(
            _ flags: TCPFlags, acknowledging: UInt32, options: TCPOptions = TCPOptions(), _ payload: [UInt8] = []
        ) throws {
            let frame = GuestFrame.tcp(
                path, flags, sequence: sequence, acknowledgment: acknowledging, window: .max, options: options,
                payload: payload)
            try server.run(until: "room in the ring") {
                _ = peer.reclaim(1)
                return peer.put(frame)
            }
            peer.kick(1)
            sequence &+= UInt32(payload.count) + (flags.contains(.syn) ? 1 : 0)
        }
        var frames: [GuestFrame] = []
        func collect() {
            for received in peer.take() {
                frames.append(
                    GuestFrame(
                        received: Array(received.header[..<VirtioNetHeader.length]) + received.frame,
                        offloads: hasOffloads ? LinkCapabilities.offloads : .header))
            }
            peer.giveBuffers()
            peer.kick(0)
        }
        try send(.syn, acknowledging: 0, options: TCPOptions(maximumSegmentSize: 1460, windowScale: nil))
        var reply: GuestFrame?
        try server.run(until: "a SYN-ACK") {
            collect()
            reply = frames.first { $0.isTCP && $0.flags.contains(.syn) }
            return reply != nil
        }
        var expected = try #require(reply).sequence &+ 1
        try send(.ack, acknowledging: expected)
        var accepted: HostEnd?
        try server.run(until: "a connection") {
            accepted = listener.accept()
            return accepted != nil
        }
        let host = try #require(accepted)
        // To the host.
        let data = stream(300_000)
        var arrived: [UInt8] = []
        var sent = 0
        while sent < data.count {
            let count = min(hasOffloads ? 60_000 : 1400, data.count - sent)
            try send([.ack, .psh], acknowledging: expected, Array(data[sent..<(sent + count)]))
            sent += count
            // No more than the window that is offered.
            try server.run(until: "data on the host") {
                arrived += host.read() ?? []
                collect()
                return arrived.count >= sent
            }
        }
        #expect(arrived == data)
        // To the guest.
        frames.removeAll()
        var came: [UInt8] = []
        var written = 0
        var longest = 0
        try server.run(until: "all data in the guest") {
            written += host.write(data[written...])
            collect()
            for frame in frames {
                guard frame.isTCP, frame.sequence == expected, !frame.payload.isEmpty else { continue }
                came += frame.payload
                expected &+= UInt32(frame.payload.count)
                longest = max(longest, frame.payload.count)
            }
            if !frames.isEmpty { try? send(.ack, acknowledging: expected) }
            frames.removeAll()
            return came.count >= data.count
        }
        #expect(came == data)
        #expect(hasOffloads ? longest > 20_000 : longest <= 1460)
        #expect(server.link.counters.brokenRings == 0)
    }
}
