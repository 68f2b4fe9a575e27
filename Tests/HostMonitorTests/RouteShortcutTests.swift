// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

/// A kernel with a large table, which announces its changes, correctly or not.
private final class TableKernel: HostKernel {
    var snapshot = HostSnapshot()
    private(set) var readings: [HostTables] = []
    private var pending = NetlinkNotifications()
    let descriptor: FileDescriptor? = FileDescriptor(rawValue: -1)
    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) { (.init(), .init()) }

    init(routes: Int) {
        let link = InterfaceIndex(rawValue: 2)
        snapshot.links = [Link(index: link, name: "w", flags: [.up, .lowerUp], mtu: 1500)]
        guard let own = Prefix("192.0.2.10/24"), let all = Prefix("0.0.0.0/0") else { fatalError("bad prefix") }
        snapshot.addresses = [InterfaceAddress(interface: link, prefix: own, flags: .permanent)]
        snapshot.routes = [Self.route(all)] + (0..<routes).map { Self.route($0 * 2) }
        let answer = RouteLookup.Answer.route(
            interface: link, gateway: IPAddress("192.0.2.1"), source: own.address, table: .main)
        snapshot.lookups = [RouteLookup(destination: HostSnapshot.probe(.v4), answer: answer)]
    }

    static func route(_ destination: Prefix, metric: UInt32 = 0) -> Route {
        Route(
            destination: destination, metric: metric,
            nextHops: [NextHop(interface: InterfaceIndex(rawValue: 2), gateway: IPAddress("192.0.2.1"))])
    }

    static func route(_ number: Int, length: Int = 24, metric: UInt32 = 0) -> Route {
        let address = IPAddress.v4(IPv4Address(rawValue: 0x1400_0000 + UInt32(number) << 8))
        guard let destination = Prefix(address, length: length)?.network else { fatalError("bad prefix") }
        return route(destination, metric: metric)
    }

    /// Changes the table, in the order in which Linux lists it, and announces the change.
    func change(_ change: RouteEvent, tells: Bool = true) {
        switch change {
        case .removed(let route): snapshot.routes.removeAll { $0 == route }
        case .added(let route):
            let key = Self.order(route)
            snapshot.routes.insert(
                route, at: snapshot.routes.firstIndex { Self.order($0) > key } ?? snapshot.routes.endIndex)
        }
        if tells { announce(change) }
    }

    func announce(_ change: RouteEvent) {
        pending.count += 1
        pending.tables = .routes
        pending.routeChanges.append(change)
    }

    func announceOther() {
        pending.count += 1
        pending.tables = .routes
        pending.hasOtherRoutes = true
    }

    private static func order(_ route: Route) -> (UInt32, Int, UInt32) {
        guard case .v4(let address) = route.destination.address else { return (.max, 0, 0) }
        return (address.rawValue, -route.destination.length, route.metric)
    }

    func drain() throws(SystemCallError) -> NetlinkNotifications {
        defer { pending = NetlinkNotifications() }
        return pending
    }

    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        readings.append(tables)
        var result = earlier
        if tables.contains(.links) { result.links = snapshot.links }
        if tables.contains(.addresses) { result.addresses = snapshot.addresses }
        if tables.contains(.routes) { result.routes = snapshot.routes }
        if tables.contains(.lookups) { result.lookups = snapshot.lookups }
        return HostReading(tables: tables, snapshot: result)
    }

    /// How often a table of routes was read.
    var dumps: Int { readings.count { $0.contains(.routes) } }
}

/// Issue 19, point 3: one route of many changes.
@Suite("Single routes of a large table") struct RouteShortcutTests {
    private let kernel: TableKernel
    private let core: MonitorCore
    private let seen: Seen

    private final class Seen {
        var changes: [HostChange] = []
        var now = MonotonicTime(nanoseconds: 1_000_000_000)
    }

    init() throws { try self.init(routes: 3000) }

    private init(routes: Int) throws {
        let kernel = TableKernel(routes: routes)
        let seen = Seen()
        self.kernel = kernel
        self.seen = seen
        core = MonitorCore(kernel: kernel, clock: { seen.now })
        _ = try core.begin(now: seen.now)
        core.onChange = { seen.changes.append($0) }
    }

    /// Lets so much time pass, deadline by deadline.
    private func pass(_ milliseconds: Int64) throws {
        try core.kernelReadable(now: seen.now)
        let end = seen.now.advanced(milliseconds: milliseconds)
        while let deadline = core.nextDeadline, deadline <= end {
            seen.now = max(seen.now, deadline)
            core.expire(now: seen.now)
        }
        seen.now = end
    }

    private var content: HostSnapshot? {
        var state = core.published
        state?.epoch = kernel.snapshot.epoch
        return state
    }

    @Test("an added or removed route is reported without a dump, and a dump confirms it later, once")
    func isToldWithoutADump() throws {
        for round in 0..<6 {
            let route = TableKernel.route(101)
            kernel.change(round.isMultiple(of: 2) ? .added(route) : .removed(route))
            try pass(500)
            #expect(content == kernel.snapshot, "round \(round)")
            #expect(seen.changes.last?.routeChanges?.map(\.route) == [route])
        }
        #expect(kernel.dumps == 1, "the first reading")
        #expect(core.counters.shortcuts == 6 && seen.changes.count == 6)
        try pass(20_000)
        #expect(kernel.dumps == 2 && core.nextDeadline == nil)
        #expect(seen.changes.count == 6, "the dump has found what was known")
    }

    @Test(
        "hundreds of changes at random: the state is that of the kernel, in its order",
        arguments: 1...3 as ClosedRange<UInt64>)
    func randomChanges(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for step in 0..<400 {
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                if random.chance(50), let route = kernel.snapshot.routes.dropFirst().randomElement(using: &random) {
                    kernel.change(.removed(route))
                } else {
                    let route = TableKernel.route(
                        Int.random(in: 0..<7000, using: &random), length: Int.random(in: 20...26, using: &random),
                        metric: UInt32.random(in: 0...1, using: &random))
                    if !kernel.snapshot.routes.contains(route) { kernel.change(.added(route)) }
                }
            }
            if random.chance(10) { kernel.announceOther() }
            try pass(random.chance(80) ? 150 : 3)
            if core.nextDeadline == nil || step % 50 == 0 { try pass(1500) }
        }
        try pass(1500)
        #expect(content == kernel.snapshot)
        let unchanged = core.counters.changes
        try pass(30_000)
        #expect(core.counters.changes == unchanged, "the dump behind it has found something else")
        #expect(core.counters.shortcuts > 100)
    }

    @Test("an ambiguous change causes a dump")
    func whatIsNotPlainIsRead() throws {
        let there = try #require(kernel.snapshot.routes.last)
        var elsewhere = there
        elsewhere.nextHops[0].gateway = IPAddress("192.0.2.2")
        // Gone that is not there as told, come that is there already, in place of another, and one too many.
        for changes in [
            [.removed(elsewhere)], [.added(elsewhere)], [.removed(there), .added(elsewhere)],
            (0..<70).map { .added(TableKernel.route($0 * 2 + 1)) },
        ] as [[RouteEvent]] {
            let dumps = kernel.dumps
            for change in changes { kernel.announce(change) }
            try pass(1200)
            #expect(kernel.dumps == dumps + 1, "\(changes.count) changes")
            #expect(content == kernel.snapshot)
        }
    }

    @Test("a change of the default route causes a dump, and so does one together with another table")
    func theWayOut() throws {
        kernel.snapshot.lookups[0].answer = .unreachable(errno: 113)
        kernel.change(.added(TableKernel.route(1)))
        try pass(500)
        #expect(kernel.dumps == 2 && core.counters.shortcuts == 0)
        #expect(content?.lookups == kernel.snapshot.lookups)
    }

    @Test("the following dump corrects a wrong notification")
    func aWrongNotification() throws {
        kernel.announce(.added(TableKernel.route(5)))
        try pass(500)
        #expect(content != kernel.snapshot && kernel.dumps == 1)
        try pass(12_000)
        #expect(content == kernel.snapshot && kernel.dumps == 2)
        #expect(seen.changes.last?.routeChanges == nil)
    }

    @Test("a small table is read, as ever")
    func aSmallTable() throws {
        let small = try RouteShortcutTests(routes: 100)
        small.kernel.change(.added(TableKernel.route(1)))
        try small.pass(500)
        #expect(small.kernel.dumps == 2 && small.core.counters.shortcuts == 0)
    }
}
