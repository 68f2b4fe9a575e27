// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// The host interface that a family is modelled on.
struct Template {
    /// The interface.
    var link: Link
    /// Whether the user named it (`-i`, `--outbound-if4`, `--outbound-if6`).
    var isPinned: Bool
    /// Whether it carries default traffic, by a default route of the main table or by the kernel's lookup.
    var hasDefault: Bool
    /// The gateway of that default, if it has one of the same family.
    var gateway: IPAddress?
}

/// Chooses the template interface of a family, with the reasons.
///
/// Theory of operation. If an interface is named, only that one can be the template. Otherwise the kernel is asked
/// where packets to the Internet go (the snapshot contains its answer), because only the kernel knows its policy rules
/// and VPN tables. Only if the answer says nothing, the main table is searched as upstream does: default routes by
/// metric, or, if there is no default route, the first other route that is not link-local. A candidate without carrier,
/// or with tentative addresses only, is skipped; a candidate without an address of the family ends the search, so that
/// the family is local.
///
/// Kill switch: an answer of "refused" that comes from an error route or rule is an answer, not the absence of a
/// default route. The family becomes local then: connections fail at once on the host, and the interface below the VPN
/// never becomes the template instead. Only after "no route at all" (`ENETUNREACH`) the search goes on. Routes to the
/// looked-up documentation network itself say nothing about the default route, so the search goes on then, too.
struct TemplateChooser {
    /// An interface through which some route leads.
    private struct Candidate {
        var interface: InterfaceIndex
        var rank: Reason.Rank

        var isDefault: Bool {
            if case .otherRoute = rank { false } else { true }
        }
    }

    let snapshot: HostSnapshot
    let configuration: Configuration
    let family: AddressFamily

    /// The template, or nil if no host interface can be one; the result for each candidate is reported.
    func choose(_ report: inout Report) -> Template? {
        if configuration.networkMode == .transparent { return mirrored(&report) }
        if let name = configuration.templateInterface {
            return pinned(name, option: "-i", &report)
        }
        if let name = configuration.outboundInterfaces[family] {
            return pinned(name, option: family == .v4 ? "--outbound-if4" : "--outbound-if6", &report)
        }
        let lookup = snapshot.defaultRouteLookup(family)
        var candidates = defaults()
        switch lookup {
        case .unknown(let why):
            report.note(family, .lookupInconclusive(why))
            if candidates.isEmpty { candidates = others() }
        case .refused(let errno):
            report.note(family, .defaultRefused(errno: errno), .mode)
            return nil
        case .link(let interface, _):
            var known: Reason.DefaultRoute?
            if case .defaultRoute(let route)? = candidates.first(where: { $0.interface == interface })?.rank {
                known = route
            }
            candidates.removeAll { $0.interface == interface }
            candidates.insert(Candidate(interface: interface, rank: .kernel(known)), at: 0)
        }
        return walk(candidates, lookup, &report)
    }

    private func walk(_ candidates: [Candidate], _ lookup: DefaultRouteLookup, _ report: inout Report) -> Template? {
        var chosen: Link?
        search: for candidate in candidates {
            guard let link = snapshot.link(candidate.interface) else { continue }
            if let chosen {
                report.note(family, .candidate(.init(link.name, candidate.rank, .outranked(by: chosen.name))))
                continue
            }
            let fitness = self.fitness(of: link, acceptsLinkLocal: false)
            report.note(
                family, .candidate(.init(link.name, candidate.rank, .judged(fitness))),
                fitness == .fit ? .mode : .remark)
            switch fitness {
            case .fit: chosen = link
            case .noAddress, .noUsableAddress: if candidate.isDefault { break search }
            case .noCarrier, .tentative, .absent: break
            }
        }
        if candidates.isEmpty { report.note(family, .noCandidate, .mode) }
        return chosen.map { template($0, isPinned: false, lookup) }
    }

    /// The interface of `--mode transparent`, in any state.
    private func mirrored(_ report: inout Report) -> Template? {
        let name = configuration.templateInterface ?? ""
        guard let link = snapshot.link(named: name) else {
            report.note(family, .mirrors(name, .absent), .mode)
            return nil
        }
        report.note(family, .mirrors(name, link.hasCarrier ? .fit : .noCarrier), .mode)
        return template(link, isPinned: true, .unknown(.notAsked), snapshot.reachedTables(family))
    }

    private func pinned(_ name: String, option: String, _ report: inout Report) -> Template? {
        guard let link = snapshot.link(named: name) else {
            report.note(family, .namedInterface(name, option: option, .absent), .mode)
            return nil
        }
        let fitness = self.fitness(of: link, acceptsLinkLocal: true)
        report.note(family, .namedInterface(name, option: option, fitness), .mode)
        return fitness == .fit ? template(link, isPinned: true, snapshot.defaultRouteLookup(family)) : nil
    }

    // MARK: Candidates

    /// Interfaces of the main table's default routes, by metric.
    private func defaults() -> [Candidate] {
        var candidates: [Candidate] = []
        for route in snapshot.rankedDefaults(family) {
            add(route, .defaultRoute(.init(source: route.source, metric: route.metric)), to: &candidates)
        }
        return candidates
    }

    /// Interfaces of the main table's other routes, in the kernel's order.
    private func others() -> [Candidate] {
        var candidates: [Candidate] = []
        for route in snapshot.routes
        where route.isInMainTable(of: family) && !route.destination.isDefault && !route.destination.address.isLinkLocal
        {
            add(route, .otherRoute(to: route.destination), to: &candidates)
        }
        return candidates
    }

    private func add(_ route: Route, _ rank: Reason.Rank, to candidates: inout [Candidate]) {
        for hop in snapshot.nextHops(of: route) where !hop.flags.contains(.dead) {
            guard let interface = hop.interface, !candidates.contains(where: { $0.interface == interface }),
                let link = snapshot.link(interface), !link.isLoopback
            else { continue }
            candidates.append(Candidate(interface: interface, rank: rank))
        }
    }

    private func fitness(of link: Link, acceptsLinkLocal: Bool) -> Reason.Fitness {
        guard link.hasCarrier else { return .noCarrier }
        if !configuration.explicitAddresses(of: family).isEmpty { return .fit }
        let verdicts = snapshot.addresses(of: link.index, family).map(\.verdict)
        if verdicts.contains(.usable) || acceptsLinkLocal && verdicts.contains(.linkLocal) { return .fit }
        if verdicts.contains(.refused(.tentative)) { return .tentative }
        return verdicts.isEmpty ? .noAddress : .noUsableAddress
    }

    // MARK: The default through the template

    private func template(
        _ link: Link, isPinned: Bool, _ lookup: DefaultRouteLookup, _ tables: [RouteTable] = [.main]
    ) -> Template {
        for route in tables.flatMap({ snapshot.rankedDefaults(family, in: $0) }) {
            let hops = snapshot.nextHops(of: route).filter { $0.interface == link.index && !$0.flags.contains(.dead) }
            guard !hops.isEmpty else { continue }
            // The hop with the greatest weight on the template; the first of equal ones.
            let heaviest = hops.reduce(hops[0]) { $1.weight > $0.weight ? $1 : $0 }
            let gateway = heaviest.gateway?.family == family ? heaviest.gateway : nil
            return Template(link: link, isPinned: isPinned, hasDefault: true, gateway: gateway)
        }
        if case .link(link.index, let gateway) = lookup {
            return Template(link: link, isPinned: isPinned, hasDefault: true, gateway: gateway)
        }
        return Template(link: link, isPinned: isPinned, hasDefault: false, gateway: nil)
    }
}

extension Array {
    /// The elements sorted by a key; equal ones keep their order.
    func stablySorted(by key: (Element) -> some Comparable) -> [Element] {
        enumerated().sorted { a, b in
            let (left, right) = (key(a.element), key(b.element))
            return left == right ? a.offset < b.offset : left < right
        }.map(\.element)
    }
}
