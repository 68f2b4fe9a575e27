// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The header of a capture file (pcap-savefile(5)), in the byte order of this machine, of Ethernet frames.
public struct PcapFileHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 24

    private static let microsecondMagic: UInt32 = 0xA1B2_C3D4
    private static let nanosecondMagic: UInt32 = 0xA1B2_3C4D
    private static let major: UInt16 = 2
    private static let minor: UInt16 = 4
    /// `LINKTYPE_ETHERNET`.
    private static let ethernet: UInt32 = 1

    /// Whether times are in nanoseconds, not microseconds.
    public var hasNanoseconds: Bool
    /// The greatest number of bytes stored of a frame.
    public var snapLength: UInt32

    /// Whether bytes begin as a capture does, of either byte order and resolution.
    public static func isMagic(_ bytes: some Collection<UInt8>) -> Bool {
        let word = bytes.prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let words = [microsecondMagic, nanosecondMagic]
        return bytes.count >= 4 && (words.contains(word) || words.contains(word.byteSwapped))
    }

    /// Makes a header.
    public init(hasNanoseconds: Bool = false, snapLength: UInt32 = 262_144) {
        self.hasNanoseconds = hasNanoseconds
        self.snapLength = snapLength
    }

    /// Reads the header of a file written on a machine of this byte order.
    ///
    /// - Parameter bytes: the start of the file.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType`` (not such a file, or not of Ethernet frames).
    public init(_ bytes: Span<UInt8>) throws(ParseError) {
        guard bytes.count >= Self.length else { throw .truncated }
        switch bytes.bigEndian32(at: 0).bigEndian {
        case Self.microsecondMagic: hasNanoseconds = false
        case Self.nanosecondMagic: hasNanoseconds = true
        default: throw .badType
        }
        guard bytes.bigEndian16(at: 4).bigEndian == Self.major, bytes.bigEndian32(at: 20).bigEndian == Self.ethernet
        else { throw .badType }
        snapLength = bytes.bigEndian32(at: 16).bigEndian
    }

    /// Writes the header; ``length`` bytes must be in bounds.
    public func write(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        bytes.store((hasNanoseconds ? Self.nanosecondMagic : Self.microsecondMagic).bigEndian, at: offset)
        bytes.store(Self.major.bigEndian, at: offset + 4)
        bytes.store(Self.minor.bigEndian, at: offset + 6)
        bytes.store(UInt64(0), at: offset + 8)
        bytes.store(snapLength.bigEndian, at: offset + 16)
        bytes.store(Self.ethernet.bigEndian, at: offset + 20)
    }
}

/// The header of one frame in a capture file (pcap-savefile(5)), in the byte order of this machine.
public struct PcapRecordHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 16

    /// The time since 1970 in whole seconds.
    public var seconds: UInt32
    /// The rest of the time, in the unit that the file's header gives.
    public var fraction: UInt32
    /// How many bytes of the frame follow.
    public var capturedLength: UInt32
    /// How long the frame was.
    public var originalLength: UInt32

    /// Makes a header.
    ///
    /// - Parameters:
    ///   - seconds: the time since 1970 in whole seconds.
    ///   - nanoseconds: the rest of the time, below 1,000,000,000.
    ///   - frameLength: the frame in bytes.
    ///   - file: the header of the file it goes into.
    public init(seconds: Int64, nanoseconds: Int64, frameLength: Int, file: PcapFileHeader) {
        self.seconds = UInt32(truncatingIfNeeded: seconds)
        fraction = UInt32(truncatingIfNeeded: file.hasNanoseconds ? nanoseconds : nanoseconds / 1000)
        originalLength = UInt32(truncatingIfNeeded: frameLength)
        capturedLength = min(originalLength, file.snapLength)
    }

    /// Reads a header.
    ///
    /// - Parameter bytes: what follows the file's header or the frame before.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badLength`` (more captured than there was).
    public init(_ bytes: Span<UInt8>) throws(ParseError) {
        guard bytes.count >= Self.length else { throw .truncated }
        seconds = bytes.bigEndian32(at: 0).bigEndian
        fraction = bytes.bigEndian32(at: 4).bigEndian
        capturedLength = bytes.bigEndian32(at: 8).bigEndian
        originalLength = bytes.bigEndian32(at: 12).bigEndian
        guard capturedLength <= originalLength else { throw .badLength }
    }

    /// Writes the header; ``length`` bytes must be in bounds.
    public func write(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        bytes.store(seconds.bigEndian, at: offset)
        bytes.store(fraction.bigEndian, at: offset + 4)
        bytes.store(capturedLength.bigEndian, at: offset + 8)
        bytes.store(originalLength.bigEndian, at: offset + 12)
    }
}
