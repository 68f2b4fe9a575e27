// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An address with a prefix length: a subnet, a route's destination, or an interface's address.
///
/// Host bits are kept: 192.0.2.5/24 is an interface address; its ``network`` is 192.0.2.0/24.
public struct Prefix: Hashable, Sendable {
    /// The address, host bits included.
    public let address: IPAddress
    /// The prefix length, 0 to 32 or 128.
    public let length: Int

    /// Makes a prefix; nil if `length` is out of the family's range.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.family.addressBitCount).contains(length) else { return nil }
        self.address = address
        self.length = length
    }

    /// The prefix of a single address: /32 or /128.
    public init(host address: IPAddress) {
        self.address = address
        length = address.family.addressBitCount
    }

    /// The whole family: 0.0.0.0/0 or ::/0.
    public init(default family: AddressFamily) {
        address = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
        length = 0
    }

    /// Parses `ADDRESS/LENGTH` or `ADDRESS`.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress($0) }) else { return nil }
        guard parts.count == 2 else {
            self.init(host: address)
            return
        }
        guard let length = Int(parts[1]), parts[1].allSatisfy(\.isASCIIDigit) else { return nil }
        self.init(address, length: length)
    }

    /// The family of the prefix.
    public var family: AddressFamily { address.family }

    /// Whether this is 0.0.0.0/0 or ::/0.
    public var isDefault: Bool { length == 0 }

    /// The prefix with its host bits cleared.
    public var network: Prefix {
        switch address {
        case .v4(let v4):
            Prefix(unchecked: .v4(IPv4Address(rawValue: v4.rawValue & Self.mask4(length))), length)
        case .v6(let v6):
            Prefix(
                unchecked: .v6(IPv6Address(high: v6.high & Self.mask6(length), low: v6.low & Self.mask6(length - 64))),
                length)
        }
    }

    /// Whether an address lies in this prefix.
    public func contains(_ other: IPAddress) -> Bool {
        guard other.family == family else { return false }
        return Prefix(unchecked: other, length).network == network
    }

    /// Whether `address` has only zeros after the prefix: the subnet's own address (subnet-router anycast for IPv6).
    public var isNetworkAddress: Bool {
        length < family.addressBitCount && network.address == address
    }

    /// Whether `address` has only ones after the prefix (the directed broadcast address of an IPv4 subnet).
    public var isBroadcastAddress: Bool {
        guard length < family.addressBitCount else { return false }
        switch address {
        case .v4(let v4): return v4.rawValue | Self.mask4(length) == .max
        case .v6(let v6): return v6.high | Self.mask6(length) == .max && v6.low | Self.mask6(length - 64) == .max
        }
    }

    /// The netmask of an IPv4 prefix length, in host order.
    public static func mask4(_ length: Int) -> UInt32 {
        length <= 0 ? 0 : .max << UInt32(32 - min(length, 32))
    }

    private static func mask6(_ length: Int) -> UInt64 {
        length <= 0 ? 0 : .max << UInt64(64 - min(length, 64))
    }

    private init(unchecked address: IPAddress, _ length: Int) {
        self.address = address
        self.length = length
    }
}

extension Prefix: CustomStringConvertible, Comparable {
    /// `ADDRESS/LENGTH`, always with the length.
    public var description: String { "\(address)/\(length)" }

    /// Orders by address, then by length.
    public static func < (a: Prefix, b: Prefix) -> Bool { (a.address, a.length) < (b.address, b.length) }
}

extension Character {
    /// Whether this is one of `0` to `9`, with no combining mark.
    public var isASCIIDigit: Bool {
        asciiValue.map { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ?? false
    }
}
