// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A growing array of bytes, for messages with options, which are not built for each packet.
public struct MessageWriter: Sendable {
    /// What was written so far.
    public private(set) var bytes: [UInt8] = []

    /// Starts with nothing.
    public init() {}

    /// How many bytes were written so far.
    public var count: Int { bytes.count }

    /// Appends a byte.
    public mutating func append(_ value: UInt8) {
        bytes.append(value)
    }

    /// Appends a 16-bit number in network order.
    public mutating func append(_ value: UInt16) {
        append(UInt8(truncatingIfNeeded: value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    /// Appends a 32-bit number in network order.
    public mutating func append(_ value: UInt32) {
        append(UInt16(truncatingIfNeeded: value >> 16))
        append(UInt16(truncatingIfNeeded: value))
    }

    /// Appends a 64-bit number in network order.
    public mutating func append(_ value: UInt64) {
        append(UInt32(truncatingIfNeeded: value >> 32))
        append(UInt32(truncatingIfNeeded: value))
    }

    /// Appends an IPv4 address.
    public mutating func append(_ address: IPv4Address) {
        append(address.rawValue)
    }

    /// Appends an IPv6 address.
    public mutating func append(_ address: IPv6Address) {
        append(address.high)
        append(address.low)
    }

    /// Appends a hardware address.
    public mutating func append(_ address: MACAddress) {
        append(UInt16(truncatingIfNeeded: address.rawValue >> 32))
        append(UInt32(truncatingIfNeeded: address.rawValue))
    }

    /// Appends bytes.
    public mutating func append(_ other: [UInt8]) {
        bytes += other
    }

    /// Appends bytes.
    public mutating func append(copying other: Span<UInt8>) {
        for index in other.indices { bytes.append(other[index]) }
    }

    /// Appends zeros.
    public mutating func appendZeros(_ count: Int) {
        bytes.append(contentsOf: repeatElement(0, count: max(0, count)))
    }

    /// Overwrites a byte that was written before.
    public mutating func patch(_ value: UInt8, at offset: Int) {
        bytes[offset] = value
    }

    /// Overwrites a 16-bit number that was written before.
    public mutating func patch(_ value: UInt16, at offset: Int) {
        bytes[offset] = UInt8(truncatingIfNeeded: value >> 8)
        bytes[offset + 1] = UInt8(truncatingIfNeeded: value)
    }
}
