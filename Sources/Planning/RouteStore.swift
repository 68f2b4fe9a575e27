// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// The routes of a simulated kernel: found by identity in constant time, listed in the order of addition.
///
/// A difference of a few routes must not cost as much as the whole table. So the given array is kept as it is, and the
/// index and the table of routers are built when they are first needed.
struct RouteStore {
    private var list: [AppliedState.RouteEntry]
    /// The positions whose routes were removed.
    private var gone: Set<Int> = []
    private var index: RouteIndex?
    private var table: Reachability?
    private var searches = 0

    /// The number of lookups that search linearly before an index is built, which costs as much as some searches.
    private static let searchesWithoutIndex = 8

    /// Makes the store of a table.
    init(_ entries: [AppliedState.RouteEntry]) {
        list = entries
    }

    /// All routes in the order they were added.
    var entries: [AppliedState.RouteEntry] {
        if gone.isEmpty { return list }
        return list.indices.lazy.filter { !gone.contains($0) }.map { list[$0] }
    }

    // MARK: Finding

    /// The position of the first route of an identity that meets a condition.
    private mutating func position(
        _ identity: Route.Identity, where isMeant: (AppliedState.RouteEntry) -> Bool = { _ in true }
    ) -> Int? {
        if index == nil {
            guard searches >= Self.searchesWithoutIndex || list.count < Self.searchesWithoutIndex else {
                searches += 1
                return list.firstPosition(in: list.indices) { entry in
                    entry.value.destination.length == identity.destination.length
                        && entry.value.identity == identity
                }.flatMap { first in
                    (first..<list.count).first { position in
                        list[position].value.identity == identity && !gone.contains(position)
                            && isMeant(list[position])
                    }
                }
            }
            index = makeIndex()
        }
        return index?.first(identity.fingerprint) { position in
            list[position].value.identity == identity && !gone.contains(position) && isMeant(list[position])
        }
    }

    private func makeIndex() -> RouteIndex {
        var index = RouteIndex(capacity: list.count)
        let entries = list.span
        for position in entries.indices { index.insert(entries[position].value.identity.fingerprint, at: position) }
        return index
    }

    /// The first route of an identity that meets a condition.
    mutating func first(
        _ identity: Route.Identity, where isMeant: (AppliedState.RouteEntry) -> Bool = { _ in true }
    ) -> AppliedState.RouteEntry? {
        position(identity, where: isMeant).map { list[$0] }
    }

    /// Whether a route of an identity meets a condition.
    mutating func contains(
        _ identity: Route.Identity, where isMeant: (AppliedState.RouteEntry) -> Bool = { _ in true }
    ) -> Bool {
        position(identity, where: isMeant) != nil
    }

    private func makeTable() -> Reachability {
        var table = Reachability()
        let entries = list.span
        for position in entries.indices
        where Reachability.matters(entries[position].value) && !gone.contains(position) {
            table.add(entries[position].value)
        }
        return table
    }

    /// Whether every gateway of a route can be reached.
    mutating func accepts(_ route: Route) -> Bool {
        if table == nil { table = makeTable() }
        return table?.accepts(route) ?? false
    }

    // MARK: Changing

    /// Adds a route behind all others.
    mutating func append(_ entry: AppliedState.RouteEntry) {
        index?.insert(entry.value.identity.fingerprint, at: list.count)
        table?.add(entry.value)
        list.append(entry)
    }

    /// Replaces the first route of its identity, or adds it behind all others.
    mutating func replaceFirst(_ entry: AppliedState.RouteEntry) {
        guard let position = position(entry.value.identity) else {
            append(entry)
            return
        }
        table?.remove(list[position].value)
        list[position] = entry
        table?.add(entry.value)
    }

    /// Removes the first route that equals another in canonical form; false if there is none.
    mutating func removeFirst(_ route: Route) -> Bool {
        let wanted = route.canonical
        return removeFirst(wanted.identity) { $0.value.canonical == wanted }
    }

    /// Removes the first route of an identity that meets a condition; false if there is none.
    mutating func removeFirst(
        _ identity: Route.Identity, where isMeant: (AppliedState.RouteEntry) -> Bool
    ) -> Bool {
        guard let position = position(identity, where: isMeant) else { return false }
        remove(at: position)
        return true
    }

    private mutating func remove(at position: Int) {
        table?.remove(list[position].value)
        gone.insert(position)
    }

    /// Removes all that satisfy a condition.
    /// - Complexity: O(routes).
    mutating func removeAll(where isMeant: (AppliedState.RouteEntry) -> Bool) {
        for position in list.indices where isMeant(list[position]) && !gone.contains(position) { remove(at: position) }
    }

    /// Removes a preferred source from the routes that have it.
    /// - Complexity: O(routes).
    mutating func clearPreferredSource(_ source: IPAddress) {
        for position in list.indices where list[position].value.preferredSource == source {
            list[position].value.preferredSource = nil
        }
    }
}
