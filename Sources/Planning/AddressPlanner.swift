// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Chooses the namespace's addresses of one family: the user's, copies of the template's, or local ones.
struct AddressPlanner {
    /// The result.
    struct Choice {
        /// The addresses of the namespace.
        var addresses: [PlannedAddress] = []
        /// The address that DHCP, Router Advertisements and translation use.
        var guest: Prefix?
    }

    let snapshot: HostSnapshot
    let configuration: Configuration
    let family: AddressFamily
    let template: Template?

    /// The flags that a copied address keeps.
    private static let keptFlags: InterfaceAddress.Flags = [.noPrefixRoute, .home]

    /// The flags that are set on every address of the family.
    private var ownFlags: InterfaceAddress.Flags { family == .v6 ? .noDuplicateDetection : [] }

    /// The prefix length that the user gave; 0 counts as absent.
    private var explicitLength: Int? {
        configuration.prefixLengths[family].flatMap { (1...family.addressBitCount).contains($0) ? $0 : nil }
    }

    /// The addresses, with the reason for each: those of every source in order, each once, or else the local ones.
    func choose(_ report: inout Report) -> Choice {
        switch configuration.networkMode {
        case .opaque: return opaque(&report)
        case .transparent: return mirrored(&report)
        case .auto: break
        }
        var choice = Choice()
        let sources = configuration.sources(of: family)
        for source in sources {
            let found = addresses(of: source, &report)
            let known = Set(choice.addresses.map(\.address))
            choice.addresses += found.addresses.filter { !known.contains($0.address) }
            choice.guest = choice.guest ?? found.guest
        }
        if choice.addresses.isEmpty {
            if !sources.contains(.linkLocal) { choice = local(&report) }
        } else if sources != [.template], choice.addresses.count > Configuration.mostAddresses {
            report.warn(family, .addressesBeyondLimit(Configuration.mostAddresses))
            choice.addresses.removeLast(choice.addresses.count - Configuration.mostAddresses)
        }
        return choice
    }

    private func addresses(of source: AddressSource, _ report: inout Report) -> Choice {
        switch source {
        case .explicit(let address, let length): explicit(address, length, &report)
        case .template: template.map { copied(from: $0.link, .template, &report) } ?? Choice()
        case .interface(let name): named(name, &report)
        case .all: all(&report)
        case .linkLocal: local(&report)
        }
    }

    // MARK: Opaque and transparent mode

    /// Opaque mode: an address that never changes, and beside it those of the sources, as /32 or /128.
    private func opaque(_ report: inout Report) -> Choice {
        let own: Prefix?
        var choice = Choice()
        switch family {
        case .v4: own = Prefix(Local.addressIPv4, length: Local.prefixLengthIPv4)
        case .v6: own = Prefix(Local.addressIPv6, length: 64)
        }
        guard let own else { return choice }
        report.note(family, .address(own, from: .constant))
        choice.addresses = [
            PlannedAddress(
                prefix: own, scope: PlannedAddress.scope(of: own.address), flags: ownFlags, origin: .linkLocal)
        ]
        // A namespace that tapas does not program makes its own link-local IPv6 address.
        if family == .v4 || configuration.configuresNamespace { choice.guest = own }
        var taken: Set<IPAddress> = [own.address, Local.gateway(family)]
        for source in configuration.sources(of: family) where source != .linkLocal {
            for address in addresses(of: source, &report).addresses where taken.insert(address.address).inserted {
                guard choice.addresses.count < Configuration.mostAddresses else {
                    report.warn(family, .addressesBeyondLimit(Configuration.mostAddresses))
                    return choice
                }
                choice.addresses.append(
                    PlannedAddress(
                        prefix: Prefix(host: address.address), scope: address.scope,
                        flags: ownFlags.union(.noPrefixRoute), origin: address.origin))
            }
        }
        return choice
    }

    /// Transparent mode: all addresses of the named interface, its link-local IPv6 address included.
    private func mirrored(_ report: inout Report) -> Choice {
        guard let link = template?.link else { return Choice() }
        var choice = copied(from: link, .template, &report)
        guard family == .v6 else { return choice }
        for address in snapshot.addresses(of: link.index, .v6)
        where address.address.isLinkLocal && !address.isTentative && !address.flags.contains(.duplicate) {
            report.note(family, .address(address.prefix, from: .mirroredLink))
            choice.addresses.append(
                PlannedAddress(prefix: address.prefix, scope: .link, flags: ownFlags, origin: .template))
            choice.guest = choice.guest ?? address.prefix
        }
        return choice
    }

    // MARK: Addresses of the user and of tapas

    private func explicit(_ address: IPAddress, _ given: Int?, _ report: inout Report) -> Choice {
        let cause: Reason.AddressOrigin.LengthOrigin
        let length: Int
        let valid = given.flatMap { (1...family.addressBitCount).contains($0) ? $0 : nil }
        switch (valid ?? explicitLength, address) {
        case (let given?, _): (length, cause) = (given, .given)
        case (nil, .v4(let v4)): (length, cause) = (v4.classfulPrefixLength, .addressClass)
        case (nil, .v6): (length, cause) = (64, .usual)
        }
        guard address.family == family, let prefix = Prefix(address, length: length) else { return Choice() }
        report.note(family, .address(prefix, from: .option(cause)))
        let planned = PlannedAddress(
            prefix: prefix, scope: PlannedAddress.scope(of: address), flags: ownFlags, origin: .explicit)
        return Choice(addresses: [planned], guest: prefix)
    }

    private func local(_ report: inout Report) -> Choice {
        guard family == .v4 else {
            report.note(family, .onlyLinkLocalAddress)
            return Choice()
        }
        // The length of -n applies to the address that the user gave, if there is one.
        let isOnlyOne = configuration.explicitAddresses(of: family).isEmpty
        guard
            let prefix = Prefix(
                Local.addressIPv4, length: (isOnlyOne ? explicitLength : nil) ?? Local.prefixLengthIPv4)
        else { return Choice() }
        report.note(family, .address(prefix, from: .local))
        return Choice(addresses: [PlannedAddress(prefix: prefix, origin: .linkLocal)], guest: prefix)
    }

    // MARK: Addresses of the host

    /// Those of the interface that `-a` names.
    private func named(_ name: String, _ report: inout Report) -> Choice {
        guard let link = snapshot.link(named: name) else {
            report.note(family, .sourceIsEmpty(name, .absent), .remark)
            return Choice()
        }
        guard link.hasCarrier else {
            report.note(family, .sourceIsEmpty(name, .noCarrier), .remark)
            return Choice()
        }
        let choice = copied(from: link, .interface(name), &report)
        if choice.addresses.isEmpty { report.note(family, .sourceIsEmpty(name, .noUsableAddress), .remark) }
        return choice
    }

    /// Those of all interfaces, the template's first.
    private func all(_ report: inout Report) -> Choice {
        var choice = template.map { copied(from: $0.link, .all, &report) } ?? Choice()
        for link in snapshot.links where !link.isLoopback && link.hasCarrier && link.index != template?.link.index {
            let found = copied(from: link, .all, &report)
            choice.addresses += found.addresses.filter { new in
                !choice.addresses.contains { $0.address == new.address }
            }
            choice.guest = choice.guest ?? found.guest
        }
        return choice
    }

    /// Every link has its own link-local addresses, so the host's are not needed.
    private func placement(of address: InterfaceAddress, _ origin: AddressOrigin) -> Reason.Placement {
        let isOfTemplate = template?.link.index == address.interface
        return address.address.isLinkLocal || origin == .all && !isOfTemplate ? .detail : .remark
    }

    /// The addresses of a link that can be copied.
    private func usable(of link: Link, _ origin: AddressOrigin, _ report: inout Report) -> [InterfaceAddress] {
        snapshot.addresses(of: link.index, family).filter { address in
            switch address.verdict {
            case .usable: return true
            case .linkLocal:
                // An address of 169.254.0.0/16 on a link that the user has not named is used only beside others.
                if origin != .all || link.index == template?.link.index { return true }
                report.note(family, .addressLeftOut(address.prefix, .linkLocal))
            case .refused(let defect):
                report.note(family, .addressLeftOut(address.prefix, defect), placement(of: address, origin))
            }
            return false
        }
    }

    private func copied(from link: Link, _ origin: AddressOrigin, _ report: inout Report) -> Choice {
        let kept = usable(of: link, origin, &report)
        let gateway = template?.link.index == link.index ? configuration.gateways[family] ?? template?.gateway : nil
        guard let guest = kept.stablySorted(by: { rank($0, gateway: gateway) }).first else { return Choice() }
        // The length of -n is the first source's.
        let length = origin == .template && configuration.explicitAddresses(of: family).isEmpty ? explicitLength : nil
        guard configuration.copiesAddresses else {
            let length = length ?? (family == .v6 ? 64 : guest.prefix.length)
            guard let prefix = Prefix(guest.address, length: length) else { return Choice() }
            report.note(family, .address(prefix, from: .onlyOneOf(link.name)))
            return Choice(addresses: [PlannedAddress(prefix: prefix, flags: ownFlags, origin: origin)], guest: prefix)
        }
        var addresses: [PlannedAddress] = []
        for address in kept {
            var planned = PlannedAddress(
                prefix: address.prefix, peer: address.peer == address.address ? nil : address.peer,
                broadcast: address.broadcast,
                scope: PlannedAddress.scope(of: address.address),
                flags: address.flags.intersection(Self.keptFlags).union(ownFlags), origin: origin)
            let isGuest = address == guest
            var isLengthGiven = false
            if isGuest, family == .v4, let length, length != address.prefix.length,
                let prefix = Prefix(address.address, length: length)
            {
                planned = PlannedAddress(prefix: prefix, flags: ownFlags, origin: origin)
                isLengthGiven = true
            }
            guard !addresses.contains(where: { $0.identity == planned.identity }) else { continue }
            addresses.append(planned)
            report.note(
                family,
                .address(
                    planned.prefix, from: .template(link.name, isLengthGiven: isLengthGiven, isGuest: isGuest)))
        }
        // The namespace's address in Router Advertisements and DHCPv6 is in a /64, whatever its length on the host.
        return Choice(
            addresses: addresses,
            guest: Prefix(guest.address, length: family == .v6 ? 64 : length ?? guest.prefix.length))
    }

    /// Smaller is better: not 169.254.0.0/16, the gateway's subnet, primary, global before unique-local, long prefix.
    private func rank(_ address: InterfaceAddress, gateway: IPAddress?) -> Int {
        var rank = address.family.addressBitCount - address.prefix.length
        if address.verdict == .linkLocal { rank += 1 << 11 }
        if let gateway, !gateway.isLinkLocal, !address.prefix.contains(gateway) { rank += 1 << 10 }
        if address.isSecondary { rank += 1 << 9 }
        if address.address.v6?.isUniqueLocal ?? false { rank += 1 << 8 }
        return rank
    }
}

/// The addresses of local mode.
enum Local {
    /// The namespace's address.
    static let addressIPv4 = IPAddress.v4(IPv4Address(169, 254, 2, 1))
    /// Its prefix length.
    static let prefixLengthIPv4 = 16
    /// The namespace's IPv6 address in opaque mode.
    static let addressIPv6 = IPAddress.v6(IPv6Address(high: 0xFE80_0000_0000_0000, low: 2))
    /// The address of the router, which is tapas.
    static func gateway(_ family: AddressFamily) -> IPAddress {
        switch family {
        case .v4: .v4(IPv4Address(169, 254, 2, 2))
        case .v6: linkLocalIPv6
        }
    }
    /// The link-local address of tapas unless it finds another.
    static let linkLocalIPv6 = IPAddress.v6(IPv6Address(high: 0xFE80_0000_0000_0000, low: 1))
}
