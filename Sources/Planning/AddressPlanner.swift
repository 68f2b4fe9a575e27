// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Chooses the namespace's addresses of one family: the user's, copies of the template's, or local ones.
struct AddressPlanner {
    /// What was chosen.
    struct Choice {
        /// The addresses to have.
        var addresses: [PlannedAddress] = []
        /// The one that DHCP, Router Advertisements and translation speak of.
        var guest: Prefix?
    }

    let snapshot: HostSnapshot
    let configuration: Configuration
    let family: AddressFamily
    let template: Template?

    /// The flags that a copied address keeps.
    private static let keptFlags: InterfaceAddress.Flags = [.noPrefixRoute, .home]

    /// The flags that every address of the family gets.
    private var ownFlags: InterfaceAddress.Flags { family == .v6 ? .noDuplicateDetection : [] }

    /// The prefix length that the user gave; 0 is as if absent.
    private var explicitLength: Int? {
        configuration.prefixLengths[family].flatMap { (1...family.addressBitCount).contains($0) ? $0 : nil }
    }

    /// The addresses, with the reason for each.
    func choose(_ report: inout Report) -> Choice {
        if let address = configuration.addresses[family] { return explicit(address, &report) }
        if let template, let choice = copied(from: template, &report) { return choice }
        return local(&report)
    }

    private func explicit(_ address: IPAddress, _ report: inout Report) -> Choice {
        let cause: Reason.AddressOrigin.LengthOrigin
        let length: Int
        switch (explicitLength, address) {
        case (let given?, _): (length, cause) = (given, .given)
        case (nil, .v4(let v4)): (length, cause) = (v4.classfulPrefixLength, .addressClass)
        case (nil, .v6): (length, cause) = (64, .usual)
        }
        guard address.family == family, let prefix = Prefix(address, length: length) else { return local(&report) }
        report.note(family, .address(prefix, from: .option(cause)))
        let planned = PlannedAddress(prefix: prefix, scope: PlannedAddress.scope(of: address), flags: ownFlags)
        return Choice(addresses: [planned], guest: prefix)
    }

    private func local(_ report: inout Report) -> Choice {
        guard family == .v4 else {
            report.note(family, .onlyLinkLocalAddress)
            return Choice()
        }
        guard let prefix = Prefix(Local.addressIPv4, length: explicitLength ?? Local.prefixLengthIPv4) else {
            return Choice()
        }
        report.note(family, .address(prefix, from: .local))
        return Choice(addresses: [PlannedAddress(prefix: prefix)], guest: prefix)
    }

    // MARK: The template's addresses

    /// Every link has link-local addresses of its own; nobody misses the host's.
    private func weight(of address: InterfaceAddress) -> Reason.Weight {
        address.address.isLinkLocal ? .detail : .remark
    }

    private func copied(from template: Template, _ report: inout Report) -> Choice? {
        var kept: [InterfaceAddress] = []
        for address in snapshot.addresses(of: template.link.index, family) {
            switch address.verdict {
            case .usable, .linkLocal: kept.append(address)
            case .refused(let defect):
                report.note(family, .addressLeftOut(address.prefix, defect), weight(of: address))
            }
        }
        guard let guest = kept.stablySorted(by: { rank($0, template) }).first else { return nil }
        guard configuration.copiesAddresses else {
            let length = explicitLength ?? (family == .v6 ? 64 : guest.prefix.length)
            guard let prefix = Prefix(guest.address, length: length) else { return nil }
            report.note(family, .address(prefix, from: .onlyOneOf(template.link.name)))
            return Choice(addresses: [PlannedAddress(prefix: prefix, flags: ownFlags)], guest: prefix)
        }
        var addresses: [PlannedAddress] = []
        for address in kept {
            var planned = PlannedAddress(
                prefix: address.prefix, peer: address.peer == address.address ? nil : address.peer,
                broadcast: address.broadcast,
                scope: PlannedAddress.scope(of: address.address),
                flags: address.flags.intersection(Self.keptFlags).union(ownFlags))
            let isGuest = address == guest
            var isLengthGiven = false
            if isGuest, family == .v4, let length = explicitLength, length != address.prefix.length,
                let prefix = Prefix(address.address, length: length)
            {
                planned = PlannedAddress(prefix: prefix, flags: ownFlags)
                isLengthGiven = true
            }
            guard !addresses.contains(where: { $0.identity == planned.identity }) else { continue }
            addresses.append(planned)
            report.note(
                family,
                .address(
                    planned.prefix,
                    from: .template(template.link.name, isLengthGiven: isLengthGiven, isGuest: isGuest)))
        }
        // The namespace's address in Router Advertisements and DHCPv6 stands in a /64, whatever the host's does.
        let length = family == .v6 ? 64 : explicitLength ?? guest.prefix.length
        return Choice(addresses: addresses, guest: Prefix(guest.address, length: length))
    }

    /// Smaller is better: not 169.254.0.0/16, the gateway's subnet, primary, global before unique-local, long prefix.
    private func rank(_ address: InterfaceAddress, _ template: Template) -> Int {
        let gateway = configuration.gateways[family] ?? template.gateway
        var rank = address.family.addressBitCount - address.prefix.length
        if address.verdict == .linkLocal { rank += 1 << 11 }
        if let gateway, !gateway.isLinkLocal, !address.prefix.contains(gateway) { rank += 1 << 10 }
        if address.isSecondary { rank += 1 << 9 }
        if address.address.v6?.isUniqueLocal ?? false { rank += 1 << 8 }
        return rank
    }
}

/// The addresses of local mode (reference: addressing, 4).
enum Local {
    /// The namespace's address.
    static let addressIPv4 = IPAddress.v4(IPv4Address(169, 254, 2, 1))
    /// Its prefix length.
    static let prefixLengthIPv4 = 16
    /// The router that tapas plays.
    static func gateway(_ family: AddressFamily) -> IPAddress {
        switch family {
        case .v4: .v4(IPv4Address(169, 254, 2, 2))
        case .v6: linkLocalIPv6
        }
    }
    /// The link-local address that tapas has unless it finds another.
    static let linkLocalIPv6 = IPAddress.v6(IPv6Address(high: 0xFE80_0000_0000_0000, low: 1))
}
