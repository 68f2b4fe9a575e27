// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Integers and addresses in bytes, in network order.
///
/// Theory of operation. Everything in this room reads and writes through these few functions. Each checks its bounds
/// once and then makes one unaligned access: that keeps header access as cheap as raw pointers without giving up the
/// check. A failed check is a bug of ours (parsers compare lengths first), so it traps.

public import NetworkTypes

extension Span where Element == UInt8 {
    /// The 16-bit number at an offset, in host order; the bytes must be in bounds.
    @inlinable
    public func bigEndian16(at offset: Int) -> UInt16 {
        precondition(offset >= 0 && offset <= count &- 2, "read beyond the bytes")
        return unsafe withUnsafeBytes { bytes in
            unsafe UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        }
    }

    /// The 32-bit number at an offset, in host order; the bytes must be in bounds.
    @inlinable
    public func bigEndian32(at offset: Int) -> UInt32 {
        precondition(offset >= 0 && offset <= count &- 4, "read beyond the bytes")
        return unsafe withUnsafeBytes { bytes in
            unsafe UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
    }

    /// The 64-bit number at an offset, in host order; the bytes must be in bounds.
    @inlinable
    public func bigEndian64(at offset: Int) -> UInt64 {
        precondition(offset >= 0 && offset <= count &- 8, "read beyond the bytes")
        return unsafe withUnsafeBytes { bytes in
            unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
    }

    /// The IPv4 address at an offset.
    @inlinable
    public func ipv4Address(at offset: Int) -> IPv4Address {
        IPv4Address(rawValue: bigEndian32(at: offset))
    }

    /// The IPv6 address at an offset.
    @inlinable
    public func ipv6Address(at offset: Int) -> IPv6Address {
        IPv6Address(high: bigEndian64(at: offset), low: bigEndian64(at: offset &+ 8))
    }

    /// The Ethernet address at an offset.
    @inlinable
    public func macAddress(at offset: Int) -> MACAddress {
        MACAddress(rawValue: UInt64(bigEndian16(at: offset)) << 32 | UInt64(bigEndian32(at: offset &+ 2)))
    }
}

extension MutableSpan where Element == UInt8 {
    /// Stores a 16-bit number given in host order; the bytes must be in bounds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ value: UInt16, at offset: Int) {
        precondition(offset >= 0 && offset <= count &- 2, "write beyond the bytes")
        unsafe withUnsafeMutableBytes { bytes in
            unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
        }
    }

    /// Stores a 32-bit number given in host order; the bytes must be in bounds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ value: UInt32, at offset: Int) {
        precondition(offset >= 0 && offset <= count &- 4, "write beyond the bytes")
        unsafe withUnsafeMutableBytes { bytes in
            unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
        }
    }

    /// Stores a 64-bit number given in host order; the bytes must be in bounds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ value: UInt64, at offset: Int) {
        precondition(offset >= 0 && offset <= count &- 8, "write beyond the bytes")
        unsafe withUnsafeMutableBytes { bytes in
            unsafe bytes.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
        }
    }

    /// Stores a byte; it must be in bounds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ value: UInt8, at offset: Int) {
        self[offset] = value
    }

    /// Stores an IPv4 address.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ address: IPv4Address, at offset: Int) {
        store(address.rawValue, at: offset)
    }

    /// Stores an IPv6 address.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ address: IPv6Address, at offset: Int) {
        store(address.high, at: offset)
        store(address.low, at: offset &+ 8)
    }

    /// Stores an Ethernet address.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ address: MACAddress, at offset: Int) {
        store(UInt16(truncatingIfNeeded: address.rawValue >> 32), at: offset)
        store(UInt32(truncatingIfNeeded: address.rawValue), at: offset &+ 2)
    }

    /// Copies bytes to an offset; they must fit.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func store(_ source: Span<UInt8>, at offset: Int) {
        precondition(offset >= 0 && offset <= count && source.count <= count &- offset, "write beyond the bytes")
        unsafe withUnsafeMutableBytes { bytes in
            unsafe source.withUnsafeBytes {
                unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyMemory(from: $0)
            }
        }
    }

    /// Sets a range of bytes to zero; it must be in bounds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func zero(_ range: Range<Int>) {
        for index in range { self[index] = 0 }
    }

    /// The bytes of a range, for reading what was just written.
    @inlinable
    @_lifetime(borrow self)
    public func bytes(_ range: Range<Int>) -> Span<UInt8> {
        self.span.extracting(range)
    }
}
