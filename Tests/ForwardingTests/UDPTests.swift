// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("UDP")
struct UDPTests {
    /// Datagrams that a server has got, in order.
    private static func receive(_ count: Int, at server: HostEnd, _ world: World) throws -> [[UInt8]] {
        var got: [[UInt8]] = []
        try world.run(until: "\(count) datagrams, \(got.count) have come") {
            while let datagram = server.receive() { got.append(datagram.bytes) }
            return got.count >= count
        }
        try world.settle()
        while let datagram = server.receive() { got.append(datagram.bytes) }
        return got
    }

    /// Datagrams that the namespace has got, in order.
    private static func receive(
        _ count: Int, for path: GuestFrame.Path, _ world: World, isMine: (GuestFrame) -> Bool = { $0.isUDP }
    ) throws -> [[UInt8]] {
        var got: [[UInt8]] = []
        func fetch() {
            while let frame = world.take(isMine) {
                #expect(frame.packet.source == path.remote && frame.packet.destination == path.guest)
                #expect(frame.sourcePort == path.remotePort && frame.destinationPort == path.guestPort)
                got += frame.datagrams
            }
        }
        try world.run(until: "\(count) datagrams, \(got.count) have come") {
            fetch()
            return got.count >= count
        }
        try world.settle()
        fetch()
        return got
    }

    /// A flow: the server knows the namespace's datagram and where to answer.
    private static func open(
        _ world: World, _ server: HostEnd, _ family: AddressFamily = .v4, from port: UInt16
    ) throws -> GuestFrame.Path {
        let path = GuestFrame.Path(family, from: port, to: server.port)
        world.send(GuestFrame.udp(path, [0]))
        try world.run(until: "a datagram at the server") {
            guard let (bytes, sender) = server.receive() else { return false }
            #expect(bytes == [0])
            server.connect(to: sender)
            return true
        }
        return path
    }

    private static func bytes(_ count: Int, _ number: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 3 &+ number &* 17) }
    }

    // MARK: From the namespace

    @Test(
        "a datagram reaches the server whole, from the namespace's port", arguments: [AddressFamily.v4, .v6],
        [0, 1, 3, 1472, 9000, 65000])
    func aDatagramReachesTheServer(family: AddressFamily, size: Int) throws {
        for (number, offloads) in ([World.allOffloads, []] as [LinkCapabilities]).enumerated() {
            let world = try World(offloads: offloads)
            let server = try HostEnd.datagram(family)
            let port = UInt16(20_000 + number * 100 + size % 97)
            let path = GuestFrame.Path(family, from: port, to: server.port)
            let payload = Self.bytes(size, 1)
            world.send(GuestFrame.udp(path, payload))
            var got: (bytes: [UInt8], from: Endpoint)?
            try world.run(until: "the datagram") {
                got = server.receive()
                return got != nil
            }
            #expect(got?.bytes == payload)
            #expect(got?.from.port == port)
            #expect(world.forwarder.flowCount == 1)
        }
    }

    @Test("a super-frame is cut into its datagrams", arguments: [AddressFamily.v4, .v6], [1, 2, 3, 40])
    func aSuperFrameIsCutIntoItsDatagrams(family: AddressFamily, count: Int) throws {
        let world = try World()
        let server = try HostEnd.datagram(family)
        let path = GuestFrame.Path(family, from: 21_001, to: server.port)
        for last in [1, 700, 1400] {
            let pieces = (0..<count).map { Self.bytes($0 == count - 1 ? last : 1400, $0) }
            world.send(
                GuestFrame.udp(path, Array(pieces.joined())), header: GuestFrame.superHeader(path, segmentSize: 1400))
            #expect(try Self.receive(count, at: server, world) == pieces)
        }
    }

    @Test("a super-frame of more pieces than the kernel takes at once is cut all the same")
    func aSuperFrameOfManyPieces() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = GuestFrame.Path(from: 21_002, to: server.port)
        let payload = Self.bytes(200, 5)
        world.send(GuestFrame.udp(path, payload), header: GuestFrame.superHeader(path, segmentSize: 1))
        #expect(try Self.receive(200, at: server, world) == payload.map { [$0] })
    }

    @Test("any run of datagrams of several flows arrives as it was sent", arguments: 1...8)
    func anyRunOfDatagramsArrivesAsItWasSent(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let world = try World(offloads: seed.isMultiple(of: 2) ? World.allOffloads : [])
        let servers = try (0..<3).map { _ in try HostEnd.datagram() }
        let paths = servers.enumerated().map { index, server in
            GuestFrame.Path(from: UInt16(22_000 + index), to: server.port)
        }
        var sent = [[[UInt8]]](repeating: [], count: 3)
        for burst in 0..<20 {
            let common = Int.random(in: 1...1400, using: &generator)
            for number in 0..<Int.random(in: 1...30, using: &generator) {
                let flow = generator.chance(80) ? burst % 3 : Int.random(in: 0..<3, using: &generator)
                let size =
                    generator.chance(70)
                    ? common : generator.chance(20) ? 0 : Int.random(in: 0...1400, using: &generator)
                let payload = Self.bytes(size, number + burst)
                sent[flow].append(payload)
                world.send(GuestFrame.udp(paths[flow], payload))
            }
            for (flow, server) in servers.enumerated() where !sent[flow].isEmpty {
                let got = try Self.receive(sent[flow].count, at: server, world)
                #expect(got == sent[flow], "seed \(seed), burst \(burst), flow \(flow)")
                sent[flow] = []
            }
        }
        #expect(world.forwarder.flowCount == 3)
    }

    @Test("a checksum of zero is none over IPv4 and wrong over IPv6", arguments: [AddressFamily.v4, .v6])
    func aChecksumOfZero(family: AddressFamily) throws {
        let world = try World()
        let server = try HostEnd.datagram(family)
        let path = GuestFrame.Path(family, from: 21_003, to: server.port)
        var frame = GuestFrame.udp(path, [1, 2, 3])
        let field = frame.count - 3 - 2
        frame.replaceSubrange(field..<field + 2, with: [0, 0])
        world.send(frame)
        try world.settle()
        #expect((server.receive()?.bytes == [1, 2, 3]) == (family == .v4))
    }

    @Test("a wrong checksum is dropped and counted, unless the header declares it partial or verified")
    func aWrongChecksumIsDropped() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = GuestFrame.Path(from: 21_004, to: server.port)
        var frame = GuestFrame.udp(path, [1, 2, 3])
        frame[frame.count - 1] ^= 4
        world.send(frame)
        try world.settle()
        #expect(server.receive() == nil)
        #expect(world.forwarder.counters.summary.contains { $0.name == "malformed: badTransportChecksum" })
        world.send(frame, header: VirtioNetHeader(checksumStart: 34, checksumOffset: 6))
        try world.settle()
        #expect(server.receive()?.bytes == [1, 2, 7])
    }

    @Test("fragments are put together, whatever their order", arguments: [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
    func fragmentsArePutTogether(order: [Int]) throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = GuestFrame.Path(from: 21_005, to: server.port)
        let payload = Self.bytes(3000, 1)
        let whole = GuestFrame.udp(path, payload)
        let packet = Array(whole[34...])
        let pieces = [0..<1200, 1200..<2400, 2400..<packet.count].map { range in
            var frame = Array(whole[..<34]) + packet[range]
            let total = 20 + range.count
            frame[16] = UInt8(total >> 8)
            frame[17] = UInt8(total & 0xFF)
            frame[19] = 77
            let field = range.lowerBound / 8 | (range.upperBound < packet.count ? 0x2000 : 0)
            frame[20] = UInt8(field >> 8)
            frame[21] = UInt8(field & 0xFF)
            frame.replaceSubrange(24..<26, with: [0, 0])
            let sum = DecodedPacket.checksum(Array(frame[14..<34]))
            frame.replaceSubrange(24..<26, with: [UInt8(sum >> 8), UInt8(sum & 0xFF)])
            return frame
        }
        for index in order { world.send(pieces[index]) }
        // In the same batch: what was put together must still be there when it goes out.
        world.send(GuestFrame.udp(path, [9]))
        #expect(try Self.receive(2, at: server, world) == [payload, [9]])
    }

    @Test("datagrams of one port of the namespace have one port on the host, whoever they go to")
    func datagramsOfOnePortHaveOnePortOnTheHost() throws {
        let world = try World()
        let servers = try [HostEnd.datagram(.v4), HostEnd.datagram(.v4), HostEnd.datagram(.v6)]
        for (server, family) in zip(servers, [AddressFamily.v4, .v4, .v6]) {
            world.send(GuestFrame.udp(GuestFrame.Path(family, from: 21_010, to: server.port), [1]))
        }
        var ports: [UInt16] = []
        try world.run(until: "three datagrams") {
            ports += servers.compactMap { $0.receive()?.from.port }
            return ports.count == 3
        }
        #expect(ports == [21_010, 21_010, 21_010])
        // Each answer still finds its own flow.
        for (number, (server, family)) in zip(servers, [AddressFamily.v4, .v4, .v6]).enumerated() {
            let loopback: IPv6Address = family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
            server.connect(to: Endpoint(address: loopback, port: 21_010))
            _ = send(server.number, [UInt8(number)], 1, 0)
            let path = GuestFrame.Path(family, from: 21_010, to: server.port)
            #expect(try Self.receive(1, for: path, world) == [[UInt8(number)]])
        }
    }

    // MARK: Towards the namespace

    @Test("answers reach the namespace whole", arguments: TCPDataTests.ways)
    func answersReachTheNamespace(offloads: LinkCapabilities, family: AddressFamily) throws {
        let world = try World(offloads: offloads)
        let server = try HostEnd.datagram(family)
        let path = try Self.open(world, server, family, from: 23_001)
        // The length of an IPv4 packet counts its header, that of an IPv6 packet does not.
        let most = 65_535 - 8 - (family == .v4 ? 20 : 0)
        server.set(SOL_SOCKET, SO_SNDBUF, 1 << 20)
        for size in [0, 1, 2, 1472, 8000, 65_000, most - 1, most] {
            let payload = Self.bytes(size, size)
            #expect(send(server.number, payload, payload.count, 0) == size)
            #expect(try Self.receive(1, for: path, world) == [payload], "\(size) bytes")
        }
    }

    @Test(
        "any run of answers arrives as it was sent; equal ones come together where the kernel takes that",
        arguments: 1...8)
    func anyRunOfAnswersArrivesAsItWasSent(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let offloads: LinkCapabilities = seed.isMultiple(of: 2) ? World.allOffloads : [.header, .checksum]
        let world = try World(offloads: offloads)
        let server = try HostEnd.datagram()
        let path = try Self.open(world, server, from: 23_002)
        var superFrames = 0
        for burst in 0..<20 {
            let common = Int.random(in: 1...1400, using: &generator)
            var sent: [[UInt8]] = []
            for number in 0..<Int.random(in: 1...80, using: &generator) {
                let size =
                    generator.chance(80)
                    ? common : generator.chance(20) ? 0 : Int.random(in: 0...1400, using: &generator)
                let payload = Self.bytes(size, number + burst)
                guard send(server.number, payload, payload.count, CInt(MSG_DONTWAIT)) == size else { break }
                sent.append(payload)
            }
            let got = try Self.receive(sent.count, for: path, world) { frame in
                if frame.isUDP && frame.header.segmentation == .udp { superFrames += 1 }
                return frame.isUDP
            }
            #expect(got == sent, "seed \(seed), burst \(burst)")
        }
        #expect((superFrames > 0) == offloads.contains(.udpSegmentation))
    }

    @Test("what comes from elsewhere than the flow's other end is not delivered")
    func whatComesFromElsewhereIsNotDelivered() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let stranger = try HostEnd.datagram()
        let path = GuestFrame.Path(from: 23_003, to: server.port)
        world.send(GuestFrame.udp(path, [1]))
        var sender: Endpoint?
        try world.run(until: "the datagram") {
            sender = server.receive()?.from
            return sender != nil
        }
        stranger.connect(to: try #require(sender))
        _ = send(stranger.number, [6, 6], 2, 0)
        server.connect(to: try #require(sender))
        _ = send(server.number, [7], 1, 0)
        #expect(try Self.receive(1, for: path, world) == [[7]])
    }

    // MARK: Time

    @Test("an unanswered flow ends after 30 s, one that goes both ways after 120 s of silence")
    func flowsEndAfterSilence() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = try Self.open(world, server, from: 24_001)
        world.advance(milliseconds: 29_000)
        #expect(world.forwarder.flowCount == 1)
        world.send(GuestFrame.udp(path, [1]))
        try world.settle()
        world.advance(milliseconds: 29_000)
        #expect(world.forwarder.flowCount == 1, "one way, but not silent")
        world.advance(milliseconds: 1100)
        #expect(world.forwarder.flowCount == 0)

        let other = try HostEnd.datagram()
        let path2 = try Self.open(world, other, from: 24_002)
        _ = send(other.number, [2], 1, 0)
        #expect(try Self.receive(1, for: path2, world) == [[2]])
        world.advance(milliseconds: 31_000)
        #expect(world.forwarder.flowCount == 0, "one datagram each way: a query")

        let third = try HostEnd.datagram()
        let path3 = try Self.open(world, third, from: 24_003)
        _ = send(third.number, [2], 1, 0)
        #expect(try Self.receive(1, for: path3, world) == [[2]])
        world.send(GuestFrame.udp(path3, [3]))
        try world.settle()
        world.advance(milliseconds: 119_000)
        #expect(world.forwarder.flowCount == 1, "a conversation")
        world.advance(milliseconds: 1100)
        #expect(world.forwarder.flowCount == 0)
        #expect(world.forwarder.deadline == nil, "no wake-ups without flows")
    }

    @Test("several answers to one datagram make a conversation as well")
    func severalAnswersMakeAConversation() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        let path = try Self.open(world, server, from: 24_004)
        for number in 0..<3 { _ = send(server.number, [UInt8(number)], 1, 0) }
        #expect(try Self.receive(3, for: path, world).count == 3)
        world.advance(milliseconds: 31_000)
        #expect(world.forwarder.flowCount == 1)
    }

    // MARK: Errors

    @Test("a closed port is reported by an ICMP error that quotes the datagram", arguments: [AddressFamily.v4, .v6])
    func aClosedPortIsTold(family: AddressFamily) throws {
        let world = try World()
        let port = try HostEnd.closedPort(family, type: HostSocket.datagram)
        let path = GuestFrame.Path(family, from: 25_001, to: port)
        for size in [0, 5, 1000] {
            let payload = Self.bytes(size, size)
            let datagram = GuestFrame.udp(path, payload)
            world.send(datagram)
            let error = try world.next("an ICMP error for \(size) bytes") { $0.isICMP }
            expectPacket(
                error.packet.frame, .ip(from: Lab.host(family), to: Lab.guest(family)),
                family == .v4 ? .icmp(type: 3, code: 3, rest: 0) : .icmp(type: 1, code: 4, rest: 0))
            // The quote is an IP packet of its own: addresses, ports and length as they were sent.
            let quote = error.payload
            let ipLength = family == .v4 ? 20 : 40
            let addresses = family == .v4 ? 12..<20 : 8..<40
            #expect(quote.count >= ipLength + 8)
            #expect(
                Array(quote[addresses]) == Array(datagram[14...][14 + addresses.lowerBound..<14 + addresses.upperBound])
            )
            #expect(
                Array(quote[ipLength..<ipLength + 4]) == Array(datagram[14 + ipLength..<14 + ipLength + 4]), "ports")
            let quoted = Array(quote[(ipLength + 8)...])
            #expect(quoted == Array(payload.prefix(quoted.count)))
            #expect(error.packet.frame.count <= 14 + (family == .v4 ? 576 : 1280))
        }
        #expect(world.forwarder.flowCount == 1)
    }

    @Test("after an error the flow works again once a server is there")
    func afterAnErrorTheFlowWorksAgain() throws {
        let world = try World()
        let port = try HostEnd.closedPort(type: HostSocket.datagram)
        let path = GuestFrame.Path(from: 25_002, to: port)
        world.send(GuestFrame.udp(path, [1]))
        _ = try world.next("an ICMP error") { $0.isICMP }
        let server = try HostEnd(.v4, type: HostSocket.datagram, port: port)
        world.send(GuestFrame.udp(path, [2]))
        world.send(GuestFrame.udp(path, [3]))
        #expect(try Self.receive(2, at: server, world) == [[2], [3]])
    }

    @Test("--no-udp drops and counts")
    func noUDPDropsAndCounts() throws {
        let world = try World { $0.forwardsUDP = false }
        let server = try HostEnd.datagram()
        world.send(GuestFrame.udp(GuestFrame.Path(from: 25_004, to: server.port), [1]))
        try world.settle()
        #expect(world.drops(.protocolOff) == 1)
        #expect(server.receive() == nil)
    }
}
