// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

// Rules of the namespace's kernel that planning, diffing and simulation share. Each was tested on Linux 6.18 with
// iproute2 in a namespace of its own; `Tests/Fixtures/kernel-states.txt` has recordings.

extension Route {
    /// The route as the namespace's kernel reports it: properties that cannot differ there have one value.
    ///
    /// IPv6 routes have scope universe, no type of service, and metric 1024 if none was given. Preference medium is the
    /// absence of a preference; a single next hop has weight 1; of the next hop's flags only on-link is kept.
    var canonical: Route {
        // Nearly every route is canonical already, and there may be hundreds of thousands.
        if isCanonical { return self }
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

    /// Whether ``canonical`` would change nothing.
    var isCanonical: Bool {
        guard nextHopID == nil, destination.network == destination, source.map({ $0.network == $0 }) ?? true else {
            return false
        }
        switch family {
        case .v4: guard preference == nil else { return false }
        case .v6: guard scope == .universe, typeOfService == 0, metric != 0, preference != 0 else { return false }
        }
        if nextHops.count == 1 {
            return nextHops[0].interface == nil && nextHops[0].weight == 1 && nextHops[0].flags.isSubset(of: .onLink)
        }
        return nextHops.allSatisfy { hop in
            hop.interface == nil && hop.flags.isSubset(of: .onLink) && (hop.weight == 1 || nextHops.count > 1)
        }
    }

    /// Whether no next hop has a gateway.
    var isOnLink: Bool {
        nextHops.count == 1 ? nextHops[0].gateway == nil : nextHops.allSatisfy { $0.gateway == nil }
    }

    /// Whether two routes are equal: like `==`, which would copy them.
    func equals(_ other: borrowing Route) -> Bool {
        destination == other.destination && metric == other.metric && nextHops == other.nextHops
            && source == other.source && table == other.table && type == other.type && scope == other.scope
            && `protocol` == other.protocol && typeOfService == other.typeOfService
            && preferredSource == other.preferredSource && nextHopID == other.nextHopID && mtu == other.mtu
            && advertisedMSS == other.advertisedMSS && preference == other.preference
    }

    /// A route to one address on the link, which makes a router outside every subnet reachable.
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
    /// The flags that matter in the namespace.
    static let comparedFlags: InterfaceAddress.Flags = [.noPrefixRoute, .home]

    /// The scope that the kernel gives an IPv6 address, whatever was requested (RFC 4007 §4).
    static func scope(of address: IPAddress) -> RoutingScope {
        guard case .v6(let address) = address else { return .universe }
        if address.isLinkLocal { return .link }
        return address.high >> 54 == 0xFEC0 >> 6 ? .site : .universe
    }

    /// Whether two IPv4 addresses are in one subnet for the kernel: equal length, equal network.
    func isInSubnet(of other: PlannedAddress) -> Bool {
        family == .v4 && other.family == .v4 && subnet == other.subnet
    }

    /// The routes that the kernel adds when the address is added as a primary one to a link that is up.
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
    /// The routes that the kernel adds when the addresses are added in this order: none for secondary ones.
    var connectedRoutes: [Route] {
        indices.flatMap { index in
            let address = self[index]
            return self[..<index].contains { $0.isInSubnet(of: address) } ? [] : address.connectedRoutes
        }
    }
}

/// Determines whether the namespace's kernel would accept a route: whether each gateway is found on the link.
///
/// IPv4 (`fib_check_nh`): the longest match among routes of narrower scope than the new one's must be on the link.
/// IPv6 (`ip6_route_check_nh`): a link-local gateway always passes; else the longest match must be on the link.
/// A gateway with the on-link flag always passes. All of this concerns one link, the namespace's.
struct Reachability {
    private struct Entry: Equatable {
        var scope: RoutingScope
        var metric: UInt32
        var isOnLink: Bool
    }

    /// The routes by destination.
    private var table: [Prefix: [Entry]] = [:]
    /// The number of destinations of each length, so that a lookup tries only those lengths.
    private var lengths = PerFamily(
        v4: [Int](repeating: 0, count: AddressFamily.v4.addressBitCount + 1),
        v6: [Int](repeating: 0, count: AddressFamily.v6.addressBitCount + 1))
    /// The last answer: the routes of a large table have few gateways, and consecutive routes often have the same.
    private var last: (gateway: IPAddress, scope: RoutingScope, isReachable: Bool)?

    /// Makes the table of existing routes.
    init(_ routes: some Sequence<Route> = EmptyCollection<Route>()) {
        for route in routes { add(route) }
    }

    /// Whether a route needs no place in the table.
    ///
    /// A lookup without a source does not find a source-specific route, and a lookup for a router does not find an IPv4
    /// route of the widest scope.
    static func matters(_ route: borrowing Route) -> Bool {
        route.source == nil && (route.family == .v6 || route.scope != .universe)
    }

    private func entry(_ route: Route) -> Entry {
        let metric = route.family == .v6 && route.metric == 0 ? Route.defaultIPv6Metric : route.metric
        return Entry(scope: route.scope, metric: metric, isOnLink: route.isOnLink)
    }

    private mutating func forgetAnswer(for destination: Prefix) {
        if let gateway = last?.gateway, destination.contains(gateway) { last = nil }
    }

    /// Adds a present route.
    mutating func add(_ route: Route) {
        guard Self.matters(route) else { return }
        let destination = route.destination.network
        forgetAnswer(for: destination)
        if table[destination] == nil { lengths[route.family][destination.length] += 1 }
        table[destination, default: []].append(entry(route))
    }

    /// Removes a route that was added.
    mutating func remove(_ route: Route) {
        guard Self.matters(route) else { return }
        let destination = route.destination.network
        let entry = entry(route)
        guard let index = table[destination]?.firstIndex(of: entry) else { return }
        forgetAnswer(for: destination)
        table[destination]?.remove(at: index)
        guard table[destination]?.isEmpty ?? false else { return }
        table[destination] = nil
        lengths[route.family][destination.length] -= 1
    }

    /// Whether every gateway of a route can be reached.
    mutating func accepts(_ route: borrowing Route) -> Bool {
        for hop in route.nextHops {
            guard let gateway = hop.gateway, !hop.flags.contains(.onLink) else { continue }
            if case .v6(let address) = gateway, address.isLinkLocal { continue }
            if let last, last.gateway == gateway, last.scope == route.scope {
                guard last.isReachable else { return false }
                continue
            }
            let isReachable = reaches(gateway, from: route.scope)
            last = (gateway, route.scope, isReachable)
            guard isReachable else { return false }
        }
        return true
    }

    private func reaches(_ gateway: IPAddress, from scope: RoutingScope) -> Bool {
        let counts = lengths[gateway.family]
        for length in counts.indices.reversed() where counts[length] > 0 {
            guard let destination = Prefix(gateway, length: length)?.network, let entries = table[destination] else {
                continue
            }
            let found = entries.filter { gateway.family == .v6 || $0.scope.rawValue > scope.rawValue }
            if let best = found.min(by: { $0.metric < $1.metric }) { return best.isOnLink }
        }
        return false
    }
}
