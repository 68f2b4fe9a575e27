// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Netlink
public import NetworkModel
internal import NetworkTypes

/// Turns hints into dumps to make, and dumps into the host's state; a pure state machine.
///
/// An event is a hint that a table has changed, and does not say how. Linux announces many changes under another
/// table's name or not at all: an IPv4 default route is removed silently with its address or its link; a link that goes
/// down makes next hops dead; a deleted nexthop object takes its routes along. So a hint marks each table dirty that
/// may have changed together with the one it names. The dirty tables are then read, and their content replaces what was
/// known. So the state never depends on which events came, in which order, or how often.
public struct HostStateReducer: Sendable {
    /// The state at the last reading.
    public private(set) var state: HostSnapshot
    /// The tables to read.
    public private(set) var dirty: HostTables

    /// The link flags that matter; the others, such as promiscuous mode, change often.
    static let relevantLinkFlags: Link.Flags = [
        .up, .loopback, .pointToPoint, .noARP, .running, .lowerUp, Link.Flags(rawValue: 0x1002),
    ]

    /// Begins with a state that is true except for the dirty tables.
    public init(_ state: HostSnapshot = HostSnapshot(), dirty: HostTables = .all) {
        self.state = Self.normalised(state)
        self.dirty = dirty
    }

    /// Records that tables may have changed.
    public mutating func note(_ tables: HostTables) {
        dirty.formUnion(Self.affected(by: tables))
    }

    /// Returns the dirty tables and clears the set; if reading them fails, they must be given back with ``note(_:)``.
    public mutating func takeDirty() -> HostTables {
        let taken = dirty
        dirty = []
        return taken
    }

    /// Applies a reading; tables that were not read stay as they were.
    public mutating func apply(_ reading: HostReading) {
        let new = Self.normalised(reading.snapshot)
        if reading.tables.contains(.links) { state.links = new.links }
        if reading.tables.contains(.addresses) { state.addresses = new.addresses }
        if !reading.tables.isDisjoint(with: [.routes, .nextHops]) { state.routes = new.routes }
        if reading.tables.contains(.rules) { state.rules = new.rules }
        if reading.tables.contains(.nextHops) { state.nextHopObjects = new.nextHopObjects }
        if reading.tables.contains(.lookups) { state.lookups = new.lookups }
    }

    /// Applies changes of routes as notifications described them, all of them or none.
    ///
    /// A change is applied only if it has one possible meaning: a removed route exists exactly once, and no existing
    /// route differs from an added one only in its next hop.
    ///
    /// - Parameter changes: The changes in order.
    /// - Returns: The net changes; nil if the tables must be read.
    public mutating func apply(_ changes: [RouteEvent]) -> [RouteEvent]? {
        var net: [RouteEvent] = []
        for change in changes {
            let destination = change.route.destination
            if let last = net.lastIndex(where: { $0.route.destination == destination }) {
                // The route was added and removed again, or the reverse; anything else is a replacement.
                guard net[last] == change.inverse else { return nil }
                net.remove(at: last)
            } else {
                net.append(change)
            }
        }
        // Their destinations differ, so they do not affect each other.
        var places: [(alike: Int, found: Int?, next: Int?)] = []
        for change in net {
            let place = state.routes.place(of: change.route)
            places.append(place)
            switch change {
            case .added: guard place.alike == 0, place.next != nil else { return nil }
            case .removed(let route):
                guard place.alike == 1, let index = place.found, state.routes[index] == route else { return nil }
            }
        }
        // Done in place while the table has no other owner: a copy of 20,000 routes costs a millisecond, and so does
        // each pass over it.
        for (number, change) in net.enumerated() {
            let place = number == 0 ? places[0] : state.routes.place(of: change.route)
            switch change {
            case .added(let route): state.routes.insert(route, at: place.next ?? state.routes.endIndex)
            case .removed: if let index = place.found { state.routes.remove(at: index) }
            }
        }
        return net
    }

    /// The tables that may have changed when these have.
    public static func affected(by tables: HostTables) -> HostTables {
        var affected = tables
        if tables.contains(.links) { affected.formUnion([.addresses, .routes, .nextHops]) }
        if tables.contains(.addresses) { affected.formUnion([.addresses, .routes, .nextHops]) }
        if tables.contains(.nextHops) { affected.formUnion(.routes) }
        if !affected.isEmpty { affected.formUnion(.lookups) }
        return affected
    }

    private static func normalised(_ snapshot: HostSnapshot) -> HostSnapshot {
        var snapshot = snapshot
        for index in snapshot.links.indices { snapshot.links[index].flags.formIntersection(relevantLinkFlags) }
        return snapshot
    }
}

extension [Route] {
    /// The position of an IPv4 route in a list in the kernel's order.
    ///
    /// The kernel lists a table by address, then the longer prefix, the higher type of service, the lower metric first.
    ///
    /// - Parameter wanted: The route.
    /// - Returns: The number of routes that differ from it only in their next hop, the last of these, and the index of
    ///   the route before which it belongs; nil if the list has no routes of its table.
    /// - Complexity: O(routes), a few nanoseconds for each.
    fileprivate func place(of wanted: Route) -> (alike: Int, found: Int?, next: Int?) {
        let routes = span
        let key = Self.order(wanted)
        var alike = 0
        var found: Int?
        var next: Int?
        var last: Int?
        for position in routes.indices
        where routes[position].table == wanted.table && routes[position].destination.family == .v4 {
            last = position
            let other = Self.order(routes[position])
            if other == key {
                alike += 1
                found = position
            } else if next == nil, key < other {
                next = position
            }
        }
        return (alike, found, next ?? last.map { $0 + 1 })
    }

    private static func order(_ route: borrowing Route) -> (UInt64, UInt64) {
        guard case .v4(let address) = route.destination.address else { return (.max, .max) }
        let length = UInt64(truncatingIfNeeded: 32 - route.destination.length)
        let service = UInt64(255 - route.typeOfService)
        return (UInt64(address.rawValue) << 8 | length, service << 32 | UInt64(route.metric))
    }
}
