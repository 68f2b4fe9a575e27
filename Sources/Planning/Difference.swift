// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

// Theory of operation.
//
// Make before break: first the link, then new addresses, then new and replaced routes, then the removal of what is no
// longer planned. Every step is also carried out on a simulated kernel, so that each later step is chosen for the state
// that will then be real: what an address takes along when it is removed is added again, and a gateway that an old
// route still hides is tried again once that route is gone.
//
// Addresses that are no longer planned and that connections still use linger in a form that no new connection chooses:
// /32 or /128 without a prefix route, deprecated, and behind the planned ones. IPv4 ignores deprecation: it uses the
// first address whose subnet contains the router, else the first of all.
//
// Only our own objects are changed. If an address or route of another program is in the place of a planned one, it
// stays, and the planned one is left out. Nothing is written where nothing differs, so that traffic is not disturbed.

/// The operations that turn the present state of the namespace's interface into the planned one, in order.
///
/// A default route is in place at every step if both sides have one. Flows are reset right before their address is
/// removed, when the new address and routes exist for reconnecting: the namespace's kernel would ignore a reset that
/// comes after the removal.
///
/// - Parameters:
/// - applied: the present state, as read back from the namespace's kernel.
/// - plan: the plan.
/// - retaining: addresses of connections that can still carry data. If they are no longer planned, they linger
///   (``PlannedAddress/lingering``) until a later call does not name them. An address to which the plan gives another
///   meaning, for example a router's, is removed nevertheless.
/// - Returns: The operations; none if nothing differs.
public func diff(
    applied: AppliedState, plan: NamespacePlan, retaining: Set<IPAddress> = []
) -> [NamespaceOperation] {
    var difference = Difference(state: applied, plan: plan, retaining: retaining)
    difference.run()
    return difference.operations
}

struct Difference {
    /// How many routes further a planned one is searched in the other table before it is looked up.
    static let lookAhead = 8

    var kernel: SimulatedKernel
    let plan: NamespacePlan
    let plannedAddresses: [PlannedAddress]
    /// The addresses that stay beside the planned ones.
    let lingering: [PlannedAddress]
    /// The identities of both.
    let wanted: Set<PlannedAddress.Identity>
    /// The planned routes of the families.
    let plannedRoutes: [[Route]]
    /// Our objects that are not planned, as they were before any route was added.
    var staleRoutes: [Route] = []
    /// Whether the kernel would have refused a route when it was first tried.
    var wasRefused = false
    var operations: [NamespaceOperation] = []

    init(state: AppliedState, plan: NamespacePlan, retaining: Set<IPAddress>) {
        kernel = SimulatedKernel(state)
        self.plan = plan
        let planned = AddressFamily.allCases.flatMap { plan.families[$0].addresses }
        plannedAddresses = planned
        var free = retaining.subtracting(plan.meaningfulAddresses)
        var staying: [PlannedAddress] = []
        for entry in state.addresses where entry.origin == .ours && free.remove(entry.value.address) != nil {
            staying.append(entry.value.lingering)
        }
        lingering = staying
        wanted = Set((planned + staying).map(\.identity))
        // Beside link-local addresses, a lingering IPv6 address would be chosen although it is deprecated (RFC 6724
        // section 5, rule 2 comes before rule 3). So the default route names the link-local one.
        var source: IPAddress?
        if staying.contains(where: { $0.family == .v6 }),
            plan.families.v6.addresses.allSatisfy({ $0.address.isLinkLocal })
        {
            source = state.addresses.first { $0.value.family == .v6 && $0.value.address.isLinkLocal }?.value.address
        }
        plannedRoutes = AddressFamily.allCases.map { family in
            let routes = plan.families[family].routes
            let preferred = family == .v6 ? source : nil
            // A large table is copied only if something in it must be changed.
            guard preferred != nil || routes.hasOne(where: { !$0.isCanonical }) else { return routes }
            return routes.map { $0.preferring(preferred).canonical }
        }
    }

    mutating func run() {
        changeLink()
        addAddresses()
        let refused = addRoutes()
        removeRoutes { !$0.isDefault }
        for route in refused { settle(route) }
        removeDefaults()
        orderLingering()
        removeAddresses()
        orderLingering()
        restoreDependentRoutes()
        // A default route that had to wait for an address to go is added now.
        removeDefaults()
    }

    mutating func emit(_ operation: NamespaceOperation) {
        operations.append(operation)
        _ = kernel.carryOut(operation)
    }

    mutating func changeLink() {
        if let mac = plan.namespaceMAC, kernel.properties.mac != mac { emit(.setMAC(mac)) }
        if let mtu = plan.mtu, kernel.properties.mtu != mtu { emit(.setMTU(mtu)) }
        if !kernel.properties.isUp { emit(plan.hasKernelLinkLocal ? .setLinkUp : .setLinkUpBare) }
    }

    // MARK: Addresses

    /// Adds an address.
    ///
    /// An old route of ours in the place of its IPv6 prefix route is removed first, because the kernel would add no
    /// prefix route beside it.
    mutating func add(_ address: PlannedAddress) {
        if address.family == .v6 {
            for connected in address.connectedRoutes {
                let old = kernel.routes.first(connected.identity) { $0.origin == .ours }
                guard let old, !isPlanned(connected.identity) else { continue }
                emit(.removeRoute(old.value))
            }
        }
        emit(.addAddress(address))
    }

    func entry(_ address: PlannedAddress) -> AppliedState.Address? {
        kernel.addresses.first { $0.value.identity == address.identity }
    }

    mutating func addAddresses() {
        for address in plannedAddresses {
            guard let entry = entry(address) else {
                add(address)
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
        for address in lingering {
            guard let entry = entry(address) else {
                // IPv4: the new form is added beside the old one, which is removed later.
                emit(.addAddress(address))
                continue
            }
            if !entry.value.isSame(as: address) {
                exchange(entry.value, for: address)
            } else if !entry.value.flags.contains(.deprecated) {
                emit(.deprecateAddress(address))
            }
        }
    }

    /// Moves lingering IPv4 addresses behind the planned ones, because the link's first address is the default source.
    mutating func orderLingering() {
        let planned = Set(plannedAddresses.map(\.identity))
        for address in lingering where address.family == .v4 {
            // A secondary address is never the first choice and is behind all primary ones anyway.
            let last = kernel.addresses.lastIndex {
                !$0.value.flags.contains(.secondary) && planned.contains($0.value.identity) && $0.value.family == .v4
            }
            guard let last, let own = kernel.addresses.firstIndex(where: { $0.value.identity == address.identity }),
                own < last
            else { continue }
            exchange(kernel.addresses[own].value, for: address)
        }
    }

    /// Makes the first planned address of each IPv4 subnet the primary one there, as on the host.
    ///
    /// The connected route names the primary address as its source. Addresses before it are removed and added again
    /// behind the others; addresses that will be removed anyway do not count.
    mutating func orderSubnets() {
        for (position, lead) in plannedAddresses.enumerated() where lead.family == .v4 {
            let isLead = !plannedAddresses[..<position].contains { lead.isInSubnet(of: $0) }
            guard isLead, entry(lead)?.origin == .ours else { continue }
            for _ in kernel.addresses {
                let doomed = Set(stale().map(\.identity))
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

    /// Replaces an address by one of the same identity that differs in something the kernel cannot change.
    ///
    /// With its last IPv4 address the link would lose every route, and sockets would lose theirs. So a second entry of
    /// the same address, of another length and without a route, takes its place meanwhile.
    mutating func exchange(_ old: PlannedAddress, for new: PlannedAddress) {
        let length = new.prefix.length == 32 ? 31 : 32
        var holder: PlannedAddress?
        if new.family == .v4, let prefix = Prefix(new.address, length: length) {
            holder = PlannedAddress(
                prefix: prefix, flags: new.flags.intersection(.deprecated).union(.noPrefixRoute))
        }
        if let candidate = holder, entry(candidate) != nil { holder = nil }
        if let holder { emit(.addAddress(holder)) }
        promote(before: old)
        remove(old)
        add(new)
        if let holder { emit(.removeAddress(holder)) }
    }

    /// Our addresses that are neither planned nor lingering.
    func stale() -> [PlannedAddress] {
        kernel.addresses.filter { $0.origin == .ours && !wanted.contains($0.value.identity) }.map(\.value)
    }

    mutating func removeAddresses() {
        let going = stale()
        let identities = Set(going.map(\.identity))
        let staying = Set(kernel.addresses.map(\.value).filter { !identities.contains($0.identity) }.map(\.address))
        var reset: Set<IPAddress> = []
        for address in going.map(\.address) where !staying.contains(address) && reset.insert(address).inserted {
            emit(.resetFlows(address))
        }
        // Secondary addresses go before the primary one that might take them along.
        for address in going.reversed().stablySorted(by: { $0.flags.contains(.secondary) ? 0 : 1 }) {
            promote(before: address)
            remove(address)
        }
    }

    /// Removes an address, and its IPv6 prefix route if the kernel keeps that for others in the prefix that have none.
    mutating func remove(_ address: PlannedAddress) {
        emit(.removeAddress(address))
        guard address.family == .v6 else { return }
        for connected in address.connectedRoutes {
            let isNeeded = kernel.addresses.contains { entry in
                entry.value.family == .v6 && entry.value.connectedRoutes.contains { $0.identity == connected.identity }
            }
            let left = kernel.routes.first(connected.identity) { $0.origin == .kernel }
            if !isNeeded, let left { emit(.removeRoute(left.value)) }
        }
    }

    /// Makes secondary addresses outlive the address that is about to be removed.
    mutating func promote(before address: PlannedAddress) {
        guard !kernel.properties.promotesSecondaries, address.family == .v4, !address.flags.contains(.secondary) else {
            return
        }
        let hasDependents = kernel.addresses.contains {
            $0.value.flags.contains(.secondary) && $0.value.isInSubnet(of: address)
        }
        if hasDependents { emit(.setPromoteSecondaries) }
    }
}

extension PlannedAddress {
    /// The form in which an address that is no longer planned stays for its connections.
    public var lingering: PlannedAddress {
        var flags: InterfaceAddress.Flags = [.noPrefixRoute, .deprecated]
        if family == .v6 { flags.insert(.noDuplicateDetection) }
        return PlannedAddress(prefix: Prefix(host: address), scope: scope, flags: flags)
    }

    /// Whether the address that the kernel reports is the wanted one, apart from deprecation.
    fileprivate func isSame(as planned: PlannedAddress) -> Bool {
        prefix == planned.prefix && peer == planned.peer && broadcast == planned.broadcast
            && (scope == planned.scope || family == .v6)
            && flags.intersection(Self.comparedFlags) == planned.flags.intersection(Self.comparedFlags)
    }
}

extension NamespacePlan {
    /// The addresses with another meaning than a former address of the namespace; none of them may linger.
    fileprivate var meaningfulAddresses: Set<IPAddress> {
        var addresses: Set<IPAddress> = []
        for family in AddressFamily.allCases {
            addresses.formUnion(families[family].addresses.map(\.address))
            for route in families[family].routes { addresses.formUnion(route.nextHops.compactMap(\.gateway)) }
            let rules = rules.families[family]
            addresses.formUnion(
                [
                    rules.ownAddress, rules.gateway, rules.hostLoopback, rules.mappedGuestAddress, rules.dnsForward,
                ].compactMap(\.self))
        }
        return addresses
    }
}

extension Route {
    /// A default route with the source address, unless it has one or there is none.
    fileprivate func preferring(_ source: IPAddress?) -> Route {
        guard isDefault, preferredSource == nil, let source else { return self }
        var route = self
        route.preferredSource = source
        return route
    }
}
