// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// What truly holds on the namespace's interface, as read back from its kernel: the left side of `diff()`.
///
/// Routes name no interface: a next hop's `interface` is nil and stands for the namespace's interface. Routes of the
/// main table only; routes of other interfaces of the namespace are left out.
public struct AppliedState: Hashable, Sendable {
    /// Who put an object there; only what is ours is ever changed or removed.
    ///
    /// Copied routes keep the host's protocol number, so a tag cannot tell: the one who applies operations remembers
    /// the identities of what it added (``adoptOwnership(from:)``).
    public enum Origin: Hashable, Sendable {
        /// Put there by tapas.
        case ours
        /// Made by the kernel: link-local addresses, connected routes.
        case kernel
        /// Put there by somebody in the namespace.
        case foreign
    }

    /// An address that is there.
    public struct Address: Hashable, Sendable {
        /// The address with the flags that the kernel reports.
        public var value: PlannedAddress
        /// Who put it there.
        public var origin: Origin

        /// Makes an address.
        public init(_ value: PlannedAddress, origin: Origin) {
            self.value = value
            self.origin = origin
        }
    }

    /// A route that is there.
    public struct RouteEntry: Hashable, Sendable {
        /// The route, next hops without interface.
        public var value: Route
        /// Who put it there.
        public var origin: Origin

        /// Makes a route.
        public init(_ value: Route, origin: Origin) {
            self.value = value
            self.origin = origin
        }
    }

    /// Whether the link is administratively up.
    public var isUp: Bool
    /// The link's MTU in bytes.
    public var mtu: UInt32
    /// The link's hardware address.
    public var mac: MACAddress?
    /// Whether secondary IPv4 addresses outlive their primary (sysctl `promote_secondaries`).
    public var promotesSecondaries: Bool
    /// The addresses in the kernel's order.
    public var addresses: [Address]
    /// The main table's routes through the link in the kernel's order.
    public var routes: [RouteEntry]

    /// Makes a state; the defaults are those of a new tap device.
    public init(
        isUp: Bool = false, mtu: UInt32 = 1500, mac: MACAddress? = nil, promotesSecondaries: Bool = false,
        addresses: [Address] = [], routes: [RouteEntry] = []
    ) {
        self.isUp = isUp
        self.mtu = mtu
        self.mac = mac
        self.promotesSecondaries = promotesSecondaries
        self.addresses = addresses
        self.routes = routes
    }

    /// The addresses that are ours.
    public var ourAddresses: Set<IPAddress> {
        Set(addresses.lazy.filter { $0.origin == .ours }.map(\.value.address))
    }

    /// Marks as ours each object that `earlier` knows as ours: the way to keep ownership over a fresh dump.
    public mutating func adoptOwnership(from earlier: AppliedState) {
        var ownership = Ownership()
        for entry in earlier.addresses where entry.origin == .ours { ownership.addresses.insert(entry.value.identity) }
        for entry in earlier.routes where entry.origin == .ours { ownership.routes.insert(entry.value.identity) }
        adopt(ownership)
    }

    /// Marks as ours each object that `ownership` names.
    public mutating func adopt(_ ownership: Ownership) {
        for index in addresses.indices where ownership.addresses.contains(addresses[index].value.identity) {
            addresses[index].origin = .ours
        }
        for index in routes.indices where ownership.routes.contains(routes[index].value.identity) {
            routes[index].origin = .ours
        }
    }

    /// What tapas has put on the interface, by what the kernel tells objects apart.
    public struct Ownership: Hashable, Sendable {
        /// The addresses.
        public var addresses: Set<PlannedAddress.Identity> = []
        /// The routes.
        public var routes: Set<Route.Identity> = []

        /// Begins with nothing.
        public init() {}

        /// Notes what an operation that was carried out has added or taken away.
        public mutating func note(_ operation: NamespaceOperation) {
            switch operation {
            case .addAddress(let address), .deprecateAddress(let address), .restoreAddress(let address):
                addresses.insert(address.identity)
            case .removeAddress(let address): addresses.remove(address.identity)
            case .addRoute(let route), .replaceRoute(let route): routes.insert(route.identity)
            case .removeRoute(let route): routes.remove(route.identity)
            case .setMAC, .setMTU, .setLinkUp, .setLinkUpBare, .setPromoteSecondaries, .resetFlows: break
            }
        }
    }
}

extension PlannedAddress {
    /// By what the kernel tells two addresses of a link apart.
    public struct Identity: Hashable, Sendable {
        private let address: IPAddress
        private let subnet: Prefix?

        /// IPv4: the address, and its own or its peer's network; IPv6: the address alone.
        init(_ address: PlannedAddress) {
            self.address = address.prefix.address
            subnet = address.prefix.family == .v4 ? address.subnet : nil
        }
    }

    /// By what the kernel tells this address apart from the link's others.
    public var identity: Identity { Identity(self) }
    /// The address itself.
    public var address: IPAddress { prefix.address }
    /// The family.
    public var family: AddressFamily { prefix.family }
    /// The network that the address stands in; that of its peer, if it has one.
    public var subnet: Prefix {
        (peer.flatMap { Prefix($0, length: prefix.length) } ?? prefix).network
    }
}

extension Route {
    /// By what the kernel tells two routes of a table apart when one is added exclusively or replaced.
    public struct Identity: Hashable, Sendable {
        /// The destination without host bits.
        public let destination: Prefix
        private let source: Prefix?
        private let metric: UInt32
        private let typeOfService: UInt8

        /// The identity folded into one number: equal identities have equal numbers, others hardly ever.
        ///
        /// For tables of a host's routes, of which there may be hundreds of thousands: folding costs a few nanoseconds.
        /// The number is not seeded; nobody but the host's administrator chooses routes.
        public var fingerprint: UInt64 {
            let place: UInt64
            switch destination.address {
            case .v4(let address): place = UInt64(address.rawValue)
            case .v6(let address): place = address.high &+ address.low &* 0x9E37_79B9_7F4A_7C15
            }
            let rest =
                UInt64(metric) << 24 | UInt64(typeOfService) << 8
                | UInt64(truncatingIfNeeded: destination.length)
            // The finaliser of splitmix64.
            var mixed = place &* 0xFF51_AFD7_ED55_8CCD ^ rest &* 0xC4CE_B9FE_1A85_EC53
            mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
            return mixed ^ mixed >> 31
        }

        /// Hashes the fingerprint: one word instead of seven.
        public func hash(into hasher: inout Hasher) {
            hasher.combine(fingerprint)
        }

        init(_ route: Route) {
            destination = route.destination.network
            source = route.source?.network
            metric = route.family == .v6 && route.metric == 0 ? Route.defaultIPv6Metric : route.metric
            typeOfService = route.family == .v4 ? route.typeOfService : 0
        }
    }

    /// The metric the kernel gives an IPv6 route that asks for none (`IP6_RT_PRIO_USER`).
    public static let defaultIPv6Metric: UInt32 = 1024

    /// By what the kernel tells this route apart from the table's others.
    public var identity: Identity { Identity(self) }
}
