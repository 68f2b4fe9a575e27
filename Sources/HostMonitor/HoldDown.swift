// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel
public import NetworkTypes

/// Whether a family has an address that the namespace could be given, on any link or on a named one only.
///
/// The policy is that of `plan()`; this room has none of its own and is given the function.
public typealias HasUsableAddress = @Sendable (HostSnapshot, AddressFamily, _ link: String?) -> Bool

/// Bridges the gap after the last usable address of a family is lost: a pure state machine.
///
/// It treats each family on its own. When a family loses its last usable address, the published state of the family
/// stays as it was until the hold-down is over. So roaming between access points, renewing a lease or moving a cable
/// gives one change instead of two. Every other change passes at once, including the family's own return.
public struct HoldDown: Sendable {
    /// How long a loss is held back, in milliseconds; 0 for not at all.
    public var milliseconds: Int64
    /// The only link that counts for a family (`-i`, `--outbound-if4`, `--outbound-if6`); nil for any.
    public var interfaces: PerFamily<String?>
    private let hasUsableAddress: HasUsableAddress
    private var ends = PerFamily<MonotonicTime?>(v4: nil, v6: nil)
    /// Whether each family is usable in the published state.
    ///
    /// It cannot be computed from that state: the link that is kept for one family would make the other look usable.
    private var counts: PerFamily<Bool>?

    /// Begins with nothing held.
    public init(
        milliseconds: Int64, interfaces: PerFamily<String?> = .init(v4: nil, v6: nil),
        hasUsableAddress: @escaping HasUsableAddress
    ) {
        self.hasUsableAddress = hasUsableAddress
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

    /// The state to publish, given the actual one.
    ///
    /// - Parameters:
    ///   - actual: The host's state now.
    ///   - published: The state that was published last; nil at first.
    ///   - now: The time.
    /// - Returns: The actual state, with the held families as they were published.
    public mutating func filter(
        _ actual: HostSnapshot, published: HostSnapshot?, now: MonotonicTime
    ) -> HostSnapshot {
        guard let published else { return actual }
        var result = actual
        var counts = self.counts ?? PerFamily(v4: false, v6: false)
        if self.counts == nil {
            for family in AddressFamily.allCases {
                counts[family] = hasUsableAddress(published, family, interfaces[family])
            }
        }
        defer { self.counts = counts }
        for family in AddressFamily.allCases {
            let isUsable = hasUsableAddress(actual, family, interfaces[family])
            let end = ends[family] ?? now.advanced(milliseconds: milliseconds)
            if counts[family], !isUsable, now < end {
                ends[family] = end
                result.restore(family, from: published)
            } else {
                ends[family] = nil
                counts[family] = isUsable
            }
        }
        return result
    }
}

extension HostSnapshot {
    /// Copies a family's part of another state, together with the links that it needs.
    fileprivate mutating func restore(_ family: AddressFamily, from other: HostSnapshot) {
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
