// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why a message was not understood.
public enum ParseError: Error, Hashable, Sendable {
    /// The bytes end before the message does.
    case truncated
    /// A length field contradicts the message.
    case badLength
    /// A version or type field names something else.
    case badType
    /// The checksum does not match.
    case badChecksum
    /// A field has a value that its specification forbids.
    case badValue
    /// Nesting, compression or a list goes beyond what is accepted.
    case tooLong
}

/// Why a frame was dropped: the index of its counter.
public enum DropReason: UInt8, Error, Hashable, Sendable, CaseIterable {
    /// Shorter than an Ethernet header.
    case truncatedEthernet
    /// Neither ARP nor IP.
    case unknownEtherType
    /// An ARP message that is short or not for IPv4 over Ethernet.
    case badARP
    /// Shorter than an IPv4 header.
    case truncatedIPv4
    /// The version is not 4.
    case badIPv4Version
    /// The header length is below 20 or beyond the frame.
    case badIPv4HeaderLength
    /// The total length is below the header's.
    case badIPv4TotalLength
    /// The IP length goes beyond the frame.
    case totalLengthBeyondFrame
    /// The IPv4 header's checksum does not match.
    case badIPv4HeaderChecksum
    /// Shorter than an IPv6 header.
    case truncatedIPv6
    /// The version is not 6.
    case badIPv6Version
    /// An IPv6 extension header goes beyond the packet.
    case truncatedIPv6Extension
    /// More IPv6 extension headers than are followed.
    case ipv6ExtensionTooLong
    /// An IPv6 packet whose source or destination stands for an IPv4 address (IPv4-mapped or IPv4-compatible).
    ///
    /// Such addresses occur on sockets, not on links.
    case embeddedIPv4Address
    /// A source that cannot occur on a link: loopback, a group, broadcast, IPv4's "this network".
    case badSource
    /// A destination that cannot occur on a link: loopback, "any", an IPv6 group that does not leave its node.
    case badDestination
    /// A fragment; the parser does not throw this, but marks the frame (``FrameSummary/Kind``).
    case fragment
    /// Neither TCP, UDP nor ICMP; the parser does not throw this, but marks the frame (``FrameSummary/Kind``).
    case unknownProtocol
    /// Shorter than a TCP header.
    case truncatedTCP
    /// The TCP header's length is below 20 or beyond the segment.
    case badDataOffset
    /// Shorter than a UDP header.
    case truncatedUDP
    /// The UDP length is below 8 or beyond the packet.
    case badUDPLength
    /// Shorter than an ICMP header.
    case truncatedICMP
    /// The transport checksum does not match; thrown by ``FrameSummary/verifyTransportChecksum(_:)`` only.
    case badTransportChecksum
}
