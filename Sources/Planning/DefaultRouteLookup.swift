// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// The kernel's answer to the lookup of the probe: whether there is a default route, and through which link.
enum DefaultRouteLookup {
    /// The lookup does not tell, for this reason.
    case unknown(Reason.LookupGap)
    /// An error route or rule refuses the packets.
    case refused(errno: Int32)
    /// The default route leads through this link.
    case link(InterfaceIndex, gateway: IPAddress?)
}

extension HostSnapshot {
    /// `ENETUNREACH` on every Linux architecture that tapas runs on (errno(3)).
    private static let networkUnreachable: Int32 = 101

    /// The kernel's answer to the lookup of a family's probe.
    func defaultRouteLookup(_ family: AddressFamily) -> DefaultRouteLookup {
        let probe = Self.probe(family)
        guard let lookup = lookups.first(where: { $0.destination == probe }) else {
            return .unknown(.notAsked)
        }
        // VPNs split the default route into parts of up to this length; a longer prefix is a route of the documentation
        // network itself.
        let longest = family == .v4 ? 15 : 23
        switch lookup.answer {
        case .unreachable(Self.networkUnreachable):
            return .unknown(.noRoute)
        case .unreachable(let errno):
            var shortest: Int?
            for position in routes.positions(where: {
                $0.type != .unicast && $0.type != .throw && $0.destination.contains(probe)
            }) {
                shortest = min(shortest ?? .max, routes[position].destination.length)
            }
            if let shortest, shortest > longest { return .unknown(.refusedByOwnRoute(probe)) }
            return .refused(errno: errno)
        case .route(let interface, let gateway, _, let table):
            guard table != .local, let link = link(interface), !link.isLoopback else {
                return .unknown(.isLocal(probe))
            }
            let matching = routes.picked {
                $0.destination.length > longest && $0.table == table && $0.type == .unicast
                    && $0.destination.contains(probe)
            }
            if matching.contains(where: { nextHops(of: $0).contains { $0.interface == interface } }) {
                return .unknown(.ownRoute(probe))
            }
            return .link(interface, gateway: gateway?.family == family ? gateway : nil)
        }
    }

    /// The link of the default route.
    ///
    /// It is the kernel's answer, else the main table's best default route; nil if there is none, or packets are
    /// refused.
    func defaultInterface(_ family: AddressFamily) -> InterfaceIndex? {
        switch defaultRouteLookup(family) {
        case .link(let interface, _): return interface
        case .refused: return nil
        case .unknown:
            for route in rankedDefaults(family) {
                for hop in nextHops(of: route) where !hop.flags.contains(.dead) {
                    if let interface = hop.interface, let link = link(interface), !link.isLoopback { return interface }
                }
            }
            return nil
        }
    }

    /// The main table's default routes of a family, the best first: those for every source, then by metric.
    func rankedDefaults(_ family: AddressFamily, in table: RouteTable = .main) -> [Route] {
        routes.picked { $0.destination.isDefault && $0.isUnicast(of: family, in: table) }
            .stablySorted(by: \.defaultRank)
    }

    /// The tables that a family's policy rules look up, in the rules' order and regardless of their selectors; only the
    /// main one if there are no rules.
    func reachedTables(_ family: AddressFamily) -> [RouteTable] {
        var tables: [RouteTable] = []
        for rule in rules.stablySorted(by: \.priority)
        where rule.family == family && rule.action == Self.lookUpTable && rule.table != .local
            && !tables.contains(rule.table)
        {
            tables.append(rule.table)
        }
        return tables.isEmpty ? [.main] : tables
    }

    /// The action of a rule that looks a table up (`FR_ACT_TO_TBL` in linux/fib_rules.h).
    private static let lookUpTable: UInt8 = 1
}

extension Link {
    /// Whether the link leads only to the host itself.
    var isLoopback: Bool { index == .loopback || flags.contains(.loopback) }
}

extension Route {
    /// Orders default routes: those for every source first, then by metric.
    fileprivate var defaultRank: UInt64 {
        (source == nil ? 0 : 1 << 32) | UInt64(metric)
    }
}
