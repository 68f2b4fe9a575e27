// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes

/// Why the namespace's kernel would refuse an operation.
public enum Refusal: Error, Hashable, Sendable {
    /// The object is there already (`EEXIST`).
    case exists
    /// There is no such object (`EADDRNOTAVAIL`, `ESRCH`).
    case absent
    /// A gateway is not on the link (`ENETUNREACH`, `EHOSTUNREACH`).
    case unreachableGateway
    /// The preferred source is not an address of the namespace, or the address's scope differs from its subnet's
    /// (`EINVAL`).
    case invalid
    /// The link is down (`ENETDOWN`).
    case linkDown
}

/// The state after operations, as the namespace's kernel would have it; refused ones change nothing.
///
/// A model of Linux, pure: `diff()` looks ahead with it, tests compare with it.
/// - Parameters:
///   - operations: what to carry out, in order.
///   - state: the state before.
/// - Returns: the state after.
public func apply(_ operations: [NamespaceOperation], to state: AppliedState) -> AppliedState {
    var state = state
    for operation in operations { _ = simulate(operation, on: &state) }
    return state
}

/// Carries out one operation on a state as the namespace's kernel would, side effects included.
///
/// - Parameters:
///   - operation: what to do.
///   - state: the state, unchanged if the operation is refused.
/// - Returns: why it is refused, or nil.
public func simulate(_ operation: NamespaceOperation, on state: inout AppliedState) -> Refusal? {
    do {
        try state.carryOut(operation)
        return nil
    } catch {
        return error
    }
}

extension AppliedState {
    fileprivate mutating func carryOut(_ operation: NamespaceOperation) throws(Refusal) {
        switch operation {
        case .setMAC(let mac): self.mac = mac
        case .setMTU(let mtu): self.mtu = mtu
        case .setLinkUp: setUp()
        case .setPromoteSecondaries: promotesSecondaries = true
        case .addAddress(let address): try add(address)
        case .deprecateAddress(let address): try setDeprecated(address, true)
        case .restoreAddress(let address): try setDeprecated(address, false)
        case .addRoute(let route): try add(route)
        case .replaceRoute(let route): try replace(route)
        case .resetFlows: break
        case .removeRoute(let route): try remove(route)
        case .removeAddress(let address): try remove(address)
        }
    }

    // MARK: Link

    private mutating func setUp() {
        guard !isUp else { return }
        isUp = true
        for address in addresses { addConnectedRoutes(of: address.value) }
    }

    // MARK: Addresses

    private mutating func add(_ new: PlannedAddress) throws(Refusal) {
        var new = new
        guard !addresses.contains(where: { $0.value.identity == new.identity }) else { throw .exists }
        if new.family == .v4, let primary = primary(of: new) {
            guard primary.address != new.address else { throw .exists }
            guard primary.scope == new.scope else { throw .invalid }
            new.flags.insert(.secondary)
        }
        if new.family == .v6 { new.scope = PlannedAddress.scope(of: new.address) }
        addresses.append(Address(new, origin: .ours))
        addConnectedRoutes(of: new)
    }

    /// The primary IPv4 address that makes another one of the same subnet and length secondary.
    private func primary(of address: PlannedAddress) -> PlannedAddress? {
        addresses.first {
            $0.value.family == .v4 && !$0.value.flags.contains(.secondary) && $0.value.isInSubnet(of: address)
        }?.value
    }

    private mutating func setDeprecated(_ address: PlannedAddress, _ isDeprecated: Bool) throws(Refusal) {
        guard let index = addresses.firstIndex(where: { $0.value.identity == address.identity }) else { throw .absent }
        if isDeprecated {
            addresses[index].value.flags.insert(.deprecated)
        } else {
            addresses[index].value.flags.remove(.deprecated)
        }
    }

    private mutating func remove(_ address: PlannedAddress) throws(Refusal) {
        guard let index = addresses.firstIndex(where: { $0.value.identity == address.identity }) else { throw .absent }
        if address.family == .v4 { removeIPv4(at: index) } else { removeIPv6(at: index) }
    }

    private mutating func removeIPv4(at index: Int) {
        var gone = [addresses.remove(at: index).value]
        if !gone[0].flags.contains(.secondary) {
            let isDependent = { (other: Address) in
                other.value.family == .v4 && other.value.flags.contains(.secondary)
                    && other.value.isInSubnet(of: gone[0])
            }
            if !promotesSecondaries {
                let dependents = addresses.filter(isDependent).map(\.value)
                addresses.removeAll(where: isDependent)
                gone += dependents
            } else if let next = addresses.firstIndex(where: isDependent) {
                addresses[next].value.flags.remove(.secondary)
            }
        }
        for address in gone where !address.flags.contains(.secondary) {
            for connected in address.connectedRoutes {
                routes.removeAll { $0.origin == .kernel && $0.value.canonical == connected.canonical }
            }
        }
        for address in gone where !addresses.contains(where: { $0.value.address == address.address }) {
            routes.removeAll { $0.value.family == .v4 && $0.value.preferredSource == address.address }
        }
        if !addresses.contains(where: { $0.value.family == .v4 }) {
            // "Disable IP": with its last address the link loses every route.
            routes.removeAll { $0.value.family == .v4 }
        } else {
            for address in addresses where address.value.family == .v4 { addConnectedRoutes(of: address.value) }
        }
    }

    private mutating func removeIPv6(at index: Int) {
        let gone = addresses.remove(at: index).value
        let others = addresses.map(\.value).filter { $0.family == .v6 }
        let needed = Set(others.flatMap(\.connectedRoutes).map(\.identity))
        // The kernel keeps a prefix route for every other address in the prefix, one without a prefix route included.
        let prefixes = Set(others.map(\.prefix.network))
        for connected in gone.connectedRoutes
        where !needed.contains(connected.identity) && !prefixes.contains(connected.destination) {
            routes.removeAll { $0.origin == .kernel && $0.value.identity == connected.identity }
        }
        for index in routes.indices where routes[index].value.preferredSource == gone.address {
            routes[index].value.preferredSource = nil
        }
    }

    /// Appends them whatever else leads to the same destination, as the kernel does.
    private mutating func addConnectedRoutes(of address: PlannedAddress) {
        guard isUp, !(address.family == .v4 && address.flags.contains(.secondary)) else { return }
        for route in address.connectedRoutes {
            let isThere = routes.contains {
                $0.value.identity == route.identity && $0.value.isOnLink
                    && (route.family == .v6 || $0.value.canonical == route.canonical)
            }
            if !isThere { routes.append(RouteEntry(route.canonical, origin: .kernel)) }
        }
    }

    // MARK: Routes

    private func check(_ route: Route) throws(Refusal) {
        guard isUp else { throw .linkDown }
        guard Reachability(routes.lazy.map(\.value)).accepts(route) else { throw .unreachableGateway }
        for hop in route.nextHops {
            guard let gateway = hop.gateway, gateway.family == .v6 || hop.flags.contains(.onLink) else { continue }
            if addresses.contains(where: { $0.value.address == gateway }) { throw .unreachableGateway }
        }
        if let source = route.preferredSource, !addresses.contains(where: { $0.value.address == source }) {
            throw .invalid
        }
    }

    private mutating func add(_ route: Route) throws(Refusal) {
        guard !routes.contains(where: { $0.value.identity == route.identity }) else { throw .exists }
        try check(route)
        routes.append(RouteEntry(route.canonical, origin: .ours))
    }

    private mutating func replace(_ route: Route) throws(Refusal) {
        try check(route)
        if let index = routes.firstIndex(where: { $0.value.identity == route.identity }) {
            routes[index] = RouteEntry(route.canonical, origin: .ours)
        } else {
            routes.append(RouteEntry(route.canonical, origin: .ours))
        }
    }

    private mutating func remove(_ route: Route) throws(Refusal) {
        let wanted = route.canonical
        guard let index = routes.firstIndex(where: { $0.value.canonical == wanted }) else { throw .absent }
        routes.remove(at: index)
    }
}
