// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("Frame summary")
struct FrameSummaryTests {
    /// The captures with what they are.
    static let kinds: [(Capture, FrameSummary.Kind)] = [
        (.arpRequest, .arp), (.arpReply, .arp), (.echoRequest4, .icmpv4), (.echoReply4, .icmpv4),
        (.echoRequest6, .icmpv6), (.echoReply6, .icmpv6), (.laterFragment4, .fragment), (.laterFragment6, .fragment),
        (.tcpSYN4, .tcp), (.tcpSYNACK4, .tcp), (.tcpData4, .tcp), (.tcpFIN4, .tcp), (.tcpReset4, .tcp),
        (.tcpSYN6, .tcp), (.tcpData6, .tcp), (.udp4, .udp), (.udp6, .udp), (.udpWithExtensions, .udp),
        (.udpLite, .otherProtocol), (.portUnreachable4, .icmpv4), (.portUnreachable6, .icmpv6),
        (.duplicateDetection, .icmpv6), (.neighborSolicitation, .icmpv6), (.neighborAdvertisement, .icmpv6),
        (.routerSolicitation, .icmpv6), (.routerAdvertisement, .icmpv6), (.listenerReport, .icmpv6),
        (.dnsQuery, .udp), (.dhcpDiscover, .udp), (.dhcpv6Solicit, .udp),
    ]

    @Test("classifies captured frames", arguments: kinds)
    func classifiesCapturedFrames(capture: Capture, kind: FrameSummary.Kind) throws {
        let summary = try FrameSummary(capture.frame.span)
        #expect(summary.kind == kind)
    }

    @Test("agrees with the slow decoder on every capture", arguments: Capture.all)
    func agreesWithTheSlowDecoder(capture: Capture) throws {
        let summary = try FrameSummary(capture.frame.span)
        let packet = DecodedPacket(capture.frame)
        #expect(packet.problems == [])
        #expect(summary.sourceMAC == packet.sourceMAC)
        #expect(summary.destinationMAC == packet.destinationMAC)
        guard summary.kind != .arp else { return }
        #expect(IPAddress(unmapping: summary.source) == packet.source)
        #expect(IPAddress(unmapping: summary.destination) == packet.destination)
        #expect(Int(summary.hopLimit) == packet.hopLimit)
        #expect(summary.packetLength == capture.frame.count - EthernetHeader.length)
        guard summary.kind != .fragment else { return }
        #expect(Int(summary.ipProtocol.rawValue) == packet.ipProtocol)
        #expect(Array(capture.frame[summary.transportOffset...]) == packet.transport)
        #expect(summary.transportLength == packet.transport.count)
        guard summary.kind != .otherProtocol else { return }
        #expect(Array(capture.frame[summary.payloadOffset...].prefix(summary.payloadLength)) == packet.payload)
        if summary.kind == .tcp || summary.kind == .udp {
            #expect(Int(summary.sourcePort) == DecodedPacket.number(packet.transport, 0, 2))
            #expect(Int(summary.destinationPort) == DecodedPacket.number(packet.transport, 2, 2))
        }
        try summary.verifyTransportChecksum(capture.frame.span)
    }

    @Test("reads the fields of a TCP segment")
    func readsTheFieldsOfATCPSegment() throws {
        let frame = Capture.tcpSYN4.frame
        let summary = try FrameSummary(frame.span)
        #expect(Int(summary.tcpSequence) == DecodedPacket.number(frame, 38, 4))
        #expect(summary.tcpAcknowledgment == 0)
        #expect(summary.tcpFlags == .syn)
        #expect(summary.tcpWindow == 64240)
        #expect(summary.tcpHeaderLength == 40)
        #expect(summary.mayNotFragment)
        let options = summary.tcpOptions(in: frame.span)
        #expect(options.maximumSegmentSize == 1460)
        #expect(options.windowScale == 10)
        #expect(options.permitsSelectiveAcknowledgment)
        #expect(options.timestamps?.echo == 0)
    }

    @Test("reads the fields of an echo")
    func readsTheFieldsOfAnEcho() throws {
        let frame = Capture.echoRequest6.frame
        let summary = try FrameSummary(frame.span)
        #expect(summary.icmpType == ICMPv6Type.echoRequest)
        #expect(summary.icmpCode == 0)
        #expect(Int(summary.icmpIdentifier) == DecodedPacket.number(frame, 58, 2))
        #expect(summary.icmpSequence == 1)
        #expect(summary.payloadLength == 24)
    }

    @Test("refuses every truncation of every capture", arguments: Capture.all)
    func refusesEveryTruncation(capture: Capture) {
        for count in 0..<capture.frame.count {
            let cut = Array(capture.frame.prefix(count))
            #expect(throws: DropReason.self, "\(count) bytes") { try FrameSummary(cut.span) }
        }
    }

    @Test("takes padding for nothing", arguments: [Capture.tcpReset4, .udp4, .udp6, .arpRequest])
    func takesPaddingForNothing(capture: Capture) throws {
        let padded = capture.frame + [UInt8](repeating: 0xAA, count: 30)
        #expect(try FrameSummary(padded.span) == FrameSummary(capture.frame.span))
    }

    /// A frame with some bytes changed.
    struct Damage: Sendable, CustomStringConvertible {
        let capture: Capture
        let changes: [Int: UInt8]
        let reason: DropReason
        var description: String { "\(reason)" }
    }

    static let damages: [Damage] = [
        Damage(capture: .udp4, changes: [12: 0x88, 13: 0xCC], reason: .unknownEtherType),
        Damage(capture: .arpRequest, changes: [15: 6], reason: .badARP),
        Damage(capture: .udp4, changes: [14: 0x65], reason: .badIPv4Version),
        Damage(capture: .udp4, changes: [14: 0x44], reason: .badIPv4HeaderLength),
        Damage(capture: .udp4, changes: [14: 0x4F], reason: .badIPv4HeaderLength),
        Damage(capture: .udp4, changes: [16: 0, 17: 19], reason: .badIPv4TotalLength),
        Damage(capture: .udp4, changes: [16: 1], reason: .totalLengthBeyondFrame),
        Damage(capture: .udp4, changes: [22: 1], reason: .badIPv4HeaderChecksum),
        Damage(capture: .udp6, changes: [14: 0x45], reason: .badIPv6Version),
        Damage(capture: .udp6, changes: [18: 1], reason: .totalLengthBeyondFrame),
        Damage(capture: .udp6, changes: [18: 0, 19: 7], reason: .truncatedUDP),
        Damage(capture: .udp6, changes: [58: 0, 59: 7], reason: .badUDPLength),
        Damage(capture: .udp6, changes: [59: 10], reason: .badUDPLength),
        Damage(capture: .tcpSYN6, changes: [19: 19], reason: .truncatedTCP),
        Damage(capture: .tcpSYN6, changes: [66: 0x4F], reason: .badDataOffset),
        Damage(capture: .tcpSYN6, changes: [66: 0xB0], reason: .badDataOffset),
        Damage(capture: .echoRequest6, changes: [19: 7], reason: .truncatedICMP),
        Damage(capture: .udpWithExtensions, changes: [55: 9], reason: .truncatedIPv6Extension),
        Damage(capture: .udpWithExtensions, changes: [19: 15], reason: .truncatedIPv6Extension),
    ]

    @Test("names why a damaged frame is dropped", arguments: damages)
    func namesWhyADamagedFrameIsDropped(damage: Damage) {
        var frame = damage.capture.frame
        for (offset, value) in damage.changes { frame[offset] = value }
        #expect(throws: damage.reason) { try FrameSummary(frame.span) }
    }

    /// Addresses of an IPv6 packet and why it is dropped; nil if it is not.
    struct Addresses: Sendable, CustomStringConvertible {
        let source: String
        let destination: String
        let reason: DropReason?
        var description: String { "\(source) to \(destination)" }
    }

    @Test(
        "IPv6 addresses that no link carries are refused",
        arguments: [
            Addresses(source: "2001:db8::1", destination: "::ffff:192.0.2.1", reason: .embeddedIPv4Address),
            Addresses(source: "::ffff:192.0.2.1", destination: "2001:db8::1", reason: .embeddedIPv4Address),
            Addresses(source: "::ffff:192.0.2.1", destination: "::ffff:192.0.2.2", reason: .embeddedIPv4Address),
            Addresses(source: "::ffff:0.0.0.0", destination: "ff02::1", reason: .embeddedIPv4Address),
            Addresses(source: "2001:db8::1", destination: "::192.0.2.1", reason: .embeddedIPv4Address),
            Addresses(source: "::2", destination: "2001:db8::1", reason: .embeddedIPv4Address),
            Addresses(source: "::1", destination: "2001:db8::1", reason: .badSource),
            Addresses(source: "ff02::1", destination: "2001:db8::1", reason: .badSource),
            Addresses(source: "2001:db8::1", destination: "::1", reason: .badDestination),
            Addresses(source: "2001:db8::1", destination: "::", reason: .badDestination),
            Addresses(source: "2001:db8::1", destination: "ff01::1", reason: .badDestination),
            Addresses(source: "2001:db8::1", destination: "ff10::1", reason: .badDestination),
            Addresses(source: "::", destination: "ff02::2", reason: nil),
            Addresses(source: "fe80::1", destination: "ff02::1", reason: nil),
            Addresses(source: "fe80::1", destination: "ff0e::1", reason: nil),
            Addresses(source: "64:ff9b::192.0.2.1", destination: "::1:0:0:0", reason: nil),
        ])
    func ipv6Addresses(_ test: Addresses) throws {
        var frame = Capture.udp6.frame
        var span = frame.mutableSpan
        span.store(try #require(IPv6Address(test.source)), at: 22)
        span.store(try #require(IPv6Address(test.destination)), at: 38)
        Self.expect(frame, test.reason)
    }

    @Test(
        "IPv4 addresses that no link carries are refused",
        arguments: [
            Addresses(source: "127.0.0.1", destination: "192.0.2.1", reason: .badSource),
            Addresses(source: "127.255.255.255", destination: "192.0.2.1", reason: .badSource),
            Addresses(source: "0.0.0.1", destination: "192.0.2.1", reason: .badSource),
            Addresses(source: "224.0.0.1", destination: "192.0.2.1", reason: .badSource),
            Addresses(source: "255.255.255.255", destination: "192.0.2.1", reason: .badSource),
            Addresses(source: "192.0.2.1", destination: "127.0.0.1", reason: .badDestination),
            Addresses(source: "192.0.2.1", destination: "0.0.0.0", reason: .badDestination),
            Addresses(source: "192.0.2.1", destination: "0.0.0.1", reason: .badDestination),
            Addresses(source: "0.0.0.0", destination: "255.255.255.255", reason: nil),
            Addresses(source: "192.0.2.1", destination: "224.0.0.1", reason: nil),
            Addresses(source: "240.0.0.1", destination: "192.0.2.255", reason: nil),
        ])
    func ipv4Addresses(_ test: Addresses) throws {
        var frame = Capture.udp4.frame
        let packet = Array(frame[14...])
        var header = try IPv4Header(packet.span)
        header.source = try #require(IPv4Address(test.source))
        header.destination = try #require(IPv4Address(test.destination))
        var span = frame.mutableSpan
        header.write(into: &span, at: 14)
        Self.expect(frame, test.reason)
    }

    private static func expect(_ frame: [UInt8], _ reason: DropReason?) {
        do throws(DropReason) {
            let summary = try FrameSummary(frame.span)
            #expect(reason == nil)
            let isNothing = IPAddress(summary.family, summary.source).isUnspecified
            #expect(summary.hasUnspecifiedSource == isNothing)
        } catch {
            #expect(error == reason)
        }
    }

    @Test("follows eight extension headers and no more", arguments: 0...10)
    func followsEightExtensionHeaders(count: Int) throws {
        var frame = Capture.udp6.frame
        let udp = Array(frame[54...])
        frame[20] = count == 0 ? 17 : 60
        frame[19] = UInt8(count * 8 + udp.count)
        frame.removeSubrange(54...)
        for index in 0..<count { frame += [index == count - 1 ? 17 : 60, 0, 1, 4, 0, 0, 0, 0] }
        frame += udp
        if count <= FrameSummary.maximumExtensionCount {
            let summary = try FrameSummary(frame.span)
            #expect(summary.kind == .udp)
            #expect(summary.transportOffset == 54 + count * 8)
            try summary.verifyTransportChecksum(frame.span)
        } else {
            #expect(throws: DropReason.ipv6ExtensionTooLong) { try FrameSummary(frame.span) }
        }
    }

    @Test("takes an atomic fragment for a whole packet (RFC 6946)")
    func takesAnAtomicFragmentForAWholePacket() throws {
        var frame = Capture.laterFragment6.frame
        let udp = Array(Capture.udp6.frame[54...])
        frame.replaceSubrange(54..., with: [17, 0, 0, 0, 1, 2, 3, 4] + udp)
        frame[19] = UInt8(8 + udp.count)
        #expect(try FrameSummary(frame.span).kind == .udp)
        // More fragments follow.
        frame[57] = 1
        #expect(try FrameSummary(frame.span).kind == .fragment)
    }

    @Test("finds a damaged transport checksum", arguments: [Capture.tcpData4, .tcpData6, .udp4, .udp6, .echoRequest4])
    func findsADamagedTransportChecksum(capture: Capture) throws {
        var frame = capture.frame
        frame[frame.count - 1] ^= 0x10
        let summary = try FrameSummary(frame.span)
        #expect(throws: DropReason.badTransportChecksum) { try summary.verifyTransportChecksum(frame.span) }
    }

    @Test("takes a UDP checksum of zero over IPv4 only (RFC 768, RFC 8200 §8.1)")
    func takesAUDPChecksumOfZeroOverIPv4Only() throws {
        var frame = Capture.udp4.frame
        frame[40] = 0
        frame[41] = 0
        try FrameSummary(frame.span).verifyTransportChecksum(frame.span)
        frame = Capture.udp6.frame
        frame[60] = 0
        frame[61] = 0
        let summary = try FrameSummary(frame.span)
        #expect(throws: DropReason.badTransportChecksum) { try summary.verifyTransportChecksum(frame.span) }
    }

    @Test("never traps on random bytes or damaged captures", arguments: [1, 2, 3] as [UInt64])
    func neverTraps(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var accepted = 0
        for round in 0..<20_000 {
            var frame: [UInt8]
            if round % 4 == 0 {
                frame = random.bytes(upTo: 120)
                if frame.count > 15 {
                    frame[12] = random.chance(50) ? 0x08 : 0x86
                    frame[13] = frame[12] == 8 ? (random.chance(80) ? 0 : 6) : 0xDD
                    frame[14] = (frame[12] == 8 ? 0x40 : 0x60) | (frame[14] & 15)
                }
            } else {
                frame = Capture.all[Int.random(in: 0..<Capture.all.count, using: &random)].frame
                for _ in 0..<Int.random(in: 1...6, using: &random) {
                    let limit = random.chance(70) ? min(80, frame.count) : frame.count
                    frame[Int.random(in: 12..<limit, using: &random)] = UInt8(truncatingIfNeeded: random.next())
                }
                if random.chance(20) { frame.removeLast(Int.random(in: 0..<frame.count, using: &random)) }
            }
            exercise(frame, accepted: &accepted)
        }
        #expect(accepted > 1000, "seed \(seed)")
    }

    /// Reads everything there is to read of a frame; offsets must lie inside.
    private func exercise(_ frame: [UInt8], accepted: inout Int) {
        guard let summary = try? FrameSummary(frame.span) else { return }
        accepted += 1
        #expect(summary.transportOffset + summary.transportLength <= frame.count)
        #expect(summary.payloadOffset + summary.payloadLength <= frame.count)
        #expect(summary.packetLength + EthernetHeader.length <= frame.count)
        _ = summary.tcpOptions(in: frame.span)
        try? summary.verifyTransportChecksum(frame.span)
        _ = try? ARPMessage(frame: frame.span)
        let transport = Array(frame[summary.transportOffset...].prefix(summary.transportLength))
        _ = try? TCPHeader(transport.span)
        _ = try? UDPHeader(transport.span)
        _ = try? ICMPHeader(transport.span)
        _ = try? NeighborSolicitation(transport.span)
        _ = try? NeighborAdvertisement(transport.span)
        _ = try? RouterSolicitation(transport.span)
        _ = try? RouterAdvertisement(transport.span)
        _ = try? IPv4Header(transport.span)
        _ = try? IPv6Header(transport.span)
        var offset = DNSHeader.length
        let payload = Array(frame[summary.payloadOffset...].prefix(summary.payloadLength))
        _ = try? DNSQuestion(payload.span, at: &offset)
        var output = [UInt8](repeating: 0, count: 1500)
        var span = output.mutableSpan
        if ICMPError.mayAnswer(summary) {
            let length = ICMPError.portUnreachable(summary.family).writeFrame(
                into: &span, about: frame.span, summary: summary, from: summary.destination,
                sourceMAC: .defaultGateway)
            #expect(length > 0 && length <= ICMPError.maximumFrameLength)
        }
    }
}
