// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A 48-bit Ethernet address (IEEE 802 EUI-48).
public struct MACAddress: Hashable, Sendable {
    /// The six bytes as the low 48 bits of a number, the first byte on the wire being the highest.
    public var rawValue: UInt64

    /// Makes an address from a number; bits above the 48th are dropped.
    @inlinable
    public init(rawValue: UInt64) {
        self.rawValue = rawValue & 0xFFFF_FFFF_FFFF
    }

    /// Makes an address from its six bytes.
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, _ e: UInt8, _ f: UInt8) {
        self.init(bytes: [a, b, c, d, e, f])
    }

    /// Makes an address from its bytes in wire order.
    public init(bytes: [6 of UInt8]) {
        var value: UInt64 = 0
        for index in 0..<6 { value = value << 8 | UInt64(bytes[index]) }
        rawValue = value
    }

    /// Parses exactly `xx:xx:xx:xx:xx:xx`, two hexadecimal digits each.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 6 else { return nil }
        var value: UInt64 = 0
        for part in parts {
            guard part.utf8.count == 2, part.allSatisfy(\.isASCIIHexDigit), let byte = UInt8(part, radix: 16) else {
                return nil
            }
            value = value << 8 | UInt64(byte)
        }
        rawValue = value
    }

    /// ff:ff:ff:ff:ff:ff.
    public static let broadcast = MACAddress(rawValue: .max)
    /// 00:00:00:00:00:00.
    public static let zero = MACAddress(rawValue: 0)
    /// 9a:55:9a:55:9a:55, tapas's own address unless an option sets another.
    public static let defaultGateway = MACAddress(0x9A, 0x55, 0x9A, 0x55, 0x9A, 0x55)

    /// The group address that carries an IPv6 multicast address (RFC 2464 §7).
    public static func multicast(for address: IPv6Address) -> MACAddress {
        MACAddress(rawValue: 0x3333_0000_0000 | address.low & 0xFFFF_FFFF)
    }

    /// Whether the group bit is set; the broadcast address counts.
    @inlinable public var isMulticast: Bool { rawValue >> 40 & 1 == 1 }

    /// The six bytes in wire order.
    public var bytes: [6 of UInt8] {
        [
            UInt8(truncatingIfNeeded: rawValue >> 40), UInt8(truncatingIfNeeded: rawValue >> 32),
            UInt8(truncatingIfNeeded: rawValue >> 24), UInt8(truncatingIfNeeded: rawValue >> 16),
            UInt8(truncatingIfNeeded: rawValue >> 8), UInt8(truncatingIfNeeded: rawValue),
        ]
    }
}

extension MACAddress: CustomStringConvertible {
    /// Six lower-case hexadecimal pairs joined by colons.
    public var description: String {
        var text = ""
        for index in 0..<6 {
            let byte = bytes[index]
            if index > 0 { text += ":" }
            if byte < 16 { text += "0" }
            text += String(byte, radix: 16)
        }
        return text
    }
}

extension Character {
    /// Whether this is an ASCII hexadecimal digit.
    public var isASCIIHexDigit: Bool {
        guard let ascii = asciiValue else { return false }
        return isASCIIDigit || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(ascii)
            || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(ascii)
    }
}
