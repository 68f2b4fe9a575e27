// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// The host interface that a family is modelled on.
struct Template {
    /// The interface.
    var link: Link
    /// Whether the user named it (`-i`, `--outbound-if4`, `--outbound-if6`).
    var isPinned: Bool
    /// Whether packets to everywhere leave through it: by a default route of the main table or by the kernel's lookup.
    var hasDefault: Bool
    /// The gateway of that default, if it has one of the same family.
    var gateway: IPAddress?
}

/// Chooses the template interface of a family and says why.
///
/// Theory of operation. A named interface is taken or nothing is. Else the kernel is asked where packets to the
/// Internet go (the snapshot holds its answer), because only the kernel knows its policy rules and VPN tables; and
/// only without a telling answer the main table is scanned as upstream does: defaults by metric, or, if there is no
/// default at all, the first other route that is not link-local. A candidate without carrier, or whose addresses are
/// all still tentative, is passed over for the next; one that has no address of the family ends the search, so that
/// the family is local.
///
/// Kill switch: an answer of "refused" that comes of an error route or rule is an answer, not the absence of a
/// default. The family becomes local then: its default stays, connections fail at once on the host, and the interface
/// below the VPN is never shown to the namespace in its place. Only "no route at all" (`ENETUNREACH`) is scanned past.
/// Routes made for the looked-up documentation network itself say nothing of the default, and are scanned past too.
struct TemplateChooser {
    /// An interface that some route leads through.
    private struct Candidate {
        var interface: InterfaceIndex
        var isDefault: Bool
        var cause: String
    }

    /// Whether a link will do.
    private enum Fitness {
        case fit
        case noCarrier
        case pending
        case noAddress(String)
    }

    let snapshot: HostSnapshot
    let configuration: Configuration
    let family: AddressFamily

    /// The template, or nil if no host interface can be one; each candidate's fate is noted.
    func choose(_ report: inout Report) -> Template? {
        if let name = configuration.templateInterface {
            return pinned(name, option: "-i", &report)
        }
        if let name = configuration.outboundInterfaces[family] {
            return pinned(name, option: family == .v4 ? "--outbound-if4" : "--outbound-if6", &report)
        }
        let lookup = snapshot.wayOut(family)
        var candidates = defaults()
        switch lookup {
        case .unknown(let why):
            report.note(family, "\(why); the main table decides")
            if candidates.isEmpty { candidates = others() }
        case .refused(let errno):
            report.note(
                family,
                "the host refuses the default (errno \(errno)): no interface is copied until it is back, lest the one "
                    + "below a VPN is shown", .mode)
            return nil
        case .leaves(let interface, _):
            let known = candidates.first { $0.interface == interface && $0.isDefault }
            candidates.removeAll { $0.interface == interface }
            let cause = "the kernel sends packets to everywhere through it" + (known.map { ", \($0.cause)" } ?? "")
            candidates.insert(Candidate(interface: interface, isDefault: true, cause: cause), at: 0)
        }
        return walk(candidates, lookup, &report)
    }

    private func walk(_ candidates: [Candidate], _ lookup: WayOut, _ report: inout Report) -> Template? {
        var chosen: Link?
        search: for candidate in candidates {
            guard let link = snapshot.link(candidate.interface) else { continue }
            if let chosen {
                report.note(family, "\(link.name) is not the template (\(candidate.cause)): \(chosen.name) comes first")
                continue
            }
            switch fitness(of: link, acceptsLinkLocal: false) {
            case .fit:
                report.note(family, "template \(link.name): \(candidate.cause)", .mode)
                chosen = link
            case .noCarrier:
                report.note(family, "\(link.name) is not the template (\(candidate.cause)): no carrier", .remark)
            case .pending:
                report.note(
                    family, "\(link.name) is not the template (\(candidate.cause)): its addresses are still tentative",
                    .remark)
            case .noAddress(let why):
                report.note(family, "\(link.name) is not the template (\(candidate.cause)): \(why)", .remark)
                if candidate.isDefault { break search }
            }
        }
        if candidates.isEmpty { report.note(family, "no host interface has a route that is not link-local", .mode) }
        return chosen.map { template($0, isPinned: false, lookup) }
    }

    private func pinned(_ name: String, option: String, _ report: inout Report) -> Template? {
        guard let link = snapshot.link(named: name) else {
            report.note(family, "\(name) (\(option)) is absent", .mode)
            return nil
        }
        switch fitness(of: link, acceptsLinkLocal: true) {
        case .fit:
            report.note(family, "template \(name): named with \(option)", .mode)
            return template(link, isPinned: true, snapshot.wayOut(family))
        case .noCarrier:
            report.note(family, "\(name) (\(option)) has no carrier", .mode)
        case .pending:
            report.note(family, "\(name) (\(option)): its addresses are still tentative", .mode)
        case .noAddress(let why):
            report.note(family, "\(name) (\(option)): \(why)", .mode)
        }
        return nil
    }

    // MARK: Candidates

    /// Interfaces of the main table's default routes, by metric.
    private func defaults() -> [Candidate] {
        var candidates: [Candidate] = []
        for route in snapshot.rankedDefaults(family) {
            add(route, isDefault: true, to: &candidates) {
                "default route\(route.source.map { " from \($0)" } ?? ""), metric \(route.metric)"
            }
        }
        return candidates
    }

    /// Interfaces of the main table's other routes, in the kernel's order.
    private func others() -> [Candidate] {
        var candidates: [Candidate] = []
        for route in snapshot.routes
        where route.isInMainTable(of: family) && !route.destination.isDefault && !route.destination.address.isLinkLocal
        {
            add(route, isDefault: false, to: &candidates) { "no default, route to \(route.destination)" }
        }
        return candidates
    }

    private func add(_ route: Route, isDefault: Bool, to candidates: inout [Candidate], cause: () -> String) {
        for hop in snapshot.nextHops(of: route) where !hop.flags.contains(.dead) {
            guard let interface = hop.interface, !candidates.contains(where: { $0.interface == interface }),
                let link = snapshot.link(interface), !link.isLoopback
            else { continue }
            candidates.append(Candidate(interface: interface, isDefault: isDefault, cause: cause()))
        }
    }

    private func fitness(of link: Link, acceptsLinkLocal: Bool) -> Fitness {
        guard link.hasCarrier else { return .noCarrier }
        if configuration.addresses[family] != nil { return .fit }
        let verdicts = snapshot.addresses(of: link.index, family).map(\.verdict)
        if verdicts.contains(.usable) || acceptsLinkLocal && verdicts.contains(.linkLocal) { return .fit }
        if verdicts.contains(.pending) { return .pending }
        return .noAddress(verdicts.isEmpty ? "it has no \(family) address" : "it has no usable \(family) address")
    }

    // MARK: The default through the template

    private func template(_ link: Link, isPinned: Bool, _ lookup: WayOut) -> Template {
        for route in snapshot.rankedDefaults(family) {
            let hops = snapshot.nextHops(of: route).filter { $0.interface == link.index && !$0.flags.contains(.dead) }
            guard !hops.isEmpty else { continue }
            // The heaviest hop on the template; the first of equals.
            let heaviest = hops.reduce(hops[0]) { $1.weight > $0.weight ? $1 : $0 }
            let gateway = heaviest.gateway?.family == family ? heaviest.gateway : nil
            return Template(link: link, isPinned: isPinned, hasDefault: true, gateway: gateway)
        }
        if case .leaves(link.index, let gateway) = lookup {
            return Template(link: link, isPinned: isPinned, hasDefault: true, gateway: gateway)
        }
        return Template(link: link, isPinned: isPinned, hasDefault: false, gateway: nil)
    }
}

extension Array {
    /// The elements by a key, equal ones in their order.
    func stablySorted(by key: (Element) -> some Comparable) -> [Element] {
        enumerated().sorted { a, b in
            let (left, right) = (key(a.element), key(b.element))
            return left == right ? a.offset < b.offset : left < right
        }.map(\.element)
    }
}
