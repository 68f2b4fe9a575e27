// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// A frame that the data path sent, taken apart, and makers of frames to send to it.
struct GuestFrame: CustomStringConvertible {
    var header = VirtioNetHeader()
    var packet: DecodedPacket

    /// Takes what came over the link and records what is wrong with it as any frame.
    init(received: [UInt8], offloads: LinkCapabilities) {
        var frame = received
        if offloads.contains(.header) {
            if let parsed = try? VirtioNetHeader(received.span) { header = parsed }
            frame = Array(received.dropFirst(VirtioNetHeader.length))
        }
        let isPartial = header.flags.contains(.needsChecksum)
        if isPartial {
            if !offloads.contains(.checksum) { Issue.record("a partial checksum without that offload") }
            Self.complete(&frame, header: header)
        }
        packet = DecodedPacket(frame)
        if !packet.problems.isEmpty {
            Issue.record("\(packet.problems.joined(separator: "; ")) in\n\(hexDump(frame.prefix(100)))")
        }
        if [1, 6, 17, 58].contains(packet.ipProtocol) && !packet.hasRightTransportChecksum {
            Issue.record("wrong checksum (partial: \(isPartial)) in\n\(hexDump(frame.prefix(100)))")
        }
        checkSegmentation(offloads: offloads, frameLength: frame.count)
    }

    /// Does what the receiver's kernel does with a partial checksum.
    private static func complete(_ frame: inout [UInt8], header: VirtioNetHeader) {
        let start = Int(header.checksumStart)
        let field = start + Int(header.checksumOffset)
        guard field + 2 <= frame.count else { return }
        let sum = DecodedPacket.checksum(Array(frame[start...]))
        frame[field] = UInt8(sum >> 8)
        frame[field + 1] = UInt8(sum & 0xFF)
    }

    private func checkSegmentation(offloads: LinkCapabilities, frameLength: Int) {
        guard header.segmentation != .none else { return }
        let isTCP = packet.ipProtocol == 6
        let wanted: VirtioNetHeader.Segmentation =
            isTCP ? packet.etherType == 0x0800 ? .tcpv4 : .tcpv6 : .udp
        if header.segmentation != wanted { Issue.record("segmentation \(header.segmentation)") }
        if !offloads.contains(isTCP ? .tcpSegmentation : .udpSegmentation) { Issue.record("an unwanted super-frame") }
        if !header.flags.contains(.needsChecksum) { Issue.record("a super-frame with a finished checksum") }
        if header.segmentSize == 0 { Issue.record("segments of nothing") }
        if Int(header.headerLength) != frameLength - packet.payload.count { Issue.record("wrong header length") }
    }

    // MARK: TCP

    private func word(_ offset: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: DecodedPacket.number(packet.transport, offset, 4))
    }

    var isTCP: Bool { packet.ipProtocol == 6 && packet.transport.count >= 20 }
    var isUDP: Bool { packet.ipProtocol == 17 }
    var isICMP: Bool { packet.ipProtocol == 1 || packet.ipProtocol == 58 }
    var sourcePort: UInt16 { UInt16(truncatingIfNeeded: DecodedPacket.number(packet.transport, 0, 2)) }
    var destinationPort: UInt16 { UInt16(truncatingIfNeeded: DecodedPacket.number(packet.transport, 2, 2)) }
    var sequence: UInt32 { word(4) }
    var acknowledgment: UInt32 { word(8) }
    var flags: TCPFlags { TCPFlags(rawValue: isTCP ? packet.transport[13] : 0) }
    var window: UInt16 { UInt16(truncatingIfNeeded: DecodedPacket.number(packet.transport, 14, 2)) }
    var payload: [UInt8] { packet.payload }

    /// The datagrams that the frame is for its receiver.
    var datagrams: [[UInt8]] {
        let size = Int(header.segmentSize)
        guard header.segmentation == .udp, size > 0 else { return [payload] }
        return stride(from: 0, to: payload.count, by: size).map { Array(payload[$0..<min($0 + size, payload.count)]) }
    }

    func isReply(for target: IPv4Address) -> Bool {
        packet.etherType == 0x0806 && packet.arp.count >= 28 && packet.arp[7] == 2
            && DecodedPacket.ipv4(packet.arp, 14) == target
    }

    /// Whether the frame tells, unasked, where an address is.
    func isAnnouncement(of address: IPv4Address) -> Bool {
        packet.etherType == 0x0806 && packet.arp.count >= 28 && DecodedPacket.ipv4(packet.arp, 14) == address
            && DecodedPacket.ipv4(packet.arp, 24) == address
    }

    var description: String {
        if isTCP {
            "TCP \(sourcePort)>\(destinationPort) flags \(flags.rawValue) seq \(sequence) ack \(acknowledgment) "
                + "win \(window) len \(payload.count)"
        } else {
            "protocol \(packet.ipProtocol) type \(packet.etherType) len \(payload.count)"
        }
    }

    // MARK: Making frames

    /// The addresses and ports of what a test sends.
    struct Path: Hashable {
        var guest: IPAddress
        var remote: IPAddress
        var guestPort: UInt16
        var remotePort: UInt16

        init(_ family: AddressFamily = .v4, from guestPort: UInt16 = 40000, to remotePort: UInt16) {
            guest = Lab.guest(family)
            remote = Lab.host(family)
            self.guestPort = guestPort
            self.remotePort = remotePort
        }

        /// The header of a packet from the namespace.
        func header(_ ipProtocol: IPProtocol, hopLimit: UInt8 = 64) -> IPHeader {
            IPHeader(
                guest.family, source: guest.asIPv6, destination: remote.asIPv6, ipProtocol: ipProtocol,
                hopLimit: hopLimit)
        }
    }

    /// Writes a frame with room for a transport header before its payload.
    private static func frame(
        _ ip: IPHeader, headerLength: Int, payload: some Collection<UInt8>,
        _ write: (inout MutableSpan<UInt8>, Int) -> Void
    ) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: EthernetHeader.length + ip.length + headerLength)
        frame.append(contentsOf: payload)
        let payloadLength = headerLength + payload.count
        var span = frame.mutableSpan
        let offset = ip.writeFrame(
            into: &span, to: .defaultGateway, from: World.guestMAC, payloadLength: payloadLength)
        write(&span, offset)
        return frame
    }

    /// A TCP segment.
    static func tcp(
        _ path: Path, _ flags: TCPFlags, sequence: UInt32, acknowledgment: UInt32 = 0, window: UInt16 = 65535,
        options: TCPOptions = TCPOptions(), payload: some Collection<UInt8> = []
    ) -> [UInt8] {
        let ip = path.header(.tcp)
        let header = TCPHeader(
            sourcePort: path.guestPort, destinationPort: path.remotePort, sequence: sequence,
            acknowledgment: acknowledgment, flags: flags, window: window, options: options)
        return frame(ip, headerLength: header.headerLength, payload: payload) { span, offset in
            header.write(into: &span, at: offset, ip: ip, payloadLength: payload.count)
                .finish(in: &span, payloadLength: payload.count)
        }
    }

    /// A UDP datagram.
    static func udp(_ path: Path, _ bytes: [UInt8], hopLimit: UInt8 = 64) -> [UInt8] {
        let ip = path.header(.udp, hopLimit: hopLimit)
        return frame(ip, headerLength: UDPHeader.length, payload: bytes) { span, offset in
            UDPHeader(sourcePort: path.guestPort, destinationPort: path.remotePort, payloadLength: bytes.count)
                .write(into: &span, at: offset, ip: ip).finish(in: &span, payloadLength: bytes.count)
        }
    }

    /// The virtio-net header of a super-frame of datagrams, whose checksum counts as owed.
    static func superHeader(_ path: Path, segmentSize: Int) -> VirtioNetHeader {
        let start = EthernetHeader.length + path.header(.udp).length
        var header = VirtioNetHeader(checksumStart: start, checksumOffset: 6)
        header.segment(.udp, size: segmentSize, headerLength: start + UDPHeader.length)
        return header
    }

    /// An echo request.
    static func echo(_ path: Path, identifier: UInt16, sequence: UInt16, body: [UInt8]) -> [UInt8] {
        let isIPv4 = path.guest.family == .v4
        let ip = path.header(isIPv4 ? .icmp : .icmpv6)
        var frame = [UInt8](repeating: 0, count: 2000)
        var span = frame.mutableSpan
        let count = ICMPHeader(
            type: isIPv4 ? ICMPv4Type.echoRequest : ICMPv6Type.echoRequest, identifier: identifier, sequence: sequence
        ).writeFrame(into: &span, body: body.span, ip: ip, to: .defaultGateway, from: World.guestMAC)
        return Array(frame[..<count])
    }

    /// An ARP request of the namespace.
    static func arpRequest(target: IPv4Address) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: ARPMessage.frameLength)
        var span = frame.mutableSpan
        _ = ARPMessage(
            .request, senderMAC: World.guestMAC, senderAddress: Lab.guest4, targetAddress: target
        ).write(into: &span, to: .broadcast)
        return frame
    }
}
