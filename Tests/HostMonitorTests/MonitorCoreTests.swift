// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

/// A monitor over a simulated kernel, with a clock that is turned by hand.
final class Bench {
    let kernel: SimulatedKernel
    let core: MonitorCore
    private(set) var changes: [HostChange] = []
    var now: MonotonicTime {
        get { kernel.now }
        set { kernel.now = newValue }
    }

    init(seed: UInt64 = 1, settings: MonitorCore.Settings = .init()) throws {
        let kernel = SimulatedKernel(seed: seed)
        self.kernel = kernel
        kernel.host = SimulatedHost()
        core = MonitorCore(kernel: kernel, settings: settings, clock: { kernel.now })
        _ = try core.begin(now: now)
        core.onChange = { [unowned self] in changes.append($0) }
    }

    func advance(_ milliseconds: Int64) { now = now.advanced(milliseconds: milliseconds) }

    /// Hands over what the kernel has to say.
    func notify() throws { try core.kernelReadable(now: now) }

    /// Lets time pass up to a moment, deadline by deadline.
    func run(until end: MonotonicTime) {
        var turns = 0
        while let deadline = core.nextDeadline, deadline <= end {
            turns += 1
            precondition(turns < 10_000, "the monitor spins")
            now = max(now, deadline)
            core.expire(now: now)
        }
        now = max(now, end)
    }

    /// Lets everything settle.
    func settle() throws {
        for _ in 0..<200 {
            try notify()
            guard let deadline = core.nextDeadline else { return }
            now = max(now, deadline)
            core.expire(now: now)
        }
        Issue.record("the monitor does not settle: \(core.counters), \(now) \(core.nextDeadline as Any)")
    }
}

@Suite("the monitor")
struct MonitorCoreTests {
    @Test("idle, it has no deadline and reads nothing")
    func idle() throws {
        let bench = try Bench()
        #expect(bench.core.nextDeadline == nil)
        #expect(bench.kernel.readings == [.all])
        #expect(bench.core.published?.epoch == 1)
    }

    @Test("a burst is one reading and one change")
    func burst() throws {
        let bench = try Bench()
        for _ in 0..<20 {
            bench.kernel.changeForSure()
            try bench.notify()
            bench.advance(4)
        }
        #expect(bench.changes.isEmpty)
        bench.run(until: bench.now.advanced(milliseconds: 96))
        #expect(bench.changes.count == 1)
        #expect(bench.kernel.readings.count == 2)
        let change = try #require(bench.changes.first)
        #expect(change.snapshot.epoch == 2)
        #expect(change.published.milliseconds(since: change.lastEvent) <= 101)
    }

    @Test("a hint after which nothing differs is no change")
    func noChange() throws {
        let bench = try Bench()
        bench.kernel.host.announced = [.addresses]
        let before = bench.core.published
        bench.core.clockJumped(now: bench.now, sinceBoot: bench.now)
        try bench.settle()
        #expect(bench.changes.isEmpty)
        #expect(bench.core.published == before)
        #expect(bench.core.counters.unchanged == 1)
        #expect(bench.core.nextDeadline == nil)
    }

    @Test("what changes while it is read puts the publication off")
    func unrest() throws {
        let bench = try Bench()
        bench.kernel.changeForSure()
        try bench.notify()
        bench.kernel.unrestPercent = 100
        bench.run(until: bench.now.advanced(milliseconds: 100))
        #expect(bench.changes.isEmpty)
        #expect(bench.core.counters.postponed == 1)
        bench.kernel.unrestPercent = 0
        bench.run(until: bench.now.advanced(milliseconds: 200))
        #expect(bench.core.published?.hasSameContent(as: bench.kernel.host.snapshot) == true)
    }

    @Test("steady churn does not keep it silent")
    func churn() throws {
        let bench = try Bench(settings: noHoldDown)
        for _ in 0..<500 {
            bench.kernel.changeForSure()
            try bench.notify()
            bench.run(until: bench.now.advanced(milliseconds: 20))
        }
        #expect(bench.changes.count >= 8)
        #expect(bench.changes.count <= 11)
    }

    @Test("lost notifications make it read everything, counted")
    func overflow() throws {
        let bench = try Bench(settings: noHoldDown)
        bench.kernel.lossPercent = 100
        for _ in 0..<10 { bench.kernel.changeForSure() }
        try bench.settle()
        #expect(bench.core.counters.overflows == 1)
        #expect(bench.kernel.readings.last == .all)
        #expect(bench.core.published?.hasSameContent(as: bench.kernel.host.snapshot) == true)
        #expect(bench.changes.last?.causes.overflow == true)
    }

    @Test("a failing kernel is asked again, less and less often")
    func failure() throws {
        let bench = try Bench(settings: noHoldDown)
        bench.kernel.changeForSure()
        bench.kernel.isFailing = true
        try bench.notify()
        bench.run(until: bench.now.advanced(milliseconds: 60_000))
        #expect(bench.core.counters.failures >= 5)
        #expect(bench.core.counters.failures <= 12)
        #expect(bench.core.lastFailure != nil)
        bench.kernel.isFailing = false
        bench.run(until: bench.now.advanced(milliseconds: 60_000))
        #expect(bench.core.published?.hasSameContent(as: bench.kernel.host.snapshot) == true)
        #expect(bench.core.lastFailure == nil)
    }

    @Test("costly readings are made seldom")
    func cost() throws {
        let bench = try Bench(settings: noHoldDown)
        bench.kernel.cost = 200_000_000
        let start = bench.now
        for _ in 0..<1000 {
            bench.kernel.changeForSure()
            try bench.notify()
            bench.run(until: bench.now.advanced(milliseconds: 20))
        }
        let elapsed = bench.now.nanoseconds - start.nanoseconds
        #expect(bench.core.counters.readingNanoseconds <= elapsed / 9)
    }

    @Test("an IPv6 route's expiry, which is not announced, is looked for in time")
    func expiry() throws {
        let kernel = SimulatedKernel(seed: 1)
        let core = MonitorCore(kernel: kernel, clock: { kernel.now })
        let reading = HostReading(tables: .all, snapshot: HostSnapshot(), firstExpiryMilliseconds: 5000)
        _ = try core.begin(with: reading, now: at(0))
        #expect(core.nextDeadline == at(5030))
        core.expire(now: at(5030))
        #expect(core.nextDeadline == at(5130))
        core.expire(now: at(5130))
        #expect(kernel.readings == [[.routes, .lookups]])
        #expect(core.nextDeadline == nil)
    }

    @Test("tables that the first reading left out are read later")
    func partialStart() throws {
        let kernel = SimulatedKernel(seed: 1)
        let core = MonitorCore(kernel: kernel, clock: { kernel.now })
        _ = try core.begin(with: HostReading(tables: [.links, .addresses], snapshot: HostSnapshot()), now: at(0))
        #expect(core.nextDeadline == at(100))
        core.expire(now: at(100))
        #expect(kernel.readings == [[.routes, .rules, .nextHops, .lookups]])
    }

    @Test("a resume from sleep makes it read everything once")
    func sleep() throws {
        let bench = try Bench()
        bench.core.watchSleep(now: at(0), sinceBoot: at(0))
        bench.kernel.changeForSure()
        _ = try bench.kernel.drain()
        bench.core.clockJumped(now: bench.now, sinceBoot: bench.now.advanced(milliseconds: 3_600_000))
        try bench.settle()
        #expect(bench.kernel.readings == [.all, .all])
        #expect(bench.changes.first?.causes.clockJump == 3_600_000)
    }

    @Test("resolvers change without a reading of the kernel, and together with its tables")
    func resolvers() throws {
        let bench = try Bench()
        bench.core.resolversReported(.text(Array("nameserver 192.0.2.53\n".utf8)), now: bench.now)
        try bench.settle()
        #expect(bench.kernel.readings.count == 1)
        #expect(bench.changes.map(\.causes.description) == ["resolv.conf"])
        #expect(bench.core.published?.resolvers.servers.count == 1)
        bench.core.resolversReported(.text(Array("nameserver 192.0.2.54\n".utf8)), now: bench.now)
        bench.kernel.changeForSure()
        try bench.settle()
        #expect(bench.changes.count == 2)
    }

    @Test("an emptied resolv.conf keeps the last servers for a second")
    func emptiedResolvers() throws {
        let bench = try Bench()
        bench.core.resolversReported(.text(Array("nameserver 192.0.2.53\n".utf8)), now: bench.now)
        try bench.settle()
        let start = bench.now
        bench.core.resolversReported(.text([]), now: bench.now)
        bench.run(until: start.advanced(milliseconds: 999))
        #expect(bench.core.published?.resolvers.servers.count == 1)
        bench.run(until: start.advanced(milliseconds: 1100))
        #expect(bench.core.published?.resolvers.servers.isEmpty == true)
    }

    @Test("without notifications the host is looked at every ten seconds")
    func polling() throws {
        let kernel = MuteKernel()
        let core = MonitorCore(kernel: kernel, clock: { at(0) })
        _ = try core.begin(now: at(0))
        #expect(core.nextDeadline == at(10_000))
        core.expire(now: at(10_000))
        core.expire(now: at(10_100))
        #expect(kernel.readings == 2)
        #expect(core.nextDeadline == at(20_000))
    }
}

/// Settings under which losses show at once.
let noHoldDown: MonitorCore.Settings = {
    var settings = MonitorCore.Settings()
    settings.holdDownMilliseconds = 0
    return settings
}()

/// A kernel that refuses notifications.
final class MuteKernel: HostKernel {
    var readings = 0
    let descriptor: FileDescriptor? = nil
    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) { (.init(), .init()) }
    func drain() throws(SystemCallError) -> NetlinkNotifications { NetlinkNotifications() }
    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        readings += 1
        return HostReading(tables: tables, snapshot: earlier)
    }
}

@Suite("the monitor against a simulated kernel")
struct MonitorPropertyTests {
    @Test("whatever is lost, doubled or reordered, it ends at the truth", arguments: 0..<150)
    func converges(seed: UInt64) throws {
        let bench = try Bench(seed: seed, settings: seed.isMultiple(of: 2) ? noHoldDown : .init())
        bench.kernel.lossPercent = [0, 10, 60][Int(seed % 3)]
        bench.kernel.unrestPercent = [0, 5, 30][Int(seed / 3 % 3)]
        bench.kernel.cost = [0, 3_000_000, 80_000_000][Int(seed / 9 % 3)]
        for step in 0..<120 {
            for _ in 0..<Int.random(in: 0...3, using: &bench.kernel.random) { bench.kernel.change() }
            if !step.isMultiple(of: 3) { try bench.notify() }
            bench.run(until: bench.now.advanced(milliseconds: Int64.random(in: 0...400, using: &bench.kernel.random)))
            if step.isMultiple(of: 40) {
                // Now and then it is left in peace, and must then show what a fresh start would.
                let unrest = bench.kernel.unrestPercent
                bench.kernel.unrestPercent = 0
                try bench.settle()
                let shown = try #require(bench.core.published)
                #expect(shown.hasSameContent(as: bench.kernel.host.snapshot), "seed \(seed), step \(step)")
                bench.kernel.unrestPercent = unrest
            }
        }
        bench.kernel.unrestPercent = 0
        try bench.settle()
        let shown = try #require(bench.core.published)
        #expect(shown.hasSameContent(as: bench.kernel.host.snapshot), "seed \(seed)")
        let fresh = MonitorCore(kernel: bench.kernel)
        #expect(try fresh.begin(now: bench.now).hasSameContent(as: shown), "seed \(seed): follow == fresh")
    }

    @Test("epochs count up by one, and neighbours differ", arguments: 0..<20)
    func epochs(seed: UInt64) throws {
        let bench = try Bench(seed: seed)
        for _ in 0..<200 {
            bench.kernel.change()
            try bench.notify()
            bench.run(until: bench.now.advanced(milliseconds: 150))
        }
        try bench.settle()
        #expect(bench.changes.map(\.snapshot.epoch) == (2..<UInt64(2 + bench.changes.count)).map { $0 })
        for (earlier, later) in zip(bench.changes, bench.changes.dropFirst()) {
            #expect(!earlier.snapshot.hasSameContent(as: later.snapshot))
        }
    }

    @Test("a family that was usable is never shown unusable before the hold-down is over", arguments: 0..<30)
    func holdDown(seed: UInt64) throws {
        let bench = try Bench(seed: seed)
        var usableSince: MonotonicTime?
        for _ in 0..<300 {
            bench.kernel.change()
            try bench.notify()
            bench.run(until: bench.now.advanced(milliseconds: 130))
            let isUsable = bench.kernel.host.snapshot.hasUsableIPv4
            if isUsable { usableSince = bench.now }
            guard let usableSince, let shown = bench.core.published, !shown.hasUsableIPv4, !isUsable else { continue }
            #expect(bench.now.milliseconds(since: usableSince) >= 2000 - 130, "seed \(seed)")
        }
    }
}

extension HostSnapshot {
    /// The oracle: written apart from the monitor's own.
    fileprivate var hasUsableIPv4: Bool {
        for address in addresses where address.family == .v4 && !address.flags.contains(.deprecated) {
            if let link = link(address.interface), link.flags.isSuperset(of: [.up, .lowerUp]) { return true }
        }
        return false
    }
}
