// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The numbers of ICMP messages for IPv4 (RFC 792).
public enum ICMPv4Type {
    /// Echo reply.
    public static let echoReply: UInt8 = 0
    /// Destination unreachable.
    public static let destinationUnreachable: UInt8 = 3
    /// Echo request.
    public static let echoRequest: UInt8 = 8
    /// Time exceeded.
    public static let timeExceeded: UInt8 = 11
    /// Parameter problem.
    public static let parameterProblem: UInt8 = 12
}

/// The numbers of ICMP messages for IPv6 (RFC 4443, RFC 4861, RFC 3810).
public enum ICMPv6Type {
    /// Destination unreachable.
    public static let destinationUnreachable: UInt8 = 1
    /// Packet too big.
    public static let packetTooBig: UInt8 = 2
    /// Time exceeded.
    public static let timeExceeded: UInt8 = 3
    /// Parameter problem.
    public static let parameterProblem: UInt8 = 4
    /// Echo request.
    public static let echoRequest: UInt8 = 128
    /// Echo reply.
    public static let echoReply: UInt8 = 129
    /// Router solicitation.
    public static let routerSolicitation: UInt8 = 133
    /// Router advertisement.
    public static let routerAdvertisement: UInt8 = 134
    /// Neighbour solicitation.
    public static let neighborSolicitation: UInt8 = 135
    /// Neighbour advertisement.
    public static let neighborAdvertisement: UInt8 = 136
    /// Redirect.
    public static let redirect: UInt8 = 137
}

/// The header of an ICMP message of either family: type, code, checksum and four bytes whose meaning depends on the
/// type.
public struct ICMPHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 8

    @usableFromInline static let checksumOffset = 2
    @usableFromInline static let restOffset = 4

    /// The type.
    public var type: UInt8
    /// The code.
    public var code: UInt8
    /// The second word: identifier and sequence of an echo, an MTU, or unused.
    public var rest: UInt32

    /// Makes a header.
    @inlinable
    public init(type: UInt8, code: UInt8, rest: UInt32 = 0) {
        self.type = type
        self.code = code
        self.rest = rest
    }

    /// Makes the header of an echo message.
    @inlinable
    public init(type: UInt8, identifier: UInt16, sequence: UInt16) {
        self.init(type: type, code: 0, rest: UInt32(identifier) << 16 | UInt32(sequence))
    }

    /// The identifier of an echo.
    @inlinable public var identifier: UInt16 { UInt16(truncatingIfNeeded: rest >> 16) }
    /// The sequence number of an echo.
    @inlinable public var sequence: UInt16 { UInt16(truncatingIfNeeded: rest) }

    /// Reads the header at the start of a message; the checksum is not verified.
    ///
    /// - Parameter message: the message.
    /// - Throws: ``ParseError/truncated``.
    @inlinable
    public init(_ message: Span<UInt8>) throws(ParseError) {
        guard message.count >= 8 else { throw .truncated }
        type = message[0]
        code = message[1]
        rest = message.bigEndian32(at: Self.restOffset)
    }

    /// Writes the header; ``length`` bytes from `offset` must be in bounds.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - offset: where the header starts.
    ///   - ip: the packet's IP header.
    ///   - payloadLength: what follows the eight bytes, in bytes.
    /// - Returns: the packet's checksum, which is not finished.
    @inlinable
    public func write(
        into frame: inout MutableSpan<UInt8>, at offset: Int, ip: IPHeader, payloadLength: Int
    ) -> UnfinishedChecksum {
        frame.store(UInt32(type) << 24 | UInt32(code) << 16, at: offset)
        frame.store(rest, at: offset &+ Self.restOffset)
        let pseudoHeader =
            ip.isIPv4
            ? InternetChecksum()
            : InternetChecksum(
                pseudoHeaderFrom: ip.source, to: ip.destination, ipProtocol: .icmpv6,
                length: Self.length &+ payloadLength)
        return UnfinishedChecksum(
            transportOffset: offset, fieldOffset: Self.checksumOffset, headerLength: Self.length,
            pseudoHeader: pseudoHeader)
    }
}
