// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// What a frame contains: every number that the data path needs, found in a single pass.
///
/// Theory of operation. A frame from the tap is classified once. Each length is compared with the bytes that are there
/// before anything behind it is read, so that the offsets of an accepted frame can be used without further checks. IP
/// lengths bound the transport: bytes behind the packet (Ethernet padding) are ignored. IPv4 addresses are mapped, so
/// that flows of both families have one kind of key. Transport checksums are not verified here, since those of frames
/// with `VIRTIO_NET_HDR_F_NEEDS_CSUM` are partial; ``verifyTransportChecksum(_:)`` verifies the others.
///
/// Only this type checks addresses. It refuses a packet whose source or destination cannot occur on a link. So an IPv6
/// packet never has an IPv4 address, and all later code can rely on ``family``. The unspecified source, with which
/// hosts ask for an address, is accepted (``hasUnspecifiedSource``): the receiver of the frame decides.
public struct FrameSummary: Hashable, Sendable {
    /// What the frame carries, which decides which of the fields below have a meaning.
    public enum Kind: UInt8, Hashable, Sendable {
        /// ARP for IPv4 over Ethernet: no IP fields; read it with ``ARPMessage``.
        case arp
        /// A TCP segment.
        case tcp
        /// A UDP datagram.
        case udp
        /// An ICMP message for IPv4.
        case icmpv4
        /// An ICMP message for IPv6.
        case icmpv6
        /// A fragment: no transport fields.
        case fragment
        /// An IP packet with another protocol: no transport fields.
        case otherProtocol
    }

    /// The greatest number of IPv6 extension headers that are followed.
    public static let maximumExtensionCount = 8

    /// What the frame carries.
    public var kind: Kind
    /// The protocol above IP, behind all extension headers.
    public var ipProtocol = IPProtocol(rawValue: 0)
    /// TTL or hop limit.
    public var hopLimit: UInt8 = 0
    /// DSCP and ECN.
    public var trafficClass: UInt8 = 0
    /// The TCP flags.
    public var tcpFlags: TCPFlags = []
    /// The ICMP type.
    public var icmpType: UInt8 = 0
    /// The ICMP code.
    public var icmpCode: UInt8 = 0
    /// Whether fragmentation is forbidden: IPv4's DF; always so for IPv6.
    public var mayNotFragment = true
    /// The type in the Ethernet header.
    public var etherType: EtherType
    /// The source port of TCP and UDP.
    public var sourcePort: UInt16 = 0
    /// The destination port of TCP and UDP.
    public var destinationPort: UInt16 = 0
    /// The TCP window, not scaled.
    public var tcpWindow: UInt16 = 0
    /// The identifier of an ICMP echo.
    public var icmpIdentifier: UInt16 = 0
    /// The sequence number of an ICMP echo.
    public var icmpSequence: UInt16 = 0
    /// The TCP sequence number.
    public var tcpSequence: UInt32 = 0
    /// The TCP acknowledgment number.
    public var tcpAcknowledgment: UInt32 = 0
    /// Where the frame goes on the link.
    public var destinationMAC: MACAddress
    /// Where the frame comes from on the link.
    public var sourceMAC: MACAddress
    /// The source address; an IPv4 one is mapped.
    public var source = IPv6Address.unspecified
    /// The destination address; an IPv4 one is mapped.
    public var destination = IPv6Address.unspecified
    /// The length of the IP packet in bytes, header included; 0 for ARP.
    public var packetLength = 0
    /// Where the transport header starts in the frame.
    public var transportOffset = EthernetHeader.length
    /// The length of transport header and payload in bytes, according to IP.
    public var transportLength = 0
    /// Where the payload of TCP, UDP or ICMP (behind its eight bytes) starts in the frame.
    public var payloadOffset = 0
    /// The payload in bytes.
    public var payloadLength = 0

    /// Classifies a frame.
    ///
    /// - Parameter frame: the Ethernet frame, without virtio header.
    /// - Throws: The reason to drop the frame.
    public init(_ frame: Span<UInt8>) throws(DropReason) {
        guard frame.count >= EthernetHeader.length else { throw .truncatedEthernet }
        kind = .otherProtocol
        destinationMAC = frame.macAddress(at: 0)
        sourceMAC = frame.macAddress(at: EthernetHeader.sourceOffset)
        etherType = EtherType(rawValue: frame.bigEndian16(at: EthernetHeader.typeOffset))
        switch etherType {
        case .ipv4: try parseIPv4(frame)
        case .ipv6: try parseIPv6(frame)
        case .arp:
            guard ARPMessage.isWellFormed(frame) else { throw .badARP }
            kind = .arp
        default: throw .unknownEtherType
        }
    }

    /// The family; IPv4 for ARP.
    @inlinable public var family: AddressFamily { etherType == .ipv6 ? .v6 : .v4 }

    /// Whether the packet's source is 0.0.0.0 or `::`, because the sender has no address yet; false for ARP.
    @inlinable public var hasUnspecifiedSource: Bool {
        switch etherType {
        case .ipv4: UInt32(truncatingIfNeeded: source.low) == 0
        case .ipv6: source.isUnspecified
        default: false
        }
    }

    /// Whether the frame is an IPv4 packet.
    @inlinable public var isIPv4: Bool { etherType == .ipv4 }

    /// The bytes of the TCP header with its options.
    @inlinable public var tcpHeaderLength: Int { payloadOffset &- transportOffset }

    // MARK: Network layer

    private mutating func parseIPv4(_ frame: Span<UInt8>) throws(DropReason) {
        let start = EthernetHeader.length
        let available = frame.count &- start
        guard available >= IPv4Header.length else { throw .truncatedIPv4 }
        let first = frame[start]
        guard first >> 4 == 4 else { throw .badIPv4Version }
        let headerLength = Int(first & 0xF) &* 4
        guard headerLength >= IPv4Header.length, headerLength <= available else { throw .badIPv4HeaderLength }
        let totalLength = Int(frame.bigEndian16(at: start &+ IPv4Header.Offset.totalLength))
        guard totalLength >= headerLength else { throw .badIPv4TotalLength }
        guard totalLength <= available else { throw .totalLengthBeyondFrame }
        guard Self.isIPv4HeaderSumCorrect(frame, start: start, length: headerLength) else {
            throw .badIPv4HeaderChecksum
        }
        trafficClass = frame[start &+ IPv4Header.Offset.trafficClass]
        hopLimit = frame[start &+ IPv4Header.Offset.timeToLive]
        ipProtocol = IPProtocol(rawValue: frame[start &+ IPv4Header.Offset.ipProtocol])
        let from = frame.ipv4Address(at: start &+ IPv4Header.Offset.source)
        let to = frame.ipv4Address(at: start &+ IPv4Header.Offset.destination)
        try Self.judge(from: from, to: to)
        source = IPv6Address(mapping: from)
        destination = IPv6Address(mapping: to)
        packetLength = totalLength
        transportOffset = start &+ headerLength
        transportLength = totalLength &- headerLength
        let fragment = frame.bigEndian16(at: start &+ IPv4Header.Offset.fragment)
        mayNotFragment = fragment & IPv4Header.dontFragment != 0
        // More fragments, or an offset.
        guard fragment & 0x3FFF == 0 else {
            kind = .fragment
            return
        }
        switch ipProtocol {
        case .tcp: try parseTCP(frame)
        case .udp: try parseUDP(frame)
        case .icmp: try parseICMP(frame, as: .icmpv4)
        default: kind = .otherProtocol
        }
    }

    /// Whether the sum over an IPv4 header is right: 64-bit loads for the usual 20 bytes.
    @inline(__always)
    private static func isIPv4HeaderSumCorrect(_ frame: Span<UInt8>, start: Int, length: Int) -> Bool {
        let a = frame.bigEndian64(at: start)
        let b = frame.bigEndian64(at: start &+ 8)
        var sum = UInt64(frame.bigEndian32(at: start &+ 16))
        sum &+= (a >> 32) &+ (a & 0xFFFF_FFFF) &+ (b >> 32) &+ (b & 0xFFFF_FFFF)
        var offset = IPv4Header.length
        while offset < length {
            sum &+= UInt64(frame.bigEndian32(at: start &+ offset))
            offset &+= 4
        }
        sum = (sum & 0xFFFF) &+ (sum >> 16 & 0xFFFF) &+ (sum >> 32)
        sum = (sum & 0xFFFF) &+ (sum >> 16)
        sum = (sum & 0xFFFF) &+ (sum >> 16)
        return sum == 0xFFFF
    }

    private mutating func parseIPv6(_ frame: Span<UInt8>) throws(DropReason) {
        let start = EthernetHeader.length
        let available = frame.count &- start
        guard available >= IPv6Header.length else { throw .truncatedIPv6 }
        let first = frame.bigEndian32(at: start)
        guard first >> 28 == 6 else { throw .badIPv6Version }
        let payload = Int(frame.bigEndian16(at: start &+ IPv6Header.Offset.payloadLength))
        guard payload <= available &- IPv6Header.length else { throw .totalLengthBeyondFrame }
        trafficClass = UInt8(truncatingIfNeeded: first >> 20)
        ipProtocol = IPProtocol(rawValue: frame[start &+ IPv6Header.Offset.nextHeader])
        hopLimit = frame[start &+ IPv6Header.Offset.hopLimit]
        source = frame.ipv6Address(at: start &+ IPv6Header.Offset.source)
        destination = frame.ipv6Address(at: start &+ IPv6Header.Offset.destination)
        try Self.judge(from: source, to: destination)
        packetLength = IPv6Header.length &+ payload
        transportOffset = start &+ IPv6Header.length
        transportLength = payload
        switch ipProtocol {
        case .tcp: try parseTCP(frame)
        case .udp: try parseUDP(frame)
        case .icmpv6: try parseICMP(frame, as: .icmpv6)
        default: try parseExtensions(frame)
        }
    }

    /// Walks extension headers (RFC 8200 §4) to the transport; the first is named by `ipProtocol`.
    private mutating func parseExtensions(_ frame: Span<UInt8>) throws(DropReason) {
        for _ in 0..<Self.maximumExtensionCount {
            let length: Int
            switch ipProtocol {
            case .hopByHop, .routing, .destinationOptions:
                guard transportLength >= 8 else { throw .truncatedIPv6Extension }
                length = (Int(frame[transportOffset &+ 1]) &+ 1) &* 8
            case .fragment:
                guard transportLength >= 8 else { throw .truncatedIPv6Extension }
                length = 8
                // An atomic fragment is a whole packet (RFC 6946).
                guard frame.bigEndian16(at: transportOffset &+ 2) & 0xFFF9 == 0 else {
                    ipProtocol = IPProtocol(rawValue: frame[transportOffset])
                    transportOffset &+= 8
                    transportLength &-= 8
                    kind = .fragment
                    return
                }
            case .tcp: return try parseTCP(frame)
            case .udp: return try parseUDP(frame)
            case .icmpv6: return try parseICMP(frame, as: .icmpv6)
            default:
                kind = .otherProtocol
                return
            }
            guard length <= transportLength else { throw .truncatedIPv6Extension }
            ipProtocol = IPProtocol(rawValue: frame[transportOffset])
            transportOffset &+= length
            transportLength &-= length
        }
        switch ipProtocol {
        case .tcp: try parseTCP(frame)
        case .udp: try parseUDP(frame)
        case .icmpv6: try parseICMP(frame, as: .icmpv6)
        case .hopByHop, .routing, .destinationOptions, .fragment: throw .ipv6ExtensionTooLong
        default: kind = .otherProtocol
        }
    }

    // MARK: Addresses

    /// Refuses IPv4 addresses that cannot occur on a link (RFC 1122 §3.2.1.3, RFC 6890).
    @inline(__always)
    private static func judge(from source: IPv4Address, to destination: IPv4Address) throws(DropReason) {
        let isThisNetwork = source.rawValue >> 24 == 0 && !source.isUnspecified
        guard !source.isLoopback, !source.isMulticast, !source.isBroadcast, !isThisNetwork else { throw .badSource }
        guard !destination.isLoopback, destination.rawValue >> 24 != 0 else { throw .badDestination }
    }

    /// Refuses IPv6 addresses that cannot occur on a link (RFC 4291 §2.5.2 to §2.7).
    @inline(__always)
    private static func judge(from source: IPv6Address, to destination: IPv6Address) throws(DropReason) {
        guard !source.isMulticast else { throw .badSource }
        // The reserved scope, and the scope of one interface, which a packet on a link has left.
        guard !destination.isMulticast || destination.high >> 48 & 0xF > 1 else { throw .badDestination }
        guard source.high == 0 || destination.high == 0 else { return }
        guard !source.isIPv4Mapped, !source.isIPv4Compatible, !destination.isIPv4Mapped, !destination.isIPv4Compatible
        else { throw .embeddedIPv4Address }
        guard !source.isLoopback else { throw .badSource }
        guard !destination.isLoopback, !destination.isUnspecified else { throw .badDestination }
    }

    // MARK: Transport layer

    private mutating func parseTCP(_ frame: Span<UInt8>) throws(DropReason) {
        guard transportLength >= TCPHeader.length else { throw .truncatedTCP }
        let start = transportOffset
        let headerLength = Int(frame[start &+ TCPHeader.Offset.dataOffset] >> 4) &* 4
        guard headerLength >= TCPHeader.length, headerLength <= transportLength else { throw .badDataOffset }
        kind = .tcp
        let ports = frame.bigEndian32(at: start)
        sourcePort = UInt16(truncatingIfNeeded: ports >> 16)
        destinationPort = UInt16(truncatingIfNeeded: ports)
        tcpSequence = frame.bigEndian32(at: start &+ TCPHeader.Offset.sequence)
        tcpAcknowledgment = frame.bigEndian32(at: start &+ TCPHeader.Offset.acknowledgment)
        tcpFlags = TCPFlags(rawValue: frame[start &+ TCPHeader.Offset.flags])
        tcpWindow = frame.bigEndian16(at: start &+ TCPHeader.Offset.window)
        payloadOffset = start &+ headerLength
        payloadLength = transportLength &- headerLength
    }

    private mutating func parseUDP(_ frame: Span<UInt8>) throws(DropReason) {
        guard transportLength >= UDPHeader.length else { throw .truncatedUDP }
        let start = transportOffset
        let length = Int(frame.bigEndian16(at: start &+ UDPHeader.Offset.length))
        guard length >= UDPHeader.length, length <= transportLength else { throw .badUDPLength }
        kind = .udp
        sourcePort = frame.bigEndian16(at: start)
        destinationPort = frame.bigEndian16(at: start &+ UDPHeader.Offset.destinationPort)
        payloadOffset = start &+ UDPHeader.length
        payloadLength = length &- UDPHeader.length
    }

    private mutating func parseICMP(_ frame: Span<UInt8>, as kind: Kind) throws(DropReason) {
        guard transportLength >= ICMPHeader.length else { throw .truncatedICMP }
        let start = transportOffset
        self.kind = kind
        icmpType = frame[start]
        icmpCode = frame[start &+ 1]
        icmpIdentifier = frame.bigEndian16(at: start &+ ICMPHeader.restOffset)
        icmpSequence = frame.bigEndian16(at: start &+ ICMPHeader.restOffset &+ 2)
        payloadOffset = start &+ ICMPHeader.length
        payloadLength = transportLength &- ICMPHeader.length
    }

    // MARK: What is not needed for each frame

    /// The TCP options; of interest in a segment with SYN.
    ///
    /// - Parameter frame: the frame that was classified.
    /// - Returns: the options; none if the frame is not TCP.
    public func tcpOptions(in frame: Span<UInt8>) -> TCPOptions {
        guard kind == .tcp, payloadOffset <= frame.count else { return TCPOptions() }
        return TCPOptions(frame.extracting(transportOffset &+ TCPHeader.length..<payloadOffset))
    }

    /// Verifies the checksum of TCP, UDP or ICMP; a UDP checksum of 0 over IPv4 is none (RFC 768).
    ///
    /// - Parameter frame: the frame that was classified, with a checksum that is not partial.
    /// - Throws: ``DropReason/badTransportChecksum``.
    public func verifyTransportChecksum(_ frame: Span<UInt8>) throws(DropReason) {
        guard payloadOffset &+ payloadLength <= frame.count else { throw .badTransportChecksum }
        let length = payloadOffset &+ payloadLength &- transportOffset
        var sum: InternetChecksum
        switch kind {
        case .tcp, .icmpv6:
            sum = InternetChecksum(pseudoHeaderFrom: source, to: destination, ipProtocol: ipProtocol, length: length)
        case .udp:
            guard frame.bigEndian16(at: transportOffset &+ UDPHeader.Offset.checksum) != 0 else {
                if isIPv4 { return }
                throw .badTransportChecksum
            }
            sum = InternetChecksum(pseudoHeaderFrom: source, to: destination, ipProtocol: ipProtocol, length: length)
        case .icmpv4: sum = InternetChecksum()
        case .arp, .fragment, .otherProtocol: return
        }
        sum.add(frame.extracting(transportOffset..<transportOffset &+ length))
        guard sum.value == 0 else { throw .badTransportChecksum }
    }
}
