// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Netlink
public import NetworkModel

/// Turns hints into dumps to make, and dumps into the host's state: pure.
///
/// Events are hints: they say that a table changed, not how. Linux announces many changes under another table's name or
/// not at all (an IPv4 default route goes silently with its address or its link; a link that goes down marks nexthops
/// dead; a deleted nexthop object takes its routes along), so a hint makes each table dirty that may have changed with
/// the one it names. What the tables hold is then read and replaces what was known: the state never depends on which
/// events came, in which order, or how often.
public struct HostStateReducer: Sendable {
    /// The state as it was read last.
    public private(set) var state: HostSnapshot
    /// The tables to read.
    public private(set) var dirty: HostTables

    /// Link flags that make a difference to anybody; the others, such as promiscuous mode, come and go.
    static let relevantLinkFlags: Link.Flags = [
        .up, .loopback, .pointToPoint, .noARP, .running, .lowerUp, Link.Flags(rawValue: 0x1002),
    ]

    /// Begins with a state that holds but for the dirty tables.
    public init(_ state: HostSnapshot = HostSnapshot(), dirty: HostTables = .all) {
        self.state = Self.normalised(state)
        self.dirty = dirty
    }

    /// Notes that tables may have changed.
    public mutating func note(_ tables: HostTables) {
        dirty.formUnion(Self.affected(by: tables))
    }

    /// Hands out the tables to read and forgets them; whoever fails to read them gives them back by ``note(_:)``.
    public mutating func takeDirty() -> HostTables {
        let taken = dirty
        dirty = []
        return taken
    }

    /// Takes what was read; tables that were not read stay as they were.
    public mutating func apply(_ reading: HostReading) {
        let new = Self.normalised(reading.snapshot)
        if reading.tables.contains(.links) { state.links = new.links }
        if reading.tables.contains(.addresses) { state.addresses = new.addresses }
        if !reading.tables.isDisjoint(with: [.routes, .nextHops]) { state.routes = new.routes }
        if reading.tables.contains(.rules) { state.rules = new.rules }
        if reading.tables.contains(.nextHops) { state.nextHopObjects = new.nextHopObjects }
        if reading.tables.contains(.lookups) { state.lookups = new.lookups }
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
