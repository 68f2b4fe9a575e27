// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The number of what an IP packet carries (IANA protocol numbers).
public struct IPProtocol: RawRepresentable, Hashable, Sendable {
    /// The number.
    public var rawValue: UInt8

    /// Makes a protocol from its number.
    @inlinable
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// IPv6 hop-by-hop options (`IPPROTO_HOPOPTS`).
    @inlinable public static var hopByHop: IPProtocol { IPProtocol(rawValue: 0) }
    /// ICMP for IPv4 (`IPPROTO_ICMP`).
    @inlinable public static var icmp: IPProtocol { IPProtocol(rawValue: 1) }
    /// TCP (`IPPROTO_TCP`).
    @inlinable public static var tcp: IPProtocol { IPProtocol(rawValue: 6) }
    /// UDP (`IPPROTO_UDP`).
    @inlinable public static var udp: IPProtocol { IPProtocol(rawValue: 17) }
    /// IPv6 routing header (`IPPROTO_ROUTING`).
    @inlinable public static var routing: IPProtocol { IPProtocol(rawValue: 43) }
    /// IPv6 fragment header (`IPPROTO_FRAGMENT`).
    @inlinable public static var fragment: IPProtocol { IPProtocol(rawValue: 44) }
    /// ICMP for IPv6 (`IPPROTO_ICMPV6`).
    @inlinable public static var icmpv6: IPProtocol { IPProtocol(rawValue: 58) }
    /// Nothing follows the IPv6 header (`IPPROTO_NONE`).
    @inlinable public static var noNextHeader: IPProtocol { IPProtocol(rawValue: 59) }
    /// IPv6 destination options (`IPPROTO_DSTOPTS`).
    @inlinable public static var destinationOptions: IPProtocol { IPProtocol(rawValue: 60) }
}

/// An IPv4 header (RFC 791) without options.
public struct IPv4Header: Hashable, Sendable {
    /// The length of a header without options in bytes.
    public static let length = 20
    /// The flag in ``fragment`` that forbids fragmentation.
    public static let dontFragment: UInt16 = 0x4000
    /// The flag in ``fragment`` that says more follow.
    public static let moreFragments: UInt16 = 0x2000

    /// Field offsets.
    @usableFromInline
    enum Offset {
        @usableFromInline static let trafficClass = 1
        @usableFromInline static let totalLength = 2
        @usableFromInline static let identification = 4
        @usableFromInline static let fragment = 6
        @usableFromInline static let timeToLive = 8
        @usableFromInline static let ipProtocol = 9
        @usableFromInline static let checksum = 10
        @usableFromInline static let source = 12
        @usableFromInline static let destination = 16
    }

    /// DSCP and ECN: the second byte.
    public var trafficClass: UInt8
    /// Header and payload in bytes.
    public var totalLength: UInt16
    /// The identification, for fragments.
    public var identification: UInt16
    /// Flags and fragment offset as on the wire.
    public var fragment: UInt16
    /// The time to live.
    public var timeToLive: UInt8
    /// What the packet carries.
    public var ipProtocol: IPProtocol
    /// The source address.
    public var source: IPv4Address
    /// The destination address.
    public var destination: IPv4Address

    /// Makes a header of a packet that must not be fragmented.
    @inlinable
    public init(
        source: IPv4Address, destination: IPv4Address, ipProtocol: IPProtocol, totalLength: UInt16,
        timeToLive: UInt8 = 255, trafficClass: UInt8 = 0, identification: UInt16 = 0,
        fragment: UInt16 = IPv4Header.dontFragment
    ) {
        self.trafficClass = trafficClass
        self.totalLength = totalLength
        self.identification = identification
        self.fragment = fragment
        self.timeToLive = timeToLive
        self.ipProtocol = ipProtocol
        self.source = source
        self.destination = destination
    }

    /// Reads the header at the start of a packet; options are not kept.
    ///
    /// - Parameter packet: the packet, which may be cut off after the header (as in an ICMP error).
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType`` (version), ``ParseError/badLength`` (header or total
    ///   length).
    public init(_ packet: Span<UInt8>) throws(ParseError) {
        guard packet.count >= Self.length else { throw .truncated }
        guard packet[0] >> 4 == 4 else { throw .badType }
        let headerLength = Self.headerLength(packet)
        totalLength = packet.bigEndian16(at: Offset.totalLength)
        guard headerLength >= Self.length, headerLength <= packet.count, Int(totalLength) >= headerLength else {
            throw .badLength
        }
        trafficClass = packet[Offset.trafficClass]
        identification = packet.bigEndian16(at: Offset.identification)
        fragment = packet.bigEndian16(at: Offset.fragment)
        timeToLive = packet[Offset.timeToLive]
        ipProtocol = IPProtocol(rawValue: packet[Offset.ipProtocol])
        source = packet.ipv4Address(at: Offset.source)
        destination = packet.ipv4Address(at: Offset.destination)
    }

    /// The length in bytes according to the first byte of a packet, options included; the packet must not be empty.
    @inlinable
    public static func headerLength(_ packet: Span<UInt8>) -> Int {
        Int(packet[0] & 0xF) &* 4
    }

    /// Writes the header with its checksum; ``length`` bytes from `offset` must be in bounds.
    @inlinable
    public func write(into packet: inout MutableSpan<UInt8>, at offset: Int) {
        var sum = InternetChecksum()
        sum.add(UInt16(0x4500) | UInt16(trafficClass))
        sum.add(totalLength)
        sum.add(identification)
        sum.add(fragment)
        sum.add(UInt16(timeToLive) << 8 | UInt16(ipProtocol.rawValue))
        sum.add(source)
        sum.add(destination)
        packet.store(UInt16(0x4500) | UInt16(trafficClass), at: offset)
        packet.store(totalLength, at: offset &+ Offset.totalLength)
        packet.store(identification, at: offset &+ Offset.identification)
        packet.store(fragment, at: offset &+ Offset.fragment)
        packet.store(UInt16(timeToLive) << 8 | UInt16(ipProtocol.rawValue), at: offset &+ Offset.timeToLive)
        packet.store(sum.value, at: offset &+ Offset.checksum)
        packet.store(source, at: offset &+ Offset.source)
        packet.store(destination, at: offset &+ Offset.destination)
    }
}

/// An IPv6 header (RFC 8200 §3), without extension headers.
public struct IPv6Header: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 40

    /// Field offsets.
    @usableFromInline
    enum Offset {
        @usableFromInline static let payloadLength = 4
        @usableFromInline static let nextHeader = 6
        @usableFromInline static let hopLimit = 7
        @usableFromInline static let source = 8
        @usableFromInline static let destination = 24
    }

    /// DSCP and ECN.
    public var trafficClass: UInt8
    /// The flow label, 20 bits.
    public var flowLabel: UInt32
    /// What follows the header, in bytes.
    public var payloadLength: UInt16
    /// What the packet carries, or its first extension header.
    public var nextHeader: IPProtocol
    /// The hop limit.
    public var hopLimit: UInt8
    /// The source address.
    public var source: IPv6Address
    /// The destination address.
    public var destination: IPv6Address

    /// Makes a header.
    @inlinable
    public init(
        source: IPv6Address, destination: IPv6Address, nextHeader: IPProtocol, payloadLength: UInt16,
        hopLimit: UInt8 = 255, trafficClass: UInt8 = 0, flowLabel: UInt32 = 0
    ) {
        self.trafficClass = trafficClass
        self.flowLabel = flowLabel & 0xF_FFFF
        self.payloadLength = payloadLength
        self.nextHeader = nextHeader
        self.hopLimit = hopLimit
        self.source = source
        self.destination = destination
    }

    /// Reads the header at the start of a packet.
    ///
    /// - Parameter packet: the packet, which may be cut off after the header (as in an ICMP error).
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType`` (version).
    public init(_ packet: Span<UInt8>) throws(ParseError) {
        guard packet.count >= Self.length else { throw .truncated }
        let first = packet.bigEndian32(at: 0)
        guard first >> 28 == 6 else { throw .badType }
        trafficClass = UInt8(truncatingIfNeeded: first >> 20)
        flowLabel = first & 0xF_FFFF
        payloadLength = packet.bigEndian16(at: Offset.payloadLength)
        nextHeader = IPProtocol(rawValue: packet[Offset.nextHeader])
        hopLimit = packet[Offset.hopLimit]
        source = packet.ipv6Address(at: Offset.source)
        destination = packet.ipv6Address(at: Offset.destination)
    }

    /// Writes the header; ``length`` bytes from `offset` must be in bounds.
    @inlinable
    public func write(into packet: inout MutableSpan<UInt8>, at offset: Int) {
        packet.store(UInt32(6) << 28 | UInt32(trafficClass) << 20 | flowLabel & 0xF_FFFF, at: offset)
        packet.store(payloadLength, at: offset &+ Offset.payloadLength)
        packet.store(UInt16(nextHeader.rawValue) << 8 | UInt16(hopLimit), at: offset &+ Offset.nextHeader)
        packet.store(source, at: offset &+ Offset.source)
        packet.store(destination, at: offset &+ Offset.destination)
    }
}

/// An IP header of either family: what the data path writes, with IPv4 addresses in their mapped form.
public struct IPHeader: Hashable, Sendable {
    /// The family, which the addresses belong to.
    public var family: AddressFamily
    /// The source; in mapped form for IPv4.
    public var source: IPv6Address
    /// The destination; of the same family as the source.
    public var destination: IPv6Address
    /// What the packet carries.
    public var ipProtocol: IPProtocol
    /// TTL or hop limit.
    public var hopLimit: UInt8
    /// DSCP and ECN.
    public var trafficClass: UInt8
    /// The IPv4 identification; 0 for packets that must not be fragmented.
    public var identification: UInt16

    /// Makes a header.
    @inlinable
    public init(
        _ family: AddressFamily, source: IPv6Address, destination: IPv6Address, ipProtocol: IPProtocol,
        hopLimit: UInt8 = 255, trafficClass: UInt8 = 0, identification: UInt16 = 0
    ) {
        self.family = family
        self.source = source
        self.destination = destination
        self.ipProtocol = ipProtocol
        self.hopLimit = hopLimit
        self.trafficClass = trafficClass
        self.identification = identification
    }

    /// Whether the packet is IPv4.
    @inlinable public var isIPv4: Bool { family.isIPv4 }

    /// The header's length in bytes: 20 or 40.
    @inlinable public var length: Int { isIPv4 ? IPv4Header.length : IPv6Header.length }

    /// The greatest length behind the header of a family, in bytes.
    ///
    /// IPv4 counts the header in the packet's length, IPv6 does not.
    @inlinable
    public static func largestPayload(_ family: AddressFamily) -> Int {
        family.isIPv4 ? 0xFFFF - IPv4Header.length : 0xFFFF
    }

    /// The type of the frame that carries the packet.
    @inlinable public var etherType: EtherType { isIPv4 ? .ipv4 : .ipv6 }

    /// Writes the header of a packet; ``length`` bytes from `offset` must be in bounds.
    ///
    /// - Parameters:
    ///   - packet: where to write.
    ///   - offset: where the header starts.
    ///   - payloadLength: the length behind the header in bytes, at most 65,515 for IPv4 and 65,535 for IPv6. Of a
    ///     longer payload, the header states the greatest length, and the receiver drops the packet.
    @inlinable
    public func write(into packet: inout MutableSpan<UInt8>, at offset: Int, payloadLength: Int) {
        assert(payloadLength <= Self.largestPayload(family), "a packet of \(payloadLength) bytes")
        if isIPv4 {
            IPv4Header(
                source: IPv4Address(rawValue: UInt32(truncatingIfNeeded: source.low)),
                destination: IPv4Address(rawValue: UInt32(truncatingIfNeeded: destination.low)),
                ipProtocol: ipProtocol, totalLength: UInt16(clamping: IPv4Header.length &+ payloadLength),
                timeToLive: hopLimit,
                trafficClass: trafficClass, identification: identification
            ).write(into: &packet, at: offset)
        } else {
            IPv6Header(
                source: source, destination: destination, nextHeader: ipProtocol,
                payloadLength: UInt16(clamping: payloadLength), hopLimit: hopLimit, trafficClass: trafficClass
            ).write(into: &packet, at: offset)
        }
    }

    /// Writes an Ethernet header of this family and the IP header behind it.
    ///
    /// - Parameters:
    ///   - frame: where to write; the frame starts with its first byte.
    ///   - destinationMAC: where the frame goes.
    ///   - sourceMAC: where the frame comes from.
    ///   - payloadLength: what follows the IP header, in bytes.
    /// - Returns: the offset of what follows.
    @inlinable
    public func writeFrame(
        into frame: inout MutableSpan<UInt8>, to destinationMAC: MACAddress, from sourceMAC: MACAddress,
        payloadLength: Int
    ) -> Int {
        EthernetHeader(destination: destinationMAC, source: sourceMAC, type: etherType).write(into: &frame)
        write(into: &frame, at: EthernetHeader.length, payloadLength: payloadLength)
        return EthernetHeader.length &+ length
    }
}
