// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The header before each frame of a tap opened with `IFF_VNET_HDR` (`struct virtio_net_hdr`, linux/virtio_net.h).
///
/// Its fields are in the host's byte order, as of the kernel's legacy interface without `TUNSETVNETLE`.
public struct VirtioNetHeader: Hashable, Sendable {
    /// The length in bytes without `num_buffers`: what `TUNSETVNETHDRSZ` is set to.
    public static let length = 10

    /// What ``flags`` may hold.
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The bits.
        public var rawValue: UInt8

        /// Makes flags from bits.
        @inlinable
        public init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        /// The checksum is partial and must be completed (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
        @inlinable public static var needsChecksum: Flags { Flags(rawValue: 1) }
        /// The checksum was verified (`VIRTIO_NET_HDR_F_DATA_VALID`).
        @inlinable public static var dataValid: Flags { Flags(rawValue: 2) }
    }

    /// How a super-frame must be cut.
    public struct Segmentation: RawRepresentable, Hashable, Sendable {
        /// The number.
        public var rawValue: UInt8

        /// Makes a kind from its number.
        @inlinable
        public init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        /// Not a super-frame (`VIRTIO_NET_HDR_GSO_NONE`).
        @inlinable public static var none: Segmentation { Segmentation(rawValue: 0) }
        /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
        @inlinable public static var tcpv4: Segmentation { Segmentation(rawValue: 1) }
        /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
        @inlinable public static var tcpv6: Segmentation { Segmentation(rawValue: 4) }
        /// UDP of either family into datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
        @inlinable public static var udp: Segmentation { Segmentation(rawValue: 5) }
        /// The bit added for TCP with ECN (`VIRTIO_NET_HDR_GSO_ECN`).
        @inlinable public static var ecn: UInt8 { 0x80 }

        /// The kind without the ECN bit.
        @inlinable public var kind: Segmentation { Segmentation(rawValue: rawValue & ~Self.ecn) }
    }

    /// The state of the checksum.
    public var flags: Flags
    /// How to cut the frame.
    public var segmentation: Segmentation
    /// The length of all headers in bytes; a hint.
    public var headerLength: UInt16
    /// The payload of each segment in bytes.
    public var segmentSize: UInt16
    /// Where to start summing, from the frame's start.
    public var checksumStart: UInt16
    /// Where the checksum field is, from ``checksumStart``.
    public var checksumOffset: UInt16

    /// The header of a complete frame of ordinary size.
    @inlinable
    public init() {
        flags = []
        segmentation = .none
        headerLength = 0
        segmentSize = 0
        checksumStart = 0
        checksumOffset = 0
    }

    /// A header that leaves the checksum to the receiver.
    @inlinable
    public init(checksumStart: Int, checksumOffset: Int) {
        self.init()
        flags = .needsChecksum
        self.checksumStart = UInt16(truncatingIfNeeded: checksumStart)
        self.checksumOffset = UInt16(truncatingIfNeeded: checksumOffset)
    }

    /// Marks the frame as a super-frame.
    ///
    /// - Parameters:
    ///   - kind: how to cut it.
    ///   - segmentSize: the payload of each segment in bytes.
    ///   - headerLength: the length of all headers in bytes, Ethernet included.
    @inlinable
    public mutating func segment(_ kind: Segmentation, size segmentSize: Int, headerLength: Int) {
        segmentation = kind
        self.segmentSize = UInt16(truncatingIfNeeded: segmentSize)
        self.headerLength = UInt16(truncatingIfNeeded: headerLength)
    }

    /// Reads the header at the start of a frame from a tap.
    ///
    /// - Parameter bytes: the header and perhaps the frame behind it.
    /// - Throws: ``ParseError/truncated``.
    @inlinable
    public init(_ bytes: Span<UInt8>) throws(ParseError) {
        guard bytes.count >= 10 else { throw .truncated }
        flags = Flags(rawValue: bytes[0])
        segmentation = Segmentation(rawValue: bytes[1])
        headerLength = bytes.bigEndian16(at: 2).bigEndian
        segmentSize = bytes.bigEndian16(at: 4).bigEndian
        checksumStart = bytes.bigEndian16(at: 6).bigEndian
        checksumOffset = bytes.bigEndian16(at: 8).bigEndian
    }

    /// Writes the header; ``length`` bytes from `offset` must be in bounds.
    @inlinable
    public func write(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        bytes[offset] = flags.rawValue
        bytes[offset &+ 1] = segmentation.rawValue
        bytes.store(headerLength.bigEndian, at: offset &+ 2)
        bytes.store(segmentSize.bigEndian, at: offset &+ 4)
        bytes.store(checksumStart.bigEndian, at: offset &+ 6)
        bytes.store(checksumOffset.bigEndian, at: offset &+ 8)
    }
}
