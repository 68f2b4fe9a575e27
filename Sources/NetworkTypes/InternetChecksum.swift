// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words.
///
/// Theory of operation. The sum does not depend on byte order (RFC 1071 §2 B). So most bytes are added as native 64-bit
/// words with end-around carry, and the sum is folded to 16 bits and swapped once. A partial sum is kept folded and in
/// host order, so that sums over pseudo-header, header and payload can be added; only the last piece may have an odd
/// length.
public struct InternetChecksum: Sendable {
    @usableFromInline var sum: UInt64

    /// Starts with an empty sum.
    @inlinable
    public init() {
        sum = 0
    }

    /// Adds a 16-bit word given in host order.
    @inlinable
    public mutating func add(_ word: UInt16) {
        sum &+= UInt64(word)
    }

    /// Adds a 32-bit number given in host order.
    @inlinable
    public mutating func add(_ word: UInt32) {
        sum &+= UInt64(word >> 16) &+ UInt64(word & 0xFFFF)
    }

    /// Adds an IPv4 address.
    @inlinable
    public mutating func add(_ address: IPv4Address) {
        add(address.rawValue)
    }

    /// Adds an IPv6 address.
    @inlinable
    public mutating func add(_ address: IPv6Address) {
        add(UInt32(truncatingIfNeeded: address.high >> 32))
        add(UInt32(truncatingIfNeeded: address.high))
        add(UInt32(truncatingIfNeeded: address.low >> 32))
        add(UInt32(truncatingIfNeeded: address.low))
    }

    /// Adds bytes that start at an even offset of what is summed; only the last addition may be of odd length.
    @inlinable
    public mutating func add(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBytes { buffer in
            unsafe add(rawBytes: buffer)
        }
    }

    /// Adds raw memory; as ``add(_:)-(Span<UInt8>)``.
    @inlinable
    public mutating func add(rawBytes buffer: UnsafeRawBufferPointer) {
        sum &+= UInt64(unsafe Self.fold(buffer))
    }

    /// The sum folded to 16 bits, not complemented: the value of a checksum field that hardware completes.
    @inlinable
    public var folded: UInt16 {
        var value = sum
        while value >> 16 != 0 { value = (value & 0xFFFF) &+ (value >> 16) }
        return UInt16(truncatingIfNeeded: value)
    }

    /// The checksum: the complement of ``folded``.
    @inlinable
    public var value: UInt16 { ~folded }

    /// The folded sum of a buffer in host order.
    ///
    /// Only this function reads raw memory; the loop conditions keep all loads within `buffer`.
    @usableFromInline
    static func fold(_ buffer: UnsafeRawBufferPointer) -> UInt16 {
        var low: UInt64 = 0
        var high: UInt64 = 0
        var offset = 0
        let count = buffer.count
        // Two accumulators of 32-bit halves need no carries for 2^32 additions.
        while offset &+ 16 <= count {
            let a = unsafe buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            let b = unsafe buffer.loadUnaligned(fromByteOffset: offset &+ 8, as: UInt64.self)
            low &+= (a & 0xFFFF_FFFF) &+ (b & 0xFFFF_FFFF)
            high &+= (a >> 32) &+ (b >> 32)
            offset &+= 16
        }
        var total = (low & 0xFFFF_FFFF) &+ (low >> 32) &+ (high & 0xFFFF_FFFF) &+ (high >> 32)
        while offset &+ 2 <= count {
            total &+= UInt64(unsafe buffer.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            offset &+= 2
        }
        if offset < count {
            total &+= UInt64(UInt16(littleEndian: UInt16(unsafe buffer[offset])))
        }
        while total >> 16 != 0 { total = (total & 0xFFFF) &+ (total >> 16) }
        return UInt16(bigEndian: UInt16(truncatingIfNeeded: total))
    }
}
