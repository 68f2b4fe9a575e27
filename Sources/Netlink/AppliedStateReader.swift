// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

extension NetlinkSocket {
    /// Reads back what holds on one link of the socket's namespace.
    ///
    /// Everything that is not the kernel's own is `foreign`: the caller knows what it added
    /// (`AppliedState.adoptOwnership(from:)`). The kernel's own are IPv6 link-local addresses, addresses and routes of
    /// Router Advertisements, and routes of protocol `kernel`.
    ///
    /// - Parameters:
    ///   - interface: The link.
    ///   - promotesSecondaries: What the sysctl `promote_secondaries` of the link says; it is not netlink's to tell.
    /// - Returns: The state; nil if there is no such link.
    /// - Throws: What the kernel or the socket said.
    public mutating func appliedState(
        of interface: InterfaceIndex, promotesSecondaries: Bool = false
    ) throws(NetlinkError) -> AppliedState? {
        guard let link = try self.link(interface) else { return nil }
        var state = AppliedState(
            isUp: link.flags.contains(.up), mtu: link.mtu, mac: link.mac, promotesSecondaries: promotesSecondaries)
        for family in AddressFamily.allCases {
            for address in try addresses(family, on: interface) {
                let value = PlannedAddress(
                    prefix: address.prefix, peer: address.peer, broadcast: address.broadcast, scope: address.scope,
                    flags: address.flags)
                state.addresses.append(.init(value, origin: address.isKernelMade ? .kernel : .foreign))
            }
            for route in try routes(family, table: .main, through: interface).routes {
                guard let local = route.without(interface) else { continue }
                state.routes.append(.init(local, origin: route.protocol.isKernelMade ? .kernel : .foreign))
            }
        }
        return state
    }
}

extension InterfaceAddress {
    /// Whether the kernel made the address itself: link-local, or by stateless autoconfiguration.
    fileprivate var isKernelMade: Bool {
        family == .v6 && (address.isLinkLocal || !flags.contains(.permanent) && flags.contains(.manageTemporary))
    }
}

extension RouteProtocol {
    /// `RTPROT_KERNEL`, `RTPROT_RA`.
    fileprivate var isKernelMade: Bool { self == .kernel || rawValue == 9 }
}

extension Route {
    /// The route as `AppliedState` has it: no interface in its next hops; nil if it also uses another link.
    fileprivate func without(_ interface: InterfaceIndex) -> Route? {
        guard nextHops.allSatisfy({ $0.interface == interface }) else { return nil }
        var route = self
        for index in route.nextHops.indices {
            route.nextHops[index].interface = nil
            // State, not configuration.
            route.nextHops[index].flags.subtract([.dead, .linkDown])
        }
        return route
    }
}
