// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// How far an address or route is valid (`RT_SCOPE_*`, rtnetlink(7)).
public struct RoutingScope: RawRepresentable, Hashable, Sendable {
    /// The kernel's number: the larger, the narrower.
    public var rawValue: UInt8

    /// Makes a scope from the kernel's number.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Everywhere (`RT_SCOPE_UNIVERSE`).
    public static let universe = RoutingScope(rawValue: 0)
    /// Site (`RT_SCOPE_SITE`), IPv6 only.
    public static let site = RoutingScope(rawValue: 200)
    /// The link (`RT_SCOPE_LINK`).
    public static let link = RoutingScope(rawValue: 253)
    /// The host (`RT_SCOPE_HOST`).
    public static let host = RoutingScope(rawValue: 254)
}

/// An address on an interface (`struct ifaddrmsg`, rtnetlink(7)).
public struct InterfaceAddress: Hashable, Sendable {
    /// Address flags: the 32 bits of `IFA_FLAGS`.
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The kernel's bits.
        public let rawValue: UInt32

        /// Makes a set from the kernel's bits.
        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// Secondary, for IPv4; temporary, for IPv6 (`IFA_F_SECONDARY`, `IFA_F_TEMPORARY`: one bit).
        public static let secondary = Flags(rawValue: 0x01)
        /// No duplicate address detection (`IFA_F_NODAD`).
        public static let noDuplicateDetection = Flags(rawValue: 0x02)
        /// Usable before duplicate detection has ended (`IFA_F_OPTIMISTIC`).
        public static let optimistic = Flags(rawValue: 0x04)
        /// Duplicate detection failed (`IFA_F_DADFAILED`).
        public static let duplicate = Flags(rawValue: 0x08)
        /// A home address (`IFA_F_HOMEADDRESS`).
        public static let home = Flags(rawValue: 0x10)
        /// Not to be used for new flows (`IFA_F_DEPRECATED`).
        public static let deprecated = Flags(rawValue: 0x20)
        /// Duplicate detection still runs (`IFA_F_TENTATIVE`).
        public static let tentative = Flags(rawValue: 0x40)
        /// No lifetime (`IFA_F_PERMANENT`).
        public static let permanent = Flags(rawValue: 0x80)
        /// Template for temporary addresses (`IFA_F_MANAGETEMPADDR`).
        public static let manageTemporary = Flags(rawValue: 0x100)
        /// No prefix route is made with the address (`IFA_F_NOPREFIXROUTE`).
        public static let noPrefixRoute = Flags(rawValue: 0x200)
        /// Joined its multicast group (`IFA_F_MCAUTOJOIN`).
        public static let multicastAutoJoin = Flags(rawValue: 0x400)
        /// A stable privacy address (`IFA_F_STABLE_PRIVACY`).
        public static let stablePrivacy = Flags(rawValue: 0x800)
    }

    /// The link that has the address.
    public var interface: InterfaceIndex
    /// The address with its prefix length (`IFA_LOCAL`, or `IFA_ADDRESS` where that is absent).
    public var prefix: Prefix
    /// The other end of a point-to-point address (`IFA_ADDRESS` where it differs from the local one).
    public var peer: IPAddress?
    /// The broadcast address (`IFA_BROADCAST`).
    public var broadcast: IPv4Address?
    /// The scope.
    public var scope: RoutingScope
    /// The flags.
    public var flags: Flags

    /// Makes an address.
    ///
    /// Lifetimes are left out on purpose: their refresh changes nothing that we do.
    public init(
        interface: InterfaceIndex, prefix: Prefix, peer: IPAddress? = nil, broadcast: IPv4Address? = nil,
        scope: RoutingScope = .universe, flags: Flags = []
    ) {
        self.interface = interface
        self.prefix = prefix
        self.peer = peer
        self.broadcast = broadcast
        self.scope = scope
        self.flags = flags
    }

    /// The address itself.
    public var address: IPAddress { prefix.address }
    /// The family.
    public var family: AddressFamily { prefix.family }
    /// Whether duplicate detection runs and the address may not be used yet.
    public var isTentative: Bool { flags.contains(.tentative) && !flags.contains(.optimistic) }
    /// Whether this is an IPv6 temporary address (RFC 8981).
    public var isTemporary: Bool { family == .v6 && flags.contains(.secondary) }
    /// Whether this is an IPv4 secondary address.
    public var isSecondary: Bool { family == .v4 && flags.contains(.secondary) }
}

/// The time that an address lives from now, in seconds; nil is for ever (`struct ifa_cacheinfo`).
public struct AddressLifetime: Hashable, Sendable {
    /// The time until it is deleted.
    public var valid: UInt32?
    /// The time until it is deprecated; not above ``valid``.
    public var preferred: UInt32?

    /// Makes a lifetime.
    public init(valid: UInt32?, preferred: UInt32?) {
        self.valid = valid
        self.preferred = preferred
    }

    /// For ever, and preferred.
    public static let infinite = AddressLifetime(valid: nil, preferred: nil)
    /// For ever, but deprecated.
    public static let deprecated = AddressLifetime(valid: nil, preferred: 0)
}
