// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An IPv4 address (RFC 791).
public struct IPv4Address: Hashable, Sendable {
    /// The address as a number in host order: 192.0.2.1 is `0xC0000201`.
    public var rawValue: UInt32

    /// Makes an address from its number in host order.
    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Makes an address from its four octets.
    @inlinable
    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        rawValue = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
    }

    /// Parses a dotted quad; four decimal octets without leading zeros, nothing else (RFC 6943 §3.1.1, strict form).
    public init?(_ text: some StringProtocol) {
        var value: UInt32 = 0
        var octets = 0
        var digits = 0
        var octet: UInt32 = 0
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                if digits == 1 && octet == 0 || digits == 3 { return nil }
                octet = octet * 10 + UInt32(byte - UInt8(ascii: "0"))
                digits += 1
                if octet > 255 { return nil }
            case UInt8(ascii: "."):
                if digits == 0 || octets == 3 { return nil }
                value = value << 8 | octet
                octets += 1
                digits = 0
                octet = 0
            default:
                return nil
            }
        }
        guard octets == 3, digits > 0 else { return nil }
        rawValue = value << 8 | octet
    }

    /// 0.0.0.0.
    public static let unspecified = IPv4Address(rawValue: 0)
    /// 127.0.0.1.
    public static let loopback = IPv4Address(127, 0, 0, 1)
    /// 255.255.255.255.
    public static let broadcast = IPv4Address(rawValue: .max)

    /// Whether this is 0.0.0.0.
    @inlinable public var isUnspecified: Bool { rawValue == 0 }
    /// Whether this is in 127.0.0.0/8.
    @inlinable public var isLoopback: Bool { rawValue >> 24 == 127 }
    /// Whether this is in 224.0.0.0/4.
    @inlinable public var isMulticast: Bool { rawValue >> 28 == 0xE }
    /// Whether this is 255.255.255.255.
    @inlinable public var isBroadcast: Bool { rawValue == .max }
    /// Whether this is in 169.254.0.0/16 (RFC 3927).
    @inlinable public var isLinkLocal: Bool { rawValue >> 16 == 0xA9FE }

    /// The prefix length that the address's class implies: A 8, B 16, C 24, others 32.
    public var classfulPrefixLength: Int {
        switch rawValue >> 28 {
        case 0..<8: 8
        case 8..<12: 16
        case 12..<14: 24
        default: 32
        }
    }
}

extension IPv4Address: CustomStringConvertible, Comparable {
    /// The dotted quad.
    public var description: String {
        "\(rawValue >> 24).\(rawValue >> 16 & 0xFF).\(rawValue >> 8 & 0xFF).\(rawValue & 0xFF)"
    }

    /// Orders addresses by number.
    public static func < (a: IPv4Address, b: IPv4Address) -> Bool { a.rawValue < b.rawValue }
}
