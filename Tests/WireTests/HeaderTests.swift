// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("Headers")
struct HeaderTests {
    @Test("writes back the Ethernet header of every capture", arguments: Capture.all)
    func writesBackEthernet(capture: Capture) throws {
        var bytes = [UInt8](repeating: 0xEE, count: EthernetHeader.length)
        let header = try EthernetHeader(capture.frame.span)
        var span = bytes.mutableSpan
        header.write(into: &span)
        #expect(bytes == Array(capture.frame[..<14]))
    }

    @Test("writes back the IP header of every capture", arguments: Capture.all.filter { $0.frame[13] != 6 })
    func writesBackIP(capture: Capture) throws {
        let packet = Array(capture.frame[14...])
        if packet[0] == 0x45 {
            var bytes = [UInt8](repeating: 0xEE, count: IPv4Header.length)
            let header = try IPv4Header(packet.span)
            var span = bytes.mutableSpan
            header.write(into: &span, at: 0)
            #expect(bytes == Array(packet[..<20]))
        } else if packet[0] >> 4 == 6 {
            var bytes = [UInt8](repeating: 0xEE, count: IPv6Header.length)
            let header = try IPv6Header(packet.span)
            var span = bytes.mutableSpan
            header.write(into: &span, at: 0)
            #expect(bytes == Array(packet[..<40]))
        }
    }

    @Test(
        "rebuilds captured TCP and UDP packets byte by byte",
        arguments: [Capture.tcpData4, .tcpFIN4, .tcpReset4, .tcpData6, .udp4, .udp6, .dnsQuery])
    func rebuildsCapturedPackets(capture: Capture) throws {
        let summary = try FrameSummary(capture.frame.span)
        let ip = IPHeader(
            summary.family, source: summary.source, destination: summary.destination, ipProtocol: summary.ipProtocol)
        let segment = Array(capture.frame[summary.transportOffset...])
        var rebuilt = capture.frame
        for offset in summary.transportOffset..<summary.payloadOffset { rebuilt[offset] = 0xEE }
        var span = rebuilt.mutableSpan
        if summary.kind == .tcp {
            let header = try TCPHeader(segment.span)
            #expect(header.headerLength == summary.tcpHeaderLength)
            header.write(into: &span, at: summary.transportOffset, ip: ip, payloadLength: summary.payloadLength)
                .finish(in: &span, payloadLength: summary.payloadLength)
        } else {
            try UDPHeader(segment.span).write(into: &span, at: summary.transportOffset, ip: ip)
                .finish(in: &span, payloadLength: summary.payloadLength)
        }
        #expect(hexDump(rebuilt) == hexDump(capture.frame))
    }

    static let addresses: [(IPv6Address, IPv6Address)] = [
        (IPv6Address(mapping: IPv4Address(192, 0, 2, 1)), IPv6Address(mapping: IPv4Address(198, 51, 100, 7))),
        (IPv6Address(high: 0x2001_0DB8 << 32, low: 1), IPv6Address(high: 0xFE80 << 48, low: 2)),
    ]

    /// The family of one of ``addresses``.
    private static func family(_ address: IPv6Address) -> AddressFamily { IPAddress(unmapping: address).family }

    @Test("writes a SYN-ACK with MSS and window scale", arguments: addresses)
    func writesASYNACK(source: IPv6Address, destination: IPv6Address) throws {
        var frame = [UInt8](repeating: 0xEE, count: 100)
        let ip = IPHeader(Self.family(source), source: source, destination: destination, ipProtocol: .tcp)
        let header = TCPHeader(
            sourcePort: 80, destinationPort: 40_000, sequence: 0xFFFF_FFFF, acknowledgment: 7, flags: [.syn, .ack],
            window: 14_600, options: TCPOptions(maximumSegmentSize: 61_440, windowScale: 8))
        #expect(header.headerLength == 28)
        var span = frame.mutableSpan
        let offset = ip.writeFrame(
            into: &span, to: .broadcast, from: .defaultGateway, payloadLength: header.headerLength)
        header.write(into: &span, at: offset, ip: ip, payloadLength: 0).finish(in: &span, payloadLength: 0)
        let length = offset + header.headerLength
        expectPacket(
            frame.prefix(length), .ethernet(from: .defaultGateway, to: .broadcast),
            .ip(from: IPAddress(unmapping: source), to: IPAddress(unmapping: destination), hopLimit: 255),
            .tcp(
                from: 80, to: 40_000, sequence: .max, acknowledgment: 7, flags: 0x12, window: 14_600,
                maximumSegmentSize: 61_440, windowScale: 8), .transportChecksum, .payload([]))
        #expect(frame[length] == 0xEE)
        #expect(try TCPHeader(Array(frame[offset..<length]).span) == header)
        // As upstream orders them: MSS, NOP, window scale.
        #expect(Array(frame[offset + 20..<length]) == [2, 4, 0xF0, 0, 1, 3, 3, 8])
    }

    @Test("leaves the checksum to the receiver as the kernel wants it", arguments: addresses)
    func leavesTheChecksumToTheReceiver(source: IPv6Address, destination: IPv6Address) throws {
        let payload: [UInt8] = Array(0..<101)
        var frame = [UInt8](repeating: 0, count: 300)
        let ip = IPHeader(Self.family(source), source: source, destination: destination, ipProtocol: .udp)
        var span = frame.mutableSpan
        let offset = ip.writeFrame(
            into: &span, to: .broadcast, from: .zero, payloadLength: UDPHeader.length + payload.count)
        let checksum = UDPHeader(sourcePort: 53, destinationPort: 5353, payloadLength: payload.count)
            .write(into: &span, at: offset, ip: ip)
        span.store(payload.span, at: offset + UDPHeader.length)
        let virtio = checksum.writePartial(in: &span)
        #expect(virtio.flags == .needsChecksum)
        #expect(virtio.segmentation == .none)
        #expect(Int(virtio.checksumStart) == offset)
        // What the kernel does: sum from the start on over what is there, put the complement into the field.
        let start = Int(virtio.checksumStart)
        let field = start + Int(virtio.checksumOffset)
        let end = offset + UDPHeader.length + payload.count
        let sum = DecodedPacket.checksum(Array(frame[start..<end]))
        frame[field] = UInt8(sum >> 8)
        frame[field + 1] = UInt8(sum & 0xFF)
        expectPacket(frame.prefix(end), .udp(from: 53, to: 5353), .payload(payload), .transportChecksum)
    }

    @Test("finishes with the payload elsewhere", arguments: [0, 1, 2, 1399, 1400])
    func finishesWithThePayloadElsewhere(count: Int) throws {
        var random = SplitMix64(seed: UInt64(count))
        let payload = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        var frame = [UInt8](repeating: 0, count: 54)
        let ip = IPHeader(.v4, source: Self.addresses[0].0, destination: Self.addresses[0].1, ipProtocol: .tcp)
        let header = TCPHeader(
            sourcePort: 1, destinationPort: 2, sequence: 3, acknowledgment: 4, flags: .ack, window: 5)
        var span = frame.mutableSpan
        let offset = ip.writeFrame(into: &span, to: .zero, from: .zero, payloadLength: 20 + count)
        header.write(into: &span, at: offset, ip: ip, payloadLength: count).finish(in: &span, payload: payload.span)
        expectPacket(frame + payload, .tcp(from: 1, to: 2), .payload(payload), .transportChecksum)
    }

    @Test("never writes a UDP checksum of zero")
    func neverWritesAUDPChecksumOfZero() throws {
        // One of these payloads makes the sum all ones.
        let ip = IPHeader(.v6, source: Self.addresses[1].0, destination: Self.addresses[1].1, ipProtocol: .udp)
        var seen: Set<UInt16> = []
        var frame = [UInt8](repeating: 0, count: 64)
        for value in 0...UInt16.max {
            var span = frame.mutableSpan
            let payload: [UInt8] = [UInt8(value >> 8), UInt8(value & 0xFF)]
            let length = UDPHeader.writeFrame(
                payload.span, from: 1, to: 2, ip: ip, to: .zero, from: .zero, into: &span)
            #expect(length == 64)
            seen.insert(span.span.bigEndian16(at: 60))
        }
        #expect(!seen.contains(0))
        #expect(seen.contains(0xFFFF))
    }

    @Test("writes frames only where they fit")
    func writesFramesOnlyWhereTheyFit() {
        let payload = [UInt8](repeating: 7, count: 10)
        let ip = IPHeader(.v4, source: Self.addresses[0].0, destination: Self.addresses[0].1, ipProtocol: .udp)
        for room in 0..<60 {
            var frame = [UInt8](repeating: 0, count: room)
            var span = frame.mutableSpan
            let length = UDPHeader.writeFrame(
                payload.span, from: 1, to: 2, ip: ip, to: .zero, from: .zero, into: &span)
            #expect(length == (room >= 52 ? 52 : 0))
        }
    }

    @Test("reads what it writes for random TCP headers", arguments: [11, 12] as [UInt64])
    func readsWhatItWrites(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let ip = IPHeader(.v4, source: Self.addresses[0].0, destination: Self.addresses[0].1, ipProtocol: .tcp)
        for _ in 0..<1000 {
            var options = TCPOptions()
            if random.chance(50) { options.maximumSegmentSize = UInt16(truncatingIfNeeded: random.next()) }
            if random.chance(50) { options.windowScale = UInt8.random(in: 0...14, using: &random) }
            options.permitsSelectiveAcknowledgment = random.chance(50)
            if random.chance(50) {
                options.timestamps = .init(
                    value: UInt32(truncatingIfNeeded: random.next()), echo: UInt32(truncatingIfNeeded: random.next()))
            }
            let header = TCPHeader(
                sourcePort: UInt16(truncatingIfNeeded: random.next()),
                destinationPort: UInt16(truncatingIfNeeded: random.next()),
                sequence: UInt32(truncatingIfNeeded: random.next()),
                acknowledgment: UInt32(truncatingIfNeeded: random.next()),
                flags: TCPFlags(rawValue: UInt8(truncatingIfNeeded: random.next())),
                window: UInt16(truncatingIfNeeded: random.next()), options: options)
            var bytes = [UInt8](repeating: 0, count: header.headerLength)
            var span = bytes.mutableSpan
            header.write(into: &span, at: 0, ip: ip, payloadLength: 0).finish(in: &span, payloadLength: 0)
            #expect(try TCPHeader(bytes.span) == header, "seed \(seed)")
        }
    }

    @Test(
        "stops at a TCP option of a wrong length",
        arguments: [[2, 0], [2, 1, 9], [2, 5, 1, 2], [1, 1, 2], [3], [8, 10, 0, 0]] as [[UInt8]])
    func stopsAtABadOption(bytes: [UInt8]) {
        #expect(TCPOptions(bytes.span) == TCPOptions())
    }

    @Test("limits the window scale to 14 (RFC 7323 §2.3)")
    func limitsTheWindowScale() {
        #expect(TCPOptions(([3, 3, 200, 0] as [UInt8]).span).windowScale == 14)
    }
}
