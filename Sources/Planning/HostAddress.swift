// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// What an address of the host is good for.
enum AddressVerdict: Equatable {
    /// It makes its link usable, and is copied.
    case usable
    /// 169.254.0.0/16 of global scope: copied together with others, but alone it does not make a link usable.
    case linkLocal
    /// Not used, for the given reason; a tentative address may become usable soon.
    case refused(Reason.AddressDefect)
}

extension InterfaceAddress {
    /// What the address is good for (reference: addressing, 5.1; design: "usable").
    var verdict: AddressVerdict {
        if flags.contains(.duplicate) { return .refused(.duplicate) }
        if isTentative { return .refused(.tentative) }
        if flags.contains(.deprecated) { return .refused(.deprecated) }
        if isTemporary { return .refused(.temporary) }
        if address.isUnspecified || address.isLoopback || address.isMulticast {
            return .refused(.notUnicast)
        }
        // The kernel takes them on interfaces; a packet from one would be nobody's (and IPv4 to every socket of ours).
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
