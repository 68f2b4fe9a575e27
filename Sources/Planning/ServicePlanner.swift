// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Makes the settings of the built-in services from the families' plans.
///
/// A namespace that is not programmed gets one IPv4 address by DHCP, and every IPv6 prefix of the plan by Router
/// Advertisements; DHCPv6 assigns one address in these.
struct ServicePlanner {
    /// The greatest length of the DHCP option for static routes, in bytes.
    private static let mostRouteBytes = 255
    /// The greatest number of routes in it, of at least five bytes each.
    private static let mostStaticRoutes = 51
    /// The greatest number of prefixes and routes in a Router Advertisement, which must fit the smallest MTU of IPv6.
    private static let mostPrefixes = 12
    private static let mostRoutes = 16
    /// The greatest number of resolvers of a family.
    private static let mostResolvers = 3
    /// The greatest number of search domains.
    private static let mostDomains = 6

    let snapshot: HostSnapshot
    let configuration: Configuration
    let plans: PerFamily<FamilyPlan>
    let templates: PerFamily<Template?>
    let rules: TranslationRules

    /// The settings; what cannot be announced is reported.
    func settings(_ report: inout Report) -> ServiceSettings {
        var settings = ServiceSettings()
        settings.services = configuration.services
        // A programmed namespace needs no announcements, but its DHCP clients are served.
        if configuration.configuresNamespace { settings.services.remove(.routerAdvertisements) }
        settings.configuresNamespace = configuration.configuresNamespace
        settings.togglesCarrier = configuration.togglesCarrier
        settings.gatewayMAC = configuration.gatewayMAC
        settings.mtu = configuration.mtu
        settings.leaseTime = configuration.leaseTime
        settings.udhcpcLeaseTime = configuration.udhcpcLeaseTime
        settings.hostName = configuration.hostName
        settings.fullName = configuration.fullName
        if configuration.announcesSearchList { settings.searchDomains = searchDomains }
        if plans.v4.mode != .off { settings.v4 = ipv4(&report) }
        if plans.v6.mode != .off { settings.v6 = ipv6(&report) }
        for family in AddressFamily.allCases { settings.neighbourLinks[family] = templates[family]?.link.index }
        if configuration.announcesResolvers, settings.v4.dnsServers.isEmpty, settings.v6.dnsServers.isEmpty {
            report.warn(nil, .noResolverToAnnounce(isSuppressed: configuration.suppressesDNS))
        }
        return settings
    }

    private var searchDomains: [String] {
        Array((configuration.searchDomains ?? snapshot.resolvers.search).prefix(Self.mostDomains))
    }

    /// The namespace's addresses: those that are programmed, or the one that is announced.
    private func guestAddresses(_ family: AddressFamily) -> [IPAddress] {
        let plan = plans[family]
        let planned = configuration.configuresNamespace ? plan.addresses.map(\.address) : []
        return planned + [plan.guestAddress?.address].compactMap(\.self)
    }

    private func mappedAddresses(_ family: AddressFamily) -> [IPAddress] {
        let rules = rules.families[family]
        return [rules.hostLoopback, rules.mappedGuestAddress, rules.dnsForward].compactMap(\.self)
    }

    // MARK: IPv4

    private func ipv4(_ report: inout Report) -> ServiceSettings.IPv4 {
        let plan = plans.v4
        var settings = ServiceSettings.IPv4()
        settings.isEnabled = true
        settings.guestAddress = plan.guestAddress
        // A gateway with the namespace's own address is not a router.
        settings.router = plan.gateway == plan.guestAddress?.address ? nil : plan.gateway?.v4
        settings.serverAddress = settings.router ?? Local.gateway(.v4).v4
        settings.dnsServers = resolvers(.v4).compactMap(\.v4)
        settings.guestAddresses = Set(guestAddresses(.v4).compactMap(\.v4))
        settings.mappedAddresses = Set(mappedAddresses(.v4).compactMap(\.v4))
        settings.ownAddresses = settings.mappedAddresses
            .union([settings.serverAddress, plan.ownAddress?.v4, plan.gateway?.v4].compactMap(\.self))
            .subtracting(settings.guestAddresses)
        if let guest = plan.guestAddress { settings.routes = staticRoutes(guest, router: settings.router, &report) }
        return settings
    }

    /// The routes that do not follow from the address and the router.
    ///
    /// If there are any, the default route is among them, because a client that uses this option ignores the router
    /// (RFC 3442).
    private func staticRoutes(
        _ guest: Prefix, router: IPv4Address?, _ report: inout Report
    ) -> [ServiceSettings.StaticRoute] {
        let onLink = IPv4Address.unspecified
        var found: [(route: ServiceSettings.StaticRoute, metric: UInt32)] = []
        var defaultRoute: (route: ServiceSettings.StaticRoute, metric: UInt32)?
        var extra = 0
        // There may be 100,000 routes, of which a few dozen fit: each is examined once, in place.
        let routes = plans.v4.routes.span
        for position in routes.indices where routes[position].type == .unicast && routes[position].typeOfService == 0 {
            if found.count == Self.mostStaticRoutes, !routes[position].destination.isDefault {
                if routes[position].destination.length != guest.length
                    || routes[position].destination.network != guest.network
                {
                    extra += 1
                }
                continue
            }
            let route = routes[position]
            let destination = route.destination.network
            guard destination != guest.network else { continue }
            let gateway = route.nextHops.first?.gateway?.v4
            // A router that the namespace cannot reach on its own network is on the link: ARP is answered for every
            // address.
            let isReachable =
                gateway.map { gateway in
                    guest.contains(.v4(gateway))
                        || found.contains { $0.route.destination == Prefix(host: .v4(gateway)) }
                } ?? false
            let entry = (
                ServiceSettings.StaticRoute(destination: destination, router: isReachable ? gateway ?? onLink : onLink),
                route.metric
            )
            // Of equal destinations, the kernel uses the one with the smallest metric.
            if destination.isDefault {
                if defaultRoute.map({ $0.metric > route.metric }) ?? true { defaultRoute = entry }
            } else if let index = found.firstIndex(where: { $0.route.destination == destination }) {
                if found[index].metric > route.metric { found[index] = entry }
            } else {
                found.append(entry)
            }
        }
        var others = found.map(\.route)
        let needsHostRoute = router.map { !guest.contains(.v4($0)) } ?? false
        if others.isEmpty, !needsHostRoute, defaultRoute.map({ $0.route.router == router }) ?? true { return [] }
        var room = Self.mostRouteBytes - (defaultRoute?.route.optionLength ?? 0)
        let count = others.count + extra
        others = others.filter { route in
            guard route.optionLength <= room else { return false }
            room -= route.optionLength
            return true
        }
        if others.count < count {
            report.note(.v4, .dhcpRoutesDropped(count - others.count, of: count))
        }
        return others + [defaultRoute?.route].compactMap(\.self)
    }

    // MARK: IPv6

    private func ipv6(_ report: inout Report) -> ServiceSettings.IPv6 {
        let plan = plans.v6
        var settings = ServiceSettings.IPv6()
        settings.isEnabled = true
        settings.ownAddress = plan.ownAddress?.v6
        settings.gateway = plan.gateway?.v6
        if let guest = plan.guestAddress, !guest.address.isLinkLocal {
            // The plan has the prefix length of the host.
            settings.guestAddress = plan.addresses.first { $0.address == guest.address }?.prefix ?? guest
        }
        settings.dnsServers = resolvers(.v6).compactMap(\.v6)
        settings.guestAddresses = Set(guestAddresses(.v6).compactMap(\.v6))
        settings.mappedAddresses = Set(mappedAddresses(.v6).compactMap(\.v6))
        // Without a host network the namespace has only its link, and a default router would only delay failures. In
        // opaque mode it has one nevertheless, because nothing in it may change.
        if plan.mode != .local {
            settings.isDefaultRouter = plan.routes.hasOne { $0.destination.isDefault && $0.type == .unicast }
        }
        var prefixes: [ServiceSettings.AdvertisedPrefix] = []
        // In opaque mode the host's addresses are not announced, because they come and go.
        for address in plan.addresses where !address.address.isLinkLocal && plan.mode != .opaque {
            let network = address.prefix.network
            let half = Prefix(address.address, length: 64)?.network
            if network.length < 128, network.length > 0, network != half {
                add(.init(network, isOnLink: true, isAutonomous: false), to: &prefixes)
            }
            if let half { add(.init(half, isOnLink: network == half, isAutonomous: true), to: &prefixes) }
        }
        var extra = 0
        for route in plan.routes where route.type == .unicast && !route.destination.isDefault && route.source == nil {
            let network = route.destination.network
            let isOnLink = route.isOnLink && network.length < 128
            if isOnLink ? prefixes.count >= Self.mostPrefixes : settings.routes.count >= Self.mostRoutes {
                extra += 1
            } else if isOnLink {
                add(.init(network, isOnLink: true, isAutonomous: false), to: &prefixes)
            } else if !route.isOnLink, !settings.routes.contains(where: { $0.destination == network }) {
                settings.routes.append(.init(destination: network, preference: route.preference ?? 0))
            }
        }
        extra += max(0, prefixes.count - Self.mostPrefixes)
        if extra > 0 {
            report.note(.v6, .advertisementDropped(extra))
        }
        settings.prefixes = Array(prefixes.prefix(Self.mostPrefixes))
        return settings
    }

    private func add(
        _ prefix: ServiceSettings.AdvertisedPrefix, to prefixes: inout [ServiceSettings.AdvertisedPrefix]
    ) {
        if let index = prefixes.firstIndex(where: { $0.prefix == prefix.prefix }) {
            prefixes[index].isOnLink = prefixes[index].isOnLink || prefix.isOnLink
            prefixes[index].isAutonomous = prefixes[index].isAutonomous || prefix.isAutonomous
        } else {
            prefixes.append(prefix)
        }
    }

    // MARK: Resolvers

    /// The resolvers to announce.
    ///
    /// These are the servers of `-D`; else the address of `--dns-forward`, which never changes; else the host's
    /// servers, where one that the namespace cannot reach is replaced by the address that is forwarded to it.
    private func resolvers(_ family: AddressFamily) -> [IPAddress] {
        guard configuration.announcesResolvers else { return [] }
        let given = configuration.dnsServers.filter { $0.family == family }
        if !given.isEmpty { return given }
        if let forward = configuration.dnsForward[family] { return [forward] }
        if configuration.networkMode == .opaque { return [rules.families[family].dnsForward].compactMap(\.self) }
        guard !configuration.suppressesDNS else { return [] }
        let rules = rules.families[family]
        var result: [IPAddress] = []
        for server in snapshot.resolvers.servers where server.address.family == family {
            let isHidden =
                server.address.isLoopback || server.address.isUnspecified || server.address == rules.hostLoopback
            if !isHidden, let zone = server.zone, zone != templates[family]?.link.name { continue }
            guard let address = isHidden ? rules.dnsForward : server.address, !result.contains(address) else {
                continue
            }
            result.append(address)
        }
        return Array(result.prefix(Self.mostResolvers))
    }
}
