// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Selects the spliced UDP client that is evicted when there is no room for another, by the same rule as `FlowShares`
// for flows: of the kind with most clients (unanswered or answered; unanswered ones count four times), of the client
// address with most of that kind, of the port with most of that address. So a flood competes with itself. If a flood
// comes from many addresses, the oldest client of a list is evicted, because each list is in the order of age; so a new
// client has time to be answered.
//
// Lists are linked by slot indices. No client is moved for a datagram: a client that has been active since it was filed
// is filed again when it becomes the oldest.

internal import LinuxSystem
internal import NetworkTypes

/// The spliced UDP clients by kind, address and port, each list in the order of age.
struct RelayShares {
    /// Lists of addresses for each kind.
    private static let sources = 64
    /// Lists of ports for each address.
    private static let ports = 16
    /// The factor by which unanswered clients count in comparisons of kinds.
    private static let unansweredFactor = 4

    private struct List {
        var oldest = -1
        var newest = -1
        var count = 0
    }

    /// A slot's position: its list, or -1 if it has none, and its neighbours there.
    private struct Place {
        var list = -1
        var older = -1
        var newer = -1
    }

    private var lists = [List](repeating: List(), count: 2 * sources * ports)
    private var sourceCounts = [Int](repeating: 0, count: 2 * sources)
    private var places: [Place] = []

    /// The number of answered or unanswered clients.
    func count(areAnswered: Bool) -> Int {
        let first = areAnswered ? 0 : Self.sources
        return sourceCounts[first..<first + Self.sources].reduce(0, +)
    }

    /// Files a slot as the newest of its kind, address and port; it is removed from its former list.
    ///
    /// - Parameters:
    ///   - index: the slot.
    ///   - isAnswered: whether the target has answered the client.
    ///   - peer: the client's address.
    ///   - port: the forwarded port.
    mutating func file(_ index: Int, isAnswered: Bool, peer: IPv6Address, port: UInt16) {
        // The hash has a random key, so no sender can choose addresses that share the list of another.
        var hasher = Hasher()
        hasher.combine(peer.high)
        hasher.combine(peer.low)
        let source = (isAnswered ? 0 : Self.sources) + (hasher.finalize() & (Self.sources - 1))
        remove(index)
        while places.count <= index { places.append(Place()) }
        append(index, to: source * Self.ports + Int(port) % Self.ports)
    }

    /// Makes a slot the newest of its list.
    mutating func renew(_ index: Int) {
        let list = places[index].list
        remove(index)
        append(index, to: list)
    }

    private mutating func append(_ index: Int, to list: Int) {
        let newest = lists[list].newest
        places[index] = Place(list: list, older: newest, newer: -1)
        if newest < 0 { lists[list].oldest = index } else { places[newest].newer = index }
        lists[list].newest = index
        lists[list].count += 1
        sourceCounts[list / Self.ports] += 1
    }

    /// Removes a slot from its list, if it has one.
    mutating func remove(_ index: Int) {
        guard index < places.count, places[index].list >= 0 else { return }
        let place = places[index]
        if place.older < 0 { lists[place.list].oldest = place.newer } else { places[place.older].newer = place.newer }
        if place.newer < 0 { lists[place.list].newest = place.older } else { places[place.newer].older = place.older }
        lists[place.list].count -= 1
        sourceCounts[place.list / Self.ports] -= 1
        places[index].list = -1
    }

    /// The slot to evict: the oldest of the longest list; nil if there is none.
    var candidate: Int? {
        let answered = count(areAnswered: true)
        let unanswered = count(areAnswered: false)
        guard answered + unanswered > 0 else { return nil }
        let first = unanswered * Self.unansweredFactor >= answered && unanswered > 0 ? Self.sources : 0
        var source = first
        for other in first..<first + Self.sources where sourceCounts[other] > sourceCounts[source] { source = other }
        var list = source * Self.ports
        for other in list..<list + Self.ports where lists[other].count > lists[list].count { list = other }
        return lists[list].oldest
    }
}
