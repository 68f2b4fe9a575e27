// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import Logging
import NamespaceControl
import NetworkModel
import NetworkTypes
import Planning
import TestSupport
import Testing

@testable import Engine

/// The follower without a kernel: the test reports changes, and stand-ins replace the data path and the namespace.
@Suite("Following the host", .timeLimit(.minutes(2)))
struct FollowerTests {
    @Test(
        "after any journey the namespace is what a fresh start would make it", arguments: 1...6 as ClosedRange<UInt64>)
    func followIsFresh(seed: UInt64) async throws {
        var random = SplitMix64(seed: seed)
        let bench = try Bench(from: Places.all[0])
        for step in 0..<25 {
            let place = Places.all[Int.random(in: 0..<Places.all.count, using: &random)]
            await bench.go(to: place)
            // Several changes while one is worked on, as often as not.
            if Bool.random(using: &random) { continue }
            try await bench.settle()
            let state = await bench.namespace.lines
            #expect(try state == Bench.fresh(place), "seed \(seed) step \(step)")
            #expect(await bench.flows.published.last == bench.plan(place).rules, "seed \(seed) step \(step)")
        }
    }

    @Test("changes that come while one is worked on replace each other: only the newest is acted on")
    func newestWins() async throws {
        let bench = try Bench(from: Places.wireless)
        await bench.namespace.hold()
        await bench.go(to: Places.tethered)
        try await eventually { await bench.namespace.isHeld }
        for place in [Places.offline, Places.wireless, Places.offline, Places.wired] { await bench.go(to: place) }
        await bench.namespace.letGo()
        try await bench.settle()
        #expect(await bench.flows.published == [bench.plan(Places.tethered).rules, bench.plan(Places.wired).rules])
        #expect(await bench.namespace.lines == (try Bench.fresh(Places.wired)))
    }

    @Test("what the namespace's kernel refused is tried again at the next change")
    func failureIsRetried() async throws {
        let bench = try Bench(from: Places.wireless)
        await bench.namespace.fail()
        await bench.go(to: Places.tethered)
        try await bench.settle()
        // Nothing was carried out, and the rules are published all the same.
        #expect(await bench.namespace.lines == (try Bench.fresh(Places.wireless)))
        #expect(await bench.flows.published == [bench.plan(Places.tethered).rules])
        // Another change, which concerns the resolvers only.
        var place = Places.tethered
        place.resolvers.servers = []
        await bench.go(to: place)
        try await bench.settle()
        #expect(await bench.namespace.lines == (try Bench.fresh(Places.tethered)))
    }

    @Test("an address with connections lingers, is looked at again, and goes with the last of them")
    func lingeringAddressGoes() async throws {
        let bench = try Bench(from: Places.wireless)
        let old = try #require(IPAddress("192.0.2.10"))
        await bench.flows.keep([old: 2])
        await bench.go(to: Places.tethered)
        try await bench.settle()
        #expect(await bench.namespace.addresses.contains(old))
        #expect(await bench.flows.unplanned.last?.contains(old) == true)
        let checks = await bench.flows.checks
        try await eventually { await bench.flows.checks > checks + 2 }
        #expect(await bench.namespace.addresses.contains(old))
        // Nobody announces the end of the last connection.
        await bench.flows.keep([:])
        try await eventually { await !bench.namespace.addresses.contains(old) }
        #expect(await bench.namespace.lines == (try Bench.fresh(Places.tethered)))
        #expect(await bench.flows.reset.contains(old))
    }

    @Test("changes of single routes are followed without reading the namespace; where one is refused it is read")
    func singleRoutes() async throws {
        var place = Places.wireless
        let link = try #require(place.link(named: "w")?.index)
        let routes = try (0..<20).map { number in
            Route(
                destination: try #require(Prefix("20.0.\(number).0/24")),
                nextHops: [NextHop(interface: link, gateway: IPAddress("192.0.2.1"))])
        }
        let other = place.routes.first { $0.family == .v4 && !$0.isDefault }
        place.routes = place.routes.filter { $0 != other } + routes + [other].compactMap(\.self)
        let bench = try Bench(from: place)
        func change(_ change: RouteEvent) async throws {
            switch change {
            case .added(let route): place.routes.insert(route, at: 4)
            case .removed(let route): place.routes.removeAll { $0 == route }
            }
            await bench.go(to: place, routeChanges: [change])
        }
        try await change(.removed(routes[7]))
        try await bench.settle()
        #expect(await bench.namespace.lines == (try Bench.fresh(place)))
        // Two that come while one is worked on are followed as one.
        await bench.namespace.hold()
        try await change(.removed(routes[8]))
        try await eventually { await bench.namespace.isHeld }
        try await change(.removed(routes[9]))
        try await change(.added(routes[8]))
        await bench.namespace.letGo()
        try await bench.settle()
        #expect(await bench.namespace.lines == (try Bench.fresh(place)))
        #expect(await bench.namespace.reads == 0)
        await bench.namespace.fail()
        try await change(.added(routes[9]))
        try await bench.settle()
        #expect(await bench.namespace.reads > 0)
        #expect(await bench.namespace.lines == (try Bench.fresh(place)))
    }

    @Test("nothing is written where nothing differs")
    func nothingIsWritten() async throws {
        let bench = try Bench(from: Places.wireless)
        await bench.go(to: Places.wireless)
        try await bench.settle()
        #expect(await bench.namespace.applications == 0)
    }

    @Test("without --config-net the rules follow, and there is nothing to program")
    func withoutConfiguration() async throws {
        let bench = try Bench(from: Places.wireless, configures: false)
        await bench.go(to: Places.tethered)
        try await bench.settle()
        #expect(await bench.flows.published == [bench.plan(Places.tethered).rules])
        #expect(await bench.namespace.applications == 0)
    }
}
