// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Copies the template's routes for the namespace and puts them in an order in which each finds its gateway.
///
/// Theory of operation. Unicast routes of the main table through the template are copied. Of a multipath route only the
/// hops on the template are kept; nexthop objects are flattened. Metric, protocol, scope, route MTU and MSS, preference
/// and on-link are kept. The preferred source is kept if the namespace has that address, because IPv4 source selection
/// cannot distinguish a current address from a deprecated one otherwise. Else it is dropped, since the kernel would
/// refuse the route.
///
/// Connected routes (`proto kernel`) are not copied, since the namespace's kernel adds them with the addresses. There
/// are two exceptions. Those of `noprefixroute` addresses are copied: the kernel adds none for these, and
/// NetworkManager, which adds them on the host, marks them as the kernel's. And if the user gave the address (`-a`),
/// the namespace's kernel adds none of the host's connected routes. They are copied as routes on the link, without the
/// preferred source, so that the host's neighbours are neighbours in the namespace, too, and the routers among them can
/// be reached. Connected routes of addresses that are not copied are left out.
///
/// The kernel distinguishes routes by destination, source, metric and type of service. Of several that are equal in
/// these only the first is ever used, so only that one is copied.
struct RouteCopier {
    let snapshot: HostSnapshot
    let family: AddressFamily
    let template: Template
    /// The namespace's addresses of the family.
    let addresses: [PlannedAddress]
    /// Whether these are the user's (`-a`) and not copies of the template's.
    let areAddressesGiven: Bool
    /// The tables to copy: the routes of the first come before those of the others.
    var tables: [RouteTable] = [.main]
    /// Whether the other family works on the link, for IPv4 routes with IPv6 routers.
    let hasIPv6: Bool

    /// The routes, in an order in which they can be added.
    ///
    /// Routes that are left out are reported; for those that cannot work there is a warning.
    ///
    /// - Complexity: O(routes): one pass over the host's table and one over the copied routes.
    func copy(_ report: inout Report) -> [Route] {
        let connected = addresses.connectedRoutes
        var made = RouteIndex(capacity: connected.count)
        for position in connected.indices { made.insert(connected[position].identity.fingerprint, at: position) }
        var copies: [Route] = []
        copies.reserveCapacity(snapshot.routes.count)
        var index = RouteIndex(capacity: snapshot.routes.count)
        var leftOut: [Route] = []
        var sharing = HopSharing()
        report.beginTable()
        let routes = snapshot.routes.span
        for table in tables {
            for position in routes.indices where routes[position].isUnicast(of: family, in: table) {
                var copy = routes[position]
                copy.table = .main
                guard flatten(&copy, &sharing) else { continue }
                if let refusal = refusal(of: copy, connected: connected) {
                    if routes[position].isOnLink || copy.isOnLink { leftOut.append(copy) }
                    if report.reportsNextOmission() {
                        report.note(family, .routeLeftOut(copy, refusal), refusal.placement)
                    }
                    continue
                }
                let identity = copy.identity
                let fingerprint = identity.fingerprint
                let isKnown =
                    index.first(fingerprint) { copies[$0].identity == identity } != nil
                    || made.first(fingerprint) { connected[$0].identity == identity } != nil
                guard !isKnown else {
                    if report.reportsNextOmission() {
                        report.note(family, .routeLeftOut(copy, .shadowed), .remark)
                    }
                    continue
                }
                index.insert(fingerprint, at: copies.count)
                // This is not a closure, because captured values are copied, and this is the most expensive pass over a
                // large table.
                if report.reportsNextCopy() {
                    let hasAllHops = snapshot.nextHops(of: snapshot.routes[position]).count == copy.nextHops.count
                    report.note(family, .routeCopied(copy, onlyHopsOf: hasAllHops ? nil : template.link.name))
                }
                copies.append(copy)
            }
        }
        let ordered = ordered(copies, connected: connected, hostOnLink: leftOut, &report)
        report.endTable(family, of: template.link.name)
        return ordered
    }

    // MARK: One route

    /// The copy of a route through a router, if it depends on no other route; nil otherwise.
    func plainCopy(_ route: Route) -> Route? {
        var copy = route
        var sharing = HopSharing()
        guard flatten(&copy, &sharing), !copy.isOnLink else { return nil }
        let connected = addresses.connectedRoutes
        let isKnown = connected.contains { $0.identity == copy.identity }
        return isKnown || refusal(of: copy, connected: connected) != nil ? nil : copy
    }

    /// Makes consecutive routes with the same next hop share one array, since a table has few routers.
    private struct HopSharing {
        private var hop: NextHop?
        private var hops: [NextHop] = []

        mutating func array(_ new: NextHop) -> [NextHop] {
            if hop != new {
                hop = new
                hops = [new]
            }
            return hops
        }
    }

    /// Turns a route into the namespace's form; false if it has no next hop on the template.
    private func flatten(_ route: inout Route, _ sharing: inout HopSharing) -> Bool {
        let wasOnLink = route.isOnLink
        if route.nextHops.count == 1 {
            let hop = route.nextHops[0]
            guard hop.interface == template.link.index else { return false }
            route.nextHops = hop.flags.contains(.dead) ? [] : sharing.array(local(hop, isOnlyOne: true))
        } else {
            let hops = snapshot.nextHops(of: route)
            guard hops.contains(where: { $0.interface == template.link.index }) else { return false }
            route.nextHops = []
            for hop in hops where hop.interface == template.link.index && !hop.flags.contains(.dead) {
                let hop = local(hop, isOnlyOne: hops.count == 1)
                // IPv6 refuses two hops to one router, and they would be of no use.
                if !route.nextHops.contains(where: { $0.gateway == hop.gateway }) { route.nextHops.append(hop) }
            }
        }
        route.nextHopID = nil
        if let source = route.preferredSource, !addresses.contains(where: { $0.address == source }) {
            route.preferredSource = nil
        }
        if !route.isCanonical { route = route.canonical }
        if family == .v4, !wasOnLink, route.isOnLink { route.scope = .link }
        return true
    }

    /// The next hop in the namespace: without an interface, and without a router that its kernel would refuse.
    private func local(_ hop: NextHop, isOnlyOne: Bool) -> NextHop {
        var hop = hop
        if let gateway = hop.gateway, isUnusable(gateway) {
            hop.gateway = nil
            hop.flags.remove(.onLink)
        }
        hop.interface = nil
        hop.flags.formIntersection(.onLink)
        if isOnlyOne { hop.weight = 1 }
        return hop
    }

    /// Whether the kernel would refuse a router: an IPv6 router without IPv6, or the namespace's own address.
    private func isUnusable(_ gateway: IPAddress) -> Bool {
        gateway.family != family && !hasIPv6 || addresses.contains { $0.address == gateway }
    }

    private func refusal(of route: borrowing Route, connected: [Route]) -> Reason.RouteDefect? {
        guard !route.nextHops.isEmpty else { return .deadNextHops }
        if family == .v6, route.destination.address.isLinkLocal || route.destination.address.isMulticast {
            return .ofEveryLink
        }
        if let source = route.source, !addresses.contains(where: { source.contains($0.address) }) {
            return .foreignSource
        }
        guard route.protocol == .kernel else { return nil }
        if connected.contains(where: { $0.destination == route.destination }) {
            return .madeWithAddress
        }
        // The address is the user's: a route outside its subnet is on the link because it is on the host.
        if areAddressesGiven, route.isOnLink { return nil }
        let isOfUnroutedAddress = addresses.contains {
            $0.flags.contains(.noPrefixRoute) && $0.subnet == route.destination
        }
        return isOfUnroutedAddress ? nil : .ofAddressLeftOut
    }

    // MARK: Order

    /// Routes on the link first, then those whose gateways these reach.
    ///
    /// A router on a network that is not copied, and the router of a default route, get a route of their own. For the
    /// remaining routes there is a warning.
    private func ordered(
        _ copies: [Route], connected: [Route], hostOnLink: [Route], _ report: inout Report
    ) -> [Route] {
        var table = Reachability(connected)
        if inOrder(copies, table) { return copies }
        var result: [Route] = []
        result.reserveCapacity(copies.count)
        for route in copies where route.isOnLink {
            table.add(route)
            result.append(route)
        }
        var refused: [Route] = []
        for route in copies where !route.isOnLink {
            if table.accepts(route) {
                table.add(route)
                result.append(route)
            } else {
                refused.append(route)
            }
        }
        guard !refused.isEmpty else { return result }
        let taken = Set(connected.map(\.identity)).union(copies.lazy.map(\.identity))
        var made: Set<Route.Identity> = []
        for var route in refused {
            for index in route.nextHops.indices {
                guard let gateway = route.nextHops[index].gateway, gateway.family == family,
                    !table.accepts(Route(destination: route.destination, nextHops: [route.nextHops[index]])),
                    route.destination.isDefault || hostOnLink.contains(where: { $0.destination.contains(gateway) })
                else { continue }
                report.note(family, .routerRouteAdded(gateway))
                let host = Route.host(gateway)
                if taken.contains(host.identity) {
                    route.nextHops[index].flags.insert(.onLink)
                } else if made.insert(host.identity).inserted {
                    table.add(host)
                    result.append(host)
                }
            }
            if table.accepts(route) {
                table.add(route)
                result.append(route)
            } else {
                report.warnOfRoute(family, .routeUnreachable(route, of: template.link.name))
            }
        }
        return result
    }

    /// Whether each route finds its gateway in the present order, and no route on the link is behind others.
    ///
    /// This is nearly always true, so that a large table need not be copied and sorted.
    private func inOrder(_ copies: [Route], _ connected: Reachability) -> Bool {
        var table = connected
        var isPastLink = false
        let routes = copies.span
        for position in routes.indices {
            if !routes[position].isOnLink {
                isPastLink = true
                guard table.accepts(routes[position]) else { return false }
            } else if isPastLink {
                return false
            }
            if Reachability.matters(routes[position]) { table.add(routes[position]) }
        }
        return true
    }
}

extension Reason.RouteDefect {
    /// Whether a person may miss such a route.
    fileprivate var placement: Reason.Placement {
        switch self {
        case .shadowed, .deadNextHops, .foreignSource: .remark
        case .ofEveryLink, .madeWithAddress, .ofAddressLeftOut: .detail
        }
    }
}
