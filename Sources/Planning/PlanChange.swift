// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// One difference between two plans, as the log and `tapasctl watch` report it.
public enum PlanChange: Hashable, Sendable, CustomStringConvertible {
    /// The mode of a family has changed.
    case mode(AddressFamily, from: FamilyMode, to: FamilyMode)
    /// An address is planned that was not.
    case addressAdded(AddressFamily, Prefix)
    /// An address is not planned any more.
    case addressRemoved(AddressFamily, Prefix)
    /// The router has changed.
    case gateway(AddressFamily, from: IPAddress?, to: IPAddress?)
    /// Routes other than the default were added or removed, or a default changed in more than its router.
    case routes(AddressFamily, added: Int, removed: Int)
    /// The host's resolvers have changed.
    case resolvers([ResolverConfiguration.Server])
    /// Only the translation rules or the settings of the services differ.
    case rules

    /// One phrase for people: "IPv4: template wlan0 -> local".
    public var description: String {
        switch self {
        case .mode(let family, let old, let new):
            return old == new ? "\(family): \(new)" : "\(family): \(old) -> \(new)"
        case .addressAdded(let family, let prefix): return "\(family): + \(prefix)"
        case .addressRemoved(let family, let prefix): return "\(family): - \(prefix)"
        case .gateway(let family, let old, let new):
            return "\(family): gateway \(old?.description ?? "none") -> \(new?.description ?? "none")"
        case .routes(let family, let added, let removed):
            let parts = [added > 0 ? "+\(added)" : nil, removed > 0 ? "-\(removed)" : nil].compactMap(\.self)
            return "\(family): routes \(parts.joined(separator: " "))"
        case .resolvers(let servers):
            let list = servers.map { "\($0.address)" }.joined(separator: ", ")
            return "resolvers: \(list.isEmpty ? "none" : list)"
        case .rules: return "translation rules"
        }
    }
}

/// The differences between two plans, in a fixed order; empty if there are none.
///
/// - Parameters:
///   - old: the plan before.
///   - new: the plan now.
/// - Returns: the differences, families first.
/// - Complexity: O(routes) for each family whose routes differ.
public func planChanges(from old: NamespacePlan, to new: NamespacePlan) -> [PlanChange] {
    var changes: [PlanChange] = []
    for family in AddressFamily.allCases {
        let (before, after) = (old.families[family], new.families[family])
        guard before != after else { continue }
        if before.mode != after.mode { changes.append(.mode(family, from: before.mode, to: after.mode)) }
        let (had, has) = (before.addresses.map(\.prefix), after.addresses.map(\.prefix))
        for prefix in has where !had.contains(prefix) { changes.append(.addressAdded(family, prefix)) }
        for prefix in had where !has.contains(prefix) { changes.append(.addressRemoved(family, prefix)) }
        if before.gateway != after.gateway {
            changes.append(.gateway(family, from: before.gateway, to: after.gateway))
        }
        if before.routes != after.routes {
            let (oldRoutes, newRoutes) = (Set(before.routes), Set(after.routes))
            let added = newRoutes.count { !oldRoutes.contains($0) }
            let removed = oldRoutes.count { !newRoutes.contains($0) }
            if added + removed > 0 { changes.append(.routes(family, added: added, removed: removed)) }
        }
    }
    if old.rules.dnsServers != new.rules.dnsServers { changes.append(.resolvers(new.rules.dnsServers)) }
    if changes.isEmpty, old.rules != new.rules || old.services != new.services { changes.append(.rules) }
    return changes
}

extension PlanChange {
    /// The changes of routes that operations carry out, counted for each family.
    ///
    /// - Parameter operations: operations on routes; others are ignored.
    /// - Returns: one change for each family that has any.
    public static func routes(of operations: [NamespaceOperation]) -> [PlanChange] {
        var counts = PerFamily(v4: (added: 0, removed: 0), v6: (added: 0, removed: 0))
        for operation in operations {
            switch operation {
            case .addRoute(let route): counts[route.family].added += 1
            case .removeRoute(let route): counts[route.family].removed += 1
            case .replaceRoute(let route):
                counts[route.family].added += 1
                counts[route.family].removed += 1
            default: break
            }
        }
        return AddressFamily.allCases.compactMap { family in
            let (added, removed) = counts[family]
            return added + removed > 0 ? .routes(family, added: added, removed: removed) : nil
        }
    }
}
