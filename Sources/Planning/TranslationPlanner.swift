// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Makes the data path's rules from the families' plans.
struct TranslationPlanner {
    let snapshot: HostSnapshot
    let configuration: Configuration
    let plans: PerFamily<FamilyPlan>
    let templates: PerFamily<Template?>

    /// The rules; the choice of resolvers is reported.
    func rules(_ report: inout Report) -> TranslationRules {
        var rules = TranslationRules()
        for family in AddressFamily.allCases where plans[family].mode != .off {
            rules.families[family] = self.family(family, &report)
        }
        let forwards = AddressFamily.allCases.contains { rules.families[$0].dnsForward != nil }
        rules.dnsServers = servers(&report, forwards: forwards)
        rules.gatewayMAC = configuration.gatewayMAC
        rules.mtu = configuration.mtu
        rules.hostAddresses = Set(snapshot.addresses.map(\.address))
        rules.acceptsOtherAddresses = configuration.acceptsOtherAddresses
        if isTransparent {
            let link = configuration.templateInterface.flatMap { snapshot.link(named: $0) }
            rules.hasCarrier = link?.hasCarrier ?? false
            if !rules.dnsServers.contains(where: \.address.isLoopback) {
                rules.resolverInterface = configuration.templateInterface
            }
        }
        for family in AddressFamily.allCases where rules.families[family].isEnabled {
            rules.families[family].foreignAddresses = foreignAddresses(family, rules.families[family])
        }
        return rules
    }

    private var isTransparent: Bool { configuration.networkMode == .transparent }

    /// The addresses that the namespace may not use as sources.
    ///
    /// Link-local IPv6 addresses are not among them, because they belong to each link alone.
    private func foreignAddresses(_ family: AddressFamily, _ rules: TranslationRules.Family) -> Set<IPAddress> {
        var addresses = Set(
            snapshot.addresses.lazy.filter { $0.family == family && !$0.flags.contains(.duplicate) }.map(\.address))
        addresses.formUnion(
            [rules.ownAddress, rules.gateway, rules.hostLoopback, rules.mappedGuestAddress, rules.dnsForward]
                .compactMap(\.self))
        addresses.subtract(rules.guestAddresses)
        if let guest = rules.guestAddress { addresses.remove(guest) }
        return addresses.filter { !($0.family == .v6 && $0.isLinkLocal) && !$0.isLoopback }
    }

    private func family(_ family: AddressFamily, _ report: inout Report) -> TranslationRules.Family {
        let plan = plans[family]
        var rules = TranslationRules.Family()
        rules.isEnabled = true
        rules.leavesHost = plan.mode != .local
        rules.guestAddress = plan.guestAddress?.address
        rules.guestAddresses = Set(plan.addresses.map(\.address))
        if case .explicit = configuration.sources(of: family).first {
            rules.learnsGuestAddress = configuration.learnsGuestAddress
        } else {
            rules.learnsGuestAddress = true
        }
        rules.ownAddress = plan.ownAddress
        rules.gateway = plan.gateway
        switch configuration.hostLoopbackMappings[family] {
        case .default: rules.hostLoopback = configuration.gatewayMapsToHost && !isTransparent ? plan.gateway : nil
        case .none: rules.hostLoopback = nil
        case .address(let address): rules.hostLoopback = address
        }
        if case .address(let address) = configuration.guestAddressMappings[family] {
            rules.mappedGuestAddress = address
        }
        rules.hostAddress = hostAddress(family)
        rules.dnsForward = dnsForward(family, hostLoopback: rules.hostLoopback, &report)
        rules.hostLoopbackIsResolver = snapshot.resolvers.servers.contains { $0.address == rules.hostLoopback }
        rules.outboundAddress = configuration.outboundAddresses[family]
        if let address = rules.outboundAddress, !address.isLoopback,
            !snapshot.addresses.contains(where: { $0.address == address && !$0.isTentative })
        {
            report.warn(family, .outboundAbsent(address))
        }
        rules.outboundInterface =
            isTransparent ? configuration.templateInterface : configuration.outboundInterfaces[family]
        rules.linkLocalScope = templates[family]?.link.index
        let mappings: [(IPAddress?, Reason.Mapping)] = [
            (rules.hostLoopback, .hostLoopback), (rules.mappedGuestAddress, .hostAddress),
            (rules.dnsForward, .dnsForwarding),
        ]
        for case (let address?, let mapping) in mappings
        where plan.addresses.contains(where: { $0.address == address }) {
            report.warn(family, .mappedAddressIsGuest(address, mapping))
        }
        return rules
    }

    /// The host's address for connections to itself: the source that its kernel would choose now, else the template's
    /// best address, else any.
    private func hostAddress(_ family: AddressFamily) -> IPAddress? {
        let probe = HostSnapshot.probe(family)
        let isBound = configuration.outboundInterfaces[family] != nil || isTransparent
        if !isBound, let lookup = snapshot.lookups.first(where: { $0.destination == probe }),
            case .route(_, _, let source?, let table) = lookup.answer, table != .local, source.family == family,
            snapshot.addresses.contains(where: { $0.address == source })
        {
            return source
        }
        let usable = snapshot.addresses.filter {
            $0.family == family && $0.interface != .loopback && ($0.verdict == .usable || $0.verdict == .linkLocal)
        }
        let own = usable.filter { $0.interface == templates[family]?.link.index }
        let guest = plans[family].guestAddress?.address
        return (own.first { $0.address == guest } ?? own.first ?? usable.first)?.address
    }

    // MARK: Resolvers

    /// The servers that DNS queries are forwarded to: those of `--dns-host`, else all of the host's in their order.
    ///
    /// - Parameters:
    ///   - report: where the choice is reported.
    ///   - forwards: whether any queries are forwarded; otherwise nothing is reported.
    /// - Returns: the servers, each once.
    private func servers(_ report: inout Report, forwards: Bool) -> [ResolverConfiguration.Server] {
        let given = AddressFamily.allCases.compactMap { configuration.dnsHost[$0] }
        let servers = given.isEmpty ? snapshot.resolvers.servers : given.map { .init($0) }
        var unique: [ResolverConfiguration.Server] = []
        for server in servers where !unique.contains(server) && !server.address.isUnspecified { unique.append(server) }
        guard forwards else { return unique }
        report.note(nil, .queriesGoTo(unique, areGiven: !given.isEmpty), .remark)
        return unique
    }

    /// The address whose DNS ports are forwarded.
    ///
    /// It is the user's, else the host loopback's if the host's own resolver cannot be reached by the namespace
    /// otherwise (on the host's loopback, or at the mapped address).
    private func dnsForward(
        _ family: AddressFamily, hostLoopback: IPAddress?, _ report: inout Report
    ) -> IPAddress? {
        if let address = configuration.dnsForward[family] {
            report.note(family, .forwardsDNS(at: address, for: nil))
            return address
        }
        if configuration.networkMode == .opaque, !configuration.suppressesDNS {
            report.note(family, .forwardsDNSAlways(at: Local.gateway(family)))
            return Local.gateway(family)
        }
        let isRead = !configuration.suppressesDNS && !configuration.dnsServers.contains { $0.family == family }
        guard isRead, let hostLoopback else { return nil }
        let hidden = snapshot.resolvers.servers.first {
            $0.address.family == family && ($0.address.isLoopback || $0.address == hostLoopback)
        }
        guard let hidden else { return nil }
        report.note(family, .forwardsDNS(at: hostLoopback, for: hidden.address), .remark)
        return hostLoopback
    }
}
