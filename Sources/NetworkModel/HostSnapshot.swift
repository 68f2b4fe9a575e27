// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The contents of resolv.conf(5).
public struct ResolverConfiguration: Hashable, Sendable {
    /// A name server with the zone of a link-local address.
    public struct Server: Hashable, Sendable {
        /// The address.
        public var address: IPAddress
        /// The zone after `%`, an interface name.
        public var zone: String?

        /// Makes a server.
        public init(_ address: IPAddress, zone: String? = nil) {
            self.address = address
            self.zone = zone
        }
    }

    /// The name servers in order.
    public var servers: [Server]
    /// The search list in order.
    public var search: [String]

    /// Makes a configuration; an empty one is a normal state (offline).
    public init(servers: [Server] = [], search: [String] = []) {
        self.servers = servers
        self.search = search
    }
}

/// The kernel's answer to "how would a packet to this destination leave?" (`RTM_GETROUTE` without dump).
public struct RouteLookup: Hashable, Sendable {
    /// The kernel's answer.
    public enum Answer: Hashable, Sendable {
        /// It would go out by this route.
        case route(interface: InterfaceIndex, gateway: IPAddress?, source: IPAddress?, table: RouteTable)
        /// It would be refused: an error route or no route, with the kernel's errno.
        case unreachable(errno: Int32)
    }

    /// The destination asked for.
    public var destination: IPAddress
    /// The answer.
    public var answer: Answer

    /// Makes a lookup's result.
    public init(destination: IPAddress, answer: Answer) {
        self.destination = destination
        self.answer = answer
    }
}

/// The host's network at one moment, as one value: the input of `plan()`.
public struct HostSnapshot: Hashable, Sendable {
    /// The number of the snapshot, counted from 1; only snapshots that differ are counted.
    ///
    /// ``hasSameContent(as:)`` does not compare it.
    public var epoch: UInt64
    /// The links in the kernel's order.
    public var links: [Link]
    /// The addresses of all links in the kernel's order.
    public var addresses: [InterfaceAddress]
    /// The unicast and error routes of every table but the local one, in the kernel's order.
    public var routes: [Route]
    /// The policy rules in order of priority.
    public var rules: [RoutingRule]
    /// The nexthop objects by identifier.
    public var nextHopObjects: [NextHopObject]
    /// Lookups of ``probe(_:)`` destinations, one for each family.
    public var lookups: [RouteLookup]
    /// The host's resolvers.
    public var resolvers: ResolverConfiguration

    /// Makes a snapshot.
    public init(
        epoch: UInt64 = 1, links: [Link] = [], addresses: [InterfaceAddress] = [], routes: [Route] = [],
        rules: [RoutingRule] = [], nextHopObjects: [NextHopObject] = [], lookups: [RouteLookup] = [],
        resolvers: ResolverConfiguration = .init()
    ) {
        self.epoch = epoch
        self.links = links
        self.addresses = addresses
        self.routes = routes
        self.rules = rules
        self.nextHopObjects = nextHopObjects
        self.lookups = lookups
        self.resolvers = resolvers
    }

    /// The destination whose route shows how packets to the Internet leave.
    ///
    /// Hosts never have these addresses, and only default routes match them (the documentation prefixes of RFC 5737 and
    /// RFC 3849).
    public static func probe(_ family: AddressFamily) -> IPAddress {
        switch family {
        case .v4: .v4(IPv4Address(203, 0, 113, 255))
        case .v6: .v6(IPv6Address(high: 0x2001_0DB8_FFFF_FFFF, low: 0xFFFF_FFFF_FFFF_FFFF))
        }
    }

    /// Whether everything but the epoch is equal.
    public func hasSameContent(as other: HostSnapshot) -> Bool {
        var copy = other
        copy.epoch = epoch
        return self == copy
    }

    /// The link with an index.
    public func link(_ index: InterfaceIndex) -> Link? {
        links.first { $0.index == index }
    }

    /// The link with a name.
    public func link(named name: String) -> Link? {
        links.first { $0.name == name }
    }
}
