// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An address of either family.
public enum IPAddress: Hashable, Sendable {
    /// An IPv4 address.
    case v4(IPv4Address)
    /// An IPv6 address; never an IPv4-mapped one when it was parsed by ``init(_:)``.
    case v6(IPv6Address)

    /// Parses an address of either family; `::ffff:a.b.c.d` gives the IPv4 address.
    public init?(_ text: some StringProtocol) {
        if let address = IPv4Address(text) {
            self = .v4(address)
        } else if let address = IPv6Address(text) {
            self = address.mappedIPv4.map { .v4($0) } ?? .v6(address)
        } else {
            return nil
        }
    }

    /// The family of the address.
    @inlinable public var family: AddressFamily {
        switch self {
        case .v4: .v4
        case .v6: .v6
        }
    }

    /// The address, if it is an IPv4 one.
    @inlinable public var v4: IPv4Address? {
        if case .v4(let address) = self { address } else { nil }
    }

    /// The address, if it is an IPv6 one.
    @inlinable public var v6: IPv6Address? {
        if case .v6(let address) = self { address } else { nil }
    }

    /// The IPv6 form: an IPv4 address is mapped (RFC 4291 §2.5.5.2).
    @inlinable public var asIPv6: IPv6Address {
        switch self {
        case .v4(let address): IPv6Address(mapping: address)
        case .v6(let address): address
        }
    }

    /// The inverse of `asIPv6`: a mapped address becomes its IPv4 address.
    @inlinable
    public init(unmapping address: IPv6Address) {
        self = address.mappedIPv4.map { .v4($0) } ?? .v6(address)
    }

    /// The address of a family in its IPv6 form: for IPv4 the last four bytes of the mapped form.
    @inlinable
    public init(_ family: AddressFamily, _ address: IPv6Address) {
        self = family.isIPv4 ? .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: address.low))) : .v6(address)
    }

    /// Whether this is the family's "any" address.
    public var isUnspecified: Bool {
        switch self {
        case .v4(let address): address.isUnspecified
        case .v6(let address): address.isUnspecified
        }
    }

    /// Whether this is a loopback address.
    public var isLoopback: Bool {
        switch self {
        case .v4(let address): address.isLoopback
        case .v6(let address): address.isLoopback
        }
    }

    /// Whether this is a multicast address.
    public var isMulticast: Bool {
        switch self {
        case .v4(let address): address.isMulticast
        case .v6(let address): address.isMulticast
        }
    }

    /// Whether this is 169.254.0.0/16 or fe80::/10.
    public var isLinkLocal: Bool {
        switch self {
        case .v4(let address): address.isLinkLocal
        case .v6(let address): address.isLinkLocal
        }
    }

    /// Whether this is 255.255.255.255.
    public var isBroadcast: Bool {
        v4?.isBroadcast ?? false
    }
}

extension IPAddress: CustomStringConvertible, Comparable {
    /// The canonical text of the address.
    public var description: String {
        switch self {
        case .v4(let address): address.description
        case .v6(let address): address.description
        }
    }

    /// Orders IPv4 before IPv6, then by number.
    public static func < (a: IPAddress, b: IPAddress) -> Bool {
        switch (a, b) {
        case (.v4(let a), .v4(let b)): a < b
        case (.v6(let a), .v6(let b)): a < b
        case (.v4, .v6): true
        case (.v6, .v4): false
        }
    }
}
