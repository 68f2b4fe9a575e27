// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Frames that the data path answers itself or drops")
struct LinkTests {
    // MARK: Echo

    @Test(
        "an echo request to the host's loopback is answered", arguments: [AddressFamily.v4, .v6], [0, 1, 56, 1400])
    func anEchoRequestIsAnswered(family: AddressFamily, size: Int) throws {
        for offloads in [World.allOffloads, []] as [LinkCapabilities] {
            let world = try World(offloads: offloads)
            let body = stream(size)
            world.send(GuestFrame.echo(GuestFrame.Path(family, to: 0), identifier: 77, sequence: 5, body: body))
            let reply = try world.next("a reply") { $0.isICMP }
            expectPacket(
                reply.packet.frame, .ethernet(from: .defaultGateway, to: World.guestMAC),
                .ip(from: Lab.host(family), to: Lab.guest(family)),
                .icmp(type: family == .v4 ? 0 : 129, rest: 77 << 16 | 5), .payload(body), .transportChecksum)
            #expect(world.forwarder.flowCount == 0)
        }
    }

    @Test("--no-icmp drops echo requests but not neighbour discovery")
    func noICMPDropsEchoRequests() throws {
        let world = try World { $0.forwardsICMP = false }
        world.send(GuestFrame.echo(GuestFrame.Path(to: 0), identifier: 1, sequence: 1, body: []))
        try world.settle()
        #expect(world.frames.isEmpty)
        #expect(world.drops(.protocolOff) == 1)
        world.send(Self.solicitation(for: Lab.host6))
        _ = try world.next("an advertisement") { $0.isICMP }
    }

    // MARK: Neighbours

    /// A neighbour solicitation of the namespace.
    private static func solicitation(for target: IPv6Address) -> [UInt8] {
        let parts = NeighborSolicitation(target: target, sourceLinkAddress: World.guestMAC).parts
        let group = IPv6Address(high: 0xFF02_0000_0000_0000, low: 0x1_FF00_0000 | target.low & 0xFF_FFFF)
        return frame(parts.header, parts.body, to: group)
    }

    private static func frame(_ header: ICMPHeader, _ body: [UInt8], to group: IPv6Address) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: 200)
        var span = frame.mutableSpan
        let ip = IPHeader(.v6, source: Lab.guest6, destination: group, ipProtocol: .icmpv6, hopLimit: 255)
        let count = header.writeFrame(
            into: &span, body: body.span, ip: ip, to: .multicast(for: group), from: World.guestMAC)
        return Array(frame[..<count])
    }

    @Test("ARP and neighbour discovery give the gateway's hardware address for everything but the namespace's own")
    func neighboursAreAnswered() throws {
        let world = try World()
        for target in [Lab.host4, IPv4Address(10, 0, 2, 99), IPv4Address(192, 0, 2, 1)] {
            world.send(GuestFrame.arpRequest(target: target))
            let reply = try world.next("an ARP reply")
            expectPacket(
                reply.packet.frame,
                .arp(
                    operation: 2, senderMAC: .defaultGateway, sender: target, targetMAC: World.guestMAC,
                    target: Lab.guest4))
        }
        world.send(GuestFrame.arpRequest(target: Lab.guest4))
        world.send(Self.solicitation(for: Lab.host6))
        let reply = try world.next("an advertisement")
        expectPacket(
            reply.packet.frame, .ethernet(from: .defaultGateway, to: World.guestMAC),
            .ip(to: .v6(Lab.guest6), hopLimit: 255), .icmp(type: 136), .transportChecksum)
        try world.settle()
        #expect(world.frames.isEmpty, "nobody but the namespace answers for its own address")
    }

    @Test("routers are advertised only if tapas does not program the namespace", arguments: [true, false])
    func routersAreAdvertised(advertises: Bool) throws {
        let world = try World(services: advertises ? .routing : .lab)
        let parts = RouterSolicitation(sourceLinkAddress: World.guestMAC).parts
        world.send(Self.frame(parts.header, parts.body, to: .allRouters))
        try world.settle()
        #expect(world.frames.count == (advertises ? 1 : 0))
        if let frame = world.frames.first { expectPacket(frame.packet.frame, .icmp(type: 134), .transportChecksum) }
    }

    // MARK: What is not for us

    @Test("an IP protocol that is not translated is refused over IPv4 and counted")
    func anIPProtocolThatIsNotTranslated() throws {
        let world = try World()
        world.send(GuestFrame.frame(of: 132, payload: stream(40)))
        let error = try world.next("an ICMP error") { $0.isICMP }
        expectPacket(error.packet.frame, .ip(from: Lab.host(.v4), to: Lab.guest(.v4)), .icmp(type: 3, code: 2, rest: 0))
        #expect(world.drops(.unknownProtocol) == 1)
    }

    @Test(
        "a source that may not be one is dropped and counted",
        arguments: ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "ff02::1"])
    func aSourceThatMayNotBeOne(source: String) throws {
        let world = try World()
        let address = try #require(IPAddress(source))
        var path = GuestFrame.Path(address.family, from: 26_001, to: 9)
        path.guest = address
        world.send(GuestFrame.tcp(path, .syn, sequence: 1))
        world.send(GuestFrame.udp(path, [1]))
        try world.settle()
        #expect(world.frames.isEmpty)
        let reason: DropReason? = address.isUnspecified ? nil : .badSource
        #expect((reason.map { world.forwarder.counters[$0] } ?? world.drops(.martian)) == 2)
        #expect(world.forwarder.flowCount == 0)
    }

    @Test(
        "a destination that may not be one opens nothing",
        arguments: ["127.0.0.1", "0.0.0.0", "::1", "::", "224.0.0.1", "ff02::1", "255.255.255.255"])
    func aDestinationThatMayNotBeOne(destination: String) throws {
        let world = try World()
        let address = try #require(IPAddress(destination))
        var path = GuestFrame.Path(address.family, from: 26_002, to: 9)
        path.remote = address
        world.send(GuestFrame.tcp(path, .syn, sequence: 1))
        try world.settle()
        #expect(world.frames.isEmpty)
        #expect(world.drops(.martian) + world.forwarder.counters[DropReason.badDestination] == 1)
        #expect(world.forwarder.flowCount == 0)
    }

    // MARK: Hostile frames

    /// Frames of real programs, and those of the tests.
    private static let golden: [[UInt8]] =
        Capture.all.map(\.frame) + [
            GuestFrame.tcp(
                .init(to: 9), .syn, sequence: 1, options: TCPOptions(maximumSegmentSize: 1460, windowScale: 7)),
            GuestFrame.udp(.init(.v6, to: 9), stream(100)),
            GuestFrame.echo(.init(.v6, to: 0), identifier: 1, sequence: 1, body: stream(20)),
            GuestFrame.frame(of: 132, payload: stream(40)),
        ]

    @Test("frames cut short anywhere are counted and nothing more", arguments: [World.allOffloads, []])
    func framesCutShortAnywhere(offloads: LinkCapabilities) throws {
        let world = try World(offloads: offloads)
        var sent: UInt64 = 0
        for frame in Self.golden {
            for count in 1..<frame.count {
                world.send(Array(frame[..<count]))
                sent += 1
                if sent.isMultiple(of: 64) { world.turn() }
            }
        }
        try world.settle()
        #expect(world.forwarder.counters.framesIn == sent + 1)
        let malformed = world.forwarder.counters.summary.filter { $0.name.hasPrefix("malformed") }.reduce(0) {
            $0 + $1.value
        }
        #expect(malformed > sent / 2, "\(world.forwarder.counters.summary)")
    }

    @Test("frames with any bits turned, behind any header, end nothing", arguments: 1...4)
    func framesWithAnyBitsTurned(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World { $0.maximumFlows = 32 }
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        for number in 0..<4000 {
            guard var frame = Self.golden.randomElement(using: &generator) else { continue }
            for _ in 0..<Int.random(in: 0...6, using: &generator) {
                // The outer fields decide most: turn bits there more often.
                let limit = generator.chance(60) ? min(frame.count, 60) : frame.count
                frame[Int.random(in: 0..<limit, using: &generator)] ^= 1 << UInt8.random(in: 0...7, using: &generator)
            }
            var header = VirtioNetHeader()
            if generator.chance(70) {
                header.flags = .needsChecksum
                header.segmentation.rawValue = UInt8.random(in: 0...255, using: &generator)
                header.segmentSize = UInt16.random(in: 0...UInt16.max, using: &generator)
                header.checksumStart = UInt16.random(in: 0...UInt16.max, using: &generator)
            }
            world.send(frame, header: header)
            if number.isMultiple(of: 32) {
                world.turn()
                guest.take()
                world.frames.removeAll()
            }
        }
        try world.settle()
        #expect(!guest.isReset)
        guest.push([1, 2, 3])
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.read() == [1, 2, 3])
    }

    @Test("noise of any length ends nothing")
    func noiseEndsNothing() throws {
        var generator = SplitMix64(seed: 3)
        let world = try World()
        for number in 0..<4000 {
            var bytes = generator.bytes(upTo: 200)
            if bytes.isEmpty { bytes = [0] }
            world.sendRaw(bytes)
            if number.isMultiple(of: 64) { world.turn() }
        }
        try world.settle()
        #expect(!world.linkHasEnded)
    }

    @Test("a TCP header with options of every kind and length is read without a trap", arguments: 1...2)
    func aHeaderWithAnyOptions(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World { $0.maximumFlows = 16 }
        let server = try HostEnd.listener()
        for number in 0..<500 {
            var frame = GuestFrame.tcp(
                .init(from: UInt16(30_000 + number), to: server.port), .syn, sequence: 1,
                payload: (0..<40).map { _ in UInt8.random(in: 0...9, using: &generator) })
            frame[46] = 15 << 4
            world.send(frame, header: VirtioNetHeader(checksumStart: 34, checksumOffset: 16))
            world.turn()
            while let host = server.accept() { host.end() }
        }
        try world.settle()
        #expect(world.forwarder.counters.flowsOpened == 500)
    }

    @Test("the end of the link is reported once")
    func theEndOfTheLinkIsTold() throws {
        let world = try World()
        try world.settle()
        world.closeLink()
        try world.run(until: "the link's end") { world.linkHasEnded }
    }
}

extension GuestFrame {
    /// An IPv4 packet of a protocol by number.
    static func frame(of number: UInt8, payload: [UInt8]) -> [UInt8] {
        let ip = Path(to: 0).header(IPProtocol(rawValue: number))
        var frame = [UInt8](repeating: 0, count: EthernetHeader.length + ip.length)
        var span = frame.mutableSpan
        _ = ip.writeFrame(
            into: &span, to: .defaultGateway, from: World.guestMAC, payloadLength: payload.count)
        return frame + payload
    }
}
