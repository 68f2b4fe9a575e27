// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An IPv6 address (RFC 4291), without a zone.
public struct IPv6Address: Hashable, Sendable {
    /// The first eight bytes as a number in host order.
    public var high: UInt64
    /// The last eight bytes as a number in host order.
    public var low: UInt64

    /// Makes an address from its two halves in host order.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The IPv4-mapped form `::ffff:a.b.c.d` of an address (RFC 4291 §2.5.5.2).
    @inlinable
    public init(mapping address: IPv4Address) {
        self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(address.rawValue))
    }

    /// Makes an address from its eight groups.
    public init(_ groups: [8 of UInt16]) {
        high = UInt64(groups[0]) << 48 | UInt64(groups[1]) << 32 | UInt64(groups[2]) << 16 | UInt64(groups[3])
        low = UInt64(groups[4]) << 48 | UInt64(groups[5]) << 32 | UInt64(groups[6]) << 16 | UInt64(groups[7])
    }

    /// Parses the text forms of RFC 4291 §2.2, an embedded dotted quad included; no zone, no brackets.
    public init?(_ text: some StringProtocol) {
        var groups: [8 of UInt16] = .init(repeating: 0)
        var count = 0
        var gap: Int?
        let bytes = Array(text.utf8)
        var position = 0
        if bytes.starts(with: [UInt8(ascii: ":"), UInt8(ascii: ":")]) {
            gap = 0
            position = 2
        }
        while position < bytes.count {
            let end = bytes[position...].firstIndex(of: UInt8(ascii: ":")) ?? bytes.endIndex
            let token = bytes[position..<end]
            if end == bytes.endIndex, token.contains(UInt8(ascii: ".")) {
                guard count <= 6, let quad = IPv4Address(String(decoding: token, as: UTF8.self)) else { return nil }
                groups[count] = UInt16(quad.rawValue >> 16)
                groups[count + 1] = UInt16(quad.rawValue & 0xFFFF)
                count += 2
                position = end
                break
            }
            guard count < 8, let group = Self.parseGroup(token) else { return nil }
            groups[count] = group
            count += 1
            position = end
            guard end < bytes.endIndex else { break }
            position += 1
            if position == bytes.endIndex { return nil }
            if bytes[position] == UInt8(ascii: ":") {
                if gap != nil { return nil }
                gap = count
                position += 1
            }
        }
        if let gap {
            guard count < 8 else { return nil }
            let moved = count - gap
            for offset in 0..<moved {
                groups[7 - offset] = groups[count - 1 - offset]
            }
            for index in gap..<(8 - moved) {
                groups[index] = 0
            }
        } else if count != 8 {
            return nil
        }
        self.init(groups)
    }

    private static func parseGroup(_ token: ArraySlice<UInt8>) -> UInt16? {
        guard (1...4).contains(token.count) else { return nil }
        var value: UInt16 = 0
        for byte in token {
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: return nil
            }
            value = value << 4 | UInt16(digit)
        }
        return value
    }

    /// `::`.
    public static let unspecified = IPv6Address(high: 0, low: 0)
    /// `::1`.
    public static let loopback = IPv6Address(high: 0, low: 1)
    /// `ff02::1`, all nodes on the link (RFC 4291 §2.7.1).
    public static let allNodes = IPv6Address(high: 0xFF02_0000_0000_0000, low: 1)
    /// `ff02::2`, all routers on the link (RFC 4291 §2.7.1).
    public static let allRouters = IPv6Address(high: 0xFF02_0000_0000_0000, low: 2)

    /// The eight groups, first to last.
    public var groups: [8 of UInt16] {
        [
            UInt16(truncatingIfNeeded: high >> 48), UInt16(truncatingIfNeeded: high >> 32),
            UInt16(truncatingIfNeeded: high >> 16), UInt16(truncatingIfNeeded: high),
            UInt16(truncatingIfNeeded: low >> 48), UInt16(truncatingIfNeeded: low >> 32),
            UInt16(truncatingIfNeeded: low >> 16), UInt16(truncatingIfNeeded: low),
        ]
    }

    /// Whether this is `::`.
    @inlinable public var isUnspecified: Bool { high | low == 0 }
    /// Whether this is `::1`.
    @inlinable public var isLoopback: Bool { high == 0 && low == 1 }
    /// Whether this is in ff00::/8.
    @inlinable public var isMulticast: Bool { high >> 56 == 0xFF }
    /// Whether this is in fe80::/10.
    @inlinable public var isLinkLocal: Bool { high >> 54 == 0xFE80 >> 6 }
    /// Whether this is in fc00::/7 (RFC 4193).
    @inlinable public var isUniqueLocal: Bool { high >> 57 == 0xFC >> 1 }
    /// Whether this is IPv4-mapped (::ffff:0:0/96).
    @inlinable public var isIPv4Mapped: Bool { high == 0 && low >> 32 == 0xFFFF }

    /// Whether this is IPv4-compatible (::/96, RFC 4291 §2.5.5.1, deprecated), which `::` and `::1` are not.
    @inlinable public var isIPv4Compatible: Bool { high == 0 && low >> 32 == 0 && low > 1 }

    /// The IPv4 address inside an IPv4-mapped one.
    @inlinable public var mappedIPv4: IPv4Address? {
        isIPv4Mapped ? IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)) : nil
    }

    /// The solicited-node multicast address of this address (RFC 4291 §2.7.1).
    public var solicitedNode: IPv6Address {
        IPv6Address(high: 0xFF02_0000_0000_0000, low: 0x1_FF00_0000 | low & 0xFF_FFFF)
    }
}

extension IPv6Address: CustomStringConvertible, Comparable {
    /// The canonical text (RFC 5952): lower case, the longest run of two or more zero groups shortened.
    public var description: String {
        if let quad = mappedIPv4 { return "::ffff:\(quad)" }
        let groups = self.groups
        var best = (start: 0, length: 0)
        var run = (start: 0, length: 0)
        for index in 0..<8 {
            if groups[index] == 0 {
                if run.length == 0 { run.start = index }
                run.length += 1
                if run.length > best.length { best = run }
            } else {
                run.length = 0
            }
        }
        var text = ""
        var index = 0
        while index < 8 {
            if best.length > 1 && index == best.start {
                text += "::"
                index += best.length
                continue
            }
            if !text.isEmpty && !text.hasSuffix(":") { text += ":" }
            text += String(groups[index], radix: 16)
            index += 1
        }
        return text
    }

    /// Orders addresses by number.
    public static func < (a: IPv6Address, b: IPv6Address) -> Bool { (a.high, a.low) < (b.high, b.low) }
}
