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

    /// The routes that the kernel makes when the address is added as a primary one to a link that is up.
    var connectedRoutes: [Route] {
        guard !flags.contains(.noPrefixRoute) else { return [] }
        switch family {
        case .v4:
            let isZero = subnet.address.v4.map { $0.rawValue >> 24 == 0 } ?? true
            guard !isZero, prefix.length < 32 || subnet.address != address else { return [] }
            return [
                Route(
                    destination: subnet, scope: .link, protocol: .kernel, preferredSource: address,
                    nextHops: [NextHop(interface: nil)])
            ]
        case .v6:
            let destinations = peer == nil ? [subnet] : [Prefix(host: address), subnet]
            return destinations.map {
                Route(destination: $0, protocol: .kernel, metric: 256, nextHops: [NextHop(interface: nil)])
            }
        }
    }
}

/// Says whether the namespace's kernel would take a route: whether each gateway is found on the link.
///
/// IPv4 (`fib_check_nh`): the longest match among routes of narrower scope than the new one's must be on the link.
/// IPv6 (`ip6_route_check_nh`): a link-local gateway always passes; else the longest match must be on the link.
/// An on-link flag passes always. All of it for one link, the namespace's.
struct Reachability {
    private struct Entry {
        var destination: Prefix
        var scope: RoutingScope
        var isOnLink: Bool
    }

    private var entries: [Entry] = []

    /// Makes the table of routes that are there.
    init(_ routes: some Sequence<Route> = EmptyCollection<Route>()) {
        for route in routes { add(route) }
    }

    /// Adds a route that is there.
    mutating func add(_ route: Route) {
        entries.append(
            Entry(destination: route.destination.network, scope: route.scope, isOnLink: route.isOnLink))
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
        var best: Entry?
        for entry in entries where entry.destination.contains(gateway) {
            if gateway.family == .v4, entry.scope.rawValue <= route.scope.rawValue { continue }
            if let current = best {
                let (new, old) = (entry.destination.length, current.destination.length)
                if new < old || new == old && (current.isOnLink || !entry.isOnLink) { continue }
            }
            best = entry
        }
        return best?.isOnLink ?? false
    }
}
