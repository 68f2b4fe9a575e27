// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel
public import NetworkTypes

/// Bridges the gap after the last usable address of a family is lost: a pure state machine.
///
/// Each family on its own. Losing its last usable address is not told at once: what was published of the family is
/// shown on until the hold-down is over, so that an access point change, a lease taken again or a cable moved gives
/// one change instead of two. Everything else passes through at once, the family's own return included.
public struct HoldDown: Hashable, Sendable {
    /// How long a loss is held back, in milliseconds; 0 for not at all.
    public var milliseconds: Int64
    /// The only link that counts for a family (`-i`, `--outbound-if4`, `--outbound-if6`); nil for any.
    public var interfaces: PerFamily<String?>
    private var ends = PerFamily<MonotonicTime?>(v4: nil, v6: nil)
    /// Whether a family counts as usable to those who were told.
    ///
    /// Not to be read off what was shown: the link that one family is held with would make the other look usable.
    private var counts: PerFamily<Bool>?

    /// Begins with nothing held.
    public init(milliseconds: Int64, interfaces: PerFamily<String?> = .init(v4: nil, v6: nil)) {
        self.milliseconds = milliseconds
        self.interfaces = interfaces
    }

    /// When the first hold-down ends; nil if nothing is held.
    public var deadline: MonotonicTime? {
        [ends.v4, ends.v6].compactMap(\.self).min()
    }

    /// The families that are held now.
    public var held: [AddressFamily] {
        AddressFamily.allCases.filter { ends[$0] != nil }
    }

    /// What to show of the actual state.
    ///
    /// - Parameters:
    ///   - actual: The host's state now.
    ///   - shown: What was shown last; nil at first.
    ///   - now: The time.
    /// - Returns: The actual state, in which the families that are held are as they were shown.
    public mutating func filter(
        _ actual: HostSnapshot, shown: HostSnapshot?, now: MonotonicTime
    ) -> HostSnapshot {
        guard let shown else { return actual }
        var result = actual
        var counts = self.counts ?? PerFamily(v4: false, v6: false)
        if self.counts == nil {
            for family in AddressFamily.allCases {
                counts[family] = shown.isUsable(family, onlyThrough: interfaces[family])
            }
        }
        defer { self.counts = counts }
        for family in AddressFamily.allCases {
            let isUsable = actual.isUsable(family, onlyThrough: interfaces[family])
            let end = ends[family] ?? now.advanced(milliseconds: milliseconds)
            if counts[family], !isUsable, now < end {
                ends[family] = end
                result.keep(family, of: shown)
            } else {
                ends[family] = nil
                counts[family] = isUsable
            }
        }
        return result
    }
}

extension HostSnapshot {
    /// Takes a family's part from another state, with the links that it needs as they were.
    fileprivate mutating func keep(_ family: AddressFamily, of other: HostSnapshot) {
        addresses = Self.merge(addresses, other.addresses, family, \.family)
        routes = Self.merge(routes, other.routes, family, \.family)
        rules = Self.merge(rules, other.rules, family, \.family)
        lookups = Self.merge(lookups, other.lookups, family, \.destination.family)
        let ofAddresses = other.addresses.lazy.filter { $0.family == family }.map(\.interface)
        let ofRoutes = other.routes.lazy.filter { $0.family == family }.flatMap(\.nextHops).compactMap(\.interface)
        let needed = Set(ofAddresses).union(ofRoutes)
        for link in other.links where needed.contains(link.index) {
            if let position = links.firstIndex(where: { $0.index == link.index }) {
                if link.hasCarrier, !links[position].hasCarrier { links[position].flags = link.flags }
            } else {
                let position = links.firstIndex { $0.index > link.index } ?? links.endIndex
                links.insert(link, at: position)
            }
        }
    }

    /// IPv4 before IPv6, one family of `other` and the rest of `own`.
    private static func merge<Element>(
        _ own: [Element], _ other: [Element], _ family: AddressFamily, _ familyOf: (Element) -> AddressFamily
    ) -> [Element] {
        let kept = other.filter { familyOf($0) == family }
        let rest = own.filter { familyOf($0) != family }
        return family == .v4 ? kept + rest : rest + kept
    }
}
