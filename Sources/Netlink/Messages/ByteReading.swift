// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

package import NetworkTypes

/// Reads numbers and addresses out of bytes that come from outside; each read returns nil where the bytes end.
/// Netlink's integers are in the machine's byte order, addresses in the network's.
extension Span where Element == UInt8 {
    /// The byte at an offset.
    package func byte(at offset: Int) -> UInt8? {
        indices.contains(offset) ? self[offset] : nil
    }

    /// The 16-bit number at an offset.
    package func uint16(at offset: Int = 0) -> UInt16? {
        guard offset >= 0, offset <= count - 2 else { return nil }
        return UInt16(littleEndian: UInt16(self[offset]) | UInt16(self[offset + 1]) << 8)
    }

    /// The 32-bit number at an offset.
    package func uint32(at offset: Int = 0) -> UInt32? {
        guard offset >= 0, offset <= count - 4 else { return nil }
        var value: UInt32 = 0
        for index in 0..<4 { value |= UInt32(self[offset + index]) << UInt32(8 * index) }
        return UInt32(littleEndian: value)
    }

    /// The signed 32-bit number at an offset.
    package func int32(at offset: Int = 0) -> Int32? {
        uint32(at: offset).map { Int32(bitPattern: $0) }
    }

    /// The text up to the first NUL or the end.
    package func text() -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for index in indices {
            if self[index] == 0 { break }
            bytes.append(self[index])
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The whole as an array.
    package func array() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        for index in indices { bytes.append(self[index]) }
        return bytes
    }

    /// The whole as an address of a family; nil if the length is not that of the family's addresses.
    package func address(_ family: AddressFamily) -> IPAddress? {
        switch family {
        case .v4:
            guard count == 4 else { return nil }
            return .v4(IPv4Address(self[0], self[1], self[2], self[3]))
        case .v6:
            guard count == 16 else { return nil }
            var high: UInt64 = 0
            var low: UInt64 = 0
            for index in 0..<8 {
                high = high << 8 | UInt64(self[index])
                low = low << 8 | UInt64(self[index + 8])
            }
            return .v6(IPv6Address(high: high, low: low))
        }
    }

    /// The whole as an Ethernet address; nil unless it is six bytes.
    package func mac() -> MACAddress? {
        guard count == 6 else { return nil }
        return MACAddress(self[0], self[1], self[2], self[3], self[4], self[5])
    }
}

extension IPAddress {
    /// The bytes in network order: 4 or 16.
    package var networkBytes: [UInt8] {
        switch self {
        case .v4(let address):
            (0..<4).map { UInt8(truncatingIfNeeded: address.rawValue >> UInt32(24 - 8 * $0)) }
        case .v6(let address):
            (0..<8).map { UInt8(truncatingIfNeeded: address.high >> UInt64(56 - 8 * $0)) }
                + (0..<8).map { UInt8(truncatingIfNeeded: address.low >> UInt64(56 - 8 * $0)) }
        }
    }
}
