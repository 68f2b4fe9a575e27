// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// Everything that the built-in ARP, NDP, Router Advertisement, DHCP and DHCPv6 services announce to the namespace.
///
/// `plan()` makes it for every mode of a family, and it is published with the ``TranslationRules``. A change of the
/// host reaches the services as a new value.
public struct ServiceSettings: Hashable, Sendable {
    /// The lifetime that never ends, in every protocol that has one.
    public static let infinite = UInt32.max

    /// The services that can be switched off.
    public struct Services: OptionSet, Hashable, Sendable {
        /// One bit for each service.
        public let rawValue: UInt8

        /// Makes a set from its bits.
        public init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        /// The DHCP server: not `--no-dhcp`.
        public static let dhcpv4 = Services(rawValue: 1)
        /// The DHCPv6 server: not `--no-dhcpv6`.
        public static let dhcpv6 = Services(rawValue: 2)
        /// Router Advertisements: neither `--no-ra` nor `--config-net`.
        public static let routerAdvertisements = Services(rawValue: 4)
        /// Answers to Neighbour Solicitations: neither `--no-ndp` nor `--no-icmp`.
        public static let neighborDiscovery = Services(rawValue: 8)
        /// All of them.
        public static let all: Services = [.dhcpv4, .dhcpv6, .routerAdvertisements, .neighborDiscovery]
    }

    /// A route of the DHCP option for classless static routes (RFC 3442).
    public struct StaticRoute: Hashable, Sendable {
        /// The destination; host bits are zero.
        public var destination: Prefix
        /// The router; unspecified if the destination is on the link.
        public var router: IPv4Address

        /// Makes a route.
        public init(destination: Prefix, router: IPv4Address) {
            self.destination = destination
            self.router = router
        }

        /// The length of the route in the option, in bytes: the length, the significant bytes, the router.
        public var optionLength: Int { 1 + (destination.length + 7) / 8 + 4 }
    }

    /// What the services announce about IPv4.
    public struct IPv4: Hashable, Sendable {
        /// Whether the family is in use.
        public var isEnabled = false
        /// The namespace's address with its prefix length.
        public var guestAddress: Prefix?
        /// The source address of the DHCP server; on a link without a router one of 169.254.0.0/16.
        public var serverAddress: IPv4Address?
        /// The default router; nil if there is none.
        public var router: IPv4Address?
        /// The DNS servers; empty to announce none.
        public var dnsServers: [IPv4Address] = []
        /// The routes for clients that accept more than a router, at most 255 bytes of an option.
        ///
        /// The default route is among them. The list is empty if the router alone is sufficient.
        public var routes: [StaticRoute] = []
        /// The namespace's addresses; ARP requests for them are never answered.
        public var guestAddresses: Set<IPv4Address> = []
        /// The addresses that stand for tapas or for the host, at ``ServiceSettings/gatewayMAC``.
        public var ownAddresses: Set<IPv4Address> = []
        /// The addresses that are mapped to the host; a real neighbour's hardware address is never given for them.
        public var mappedAddresses: Set<IPv4Address> = []

        /// Makes the settings of a family that is not in use.
        public init() {}
    }

    /// A prefix of a Router Advertisement (RFC 4861 §4.6.2).
    public struct AdvertisedPrefix: Hashable, Sendable {
        /// The prefix; host bits are zero.
        public var prefix: Prefix
        /// Whether its addresses are on the link.
        public var isOnLink: Bool
        /// Whether the namespace may form addresses in it; only for length 64.
        public var isAutonomous: Bool

        /// Makes a prefix.
        public init(_ prefix: Prefix, isOnLink: Bool, isAutonomous: Bool) {
            self.prefix = prefix
            self.isOnLink = isOnLink
            self.isAutonomous = isAutonomous
        }
    }

    /// A route of a Router Advertisement (RFC 4191 §2.3).
    public struct AdvertisedRoute: Hashable, Sendable {
        /// The destination; host bits are zero.
        public var destination: Prefix
        /// The router's preference: 0 medium, 1 high, 3 low.
        public var preference: UInt8

        /// Makes a route.
        public init(destination: Prefix, preference: UInt8 = 0) {
            self.destination = destination
            self.preference = preference
        }
    }

    /// What the services announce about IPv6.
    public struct IPv6: Hashable, Sendable {
        /// Whether the family is in use.
        public var isEnabled = false
        /// The address that DHCPv6 assigns, with the prefix length that it has on the host; nil if there is none.
        public var guestAddress: Prefix?
        /// The link-local address that tapas uses.
        public var ownAddress: IPv6Address?
        /// The gateway as the host knows it.
        public var gateway: IPv6Address?
        /// Whether tapas is a default router.
        public var isDefaultRouter = false
        /// The prefixes to advertise.
        public var prefixes: [AdvertisedPrefix] = []
        /// The routes to advertise besides the default one.
        public var routes: [AdvertisedRoute] = []
        /// The DNS servers; empty to announce none.
        public var dnsServers: [IPv6Address] = []
        /// The namespace's addresses; Neighbour Solicitations for them are never answered.
        public var guestAddresses: Set<IPv6Address> = []
        /// The addresses that are mapped to the host; a real neighbour's hardware address is never given for them.
        public var mappedAddresses: Set<IPv6Address> = []

        /// Makes the settings of a family that is not in use.
        public init() {}
    }

    /// The services that are on.
    public var services: Services = []
    /// Whether tapas programs the namespace itself (`--config-net`); then only clients that were seen are notified.
    public var configuresNamespace = false
    /// Whether the carrier may be toggled on a change: not `--no-carrier-toggle`.
    public var togglesCarrier = true
    /// IPv4.
    public var v4 = IPv4()
    /// IPv6.
    public var v6 = IPv6()
    /// The hardware address that stands for the gateway and everything else on the link.
    public var gatewayMAC = MACAddress.defaultGateway
    /// The MTU in bytes; nil to announce none.
    public var mtu: UInt32?
    /// The lifetime of leases, prefixes, routers and resolvers, in seconds; ``infinite`` never ends.
    public var leaseTime: UInt32 = 120
    /// The lease of a DHCP client that calls itself udhcp, in seconds: ``Configuration/udhcpcLeaseTime``.
    public var udhcpcLeaseTime: UInt32 = 90
    /// The search domains; empty to announce none.
    public var searchDomains: [String] = []
    /// The namespace's host name (`-H`).
    public var hostName: String?
    /// The namespace's full name (`--fqdn`).
    public var fullName: String?
    /// The host's links whose neighbours the namespace can reach, too: the templates.
    public var neighbourLinks = PerFamily<InterfaceIndex?>(v4: nil, v6: nil)

    /// Makes settings with nothing in use.
    public init() {}
}
