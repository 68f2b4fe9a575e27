// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A UDP header (RFC 768).
public struct UDPHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 8

    /// Field offsets.
    @usableFromInline
    enum Offset {
        @usableFromInline static let destinationPort = 2
        @usableFromInline static let length = 4
        @usableFromInline static let checksum = 6
    }

    /// The source port.
    public var sourcePort: UInt16
    /// The destination port.
    public var destinationPort: UInt16
    /// Header and payload in bytes.
    public var datagramLength: UInt16

    /// Makes a header.
    ///
    /// - Parameters:
    ///   - sourcePort: the source port.
    ///   - destinationPort: the destination port.
    ///   - payloadLength: the payload in bytes, at most 65,527.
    @inlinable
    public init(sourcePort: UInt16, destinationPort: UInt16, payloadLength: Int) {
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        datagramLength = UInt16(clamping: Self.length &+ payloadLength)
    }

    /// Reads the header at the start of a datagram; the checksum is not verified.
    ///
    /// - Parameter datagram: the datagram.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badLength``.
    public init(_ datagram: Span<UInt8>) throws(ParseError) {
        guard datagram.count >= Self.length else { throw .truncated }
        sourcePort = datagram.bigEndian16(at: 0)
        destinationPort = datagram.bigEndian16(at: Offset.destinationPort)
        datagramLength = datagram.bigEndian16(at: Offset.length)
        guard Int(datagramLength) >= Self.length, Int(datagramLength) <= datagram.count else { throw .badLength }
    }

    /// Writes the header; ``length`` bytes from `offset` must be in bounds.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - offset: where the header starts.
    ///   - ip: the packet's IP header.
    /// - Returns: the packet's checksum, which is not finished.
    @inlinable
    public func write(into frame: inout MutableSpan<UInt8>, at offset: Int, ip: IPHeader) -> UnfinishedChecksum {
        frame.store(sourcePort, at: offset)
        frame.store(destinationPort, at: offset &+ Offset.destinationPort)
        frame.store(UInt32(datagramLength) << 16, at: offset &+ Offset.length)
        return UnfinishedChecksum(
            transportOffset: offset, fieldOffset: Offset.checksum, headerLength: Self.length,
            pseudoHeader: InternetChecksum(
                pseudoHeaderFrom: ip.source, to: ip.destination, ipProtocol: .udp, length: Int(datagramLength)),
            isUDP: true)
    }
}
