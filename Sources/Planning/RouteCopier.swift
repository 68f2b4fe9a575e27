// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Copies the template's routes for the namespace and puts them in an order in which each finds its gateway.
///
/// Theory of operation. What is copied (reference: addressing, 5.2): unicast routes of the main table through the
/// template. Of a multipath route only the hops on the template are kept; nexthop objects are flattened. Metric,
/// protocol, scope, route MTU and MSS, preference and on-link stay as they are. The preferred source stays if that
/// address is one of the namespace's, because IPv4 source selection has no other way to tell a current address from
/// a deprecated one; otherwise it is dropped, for the kernel would refuse the route.
///
/// Connected routes (`proto kernel`) are left to the namespace's kernel, which makes them with the addresses. There are
/// two exceptions. Those of `noprefixroute` addresses are copied: the kernel makes none for these, and what made them on
/// the host (NetworkManager) marks them as the kernel's. And where the user gave the address (`-a`), the namespace's
/// kernel makes none of the host's: they are copied as routes on the link, without the preferred source, so that the
/// host's neighbours are neighbours in the namespace too and the routers among them can be reached. Otherwise connected
/// routes of addresses that are not copied stay out.
///
/// The kernel tells routes apart by destination, source, metric and type of service; of several that are equal in
/// these only the first is ever used, so only that is copied.
struct RouteCopier {
    let snapshot: HostSnapshot
    let family: AddressFamily
    let template: Template
    /// The namespace's addresses of the family.
    let addresses: [PlannedAddress]
    /// Whether these are the user's (`-a`) and not copies of the template's.
    let areAddressesGiven: Bool
    /// Whether the other family can be spoken on the link, for IPv4 routes by way of IPv6 routers.
    let hasIPv6: Bool

    /// The routes in an order to add them; each that stays out is noted, each that cannot work is warned of.
    func copy(_ report: inout Report) -> [Route] {
        let connected = addresses.connectedRoutes
        var seen = Set(connected.map(\.identity))
        var copies: [Route] = []
        var leftOut: [Route] = []
        for route in snapshot.mainRoutes(family) {
            let hops = snapshot.nextHops(of: route)
            guard hops.contains(where: { $0.interface == template.link.index }) else { continue }
            let copy = flattened(
                route, hops.filter { $0.interface == template.link.index && !$0.flags.contains(.dead) })
            if let refusal = refusal(of: copy, connected: connected) {
                if route.isOnLink || copy.isOnLink { leftOut.append(copy) }
                report.note(family, "route \(copy.text) is left out: \(refusal.text)", refusal.weight)
            } else if !seen.insert(copy.identity).inserted {
                report.note(family, "route \(copy.text) is left out: the kernel uses another one in its place", .remark)
            } else {
                report.note(family, "route \(copy.text) is copied" + change(from: hops, to: copy))
                copies.append(copy)
            }
        }
        return ordered(copies, connected: connected, hostOnLink: leftOut, &report)
    }

    // MARK: One route

    private func flattened(_ route: Route, _ hops: [NextHop]) -> Route {
        var copy = route
        copy.nextHops = []
        for var hop in hops {
            if let gateway = hop.gateway, isUnusable(gateway) {
                hop.gateway = nil
                hop.flags.remove(.onLink)
            }
            // Two hops to one router are refused by IPv6, and no use anyway.
            if !copy.nextHops.contains(where: { $0.gateway == hop.gateway }) { copy.nextHops.append(hop) }
        }
        if let source = copy.preferredSource, !addresses.contains(where: { $0.address == source }) {
            copy.preferredSource = nil
        }
        copy = copy.canonical
        if family == .v4, copy.isOnLink, route.isOnLink == false { copy.scope = .link }
        return copy
    }

    /// Whether the kernel would refuse a router: one of IPv6 without IPv6, or one that is the namespace itself.
    private func isUnusable(_ gateway: IPAddress) -> Bool {
        gateway.family != family && !hasIPv6 || addresses.contains { $0.address == gateway }
    }

    private func change(from hops: [NextHop], to copy: Route) -> String {
        hops.count == copy.nextHops.count ? "" : " with the next hops that are on \(template.link.name)"
    }

    private func refusal(of route: Route, connected: [Route]) -> (text: String, weight: Reason.Weight)? {
        guard !route.nextHops.isEmpty else { return ("its next hops are dead", .remark) }
        if family == .v6, route.destination.address.isLinkLocal || route.destination.address.isMulticast {
            return ("every link has its own", .detail)
        }
        if let source = route.source, !addresses.contains(where: { source.contains($0.address) }) {
            return ("it is for sources that the namespace does not have", .remark)
        }
        guard route.protocol == .kernel else { return nil }
        if connected.contains(where: { $0.destination == route.destination }) {
            return ("the kernel makes it with the address", .detail)
        }
        // The address is the user's: what its own subnet does not cover is on the link because the host says so.
        if areAddressesGiven { return nil }
        let isOfUnroutedAddress = addresses.contains {
            $0.flags.contains(.noPrefixRoute) && $0.subnet == route.destination
        }
        return isOfUnroutedAddress ? nil : ("it belongs to an address that is not copied", .detail)
    }

    // MARK: Order

    /// Routes on the link first, then those whose gateways these reach.
    ///
    /// A router that the host has on a network which is not copied, and the router of a default, get a route of their
    /// own; other leftovers are warned of.
    private func ordered(
        _ copies: [Route], connected: [Route], hostOnLink: [Route], _ report: inout Report
    ) -> [Route] {
        var table = Reachability(connected)
        var result: [Route] = []
        func accept(_ route: Route) {
            table.add(route)
            result.append(route)
        }
        var waiting: [Route] = []
        for route in copies {
            if route.isOnLink { accept(route) } else { waiting.append(route) }
        }
        var refused: [Route] = []
        for route in waiting {
            if table.accepts(route) { accept(route) } else { refused.append(route) }
        }
        let taken = Set((connected + copies).map(\.identity))
        for route in refused {
            var route = route
            for index in route.nextHops.indices {
                guard let gateway = route.nextHops[index].gateway, gateway.family == family,
                    !table.accepts(Route(destination: route.destination, nextHops: [route.nextHops[index]])),
                    route.destination.isDefault || hostOnLink.contains(where: { $0.destination.contains(gateway) })
                else { continue }
                report.note(family, "router \(gateway) is outside the namespace's networks: it is made one on the link")
                let host = Route.host(gateway)
                if taken.contains(host.identity) {
                    route.nextHops[index].flags.insert(.onLink)
                } else if !result.contains(where: { $0.identity == host.identity }) {
                    accept(host)
                }
            }
            if table.accepts(route) {
                accept(route)
            } else {
                report.warn(
                    family, "route \(route.text) of \(template.link.name) is skipped: its gateway is unreachable")
            }
        }
        return result
    }
}
