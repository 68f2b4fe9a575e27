// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// Packets whose addresses no link carries (IPv6 packets that name IPv4 hosts, loopback, "any"), and other frames that
/// only a hostile or an unconfigured host sends (issues 9 and 19).
@Suite("Addresses that no link carries", .startsPrograms)
struct AddressesOnTheLinkTests {
    /// An IPv6 frame with any two addresses, made byte by byte: the writers of the product would refuse some of them.
    private static func frame(
        from source: IPv6Address, to destination: IPv6Address, nextHeader: UInt8, payload: [UInt8]
    ) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: 54)
        var span = frame.mutableSpan
        span.store(MACAddress.defaultGateway, at: 0)
        span.store(World.guestMAC, at: 6)
        span.store(UInt16(0x86DD), at: 12)
        span.store(UInt32(6) << 28, at: 14)
        span.store(UInt16(payload.count), at: 18)
        span.store(nextHeader, at: 20)
        span.store(UInt8(64), at: 21)
        span.store(source, at: 22)
        span.store(destination, at: 38)
        return frame + payload
    }

    /// The fragments of `count` bytes of UDP that are all zero.
    private static func fragments(
        from source: IPv6Address, to destination: IPv6Address, count: Int, cutAt cut: Int
    ) -> [[UInt8]] {
        [(0, cut, 1), (cut, count, 0)].map { (start, end, more) in
            let field = UInt16(start | more)
            let header: [UInt8] = [17, 0, UInt8(field >> 8), UInt8(field & 0xFF), 0, 0, 0, 1]
            let bytes = [UInt8](repeating: 0, count: end - start)
            return frame(from: source, to: destination, nextHeader: 44, payload: header + bytes)
        }
    }

    @Test(
        "two fragments of 65,528 bytes end nothing, whatever addresses they have",
        arguments: ["::ffff:198.51.100.1", "::198.51.100.1", "::1", "fd00::15", "2001:db8::1"],
        ["::ffff:198.51.100.1", "::198.51.100.1", "::1", "fd00::1"])
    func twoFragments(source: String, destination: String) async {
        // In a process of its own: before the fix it ended with SIGILL.
        await #expect(processExitsWith: .success) { [source, destination] in
            let world = try World()
            let from = try #require(IPv6Address(source))
            let to = try #require(IPv6Address(destination))
            for frame in Self.fragments(from: from, to: to, count: 65_528, cutAt: 32_768) { world.send(frame) }
            try world.settle()
        }
    }

    @Test(
        "IPv6 packets to an IPv4-mapped address become no IPv4 flow, with and without IPv4", arguments: [true, false])
    func mappedDestination(hasIPv4: Bool) throws {
        var rules = TranslationRules.lab
        rules.families.v4.isEnabled = hasIPv4
        rules.families.v4.learnsGuestAddress = true
        let world = try World(rules: rules)
        let server = try HostEnd.datagram(.v4)
        let listener = try HostEnd.listener()
        // The gateway's address, which stands for the host's 127.0.0.1.
        let target = IPv6Address(mapping: Lab.host4)
        for source in [Lab.guest6, IPv6Address(mapping: Lab.guest4), IPv6Address(high: 0, low: 0x0A00_020F)] {
            world.send(Self.udp(from: source, to: target, port: server.port))
            world.send(Self.tcp(from: source, to: target, port: listener.port))
            world.send(Self.echo(from: source, to: target))
        }
        try world.run(until: "all frames have been read") { world.forwarder.counters.framesIn == 9 }
        #expect(server.receive() == nil)
        #expect(listener.accept() == nil)
        #expect(world.frames.isEmpty, "\(world.frames)")
        #expect(world.forwarder.counters.flowsOpened == 0)
        #expect(Self.malformed(world) == 9, "each is counted: \(world.forwarder.counters.summary)")
    }

    @Test(
        "an echo request from where nothing comes from is neither answered nor forwarded",
        arguments: ["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "::1", "::", "ff02::1"])
    func echoSource(source: String) throws {
        let world = try World()
        let address = try #require(IPAddress(source))
        for remote in [Lab.host(address.family), address.family == .v4 ? .v4(.loopback) : .v6(.loopback)] {
            var path = GuestFrame.Path(address.family, to: 0)
            path.guest = address
            path.remote = remote
            world.send(GuestFrame.echo(path, identifier: 7, sequence: 1, body: [1, 2, 3]))
        }
        try world.settle()
        #expect(world.frames.isEmpty, "\(world.frames)")
        #expect(world.forwarder.counters.flowsOpened == 0)
        #expect(Self.dropped(world) == 2, "\(world.forwarder.counters.summary)")
    }

    @Test("fragments from nowhere are not put together", arguments: ["::", "::1", "ff02::1", "::ffff:10.0.2.15"])
    func fragmentSource(source: String) throws {
        let world = try World()
        let from = try #require(IPv6Address(source))
        for frame in Self.fragments(from: from, to: Lab.host6, count: 2000, cutAt: 1000) { world.send(frame) }
        try world.settle()
        #expect(world.frames.isEmpty)
        #expect(Self.dropped(world) == 2, "\(world.forwarder.counters.summary)")
    }

    @Test("a fragment inside a datagram that came in fragments is dropped")
    func fragmentsOfFragments() throws {
        let world = try World()
        // Two halves of a datagram whose payload is the first half of another.
        let inner: [UInt8] = [17, 0, 0, 1, 0, 0, 0, 9] + [UInt8](repeating: 0, count: 64)
        for (start, end, more) in [(0, 40, 1), (40, 72, 0)] {
            let header: [UInt8] = [44, 0, 0, UInt8(start | more), 0, 0, 0, 5]
            world.send(
                Self.frame(from: Lab.guest6, to: Lab.host6, nextHeader: 44, payload: header + inner[start..<end]))
        }
        try world.settle()
        #expect(world.drops(.fragment) == 1, "\(world.forwarder.counters.summary)")
    }

    @Test("an address of the host and an IPv6 one that maps it may both be bound to a link")
    func pinnedTwice() throws {
        let world = try World()
        let address = IPv4Address(192, 0, 2, 7)
        world.forwarder.apply(
            FlowAdjustments(pinned: [.v4(address): "lo", .v6(IPv6Address(mapping: address)): "lo"]))
        try world.settle()
    }

    // MARK: Frames from hosts without an address

    @Test(
        "a frame from 0.0.0.0 or :: reaches the services that take it and nothing else",
        arguments: [AddressFamily.v4, .v6])
    func unspecifiedSource(family: AddressFamily) throws {
        var rules = TranslationRules.lab
        let forward: IPAddress =
            family == .v4 ? .v4(IPv4Address(10, 0, 2, 53)) : .v6(IPv6Address(high: 0xFD00 << 48, low: 53))
        rules.families[family].dnsForward = forward
        rules.families[family].learnsGuestAddress = true
        let world = try World(rules: rules)
        let server = try HostEnd.datagram(family)
        let listener = try HostEnd.listener(family)
        var path = GuestFrame.Path(family, to: server.port)
        path.guest = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
        world.send(GuestFrame.udp(path, [1]))
        path.remotePort = listener.port
        world.send(GuestFrame.tcp(path, .syn, sequence: 1))
        world.send(GuestFrame.echo(path, identifier: 1, sequence: 1, body: []))
        path.remote = forward
        path.remotePort = 53
        world.send(GuestFrame.udp(path, [UInt8](repeating: 0, count: 12)))
        try world.settle()
        #expect(server.receive() == nil)
        #expect(listener.accept() == nil)
        #expect(world.frames.isEmpty, "\(world.frames)")
        #expect(world.drops(.martian) == 4, "\(world.forwarder.counters.summary)")
        #expect(world.forwarder.counters.flowsOpened == 0)
    }

    @Test("a Router Solicitation from :: is answered to all nodes; duplicate detection gets no answer")
    func solicitationsFromNowhere() throws {
        let world = try World(services: .routing)
        world.send(Self.message(RouterSolicitation().parts, to: .allRouters))
        let advertisement = try world.next("an advertisement") { $0.isICMP }
        expectPacket(advertisement.packet.frame, .ip(to: .v6(.allNodes), hopLimit: 255), .icmp(type: 134))
        let target = Lab.guest6
        world.send(Self.message(NeighborSolicitation(target: target).parts, to: target.solicitedNode))
        try world.settle()
        #expect(world.frames.isEmpty)
        #expect(Self.dropped(world) == 0, "\(world.forwarder.counters.summary)")
    }

    /// A neighbour discovery message from `::`.
    private static func message(_ parts: (header: ICMPHeader, body: [UInt8]), to group: IPv6Address) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: 200)
        var span = frame.mutableSpan
        let ip = IPHeader(.v6, source: .unspecified, destination: group, ipProtocol: .icmpv6, hopLimit: 255)
        let count = parts.header.writeFrame(
            into: &span, body: parts.body.span, ip: ip, to: .multicast(for: group), from: World.guestMAC)
        return Array(frame[..<count])
    }

    // MARK: Super-frames

    @Test("a super-frame of far more datagrams than any kernel makes is dropped")
    func tooManySegments() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = GuestFrame.Path(to: server.port)
        world.send(GuestFrame.udp(path, stream(2000)), header: GuestFrame.superHeader(path, segmentSize: 1))
        try world.settle()
        #expect(server.receive() == nil)
        #expect(world.drops(.tooManySegments) == 1)
        world.send(GuestFrame.udp(path, stream(128)), header: GuestFrame.superHeader(path, segmentSize: 1))
        try world.settle()
        var count = 0
        while server.receive() != nil { count += 1 }
        #expect(count == 128)
    }

    // MARK: Packets with right checksums

    private static func sum(
        _ frame: [UInt8], _ source: IPv6Address, _ destination: IPv6Address, _ ipProtocol: IPProtocol, field: Int
    ) -> [UInt8] {
        var frame = frame
        var sum = InternetChecksum(
            pseudoHeaderFrom: source, to: destination, ipProtocol: ipProtocol, length: frame.count - 54)
        let bytes = frame
        sum.add(bytes.span.extracting(54..<bytes.count))
        frame[54 + field] = UInt8(sum.value >> 8)
        frame[54 + field + 1] = UInt8(sum.value & 0xFF)
        return frame
    }

    private static func udp(from source: IPv6Address, to destination: IPv6Address, port: UInt16) -> [UInt8] {
        let datagram: [UInt8] = [0x9C, 0x40, UInt8(port >> 8), UInt8(port & 0xFF), 0, 12, 0, 0, 1, 2, 3, 4]
        return sum(
            frame(from: source, to: destination, nextHeader: 17, payload: datagram), source, destination, .udp,
            field: 6)
    }

    private static func tcp(from source: IPv6Address, to destination: IPv6Address, port: UInt16) -> [UInt8] {
        var segment = [UInt8](repeating: 0, count: 20)
        segment.replaceSubrange(0..<4, with: [0x9C, 0x40, UInt8(port >> 8), UInt8(port & 0xFF)])
        segment[12] = 5 << 4
        segment[13] = TCPFlags.syn.rawValue
        segment[14] = 0xFF
        return sum(
            frame(from: source, to: destination, nextHeader: 6, payload: segment), source, destination, .tcp,
            field: 16)
    }

    private static func echo(from source: IPv6Address, to destination: IPv6Address) -> [UInt8] {
        let message: [UInt8] = [ICMPv6Type.echoRequest, 0, 0, 0, 0, 7, 0, 1]
        return sum(
            frame(from: source, to: destination, nextHeader: 58, payload: message), source, destination, .icmpv6,
            field: 2)
    }

    /// Frames dropped in classification.
    private static func malformed(_ world: World) -> UInt64 {
        world.forwarder.counters.summary.filter { $0.name.hasPrefix("malformed") }.reduce(0) { $0 + $1.value }
    }

    /// Frames dropped for any reason.
    private static func dropped(_ world: World) -> UInt64 {
        world.forwarder.counters.summary.filter { $0.name.hasPrefix("malformed") || $0.name.hasPrefix("dropped") }
            .reduce(0) { $0 + $1.value }
    }
}
