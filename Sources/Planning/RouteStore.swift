// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// The routes of a simulated kernel: found by identity in constant time, listed in the order they were added.
struct RouteStore {
    private struct Slot {
        var entry: AppliedState.RouteEntry
        var sequence: Int
    }

    private var slots: [Route.Identity: [Slot]] = [:]
    private var nextSequence = 0
    /// What the routes make of routers.
    private(set) var reachability = Reachability()

    /// Makes the store of a table.
    init(_ entries: [AppliedState.RouteEntry]) {
        slots.reserveCapacity(entries.count)
        for entry in entries { append(entry) }
    }

    /// All routes in the order they were added.
    var entries: [AppliedState.RouteEntry] {
        slots.values.joined().sorted { $0.sequence < $1.sequence }.map(\.entry)
    }

    /// The routes of one identity, first to last.
    func entries(_ identity: Route.Identity) -> [AppliedState.RouteEntry] {
        slots[identity]?.map(\.entry) ?? []
    }

    /// Whether there is a route of this identity.
    func contains(_ identity: Route.Identity) -> Bool {
        slots[identity] != nil
    }

    /// Adds a route behind all others.
    mutating func append(_ entry: AppliedState.RouteEntry) {
        slots[entry.value.identity, default: []].append(Slot(entry: entry, sequence: nextSequence))
        nextSequence += 1
        reachability.add(entry.value)
    }

    /// Puts a route in the place of the first one of its identity, or behind all others.
    mutating func replaceFirst(_ entry: AppliedState.RouteEntry) {
        let identity = entry.value.identity
        guard let old = slots[identity]?.first else {
            append(entry)
            return
        }
        reachability.remove(old.entry.value)
        slots[identity]?[0].entry = entry
        reachability.add(entry.value)
    }

    /// Removes the first route that equals another in canonical form; false if there is none.
    mutating func removeFirst(_ route: Route) -> Bool {
        let wanted = route.canonical
        let identity = wanted.identity
        guard let index = slots[identity]?.firstIndex(where: { $0.entry.value.canonical == wanted }) else {
            return false
        }
        if let removed = slots[identity]?.remove(at: index) { reachability.remove(removed.entry.value) }
        if slots[identity]?.isEmpty ?? false { slots[identity] = nil }
        return true
    }

    /// Removes all that satisfy a condition.
    /// - Complexity: O(routes).
    mutating func removeAll(where isMeant: (AppliedState.RouteEntry) -> Bool) {
        for (identity, group) in slots where group.contains(where: { isMeant($0.entry) }) {
            for slot in group where isMeant(slot.entry) { reachability.remove(slot.entry.value) }
            let rest = group.filter { !isMeant($0.entry) }
            slots[identity] = rest.isEmpty ? nil : rest
        }
    }

    /// Takes a preferred source out of the routes that have it.
    /// - Complexity: O(routes).
    mutating func clearPreferredSource(_ source: IPAddress) {
        for (identity, group) in slots {
            for index in group.indices where group[index].entry.value.preferredSource == source {
                slots[identity]?[index].entry.value.preferredSource = nil
            }
        }
    }
}
