// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

// Theory of operation.
//
// Make before break: link, new addresses, new and replaced routes, then what is no longer planned. Every step is
// carried out on a simulated kernel as it is put down, so that each later step is chosen for the state that will
// really hold then: what an address takes along when it goes is put back, a gateway that an old route still hides is
// tried again once that route is gone.
//
// Only what is ours is touched. An address or a route of somebody else that stands where a planned one belongs stays,
// and the planned one is left out. Nothing is written where nothing differs, so that nothing inside is disturbed.

/// The operations that take the namespace's interface from what holds to what is planned, in order.
///
/// A default route stays in place at every step if both sides have one. Flows are reset right before their address is
/// removed, when the new address and routes are there to reconnect by: a reset that came after the removal would be
/// ignored by the namespace's kernel.
/// - Parameters:
///   - applied: what holds, as read back from the namespace's kernel.
///   - plan: what is to hold.
///   - retaining: addresses that flows use: if they are not planned any more they are deprecated instead of removed,
///     until a later call does not name them. What a change of the host has ended must not be counted.
/// - Returns: the operations; none if nothing differs.
public func diff(
    applied: AppliedState, plan: NamespacePlan, retaining: Set<IPAddress> = []
) -> [NamespaceOperation] {
    var difference = Difference(state: applied, plan: plan, retaining: retaining)
    difference.run()
    return difference.operations
}

private struct Difference {
    private var kernel: SimulatedKernel
    private let plan: NamespacePlan
    private let retaining: Set<IPAddress>
    private let plannedAddresses: [PlannedAddress]
    private let plannedRoutes: [Route]
    private(set) var operations: [NamespaceOperation] = []

    init(state: AppliedState, plan: NamespacePlan, retaining: Set<IPAddress>) {
        kernel = SimulatedKernel(state)
        self.plan = plan
        self.retaining = retaining
        let planned = AddressFamily.allCases.flatMap { plan.families[$0].addresses }
        plannedAddresses = planned
        let wanted = Set(planned.map(\.identity))
        let lingers = state.addresses.contains {
            $0.origin == .ours && $0.value.family == .v4 && !wanted.contains($0.value.identity)
                && $0.value.mayLinger(retaining, beside: planned)
        }
        plannedRoutes = AddressFamily.allCases.flatMap { family in
            plan.families[family].routes.map { route in
                lingers && family == .v4 ? route.preferring(plan.families.v4.guestAddress?.address) : route
            }.map(\.canonical)
        }
    }

    mutating func run() {
        changeLink()
        addAddresses()
        let refused = addRoutes()
        removeRoutes { !$0.isDefault }
        for route in refused { settle(route, isLastTry: false) }
        removeDefaults()
        removeAddresses()
        for route in unsettled() { settle(route, isLastTry: true) }
    }

    private mutating func emit(_ operation: NamespaceOperation) {
        operations.append(operation)
        _ = kernel.carryOut(operation)
    }

    private mutating func changeLink() {
        if let mac = plan.namespaceMAC, kernel.properties.mac != mac { emit(.setMAC(mac)) }
        if let mtu = plan.mtu, kernel.properties.mtu != mtu { emit(.setMTU(mtu)) }
        if !kernel.properties.isUp { emit(.setLinkUp) }
    }

    // MARK: Addresses

    private func entry(_ address: PlannedAddress) -> AppliedState.Address? {
        kernel.addresses.first { $0.value.identity == address.identity }
    }

    private mutating func addAddresses() {
        for address in plannedAddresses {
            guard let entry = entry(address) else {
                emit(.addAddress(address))
                continue
            }
            guard entry.origin == .ours else { continue }
            if !entry.value.isSame(as: address) {
                exchange(entry.value, for: address)
            } else if entry.value.flags.contains(.deprecated) != address.flags.contains(.deprecated) {
                emit(address.flags.contains(.deprecated) ? .deprecateAddress(address) : .restoreAddress(address))
            }
        }
        orderSubnets()
        for entry in stale() where isRetained(entry) && !entry.flags.contains(.deprecated) {
            emit(.deprecateAddress(entry))
        }
    }

    /// Sees to it that the first planned address of each IPv4 subnet is the primary one there, as on the host.
    ///
    /// The connected route names the primary one as its source, even if that is deprecated and only lingers. What
    /// stands before goes and comes again, behind the others; what is about to be removed does not count.
    private mutating func orderSubnets() {
        for (position, lead) in plannedAddresses.enumerated() where lead.family == .v4 {
            let isLead = !plannedAddresses[..<position].contains { lead.isInSubnet(of: $0) }
            guard isLead, entry(lead)?.origin == .ours else { continue }
            for _ in kernel.addresses {
                let doomed = Set(stale().filter { !isRetained($0) }.map(\.identity))
                let first = kernel.addresses.first {
                    lead.isInSubnet(of: $0.value) && !doomed.contains($0.value.identity)
                }
                guard let first, first.origin == .ours, first.value.identity != lead.identity else { break }
                promote(before: first.value)
                emit(.removeAddress(first.value))
                var address = first.value
                address.flags.subtract([.deprecated, .secondary])
                emit(.addAddress(address))
            }
        }
    }

    /// Exchanges an address for one of the same identity that differs in something the kernel cannot change.
    ///
    /// With its last IPv4 address the link would lose every route, and sockets would lose theirs: a second entry of
    /// the same address, of another length and without a route, holds the place meanwhile.
    private mutating func exchange(_ old: PlannedAddress, for new: PlannedAddress) {
        let length = new.prefix.length == 32 ? 31 : 32
        var holder: PlannedAddress?
        if new.family == .v4, let prefix = Prefix(new.address, length: length) {
            holder = PlannedAddress(prefix: prefix, flags: .noPrefixRoute)
        }
        if let candidate = holder, entry(candidate) != nil { holder = nil }
        if let holder { emit(.addAddress(holder)) }
        promote(before: old)
        emit(.removeAddress(old))
        emit(.addAddress(new))
        if let holder { emit(.removeAddress(holder)) }
    }

    /// What is ours and not planned.
    private func stale() -> [PlannedAddress] {
        let wanted = Set(plannedAddresses.map(\.identity))
        return kernel.addresses.filter { $0.origin == .ours && !wanted.contains($0.value.identity) }.map(\.value)
    }

    private func isRetained(_ address: PlannedAddress) -> Bool {
        address.mayLinger(retaining, beside: plannedAddresses)
    }

    private mutating func removeAddresses() {
        let going = stale().filter { !isRetained($0) }
        let identities = Set(going.map(\.identity))
        let staying = Set(kernel.addresses.map(\.value).filter { !identities.contains($0.identity) }.map(\.address))
        var reset: Set<IPAddress> = []
        for address in going.map(\.address) where !staying.contains(address) && reset.insert(address).inserted {
            emit(.resetFlows(address))
        }
        // Secondary addresses before the primary that might take them along.
        for address in going.reversed().stablySorted(by: { $0.flags.contains(.secondary) ? 0 : 1 }) {
            promote(before: address)
            emit(.removeAddress(address))
        }
    }

    /// Lets secondary addresses outlive the address that is about to be removed.
    private mutating func promote(before address: PlannedAddress) {
        guard !kernel.properties.promotesSecondaries, address.family == .v4, !address.flags.contains(.secondary) else {
            return
        }
        let hasDependents = kernel.addresses.contains {
            $0.value.flags.contains(.secondary) && $0.value.isInSubnet(of: address)
        }
        if hasDependents { emit(.setPromoteSecondaries) }
    }

    // MARK: Routes

    /// The planned routes that are not there as planned; one pass over both tables.
    private func unsettled() -> [Route] {
        var present: [Route.Identity: Route] = [:]
        for entry in kernel.routes.entries where entry.origin == .ours {
            present[entry.value.identity] = entry.value.canonical
        }
        return plannedRoutes.filter { present[$0.identity] != $0 }
    }

    /// Adds and replaces routes in the plan's order; returns those that the kernel would refuse yet.
    private mutating func addRoutes() -> [Route] {
        var refused: [Route] = []
        for route in unsettled() where !settle(route, isLastTry: false) { refused.append(route) }
        return refused
    }

    /// Sees to it that a planned route is there; false if the kernel would refuse it and this is not the last try.
    @discardableResult
    private mutating func settle(_ route: Route, isLastTry: Bool) -> Bool {
        var operation = NamespaceOperation.addRoute(route)
        var isForeign = false
        for entry in kernel.routes.entries(route.identity) {
            if entry.origin == .ours {
                if entry.value.canonical == route { return true }
                operation = .replaceRoute(route)
                isForeign = false
                break
            }
            isForeign = true
        }
        if isForeign { return true }
        if kernel.carryOut(operation) != nil {
            // The model may be wrong: in the end the kernel is asked, but once.
            guard isLastTry, !operations.contains(operation) else { return false }
        }
        operations.append(operation)
        return true
    }

    private func staleRoutes() -> [Route] {
        let wanted = Set(plannedRoutes.map(\.identity))
        return kernel.routes.entries.filter { $0.origin == .ours && !wanted.contains($0.value.identity) }.map(\.value)
    }

    /// Removes routes of ours that are not planned, those that depend on others first.
    private mutating func removeRoutes(where isMeant: (Route) -> Bool) {
        for route in staleRoutes().reversed() where isMeant(route) { emit(.removeRoute(route)) }
    }

    /// Removes defaults that are not planned, unless a planned one of the family is still missing: then the old one
    /// stays until it is there.
    private mutating func removeDefaults() {
        for family in AddressFamily.allCases {
            let planned = plannedRoutes.filter { $0.family == family && $0.isDefault }.map(\.identity)
            let isThere = planned.contains { kernel.routes.contains($0) }
            if planned.isEmpty || isThere { removeRoutes { $0.isDefault && $0.family == family } }
        }
    }
}

extension PlannedAddress {
    /// Whether the address may stay while flows use it: not if it is the primary one of a planned address's subnet and
    /// has no prefix route, for then the planned one would get none either.
    fileprivate func mayLinger(_ retaining: Set<IPAddress>, beside planned: [PlannedAddress]) -> Bool {
        guard retaining.contains(address) else { return false }
        return !flags.contains(.noPrefixRoute)
            || !planned.contains { $0.isInSubnet(of: self) && !$0.flags.contains(.noPrefixRoute) }
    }

    /// Whether what the kernel reports is what is wanted, deprecation aside.
    fileprivate func isSame(as planned: PlannedAddress) -> Bool {
        prefix == planned.prefix && peer == planned.peer && broadcast == planned.broadcast
            && (scope == planned.scope || family == .v6)
            && flags.intersection(Self.comparedFlags) == planned.flags.intersection(Self.comparedFlags)
    }
}

extension Route {
    /// A default route that names the source address, unless it names one or there is none: IPv4 source selection
    /// knows nothing of deprecation and would go on choosing an address that only lingers.
    fileprivate func preferring(_ source: IPAddress?) -> Route {
        guard isDefault, preferredSource == nil, let source else { return self }
        var route = self
        route.preferredSource = source
        return route
    }
}
