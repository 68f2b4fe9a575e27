// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The actual state of the namespace's interface, as read back from its kernel: the left side of `diff()`.
///
/// Routes name no interface: the `interface` of a next hop is nil and stands for the namespace's interface. Only routes
/// of the main table are included, and none of the namespace's other interfaces.
public struct AppliedState: Hashable, Sendable {
    /// Who added an object; only our own objects are ever changed or removed.
    ///
    /// Copied routes keep the host's protocol number, so the protocol cannot mark them. The code that applies
    /// operations remembers the identities of what it added (``adoptOwnership(from:)``).
    public enum Origin: Hashable, Sendable {
        /// Added by tapas.
        case ours
        /// Made by the kernel: link-local addresses, connected routes.
        case kernel
        /// Added by another program in the namespace.
        case foreign
    }

    /// An existing address.
    public struct Address: Hashable, Sendable {
        /// The address with the flags that the kernel reports.
        public var value: PlannedAddress
        /// Who added it.
        public var origin: Origin

        /// Makes an address.
        public init(_ value: PlannedAddress, origin: Origin) {
            self.value = value
            self.origin = origin
        }
    }

    /// An existing route.
    public struct RouteEntry: Hashable, Sendable {
        /// The route, next hops without interface.
        public var value: Route
        /// Who added it.
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

    /// Marks each object as ours that `earlier` marks so, which keeps ownership across dumps.
    public mutating func adoptOwnership(from earlier: AppliedState) {
        var ownership = Ownership()
        for entry in earlier.addresses where entry.origin == .ours { ownership.addresses.insert(entry.value.identity) }
        for entry in earlier.routes where entry.origin == .ours { ownership.routes.insert(entry.value.identity) }
        adopt(ownership)
    }

    /// Marks each object as ours that `ownership` names.
    public mutating func adopt(_ ownership: Ownership) {
        for index in addresses.indices where ownership.addresses.contains(addresses[index].value.identity) {
            addresses[index].origin = .ours
        }
        for index in routes.indices where ownership.routes.contains(routes[index].value.identity) {
            routes[index].origin = .ours
        }
    }

    /// What tapas has added to the interface, by the keys that the kernel uses to distinguish objects.
    public struct Ownership: Hashable, Sendable {
        /// The addresses.
        public var addresses: Set<PlannedAddress.Identity> = []
        /// The routes.
        public var routes: Set<Route.Identity> = []

        /// Begins with nothing.
        public init() {}

        /// Each object folded into one number, in no order.
        public var fingerprints: [UInt64] {
            addresses.map(\.fingerprint) + routes.map(\.fingerprint)
        }

        /// What of a state has one of these ``fingerprints``.
        public init(_ fingerprints: Set<UInt64>, in state: AppliedState) {
            for entry in state.addresses where fingerprints.contains(entry.value.identity.fingerprint) {
                addresses.insert(entry.value.identity)
            }
            for entry in state.routes where fingerprints.contains(entry.value.identity.fingerprint) {
                routes.insert(entry.value.identity)
            }
        }

        /// Records what a completed operation has added or removed.
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

extension IPAddress {
    /// The address folded into one number.
    fileprivate var fold: UInt64 {
        switch self {
        case .v4(let address): UInt64(address.rawValue)
        case .v6(let address): address.high &+ address.low &* 0x9E37_79B9_7F4A_7C15
        }
    }
}

extension PlannedAddress {
    /// The key by which the kernel distinguishes two addresses of a link.
    public struct Identity: Hashable, Sendable {
        private let address: IPAddress
        private let subnet: Prefix?

        /// IPv4: the address, and its own or its peer's network; IPv6: the address alone.
        init(_ address: PlannedAddress) {
            self.address = address.prefix.address
            subnet = address.prefix.family == .v4 ? address.subnet : nil
        }

        /// The identity folded into one number, as ``Route/Identity/fingerprint``.
        public var fingerprint: UInt64 {
            var mixed = address.fold &* 0xC2B2_AE3D_27D4_EB4F ^ UInt64(address.family == .v4 ? 4 : 6)
            if let subnet { mixed = (mixed ^ subnet.address.fold) &* 0xC4CE_B9FE_1A85_EC53 &+ UInt64(subnet.length) }
            mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
            return mixed ^ mixed >> 31
        }
    }

    /// The key by which the kernel distinguishes this address from others of the link.
    public var identity: Identity { Identity(self) }
    /// The address itself.
    public var address: IPAddress { prefix.address }
    /// The family.
    public var family: AddressFamily { prefix.family }
    /// The network of the address, or of its peer, if it has one.
    public var subnet: Prefix {
        (peer.flatMap { Prefix($0, length: prefix.length) } ?? prefix).network
    }
}

extension Route {
    /// The key by which the kernel distinguishes two routes of a table, for exclusive addition and replacement.
    public struct Identity: Hashable, Sendable {
        /// The destination without host bits.
        public let destination: Prefix
        private let source: Prefix?
        private let metric: UInt32
        private let typeOfService: UInt8

        /// The identity folded into one number: equal identities have equal numbers, and different ones hardly ever do.
        ///
        /// It is for tables of a host's routes, of which there may be hundreds of thousands: folding costs a few
        /// nanoseconds. The number is not seeded, since only the host's administrator chooses routes.
        public var fingerprint: UInt64 {
            let place = destination.address.fold
            let rest =
                UInt64(metric) << 24 | UInt64(typeOfService) << 8
                | UInt64(truncatingIfNeeded: destination.length)
            // The finaliser of splitmix64.
            var mixed = place &* 0xFF51_AFD7_ED55_8CCD ^ rest &* 0xC4CE_B9FE_1A85_EC53
            mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
            return mixed ^ mixed >> 31
        }

        /// Hashes the folded number: one word instead of seven.
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

    /// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
    public static let defaultIPv6Metric: UInt32 = 1024

    /// The key by which the kernel distinguishes this route from others of the table.
    public var identity: Identity { Identity(self) }
}
