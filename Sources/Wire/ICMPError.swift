// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// An ICMP error of either family, to be sent about a packet (RFC 792, RFC 1812 §4.3, RFC 4443 §3).
///
/// It quotes as much of the packet as fits: 576 bytes of IPv4 (RFC 1812 §4.3.2.3), 1,280 bytes of IPv6
/// (RFC 4443 §2.4 c).
public struct ICMPError: Hashable, Sendable {
    /// The largest IPv4 error in bytes, IP header included.
    public static let maximumIPv4Length = 576
    /// The largest IPv6 error in bytes, IP header included: the smallest MTU.
    public static let maximumIPv6Length = 1280
    /// The largest frame in bytes that these functions write.
    public static let maximumFrameLength = EthernetHeader.length + maximumIPv6Length

    /// The family of the error and of the packet it is about.
    public var family: AddressFamily
    /// The ICMP type.
    public var type: UInt8
    /// The ICMP code.
    public var code: UInt8
    /// The MTU of the next hop in bytes, for the errors that tell it; else 0.
    public var mtu: UInt32

    /// Makes an error from its numbers, as a socket's error queue gives them.
    public init(_ family: AddressFamily, type: UInt8, code: UInt8, mtu: UInt32 = 0) {
        self.family = family
        self.type = type
        self.code = code
        self.mtu = mtu
    }

    // MARK: The errors that are sent

    /// No route to the destination.
    public static func networkUnreachable(_ family: AddressFamily) -> ICMPError {
        unreachable(family, v4: 0, v6: 0)
    }

    /// The destination does not answer on its link.
    public static func hostUnreachable(_ family: AddressFamily) -> ICMPError {
        unreachable(family, v4: 1, v6: 3)
    }

    /// The destination does not know the protocol; for IPv6 this is a parameter problem (RFC 4443 §3.4), not this.
    public static func protocolUnreachable() -> ICMPError {
        unreachable(.v4, v4: 2, v6: 0)
    }

    /// Nothing listens at the port.
    public static func portUnreachable(_ family: AddressFamily) -> ICMPError {
        unreachable(family, v4: 3, v6: 4)
    }

    /// A rule forbids it.
    public static func administrativelyProhibited(_ family: AddressFamily) -> ICMPError {
        unreachable(family, v4: 13, v6: 1)
    }

    /// The TTL or hop limit ran out in transit.
    public static func timeExceeded(_ family: AddressFamily) -> ICMPError {
        ICMPError(family, type: family == .v4 ? ICMPv4Type.timeExceeded : ICMPv6Type.timeExceeded, code: 0)
    }

    /// The packet is larger than the next hop's MTU: "fragmentation needed" (RFC 1191) or "packet too big".
    ///
    /// - Parameters:
    ///   - family: the family.
    ///   - mtu: the next hop's MTU in bytes.
    /// - Returns: the error.
    public static func packetTooBig(_ family: AddressFamily, mtu: UInt32) -> ICMPError {
        family == .v4
            ? ICMPError(.v4, type: ICMPv4Type.destinationUnreachable, code: 4, mtu: min(mtu, 0xFFFF))
            : ICMPError(.v6, type: ICMPv6Type.packetTooBig, code: 0, mtu: mtu)
    }

    private static func unreachable(_ family: AddressFamily, v4: UInt8, v6: UInt8) -> ICMPError {
        family == .v4
            ? ICMPError(.v4, type: ICMPv4Type.destinationUnreachable, code: v4)
            : ICMPError(.v6, type: ICMPv6Type.destinationUnreachable, code: v6)
    }

    // MARK: When

    /// Whether an error may be sent about a frame: not about ICMP errors, nor to or about groups.
    ///
    /// RFC 1122 §3.2.2, RFC 4443 §2.4 e. The latter allows "packet too big" about a packet to a group, which is not
    /// sent here.
    public static func mayAnswer(_ summary: FrameSummary) -> Bool {
        let destination = IPAddress(summary.family, summary.destination)
        // The classification refuses groups and broadcasts as sources.
        if summary.destinationMAC.isMulticast || summary.hasUnspecifiedSource || destination.isMulticast
            || destination.isBroadcast
        {
            return false
        }
        switch summary.kind {
        case .tcp, .udp, .otherProtocol: return true
        case .icmpv4: return summary.icmpType == ICMPv4Type.echoRequest
        case .icmpv6: return summary.icmpType >= 128
        case .arp, .fragment: return false
        }
    }

    // MARK: Writing

    /// Writes a frame that answers one from the namespace, quoting its packet.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - original: the frame that the error is about.
    ///   - summary: its summary; the frame must be IP of this error's family.
    ///   - source: the address that the error comes from; IPv4 mapped.
    ///   - sourceMAC: the hardware address that the frame comes from.
    /// - Returns: the frame's length in bytes, or 0 if it does not fit or the families differ.
    public func writeFrame(
        into frame: inout MutableSpan<UInt8>, about original: Span<UInt8>, summary: FrameSummary,
        from source: IPv6Address, sourceMAC: MACAddress
    ) -> Int {
        let start = EthernetHeader.length
        guard summary.kind != .arp, summary.family == family, summary.packetLength <= original.count - start else {
            return 0
        }
        let quoted = min(summary.packetLength, maximumQuote)
        return header.writeFrame(
            into: &frame, body: original.extracting(start..<start + quoted),
            ip: ipHeader(from: source, to: summary.source), to: summary.sourceMAC, from: sourceMAC)
    }

    /// Writes a frame about a packet whose bytes are gone: its headers are made again.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - packet: the IP header that the packet had; the error goes to its source.
    ///   - transport: the transport header and as much of the payload as is known.
    ///   - transportLength: the length that both had, in bytes.
    ///   - source: the address that the error comes from; IPv4 mapped.
    ///   - destinationMAC: where the frame goes.
    ///   - sourceMAC: where it comes from.
    /// - Returns: the frame's length in bytes, or 0 if it does not fit or the families differ.
    public func writeFrame(
        into frame: inout MutableSpan<UInt8>, aboutPacket packet: IPHeader, transport: Span<UInt8>,
        transportLength: Int, from source: IPv6Address, to destinationMAC: MACAddress, from sourceMAC: MACAddress
    ) -> Int {
        guard packet.isIPv4 == family.isIPv4, (0...0xFFFF - 40).contains(transportLength) else { return 0 }
        let ip = ipHeader(from: source, to: packet.source)
        let quoted = min(transport.count, transportLength, maximumQuote - packet.length)
        let bodyLength = packet.length + quoted
        let total = EthernetHeader.length + ip.length + ICMPHeader.length + bodyLength
        guard total <= frame.count else { return 0 }
        let offset = ip.writeFrame(
            into: &frame, to: destinationMAC, from: sourceMAC, payloadLength: ICMPHeader.length + bodyLength)
        let checksum = header.write(into: &frame, at: offset, ip: ip, payloadLength: bodyLength)
        packet.write(into: &frame, at: offset + ICMPHeader.length, payloadLength: transportLength)
        frame.store(transport.extracting(0..<quoted), at: offset + ICMPHeader.length + packet.length)
        checksum.finish(in: &frame, payloadLength: bodyLength)
        return total
    }

    /// Writes a frame about a datagram that was sent through a socket.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - packet: the IP header of the datagram as the namespace sent it.
    ///   - sourcePort: its source port.
    ///   - destinationPort: its destination port.
    ///   - payload: as much of its payload as is known.
    ///   - payloadLength: the length of its payload in bytes, at least that of `payload`.
    ///   - source: the address that the error comes from; IPv4 mapped.
    ///   - destinationMAC: where the frame goes.
    ///   - sourceMAC: where it comes from.
    /// - Returns: the frame's length in bytes, or 0 if it does not fit or the families differ.
    public func writeFrame(
        into frame: inout MutableSpan<UInt8>, aboutDatagram packet: IPHeader, sourcePort: UInt16,
        destinationPort: UInt16, payload: Span<UInt8>, payloadLength: Int, from source: IPv6Address,
        to destinationMAC: MACAddress, from sourceMAC: MACAddress
    ) -> Int {
        guard payloadLength >= payload.count, payloadLength <= 0xFFFF - 48 else { return 0 }
        var transport = MessageWriter()
        transport.append(sourcePort)
        transport.append(destinationPort)
        transport.append(UInt16(clamping: UDPHeader.length + payloadLength))
        transport.append(UInt16(0))
        transport.append(copying: payload.extracting(0..<min(payload.count, maximumQuote)))
        return writeFrame(
            into: &frame, aboutPacket: packet, transport: transport.bytes.span,
            transportLength: UDPHeader.length + payloadLength, from: source, to: destinationMAC, from: sourceMAC)
    }

    /// How much of a packet is quoted, in bytes.
    private var maximumQuote: Int {
        switch family {
        case .v4: Self.maximumIPv4Length - IPv4Header.length - ICMPHeader.length
        case .v6: Self.maximumIPv6Length - IPv6Header.length - ICMPHeader.length
        }
    }

    private var header: ICMPHeader { ICMPHeader(type: type, code: code, rest: mtu) }

    private func ipHeader(from source: IPv6Address, to destination: IPv6Address) -> IPHeader {
        IPHeader(family, source: source, destination: destination, ipProtocol: family.isIPv4 ? .icmp : .icmpv6)
    }
}
