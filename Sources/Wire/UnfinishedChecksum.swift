// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

extension InternetChecksum {
    /// The sum over a pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
    ///
    /// IPv4 addresses are given in mapped form: the prefix adds twice 0xFFFF, which is zero in ones' complement.
    ///
    /// - Parameters:
    ///   - source: the source address of the packet.
    ///   - destination: the destination address of the packet.
    ///   - ipProtocol: the transport protocol.
    ///   - length: transport header and payload in bytes.
    @inlinable
    public init(
        pseudoHeaderFrom source: IPv6Address, to destination: IPv6Address, ipProtocol: IPProtocol, length: Int
    ) {
        self.init()
        add(source)
        add(destination)
        add(UInt16(ipProtocol.rawValue))
        add(UInt32(truncatingIfNeeded: length))
    }
}

/// A transport packet whose header is written and whose checksum is not.
///
/// Theory of operation. The kernel accepts a packet on a tap with `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field
/// then holds the folded, not complemented, sum of the pseudo-header, and the virtio header says where to start summing
/// and where the field is. A packet for a receiver without that offload needs the complete sum. Writers of headers
/// return this value instead of a finished packet, so that a caller must do one or the other.
public struct UnfinishedChecksum: ~Copyable {
    /// Where the transport header starts in the frame.
    public let transportOffset: Int
    /// Where the checksum field is, from the transport header.
    public let fieldOffset: Int
    @usableFromInline let headerLength: Int
    @usableFromInline let pseudoHeader: InternetChecksum
    @usableFromInline let isUDP: Bool

    @inlinable
    init(
        transportOffset: Int, fieldOffset: Int, headerLength: Int, pseudoHeader: InternetChecksum, isUDP: Bool = false
    ) {
        self.transportOffset = transportOffset
        self.fieldOffset = fieldOffset
        self.headerLength = headerLength
        self.pseudoHeader = pseudoHeader
        self.isUDP = isUDP
    }

    /// Leaves the sum to the receiver: writes the partial sum.
    ///
    /// - Parameter frame: the frame that the header was written into.
    /// - Returns: the virtio header that declares this, without segmentation.
    @inlinable
    public consuming func writePartial(in frame: inout MutableSpan<UInt8>) -> VirtioNetHeader {
        frame.store(pseudoHeader.folded, at: transportOffset &+ fieldOffset)
        return VirtioNetHeader(checksumStart: transportOffset, checksumOffset: fieldOffset)
    }

    /// Finishes the packet when its payload lies behind the header in the same memory.
    ///
    /// - Parameters:
    ///   - frame: the frame that the header was written into.
    ///   - payloadLength: what follows the transport header, in bytes; it must be in bounds.
    @inlinable
    public consuming func finish(in frame: inout MutableSpan<UInt8>, payloadLength: Int) {
        var sum = pseudoHeader
        sum.add(frame.bytes(transportOffset..<transportOffset &+ headerLength &+ payloadLength))
        frame.store(isUDP && sum.value == 0 ? 0xFFFF : sum.value, at: transportOffset &+ fieldOffset)
    }

    /// Finishes the packet when its payload lies elsewhere.
    ///
    /// - Parameters:
    ///   - frame: the frame that the header was written into.
    ///   - payload: what follows the transport header.
    @inlinable
    public consuming func finish(in frame: inout MutableSpan<UInt8>, payload: Span<UInt8>) {
        var sum = pseudoHeader
        sum.add(frame.bytes(transportOffset..<transportOffset &+ headerLength))
        sum.add(payload)
        frame.store(isUDP && sum.value == 0 ? 0xFFFF : sum.value, at: transportOffset &+ fieldOffset)
    }
}
