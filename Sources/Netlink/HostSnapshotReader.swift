// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// The result of reading the host's tables.
public struct HostReading: Hashable, Sendable {
    /// The tables that were read; the other tables of ``snapshot`` are those that were passed in.
    public var tables: HostTables
    /// The state, without resolvers, which are not the kernel's.
    public var snapshot: HostSnapshot
    /// The time in milliseconds until the first route with a lifetime expires; nil if none has one or routes were not
    /// read.
    public var firstExpiryMilliseconds: Int64?

    /// Makes a reading.
    public init(tables: HostTables, snapshot: HostSnapshot, firstExpiryMilliseconds: Int64? = nil) {
        self.tables = tables
        self.snapshot = snapshot
        self.firstExpiryMilliseconds = firstExpiryMilliseconds
    }
}

/// The routes of the last reading of the host.
public struct HostRouteMemory: Sendable {
    var families = PerFamily(v4: DumpMemory<Route>(), v6: DumpMemory<Route>())

    /// Begins with nothing.
    public init() {}
}

/// Reads the host's network into a ``HostSnapshot``.
public enum HostSnapshotReader {
    /// Dumps tables, and makes the lookups that depend on them.
    ///
    /// Routes are those of every table but the local one, without cached and expired ones. If a route refers to a
    /// nexthop object and the kernel reports no next hops for it, it gets those of the object.
    ///
    /// - Parameters:
    ///   - tables: The tables to read; start-up reads only those that it needs.
    ///   - families: The families to read.
    ///   - earlier: The state of the tables that are not read.
    ///   - socket: A socket in the host's network namespace.
    /// - Returns: The state.
    /// - Throws: The error of the kernel or of the socket.
    public static func read(
        _ tables: HostTables = .all, families: Set<AddressFamily> = [.v4, .v6],
        onto earlier: HostSnapshot = HostSnapshot(), using socket: inout NetlinkSocket
    ) throws(NetlinkError) -> HostReading {
        var memory = HostRouteMemory()
        return try read(tables, families: families, onto: earlier, using: &socket, memory: &memory)
    }

    /// As above, but routes that have not changed since the last reading are taken from memory.
    ///
    /// - Parameters:
    ///   - tables: What to read.
    ///   - families: The families to read.
    ///   - earlier: The state of the tables that are not read.
    ///   - socket: A socket in the host's network namespace.
    ///   - memory: The routes of the last reading by the same socket; afterwards those of this one.
    /// - Returns: The state.
    /// - Throws: The error of the kernel or of the socket.
    public static func read(
        _ tables: HostTables, families: Set<AddressFamily>, onto earlier: HostSnapshot,
        using socket: inout NetlinkSocket, memory: inout HostRouteMemory
    ) throws(NetlinkError) -> HostReading {
        var snapshot = earlier
        var firstExpiry: Int64?
        let ordered = AddressFamily.allCases.filter(families.contains)
        if tables.contains(.links) { snapshot.links = try socket.links() }
        if tables.contains(.addresses) {
            snapshot.addresses = []
            for family in ordered { snapshot.addresses += try socket.addresses(family) }
        }
        if tables.contains(.nextHops) { snapshot.nextHopObjects = try socket.nextHopObjects() }
        if tables.contains(.routes) {
            for family in ordered {
                let expiry = try socket.routes(family, into: &memory.families[family]) { $0 }
                if let expiry { firstExpiry = min(firstExpiry ?? .max, expiry) }
            }
            snapshot.routes = memory.families.v4.values
            let others = memory.families.v6.values
            if !others.isEmpty { snapshot.routes += others }
        }
        if !tables.isDisjoint(with: [.routes, .nextHops]) {
            fillNextHops(of: &snapshot.routes, from: snapshot.nextHopObjects)
        }
        if tables.contains(.rules) {
            snapshot.rules = []
            for family in ordered { snapshot.rules += try socket.rules(family) }
        }
        if tables.contains(.lookups) {
            snapshot.lookups = []
            for family in ordered { snapshot.lookups.append(try socket.lookup(HostSnapshot.probe(family))) }
        }
        return HostReading(tables: tables, snapshot: snapshot, firstExpiryMilliseconds: firstExpiry)
    }

    /// Gives routes without next hops those of the nexthop object they refer to.
    ///
    /// The kernel reports the next hops itself unless the sysctl `nexthop_compat_mode` is off.
    package static func fillNextHops(of routes: inout [Route], from objects: [NextHopObject]) {
        guard !objects.isEmpty else { return }
        let byID = Dictionary(objects.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        for index in routes.indices where routes[index].nextHops.isEmpty {
            guard let object = routes[index].nextHopID.flatMap({ byID[$0] }) else { continue }
            if object.isBlackhole {
                routes[index].type = .blackhole
            } else if let hop = object.hop {
                routes[index].nextHops = [hop]
            } else {
                routes[index].nextHops = object.group.compactMap { member in
                    guard var hop = byID[member.id]?.hop else { return nil }
                    hop.weight = member.weight
                    return hop
                }
            }
        }
    }
}
