// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("ICMP errors")
struct ICMPErrorTests {
    static let kernel: [(Capture, Capture)] = [(.udp4, .portUnreachable4), (.udp6, .portUnreachable6)]

    @Test("quotes like the kernel", arguments: kernel)
    func quotesLikeTheKernel(cause: Capture, error: Capture) throws {
        let summary = try FrameSummary(cause.frame.span)
        var frame = [UInt8](repeating: 0, count: ICMPError.maximumFrameLength)
        var span = frame.mutableSpan
        let length = ICMPError.portUnreachable(summary.family).writeFrame(
            into: &span, about: cause.frame.span, summary: summary, from: summary.destination,
            sourceMAC: summary.destinationMAC)
        #expect(length == error.frame.count)
        let header = summary.isIPv4 ? 34 : 54
        #expect(Array(frame[header..<length]) == Array(error.frame[header...]))
        #expect(Array(frame[..<14]) == Array(error.frame[..<14]))
        expectPacket(frame.prefix(length), .transportChecksum)
    }

    @Test("makes the headers anew for a datagram sent through a socket", arguments: kernel)
    func makesTheHeadersAnew(cause: Capture, error: Capture) throws {
        let summary = try FrameSummary(cause.frame.span)
        let payload = Array(cause.frame[summary.payloadOffset...])
        var frame = [UInt8](repeating: 0, count: ICMPError.maximumFrameLength)
        var span = frame.mutableSpan
        let length = ICMPError.portUnreachable(summary.family).writeFrame(
            into: &span,
            aboutDatagram: IPHeader(
                summary.family, source: summary.source, destination: summary.destination, ipProtocol: .udp,
                hopLimit: summary.hopLimit),
            sourcePort: summary.sourcePort, destinationPort: summary.destinationPort, payload: payload.span,
            payloadLength: payload.count, from: summary.destination, to: summary.sourceMAC,
            from: summary.destinationMAC)
        #expect(length == error.frame.count)
        expectPacket(
            frame.prefix(length),
            .icmp(type: summary.isIPv4 ? 3 : 1, code: summary.isIPv4 ? 3 : 4, rest: 0), .transportChecksum)
        // The quoted packet is the datagram up to what we do not know: identification and checksums.
        let quoted = DecodedPacket(Array(frame[..<14]) + frame[(summary.isIPv4 ? 42 : 62)..<length])
        #expect(quoted.problems == [])
        #expect(quoted.source == IPAddress(unmapping: summary.source))
        #expect(Array(quoted.transport[..<6]) == Array(cause.frame[summary.transportOffset...].prefix(6)))
        #expect(quoted.payload == payload)
    }

    @Test("fits 576 bytes of IPv4 and 1,280 of IPv6", arguments: [AddressFamily.v4, .v6])
    func fits(family: AddressFamily) throws {
        let payload = [UInt8](repeating: 5, count: 1400)
        let addresses = HeaderTests.addresses[family == .v4 ? 0 : 1]
        var original = [UInt8](repeating: 0, count: 1500)
        var span = original.mutableSpan
        let count = UDPHeader.writeFrame(
            payload.span, from: 1, to: 2,
            ip: IPHeader(family, source: addresses.0, destination: addresses.1, ipProtocol: .udp),
            to: .defaultGateway, from: MACAddress(2, 0, 0, 0, 0, 1), into: &span)
        let sent = Array(original.prefix(count))
        let summary = try FrameSummary(sent.span)
        var frame = [UInt8](repeating: 0, count: 2000)
        var output = frame.mutableSpan
        let length = ICMPError.packetTooBig(family, mtu: 1300).writeFrame(
            into: &output, about: sent.span, summary: summary, from: addresses.1, sourceMAC: .defaultGateway)
        #expect(length == 14 + (family == .v4 ? 576 : 1280))
        expectPacket(
            frame.prefix(length), .ip(to: IPAddress(unmapping: addresses.0)),
            .icmp(type: family == .v4 ? 3 : 2, code: family == .v4 ? 4 : 0, rest: 1300), .transportChecksum)
    }

    @Test(
        "is not sent about errors, groups and fragments",
        arguments: [
            Capture.portUnreachable4, .portUnreachable6, .echoReply4, .laterFragment4, .laterFragment6, .arpRequest,
            .dhcpDiscover, .listenerReport, .duplicateDetection,
        ])
    func isNotSent(capture: Capture) throws {
        #expect(try !ICMPError.mayAnswer(FrameSummary(capture.frame.span)))
    }

    @Test(
        "is sent about what asks", arguments: [Capture.udp4, .udp6, .tcpSYN4, .echoRequest4, .echoRequest6, .udpLite])
    func isSent(capture: Capture) throws {
        #expect(try ICMPError.mayAnswer(FrameSummary(capture.frame.span)))
    }
}
