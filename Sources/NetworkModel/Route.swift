// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// What happens to a packet that a route matches (`rtm_type`, rtnetlink(7)).
public struct RouteType: RawRepresentable, Hashable, Sendable {
    /// The kernel's number.
    public var rawValue: UInt8

    /// Makes a type from the kernel's number.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Forwarded to a next hop (`RTN_UNICAST`).
    public static let unicast = RouteType(rawValue: 1)
    /// Delivered to this host (`RTN_LOCAL`).
    public static let local = RouteType(rawValue: 2)
    /// Dropped in silence (`RTN_BLACKHOLE`).
    public static let blackhole = RouteType(rawValue: 6)
    /// Refused as unreachable (`RTN_UNREACHABLE`).
    public static let unreachable = RouteType(rawValue: 7)
    /// Refused by administration (`RTN_PROHIBIT`).
    public static let prohibit = RouteType(rawValue: 8)
    /// Lookup goes on in the next table (`RTN_THROW`).
    public static let `throw` = RouteType(rawValue: 9)
}

/// Who made a route (`rtm_protocol`, rtnetlink(7)).
public struct RouteProtocol: RawRepresentable, Hashable, Sendable {
    /// The kernel's number.
    public var rawValue: UInt8

    /// Makes a protocol from its number.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Made by the kernel with an address (`RTPROT_KERNEL`).
    public static let kernel = RouteProtocol(rawValue: 2)
    /// Made at boot or by hand with ip(8)'s default (`RTPROT_BOOT`).
    public static let boot = RouteProtocol(rawValue: 3)
    /// Made by an administrator (`RTPROT_STATIC`).
    public static let `static` = RouteProtocol(rawValue: 4)
}

/// A routing table's number (`RTA_TABLE`).
public struct RouteTable: RawRepresentable, Hashable, Sendable {
    /// The number.
    public var rawValue: UInt32

    /// Makes a table from its number.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// The main table (`RT_TABLE_MAIN`, 254).
    public static let main = RouteTable(rawValue: 254)
    /// The kernel's table of local addresses (`RT_TABLE_LOCAL`, 255).
    public static let local = RouteTable(rawValue: 255)
}

/// One next hop of a route (`struct rtnexthop`, or `RTA_OIF` and `RTA_GATEWAY`).
public struct NextHop: Hashable, Sendable {
    /// Flags of a next hop (`RTNH_F_*`).
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The kernel's bits.
        public let rawValue: UInt8

        /// Makes a set from the kernel's bits.
        public init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        /// Unusable (`RTNH_F_DEAD`).
        public static let dead = Flags(rawValue: 1)
        /// The gateway is on the link even if no address or route shows that (`RTNH_F_ONLINK`).
        public static let onLink = Flags(rawValue: 4)
        /// The link has no carrier (`RTNH_F_LINKDOWN`).
        public static let linkDown = Flags(rawValue: 16)
    }

    /// The output link; nil for route types that have none.
    public var interface: InterfaceIndex?
    /// The gateway; of the other family for `via inet6` (`RTA_VIA`); nil if the destination is on the link.
    public var gateway: IPAddress?
    /// The weight among a route's next hops, from 1.
    public var weight: Int
    /// The flags.
    public var flags: Flags

    /// Makes a next hop.
    public init(interface: InterfaceIndex?, gateway: IPAddress? = nil, weight: Int = 1, flags: Flags = []) {
        self.interface = interface
        self.gateway = gateway
        self.weight = weight
        self.flags = flags
    }
}

/// A route (`struct rtmsg`, rtnetlink(7)).
public struct Route: Hashable, Sendable {
    /// The destination; of length 0 for a default route.
    public var destination: Prefix
    /// The source prefix of an IPv6 source-specific route (`RTA_SRC`).
    public var source: Prefix?
    /// The table.
    public var table: RouteTable
    /// The type.
    public var type: RouteType
    /// The scope.
    public var scope: RoutingScope
    /// Who made it.
    public var `protocol`: RouteProtocol
    /// The metric (`RTA_PRIORITY`): the smallest wins.
    public var metric: UInt32
    /// The type of service the route is for (`rtm_tos`), IPv4 only.
    public var typeOfService: UInt8
    /// The source address that the host prefers on this route (`RTA_PREFSRC`).
    public var preferredSource: IPAddress?
    /// The next hops in the kernel's order; those of a nexthop object are filled in.
    public var nextHops: [NextHop]
    /// The nexthop object the route refers to (`RTA_NH_ID`).
    public var nextHopID: UInt32?
    /// The route's own MTU in bytes (`RTAX_MTU`).
    public var mtu: UInt32?
    /// The advertised maximum segment size in bytes (`RTAX_ADVMSS`).
    public var advertisedMSS: UInt32?
    /// The IPv6 router preference (`RTA_PREF`): 0 medium, 1 high, 3 low.
    public var preference: UInt8?

    /// Makes a route; the defaults are those of `ip route add`.
    public init(
        destination: Prefix, source: Prefix? = nil, table: RouteTable = .main, type: RouteType = .unicast,
        scope: RoutingScope = .universe, protocol: RouteProtocol = .boot, metric: UInt32 = 0,
        typeOfService: UInt8 = 0, preferredSource: IPAddress? = nil, nextHops: [NextHop] = [],
        nextHopID: UInt32? = nil, mtu: UInt32? = nil, advertisedMSS: UInt32? = nil, preference: UInt8? = nil
    ) {
        self.destination = destination
        self.source = source
        self.table = table
        self.type = type
        self.scope = scope
        self.protocol = `protocol`
        self.metric = metric
        self.typeOfService = typeOfService
        self.preferredSource = preferredSource
        self.nextHops = nextHops
        self.nextHopID = nextHopID
        self.mtu = mtu
        self.advertisedMSS = advertisedMSS
        self.preference = preference
    }

    /// The family.
    public var family: AddressFamily { destination.family }
    /// Whether the destination is the whole family.
    public var isDefault: Bool { destination.isDefault && source == nil }
}

/// A nexthop object (`struct nhmsg`, `ip nexthop`).
public struct NextHopObject: Hashable, Sendable {
    /// The identifier.
    public var id: UInt32
    /// The next hop, unless the object is a group or a blackhole.
    public var hop: NextHop?
    /// The members of a group with their weights, from 1.
    public var group: [(id: UInt32, weight: Int)] {
        members.map { ($0.id, $0.weight) }
    }
    /// Whether packets are dropped (`NHA_BLACKHOLE`).
    public var isBlackhole: Bool

    private var members: [Member]

    private struct Member: Hashable, Sendable {
        var id: UInt32
        var weight: Int
    }

    /// Makes a nexthop object.
    public init(id: UInt32, hop: NextHop?, group: [(id: UInt32, weight: Int)] = [], isBlackhole: Bool = false) {
        self.id = id
        self.hop = hop
        self.members = group.map { Member(id: $0.id, weight: $0.weight) }
        self.isBlackhole = isBlackhole
    }
}

/// A policy rule (`struct fib_rule_hdr`, `ip rule`), with what matters to notice a change; the kernel evaluates rules.
public struct RoutingRule: Hashable, Sendable {
    /// The family.
    public var family: AddressFamily
    /// The priority: the smallest is evaluated first.
    public var priority: UInt32
    /// The table that is looked up.
    public var table: RouteTable
    /// The action (`FR_ACT_*`).
    public var action: UInt8
    /// All attributes of the message in the kernel's order, for comparison only.
    public var fingerprint: [UInt8]

    /// Makes a rule.
    public init(family: AddressFamily, priority: UInt32, table: RouteTable, action: UInt8, fingerprint: [UInt8] = []) {
        self.family = family
        self.priority = priority
        self.table = table
        self.action = action
        self.fingerprint = fingerprint
    }
}
