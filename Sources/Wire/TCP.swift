// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The flags of a TCP segment (RFC 9293 §3.1, RFC 3168).
public struct TCPFlags: OptionSet, Hashable, Sendable {
    /// The bits.
    public var rawValue: UInt8

    /// Makes flags from bits.
    @inlinable
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// No more data from the sender.
    @inlinable public static var fin: TCPFlags { TCPFlags(rawValue: 0x01) }
    /// Synchronise sequence numbers.
    @inlinable public static var syn: TCPFlags { TCPFlags(rawValue: 0x02) }
    /// Reset the connection.
    @inlinable public static var rst: TCPFlags { TCPFlags(rawValue: 0x04) }
    /// Push.
    @inlinable public static var psh: TCPFlags { TCPFlags(rawValue: 0x08) }
    /// The acknowledgment field is valid.
    @inlinable public static var ack: TCPFlags { TCPFlags(rawValue: 0x10) }
    /// The urgent pointer is valid.
    @inlinable public static var urg: TCPFlags { TCPFlags(rawValue: 0x20) }
    /// Congestion was experienced (RFC 3168).
    @inlinable public static var ece: TCPFlags { TCPFlags(rawValue: 0x40) }
    /// The congestion window was reduced (RFC 3168).
    @inlinable public static var cwr: TCPFlags { TCPFlags(rawValue: 0x80) }
}

/// The options of a TCP segment that this program uses.
public struct TCPOptions: Hashable, Sendable {
    /// The numbers of options.
    enum Kind {
        static let end: UInt8 = 0
        static let noOperation: UInt8 = 1
        static let maximumSegmentSize: UInt8 = 2
        static let windowScale: UInt8 = 3
        static let selectiveAcknowledgmentPermitted: UInt8 = 4
        static let timestamps: UInt8 = 8
    }

    /// The largest segment that the sender accepts, in bytes of payload.
    public var maximumSegmentSize: UInt16?
    /// The shift of the sender's windows, at most 14 (RFC 7323 §2.3).
    public var windowScale: UInt8?
    /// Whether selective acknowledgments are welcome (RFC 2018).
    public var permitsSelectiveAcknowledgment: Bool
    /// The timestamps, value and echo (RFC 7323 §3.2).
    public var timestamps: Timestamps?

    /// A timestamps option.
    public struct Timestamps: Hashable, Sendable {
        /// The sender's clock.
        public var value: UInt32
        /// The clock that is echoed.
        public var echo: UInt32

        /// Makes an option.
        public init(value: UInt32, echo: UInt32) {
            self.value = value
            self.echo = echo
        }
    }

    /// Makes options.
    @inlinable
    public init(
        maximumSegmentSize: UInt16? = nil, windowScale: UInt8? = nil, permitsSelectiveAcknowledgment: Bool = false
    ) {
        self.maximumSegmentSize = maximumSegmentSize
        self.windowScale = windowScale
        self.permitsSelectiveAcknowledgment = permitsSelectiveAcknowledgment
    }

    /// Reads the options between a TCP header and its payload.
    ///
    /// Unknown options are skipped; reading stops at one whose length is wrong, and what came before it counts, as
    /// in Linux.
    public init(_ bytes: Span<UInt8>) {
        self.init()
        var offset = 0
        while offset < bytes.count {
            let kind = bytes[offset]
            if kind == Kind.end { return }
            if kind == Kind.noOperation {
                offset += 1
                continue
            }
            guard bytes.count - offset >= 2 else { return }
            let length = Int(bytes[offset + 1])
            guard length >= 2, length <= bytes.count - offset else { return }
            switch (kind, length) {
            case (Kind.maximumSegmentSize, 4): maximumSegmentSize = bytes.bigEndian16(at: offset + 2)
            case (Kind.windowScale, 3): windowScale = min(bytes[offset + 2], 14)
            case (Kind.selectiveAcknowledgmentPermitted, 2): permitsSelectiveAcknowledgment = true
            case (Kind.timestamps, 10):
                timestamps = Timestamps(
                    value: bytes.bigEndian32(at: offset + 2), echo: bytes.bigEndian32(at: offset + 6))
            default: break
            }
            offset += length
        }
    }

    /// What the options take in a header in bytes, padded to whole words.
    @inlinable public var length: Int {
        var length = 0
        if maximumSegmentSize != nil { length &+= 4 }
        if windowScale != nil { length &+= 4 }
        if permitsSelectiveAcknowledgment { length &+= 4 }
        if timestamps != nil { length &+= 12 }
        return length
    }

    /// Writes the options, each padded with no-operations to whole words; ``length`` bytes must be in bounds.
    func write(into bytes: inout MutableSpan<UInt8>, at start: Int) {
        var offset = start
        if let maximumSegmentSize {
            bytes.store(UInt16(Kind.maximumSegmentSize) << 8 | 4, at: offset)
            bytes.store(maximumSegmentSize, at: offset + 2)
            offset += 4
        }
        if permitsSelectiveAcknowledgment {
            bytes.store(UInt16(Kind.noOperation) << 8 | UInt16(Kind.noOperation), at: offset)
            bytes.store(UInt16(Kind.selectiveAcknowledgmentPermitted) << 8 | 2, at: offset + 2)
            offset += 4
        }
        if let timestamps {
            bytes.store(UInt16(Kind.noOperation) << 8 | UInt16(Kind.noOperation), at: offset)
            bytes.store(UInt16(Kind.timestamps) << 8 | 10, at: offset + 2)
            bytes.store(timestamps.value, at: offset + 4)
            bytes.store(timestamps.echo, at: offset + 8)
            offset += 12
        }
        if let windowScale {
            bytes.store(UInt16(Kind.noOperation) << 8 | UInt16(Kind.windowScale), at: offset)
            bytes.store(UInt16(3) << 8 | UInt16(windowScale), at: offset + 2)
        }
    }
}

/// A TCP header (RFC 9293 §3.1).
public struct TCPHeader: Hashable, Sendable {
    /// The length without options in bytes.
    public static let length = 20

    /// Field offsets.
    @usableFromInline
    enum Offset {
        @usableFromInline static let destinationPort = 2
        @usableFromInline static let sequence = 4
        @usableFromInline static let acknowledgment = 8
        @usableFromInline static let dataOffset = 12
        @usableFromInline static let flags = 13
        @usableFromInline static let window = 14
        @usableFromInline static let checksum = 16
        @usableFromInline static let urgent = 18
    }

    /// The source port.
    public var sourcePort: UInt16
    /// The destination port.
    public var destinationPort: UInt16
    /// The sequence number.
    public var sequence: UInt32
    /// The acknowledgment number.
    public var acknowledgment: UInt32
    /// The flags.
    public var flags: TCPFlags
    /// The window as on the wire, not scaled.
    public var window: UInt16
    /// The options.
    public var options: TCPOptions

    /// Makes a header.
    @inlinable
    public init(
        sourcePort: UInt16, destinationPort: UInt16, sequence: UInt32, acknowledgment: UInt32, flags: TCPFlags,
        window: UInt16, options: TCPOptions = TCPOptions()
    ) {
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.sequence = sequence
        self.acknowledgment = acknowledgment
        self.flags = flags
        self.window = window
        self.options = options
    }

    /// Reads the header at the start of a segment; the checksum is not verified.
    ///
    /// - Parameter segment: the segment.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badLength`` (data offset).
    public init(_ segment: Span<UInt8>) throws(ParseError) {
        guard segment.count >= Self.length else { throw .truncated }
        let headerLength = Self.headerLength(segment)
        guard headerLength >= Self.length, headerLength <= segment.count else { throw .badLength }
        sourcePort = segment.bigEndian16(at: 0)
        destinationPort = segment.bigEndian16(at: Offset.destinationPort)
        sequence = segment.bigEndian32(at: Offset.sequence)
        acknowledgment = segment.bigEndian32(at: Offset.acknowledgment)
        flags = TCPFlags(rawValue: segment[Offset.flags])
        window = segment.bigEndian16(at: Offset.window)
        options = TCPOptions(segment.extracting(Self.length..<headerLength))
    }

    /// The header's length in bytes with its options.
    @inlinable public var headerLength: Int { Self.length &+ options.length }

    /// The length in bytes according to the segment, which must have at least 13 bytes.
    @inlinable
    static func headerLength(_ segment: Span<UInt8>) -> Int {
        Int(segment[Offset.dataOffset] >> 4) &* 4
    }

    /// Writes the header; ``headerLength`` bytes from `offset` must be in bounds.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - offset: where the header starts.
    ///   - ip: the packet's IP header.
    ///   - payloadLength: what follows the TCP header, in bytes.
    /// - Returns: the packet's checksum, which is not finished.
    @inlinable
    public func write(
        into frame: inout MutableSpan<UInt8>, at offset: Int, ip: IPHeader, payloadLength: Int
    ) -> UnfinishedChecksum {
        let headerLength = self.headerLength
        frame.store(sourcePort, at: offset)
        frame.store(destinationPort, at: offset &+ Offset.destinationPort)
        frame.store(sequence, at: offset &+ Offset.sequence)
        frame.store(acknowledgment, at: offset &+ Offset.acknowledgment)
        frame.store(UInt16(headerLength) << 10 | UInt16(flags.rawValue), at: offset &+ Offset.dataOffset)
        frame.store(window, at: offset &+ Offset.window)
        frame.store(UInt32(0), at: offset &+ Offset.checksum)
        if headerLength > Self.length { writeOptions(into: &frame, at: offset &+ Self.length) }
        return UnfinishedChecksum(
            transportOffset: offset, fieldOffset: Offset.checksum, headerLength: headerLength,
            pseudoHeader: InternetChecksum(
                pseudoHeaderFrom: ip.source, to: ip.destination, ipProtocol: .tcp,
                length: headerLength &+ payloadLength))
    }

    @usableFromInline
    func writeOptions(into frame: inout MutableSpan<UInt8>, at offset: Int) {
        options.write(into: &frame, at: offset)
    }
}
