// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// Whether a family has an address that the namespace could be given now.
///
/// This is the policy by which `plan()` chooses a template; the monitor uses it to decide which loss to hold back.
///
/// - Parameters:
///   - host: the host's state.
///   - family: the family.
///   - name: the only link that counts, because the user named it, also with a link-local address (IPv4); nil for all
///     but the loopback one.
/// - Returns: Whether a link with carrier has one.
public func hasUsableAddress(in host: HostSnapshot, family: AddressFamily, through name: String?) -> Bool {
    host.addresses.contains { address in
        guard address.family == family, let link = host.link(address.interface), link.hasCarrier else { return false }
        guard name.map({ $0 == link.name }) ?? !link.flags.contains(.loopback) else { return false }
        return address.verdict == .usable || address.verdict == .linkLocal && name != nil
    }
}

/// What an address of the host may be used for.
enum AddressVerdict: Equatable {
    /// It makes its link usable, and is copied.
    case usable
    /// 169.254.0.0/16 of global scope: copied together with others, but alone it does not make a link usable.
    case linkLocal
    /// Not used, for the given reason; a tentative address may become usable soon.
    case refused(Reason.AddressDefect)
}

extension InterfaceAddress {
    /// What the address may be used for.
    var verdict: AddressVerdict {
        if flags.contains(.duplicate) { return .refused(.duplicate) }
        if isTentative { return .refused(.tentative) }
        if flags.contains(.deprecated) { return .refused(.deprecated) }
        if isTemporary { return .refused(.temporary) }
        if address.isUnspecified || address.isLoopback || address.isMulticast {
            return .refused(.notUnicast)
        }
        // The kernel accepts such addresses on interfaces, but every socket of ours would take them for IPv4 addresses.
        if let v6 = address.v6, v6.isIPv4Mapped || v6.isIPv4Compatible {
            return .refused(.embedsIPv4)
        }
        switch family {
        case .v4:
            if scope.rawValue >= RoutingScope.host.rawValue { return .refused(.scopeHost) }
            if scope.rawValue >= RoutingScope.link.rawValue { return .refused(.scopeLink) }
            return address.isLinkLocal ? .linkLocal : .usable
        case .v6:
            return address.isLinkLocal || scope.rawValue >= RoutingScope.link.rawValue
                ? .refused(.scopeLink) : .usable
        }
    }
}

extension HostSnapshot {
    /// The addresses of one link and family in the kernel's order.
    func addresses(of link: InterfaceIndex, _ family: AddressFamily) -> [InterfaceAddress] {
        addresses.filter { $0.interface == link && $0.family == family }
    }

    /// A route's next hops: its own, or those of its nexthop object where they are not filled in.
    func nextHops(of route: Route) -> [NextHop] {
        guard route.nextHops.isEmpty, let id = route.nextHopID,
            let object = nextHopObjects.first(where: { $0.id == id }), !object.isBlackhole
        else { return route.nextHops }
        if let hop = object.hop { return [hop] }
        return object.group.compactMap { member in
            guard let part = nextHopObjects.first(where: { $0.id == member.id }), !part.isBlackhole, var hop = part.hop
            else { return nil }
            hop.weight = member.weight
            return hop
        }
    }
}

extension Route {
    /// Whether this is a unicast route of the main table and of a family, so that it can indicate a template.
    func isInMainTable(of family: AddressFamily) -> Bool { isUnicast(of: family, in: .main) }

    /// Whether this is a unicast route of a family in a table.
    func isUnicast(of family: AddressFamily, in place: RouteTable) -> Bool {
        table == place && type == .unicast && destination.family == family
    }
}
