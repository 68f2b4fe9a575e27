// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

extension NetlinkSocket {
    /// Reads back the state of one link of the socket's namespace.
    ///
    /// Everything that the kernel did not make itself is marked `foreign`; the caller knows what it added
    /// (`AppliedState.adoptOwnership(from:)`). The kernel makes IPv6 link-local addresses, the addresses and routes of
    /// Router Advertisements, and the routes of protocol `kernel`.
    ///
    /// - Parameters:
    ///   - interface: The link.
    ///   - promotesSecondaries: The value of the link's sysctl `promote_secondaries`, which netlink does not report.
    /// - Returns: The state; nil if there is no such link.
    /// - Throws: The error of the kernel or of the socket.
    public mutating func appliedState(
        of interface: InterfaceIndex, promotesSecondaries: Bool = false
    ) throws(NetlinkError) -> AppliedState? {
        var memory = AppliedRouteMemory()
        return try appliedState(
            of: interface, promotesSecondaries: promotesSecondaries, ownership: AppliedState.Ownership(),
            memory: &memory)
    }

    /// Reads back the state of one link and marks what is ours; unchanged routes are taken from memory.
    ///
    /// - Parameters:
    ///   - interface: The link.
    ///   - promotesSecondaries: The value of the link's sysctl `promote_secondaries`.
    ///   - ownership: The state that says what is ours. A route in memory keeps its mark.
    ///   - memory: The routes of the last reading; afterwards those of this one.
    /// - Returns: The state; nil if there is no such link.
    /// - Throws: The error of the kernel or of the socket.
    public mutating func appliedState(
        of interface: InterfaceIndex, promotesSecondaries: Bool, ownership: AppliedState.Ownership,
        memory: inout AppliedRouteMemory
    ) throws(NetlinkError) -> AppliedState? {
        guard let link = try self.link(interface) else { return nil }
        var state = AppliedState(
            isUp: link.flags.contains(.up), mtu: link.mtu, mac: link.mac, promotesSecondaries: promotesSecondaries)
        for family in AddressFamily.allCases {
            for address in try addresses(family, on: interface) {
                let value = address.planned
                let isOurs = ownership.addresses.contains(value.identity)
                state.addresses.append(
                    .init(value, origin: isOurs ? .ours : address.isKernelMade ? .kernel : .foreign))
            }
            // The hops of the last route, without its interface: consecutive routes with equal hops share one array.
            var last: (read: [NextHop], local: [NextHop])?
            _ = try routes(family, table: .main, through: interface, into: &memory.families[family]) { route in
                var local = route
                if let last, last.read == route.nextHops {
                    local.nextHops = last.local
                } else {
                    guard let hops = route.localHops(interface) else { return nil }
                    local.nextHops = hops
                    last = (route.nextHops, hops)
                }
                let isOurs = ownership.routes.contains(local.identity)
                return AppliedState.RouteEntry(
                    local, origin: isOurs ? .ours : route.protocol.isKernelMade ? .kernel : .foreign)
            }
        }
        state.routes = memory.families.v4.values
        let others = memory.families.v6.values
        if !others.isEmpty { state.routes += others }
        return state
    }
}

/// The routes of a link as they were read back the last time.
public struct AppliedRouteMemory: Sendable {
    var families = PerFamily(
        v4: DumpMemory<AppliedState.RouteEntry>(), v6: DumpMemory<AppliedState.RouteEntry>())

    /// Begins with nothing.
    public init() {}
}

extension InterfaceAddress {
    /// The address without its interface, as plans and states have it.
    public var planned: PlannedAddress {
        PlannedAddress(prefix: prefix, peer: peer, broadcast: broadcast, scope: scope, flags: flags)
    }

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
    /// The next hops as `AppliedState` stores them, without an interface; nil if the route also uses another link.
    fileprivate func localHops(_ interface: InterfaceIndex) -> [NextHop]? {
        guard nextHops.allSatisfy({ $0.interface == interface }) else { return nil }
        return nextHops.map { hop in
            // "Dead" and "link down" are state, not configuration.
            NextHop(
                interface: nil, gateway: hop.gateway, weight: hop.weight,
                flags: hop.flags.subtracting([.dead, .linkDown]))
        }
    }
}
