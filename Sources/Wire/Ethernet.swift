// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The type of what an Ethernet frame carries (IEEE 802 numbers).
public struct EtherType: RawRepresentable, Hashable, Sendable {
    /// The number in host order.
    public var rawValue: UInt16

    /// Makes a type from its number.
    @inlinable
    public init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    /// IPv4 (`ETH_P_IP`).
    @inlinable public static var ipv4: EtherType { EtherType(rawValue: 0x0800) }
    /// ARP (`ETH_P_ARP`).
    @inlinable public static var arp: EtherType { EtherType(rawValue: 0x0806) }
    /// IPv6 (`ETH_P_IPV6`).
    @inlinable public static var ipv6: EtherType { EtherType(rawValue: 0x86DD) }
}

/// An Ethernet II header.
public struct EthernetHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 14
    /// The smallest frame on a wire in bytes, without its check sequence.
    public static let minimumFrameLength = 60

    @usableFromInline static let sourceOffset = 6
    @usableFromInline static let typeOffset = 12

    /// Where the frame goes.
    public var destination: MACAddress
    /// Where the frame comes from.
    public var source: MACAddress
    /// What the frame carries.
    public var type: EtherType

    /// Makes a header.
    @inlinable
    public init(destination: MACAddress, source: MACAddress, type: EtherType) {
        self.destination = destination
        self.source = source
        self.type = type
    }

    /// Reads the header at the start of a frame.
    ///
    /// - Parameter frame: the frame's bytes.
    /// - Throws: ``ParseError/truncated``.
    @inlinable
    public init(_ frame: Span<UInt8>) throws(ParseError) {
        guard frame.count >= 14 else { throw .truncated }
        destination = frame.macAddress(at: 0)
        source = frame.macAddress(at: Self.sourceOffset)
        type = EtherType(rawValue: frame.bigEndian16(at: Self.typeOffset))
    }

    /// Writes the header; ``length`` bytes from `offset` must be in bounds.
    @inlinable
    public func write(into frame: inout MutableSpan<UInt8>, at offset: Int = 0) {
        frame.store(destination, at: offset)
        frame.store(source, at: offset &+ Self.sourceOffset)
        frame.store(type.rawValue, at: offset &+ Self.typeOffset)
    }
}
