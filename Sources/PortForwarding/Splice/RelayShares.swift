// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Which spliced UDP client makes room for another: the rule that the data path has for its flows. It is one of those
// that have most of a kind (nobody has answered, or somebody has; the former weigh four times as much), of the client's
// address that has most of that kind, of the port that has most of that address. Whoever floods competes with itself,
// and where a flood comes from everywhere, lists are in the order of age: the oldest goes, and a new client has its time.
//
// Lists are linked by the numbers of the clients' slots. Nothing is moved for a datagram: a client that has been in use
// since it was filed is filed again when it comes to be the oldest.

internal import LinuxSystem
internal import NetworkTypes

/// The spliced UDP clients by kind, address and port, each list in the order of age.
struct RelayShares {
    /// Lists of addresses for each kind.
    private static let sources = 64
    /// Lists of ports for each address.
    private static let ports = 16
    /// How much a client that nobody has answered weighs against one that somebody has.
    private static let unansweredWeight = 4

    private struct List {
        var oldest = -1
        var newest = -1
        var count = 0
    }

    /// A slot's place: its list, or -1 if it has none, and its neighbours there.
    private struct Place {
        var list = -1
        var older = -1
        var newer = -1
    }

    private var lists = [List](repeating: List(), count: 2 * sources * ports)
    private var sourceCounts = [Int](repeating: 0, count: 2 * sources)
    private var places: [Place] = []

    /// How many clients somebody has answered, or nobody has.
    func count(areAnswered: Bool) -> Int {
        let first = areAnswered ? 0 : Self.sources
        return sourceCounts[first..<first + Self.sources].reduce(0, +)
    }

    /// Files a slot as the newest of its kind, address and port; if it stands elsewhere it leaves that list.
    ///
    /// - Parameters:
    ///   - index: the slot.
    ///   - isAnswered: whether somebody has answered the client.
    ///   - peer: the client's address.
    ///   - port: the forwarded port.
    mutating func file(_ index: Int, isAnswered: Bool, peer: IPv6Address, port: UInt16) {
        // Keyed at random, so that nobody can choose addresses that share the list of somebody else.
        var hasher = Hasher()
        hasher.combine(peer.high)
        hasher.combine(peer.low)
        let source = (isAnswered ? 0 : Self.sources) + (hasher.finalize() & (Self.sources - 1))
        remove(index)
        while places.count <= index { places.append(Place()) }
        append(index, to: source * Self.ports + Int(port) % Self.ports)
    }

    /// Makes a slot the newest of the list that it stands in.
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

    /// Takes a slot out of its list, if it stands in one.
    mutating func remove(_ index: Int) {
        guard index < places.count, places[index].list >= 0 else { return }
        let place = places[index]
        if place.older < 0 { lists[place.list].oldest = place.newer } else { places[place.older].newer = place.newer }
        if place.newer < 0 { lists[place.list].newest = place.older } else { places[place.newer].older = place.older }
        lists[place.list].count -= 1
        sourceCounts[place.list / Self.ports] -= 1
        places[index].list = -1
    }

    /// The slot that is to go: the oldest of the list that has most; nil if there is none.
    var candidate: Int? {
        let answered = count(areAnswered: true)
        let unanswered = count(areAnswered: false)
        guard answered + unanswered > 0 else { return nil }
        let first = unanswered * Self.unansweredWeight >= answered && unanswered > 0 ? Self.sources : 0
        var source = first
        for other in first..<first + Self.sources where sourceCounts[other] > sourceCounts[source] { source = other }
        var list = source * Self.ports
        for other in list..<list + Self.ports where lists[other].count > lists[list].count { list = other }
        return lists[list].oldest
    }
}
