// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

// The rules of the namespace's kernel that planning, comparing and simulating share. Each was tried on Linux 6.18
// with iproute2 in a namespace of its own.

extension Route {
    /// The route as the namespace's kernel reports it back: what cannot differ there is set to one value.
    ///
    /// IPv6 routes have scope universe, no type of service, and metric 1024 where none was asked for; preference
    /// medium is the absence of one; a single next hop has weight 1; of the next hop's flags only on-link is kept.
    var canonical: Route {
        var route = self
        route.destination = destination.network
        route.source = source?.network
        route.nextHopID = nil
        route.nextHops = nextHops.map { hop in
            NextHop(
                interface: nil, gateway: hop.gateway, weight: nextHops.count == 1 ? 1 : hop.weight,
                flags: hop.flags.intersection(.onLink))
        }
        if route.preference == 0 { route.preference = nil }
        if family == .v6 {
            route.scope = .universe
            route.typeOfService = 0
            if route.metric == 0 { route.metric = Route.defaultIPv6Metric }
        } else {
            route.preference = nil
        }
        return route
    }

    /// Whether no next hop has a gateway.
    var isOnLink: Bool {
        nextHops.allSatisfy { $0.gateway == nil }
    }

    /// A route to one address on the link, by which a router outside every subnet is reached.
    static func host(_ address: IPAddress) -> Route {
        Route(
            destination: Prefix(host: address), scope: address.family == .v4 ? .link : .universe,
            nextHops: [NextHop(interface: nil)]
        ).canonical
    }

    /// A default route as tapas makes it; without a gateway, everything is on the link.
    static func `default`(_ family: AddressFamily, via gateway: IPAddress?) -> Route {
        Route(
            destination: Prefix(default: family), scope: family == .v4 && gateway == nil ? .link : .universe,
            nextHops: [NextHop(interface: nil, gateway: gateway)]
        ).canonical
    }
}

extension PlannedAddress {
    /// The flags that make a difference in the namespace.
    static let comparedFlags: InterfaceAddress.Flags = [.noPrefixRoute, .home]

    /// The scope that the kernel gives an IPv6 address, whatever was asked for (RFC 4007 §4).
    static func scope(of address: IPAddress) -> RoutingScope {
        guard case .v6(let address) = address else { return .universe }
        if address.isLinkLocal { return .link }
        return address.high >> 54 == 0xFEC0 >> 6 ? .site : .universe
    }

    /// Whether two IPv4 addresses make one subnet for the kernel: equal length, equal network.
    func isInSubnet(of other: PlannedAddress) -> Bool {
        family == .v4 && other.family == .v4 && subnet == other.subnet
    }

    /// The routes that the kernel makes when the address is added as a primary one to a link that is up.
    var connectedRoutes: [Route] {
        let hasPrefixRoute = !flags.contains(.noPrefixRoute)
        switch family {
        case .v4:
            guard hasPrefixRoute else { return [] }
            let isZero = subnet.address.v4.map { $0.rawValue >> 24 == 0 } ?? true
            guard !isZero, prefix.length < 32 || subnet.address != address else { return [] }
            return [
                Route(
                    destination: subnet, scope: .link, protocol: .kernel, preferredSource: address,
                    nextHops: [NextHop(interface: nil)])
            ]
        case .v6:
            let destinations = (hasPrefixRoute ? [prefix.network] : []) + (peer.map { [Prefix(host: $0)] } ?? [])
            return destinations.map {
                Route(destination: $0, protocol: .kernel, metric: 256, nextHops: [NextHop(interface: nil)])
            }
        }
    }
}

extension [PlannedAddress] {
    /// The routes that the kernel makes when the addresses are added in their order: none for secondary ones.
    var connectedRoutes: [Route] {
        indices.flatMap { index in
            let address = self[index]
            return self[..<index].contains { $0.isInSubnet(of: address) } ? [] : address.connectedRoutes
        }
    }
}

/// Says whether the namespace's kernel would take a route: whether each gateway is found on the link.
///
/// IPv4 (`fib_check_nh`): the longest match among routes of narrower scope than the new one's must be on the link.
/// IPv6 (`ip6_route_check_nh`): a link-local gateway always passes; else the longest match must be on the link.
/// An on-link flag passes always. All of it for one link, the namespace's.
struct Reachability {
    private struct Entry: Equatable {
        var scope: RoutingScope
        var metric: UInt32
        var isOnLink: Bool
    }

    /// The routes by destination.
    private var table: [Prefix: [Entry]] = [:]
    /// How many destinations there are of each length, so that a lookup tries those lengths only.
    private var lengths: PerFamily<[Int: Int]> = .init(v4: [:], v6: [:])

    /// Makes the table of routes that are there.
    init(_ routes: some Sequence<Route> = EmptyCollection<Route>()) {
        for route in routes { add(route) }
    }

    /// A source-specific route is not found in a lookup without a source, an IPv4 route of the widest scope for no
    /// router: neither needs a place in the table.
    private func matters(_ route: Route) -> Bool {
        route.source == nil && (route.family == .v6 || route.scope != .universe)
    }

    private func entry(_ route: Route) -> Entry {
        Entry(scope: route.scope, metric: route.canonical.metric, isOnLink: route.isOnLink)
    }

    /// Adds a route that is there.
    mutating func add(_ route: Route) {
        guard matters(route) else { return }
        let destination = route.destination.network
        if table[destination] == nil { lengths[route.family][destination.length, default: 0] += 1 }
        table[destination, default: []].append(entry(route))
    }

    /// Removes a route that was added.
    mutating func remove(_ route: Route) {
        guard matters(route) else { return }
        let destination = route.destination.network
        let entry = entry(route)
        guard let index = table[destination]?.firstIndex(of: entry) else { return }
        table[destination]?.remove(at: index)
        guard table[destination]?.isEmpty ?? false else { return }
        table[destination] = nil
        lengths[route.family][destination.length, default: 1] -= 1
        if lengths[route.family][destination.length] == 0 { lengths[route.family][destination.length] = nil }
    }

    /// Whether every gateway of a route can be reached.
    func accepts(_ route: Route) -> Bool {
        route.nextHops.allSatisfy { hop in
            guard let gateway = hop.gateway, !hop.flags.contains(.onLink) else { return true }
            return reaches(gateway, for: route)
        }
    }

    private func reaches(_ gateway: IPAddress, for route: Route) -> Bool {
        if case .v6(let address) = gateway, address.isLinkLocal { return true }
        for length in lengths[gateway.family].keys.sorted(by: >) {
            guard let destination = Prefix(gateway, length: length)?.network, let entries = table[destination] else {
                continue
            }
            let found = entries.filter { gateway.family == .v6 || $0.scope.rawValue > route.scope.rawValue }
            if let best = found.min(by: { $0.metric < $1.metric }) { return best.isOnLink }
        }
        return false
    }
}
