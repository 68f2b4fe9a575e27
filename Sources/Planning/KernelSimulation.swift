// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes

/// Why the namespace's kernel would refuse an operation.
public enum Refusal: Error, Hashable, Sendable {
    /// The object exists already (`EEXIST`).
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

/// The state after operations, according to the namespace's kernel; refused operations change nothing.
///
/// It is a pure model of Linux: `diff()` looks ahead with it, and tests compare it with recordings of a real kernel.
///
/// - Parameters:
/// - operations: the operations, in order.
/// - state: the state before.
/// - Returns: The state after.
public func apply(_ operations: [NamespaceOperation], to state: AppliedState) -> AppliedState {
    var kernel = SimulatedKernel(state)
    for operation in operations { _ = kernel.carryOut(operation) }
    return kernel.state
}

/// Carries out one operation on a state like the namespace's kernel, with all side effects.
///
/// - Parameters:
///   - operation: the operation.
///   - state: the state, unchanged if the operation is refused.
/// - Returns: The refusal, or nil.
public func simulate(_ operation: NamespaceOperation, on state: inout AppliedState) -> Refusal? {
    var kernel = SimulatedKernel(state)
    let refusal = kernel.carryOut(operation)
    state = kernel.state
    return refusal
}

/// A namespace's kernel, as far as one link's addresses and routes are concerned, with the side effects of Linux.
struct SimulatedKernel {
    private var link: AppliedState
    /// The routes; a lookup may build an index.
    var routes: RouteStore

    /// Makes a kernel in a state.
    init(_ state: AppliedState) {
        link = state
        routes = RouteStore(state.routes)
        link.routes = []
    }

    /// The state that a dump would show.
    var state: AppliedState {
        var state = link
        state.routes = routes.entries
        return state
    }

    /// The link's properties and addresses, without routes.
    var properties: AppliedState { link }
    /// The addresses in the kernel's order.
    var addresses: [AppliedState.Address] { link.addresses }

    /// Carries out an operation; a refused one changes nothing.
    mutating func carryOut(_ operation: NamespaceOperation) -> Refusal? {
        do throws(Refusal) {
            switch operation {
            case .setMAC(let mac): link.mac = mac
            case .setMTU(let mtu): link.mtu = mtu
            case .setLinkUp, .setLinkUpBare: setUp()
            case .setPromoteSecondaries: link.promotesSecondaries = true
            case .addAddress(let address): try add(address)
            case .deprecateAddress(let address): try setDeprecated(address, true)
            case .restoreAddress(let address): try setDeprecated(address, false)
            case .addRoute(let route): try add(route)
            case .replaceRoute(let route): try replace(route)
            case .resetFlows: break
            case .removeRoute(let route): if !routes.removeFirst(route) { throw .absent }
            case .removeAddress(let address): try remove(address)
            }
            return nil
        } catch {
            return error
        }
    }

    private mutating func setUp() {
        guard !link.isUp else { return }
        link.isUp = true
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
        link.addresses.insert(AppliedState.Address(new, origin: .ours), at: place(of: new))
        addConnectedRoutes(of: new)
    }

    /// The position of a new address.
    ///
    /// The kernel puts an IPv4 primary address behind the last primary one whose scope is not narrower
    /// (`inet_insert_ifa`), and others behind all.
    private func place(of address: PlannedAddress) -> Int {
        guard address.family == .v4, !address.flags.contains(.secondary) else { return addresses.endIndex }
        let last = addresses.lastIndex {
            $0.value.family == .v4 && !$0.value.flags.contains(.secondary)
                && address.scope.rawValue <= $0.value.scope.rawValue
        }
        if let last { return last + 1 }
        return addresses.firstIndex { $0.value.family == .v4 } ?? addresses.endIndex
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
            link.addresses[index].value.flags.insert(.deprecated)
        } else {
            link.addresses[index].value.flags.remove(.deprecated)
        }
    }

    private mutating func remove(_ address: PlannedAddress) throws(Refusal) {
        guard let index = addresses.firstIndex(where: { $0.value.identity == address.identity }) else { throw .absent }
        if address.family == .v4 { removeIPv4(at: index) } else { removeIPv6(at: index) }
    }

    private mutating func removeIPv4(at index: Int) {
        let removed = link.addresses.remove(at: index).value
        var gone = [removed]
        if !removed.flags.contains(.secondary) {
            let isDependent = { (other: AppliedState.Address) in
                other.value.flags.contains(.secondary) && other.value.isInSubnet(of: removed)
            }
            if !link.promotesSecondaries {
                gone += addresses.filter(isDependent).map(\.value)
                link.addresses.removeAll(where: isDependent)
            } else if let next = addresses.firstIndex(where: isDependent) {
                // A promoted address moves behind the primary ones.
                var promoted = link.addresses.remove(at: next)
                promoted.value.flags.remove(.secondary)
                link.addresses.insert(promoted, at: place(of: promoted.value))
            }
        }
        for address in gone where !address.flags.contains(.secondary) {
            for connected in address.connectedRoutes {
                removeConnected(connected) { $0.canonical == connected.canonical }
            }
        }
        for address in gone where !addresses.contains(where: { $0.value.address == address.address }) {
            routes.removeAll { $0.value.family == .v4 && $0.value.preferredSource == address.address }
        }
        if !addresses.contains(where: { $0.value.family == .v4 }) {
            // "Disable IP": with its last address, the link loses every route.
            routes.removeAll { $0.value.family == .v4 }
        } else {
            for address in addresses where address.value.family == .v4 { addConnectedRoutes(of: address.value) }
        }
    }

    private mutating func removeIPv6(at index: Int) {
        let gone = link.addresses.remove(at: index).value
        let others = addresses.map(\.value).filter { $0.family == .v6 }
        let needed = Set(others.flatMap(\.connectedRoutes).map(\.identity))
        // The kernel keeps a prefix route as long as any other address is in the prefix, even one without a prefix
        // route.
        let prefixes = Set(others.map(\.prefix.network))
        for connected in gone.connectedRoutes
        where !needed.contains(connected.identity) && !prefixes.contains(connected.destination) {
            removeConnected(connected) { _ in true }
        }
        routes.clearPreferredSource(gone.address)
    }

    private mutating func removeConnected(_ connected: Route, where isMeant: (Route) -> Bool) {
        while routes.removeFirst(connected.identity, where: { $0.origin == .kernel && isMeant($0.value) }) {}
    }

    /// Appends the routes even if others have the same destination, as the kernel does.
    private mutating func addConnectedRoutes(of address: PlannedAddress) {
        guard link.isUp, !(address.family == .v4 && address.flags.contains(.secondary)) else { return }
        for route in address.connectedRoutes {
            let isThere = routes.contains(route.identity) {
                $0.value.isOnLink && (route.family == .v6 || $0.value.canonical == route.canonical)
            }
            if !isThere { routes.append(AppliedState.RouteEntry(route.canonical, origin: .kernel)) }
        }
    }

    // MARK: Routes

    private mutating func check(_ route: Route) throws(Refusal) {
        guard link.isUp else { throw .linkDown }
        var others = route
        if route.family == .v4 {
            // The lookup finds it in the local table, whatever the main table contains: the namespace's own address is
            // a router.
            others.nextHops.removeAll { hop in
                !hop.flags.contains(.onLink) && addresses.contains { $0.value.address == hop.gateway }
            }
            // "PERVASIVE and ONLINK can not be set"
            let isVoid = route.nextHops.contains { $0.flags.contains(.onLink) && $0.gateway == nil }
            if isVoid { throw .invalid }
        }
        guard routes.accepts(others) else { throw .unreachableGateway }
        for hop in route.nextHops {
            guard let gateway = hop.gateway, gateway.family == .v6 || hop.flags.contains(.onLink) else { continue }
            if addresses.contains(where: { $0.value.address == gateway }) { throw .unreachableGateway }
        }
        if let source = route.preferredSource, !addresses.contains(where: { $0.value.address == source }) {
            throw .invalid
        }
    }

    private mutating func add(_ route: Route) throws(Refusal) {
        // The kernel checks the next hops before it looks for the route.
        try check(route)
        guard !routes.contains(route.identity) else { throw .exists }
        routes.append(AppliedState.RouteEntry(route.canonical, origin: .ours))
    }

    private mutating func replace(_ route: Route) throws(Refusal) {
        try check(route)
        routes.replaceFirst(AppliedState.RouteEntry(route.canonical, origin: .ours))
    }
}
