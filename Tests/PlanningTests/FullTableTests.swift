// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport
import Testing

@testable import Planning

/// Routing tables as large as a router's (issue 19, 3).
@Suite("Full routing tables")
struct FullTableTests {
    /// The host with so many networks behind its router.
    private static func snapshot(_ count: Int) -> HostSnapshot {
        let host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w")
        var snapshot = host.taken()
        guard let link = snapshot.link(named: "w")?.index else { fatalError("no link") }
        snapshot.routes += (0..<count).map { index in
            let network = IPAddress.v4(IPv4Address(rawValue: 0x1400_0000 + UInt32(index) << 8))
            guard let destination = Prefix(network, length: 24) else { fatalError("bad prefix") }
            let gateway = IPAddress.v4(IPv4Address(192, 0, 2, 1))
            return Route(destination: destination, nextHops: [NextHop(interface: link, gateway: gateway)])
        }
        return snapshot
    }

    private static func plan(_ snapshot: HostSnapshot) -> NamespacePlan {
        Planning.plan(snapshot, wishes(), namespaceFamilies: [.v4, .v6])
    }

    @Test("20,000 routes are copied, the first ones are reported and the others are counted")
    func isTold() {
        let plan = Self.plan(Self.snapshot(20_000))
        #expect(plan.families.v4.routes.count == 20_001)
        #expect(plan.reasons.count < 400)
        #expect(plan.reasonTexts(.v4).contains("and 19745 more routes of w are copied"))
        #expect(plan.warnings.isEmpty)
    }

    @Test("20,000 IPv6 routes are planned, and the first ones are reported")
    func isToldIPv6() throws {
        let host = Host("link w", "addr 2001:db8:1::10/64 dev w", "route default via fe80::1 dev w")
        var snapshot = host.taken()
        let link = try #require(snapshot.link(named: "w")?.index)
        snapshot.routes += try (0..<20_000).map { index in
            let network = IPAddress.v6(IPv6Address(high: 0x2001_0DB8_1000_0000 + UInt64(index), low: 0))
            return Route(
                destination: try #require(Prefix(network, length: 64)), metric: 1024,
                nextHops: [NextHop(interface: link, gateway: IPAddress("fe80::1"))])
        }
        let plan = Self.plan(snapshot)
        #expect(plan.families.v6.routes.count == 20_001)
        #expect(plan.services.v6.routes.count == 16)
        #expect(plan.reasonTexts(.v6).contains { $0.contains("do not fit a Router Advertisement") })
    }

    @Test("routers that cannot be reached are warned of a few times, then counted")
    func isWarned() {
        var snapshot = Self.snapshot(1000)
        for index in snapshot.routes.indices.dropFirst(2) {
            snapshot.routes[index].nextHops[0].gateway = .v4(IPv4Address(10, 9, UInt8(index % 250), 1))
        }
        let plan = Self.plan(snapshot)
        #expect(plan.families.v4.routes.count == 1)
        #expect(plan.warnings.count == 17, "\(plan.warnings)")
        #expect(plan.warnings.last?.hasPrefix("IPv4: and ") == true || plan.warnings.last?.hasPrefix("and ") == true)
    }

    @Test("a change of one route is one operation; the namespace then is as planned")
    func changesOne() {
        var snapshot = Self.snapshot(20_000)
        let before = Self.plan(snapshot)
        var state = applied(before)
        #expect(diff(applied: state, plan: before).isEmpty)
        let route = snapshot.routes.remove(at: 10_000)
        let without = Self.plan(snapshot)
        let removal = diff(applied: state, plan: without)
        #expect(removal.map { $0.text(device: "w") } == ["route del \(route.destination) via 192.0.2.1 dev w"])
        state = apply(removal, to: state)
        let addition = diff(applied: state, plan: before)
        #expect(addition.map { $0.text(device: "w") } == ["route add \(route.destination) via 192.0.2.1 dev w"])
        #expect(diff(applied: apply(addition, to: state), plan: before).isEmpty)
    }

    @Test(
        "a plan that is amended is the plan that a fresh start makes, and so is the namespace",
        arguments: 1...6 as ClosedRange<UInt64>)
    func isAmended(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var snapshot = Self.snapshot(1200)
        // As the kernel lists them: the networks before the host's own.
        snapshot.routes.append(snapshot.routes.remove(at: 1))
        let link = try #require(snapshot.link(named: "w")?.index)
        var plan = Self.plan(snapshot)
        var state = applied(plan)
        var amended = 0
        for step in 0..<60 {
            var changes: [RouteEvent] = []
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let position = Int.random(in: 1..<snapshot.routes.count - 1, using: &random)
                if random.chance(50) {
                    changes.append(.removed(snapshot.routes.remove(at: position)))
                } else {
                    let number = UInt32.random(in: 0..<1 << 16, using: &random)
                    let address = IPAddress.v4(IPv4Address(rawValue: 0x1500_0000 + number << 8))
                    var route = Route(destination: try #require(Prefix(address, length: 24)))
                    route.nextHops = [NextHop(interface: link, gateway: IPAddress("192.0.2.1"))]
                    // What decides about more than itself, or about nothing.
                    switch Int.random(in: 0..<12, using: &random) {
                    case 0: route.nextHops[0].gateway = IPAddress("10.1.1.1")
                    case 1: route.nextHops[0].gateway = nil
                    case 2: route.nextHops[0].interface = InterfaceIndex(rawValue: 77)
                    case 3: route.table = RouteTable(rawValue: 100)
                    case 4: route.type = .blackhole
                    case 5: route.preferredSource = IPAddress("192.0.2.10")
                    default: break
                    }
                    guard !snapshot.routes.contains(where: { $0.destination == route.destination }) else { continue }
                    snapshot.routes.insert(route, at: position)
                    changes.append(.added(route))
                }
            }
            let fresh = Self.plan(snapshot)
            if let operations = amend(&plan, by: changes, snapshot: snapshot, configuration: wishes()) {
                amended += 1
                state = apply(operations, to: state)
            } else {
                state = apply(diff(applied: state, plan: fresh), to: state)
                plan = fresh
            }
            #expect(plan.families == fresh.families, "seed \(seed), step \(step): \(changes)")
            #expect(plan.services == fresh.services && plan.rules == fresh.rules, "seed \(seed), step \(step)")
            #expect(diff(applied: state, plan: fresh).isEmpty, "seed \(seed), step \(step)")
        }
        #expect(amended > 15, "\(amended): the test shows nothing")
    }

    @Test("a default, a network on the link and what leads to the probe take a whole plan")
    func isNotAmended() throws {
        let snapshot = Self.snapshot(1200)
        let plan = Self.plan(snapshot)
        let link = try #require(snapshot.link(named: "w")?.index)
        for (destination, gateway) in [
            ("0.0.0.0/0", "192.0.2.1"), ("203.0.112.0/20", "192.0.2.1"), ("198.51.100.0/24", nil),
            ("2001:db8:9::/48", "fe80::1"),
        ] as [(String, String?)] {
            let hop = NextHop(interface: link, gateway: gateway.flatMap { IPAddress($0) })
            let route = Route(destination: try #require(Prefix(destination)), metric: 5, nextHops: [hop])
            var changed = snapshot
            changed.routes.append(route)
            var amended = plan
            let operations = amend(&amended, by: [.added(route)], snapshot: changed, configuration: wishes())
            #expect(operations == nil, "\(destination)")
        }
    }

    @Test("routes that are all exchanged are added and removed once each")
    func exchangesAll() {
        let before = Self.plan(Self.snapshot(5000))
        var other = Self.snapshot(5000)
        for index in other.routes.indices.dropFirst(2) { other.routes[index].metric = 7 }
        let after = Self.plan(other)
        let operations = diff(applied: applied(before), plan: after)
        #expect(operations.count == 10_000)
        #expect(apply(operations, to: applied(before)).routes.count == 5003)
    }

    @Test("the index finds the first of equal identity, as a search does", arguments: 0..<20 as Range<UInt64>)
    func indexes(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let routes = (0..<500).map { _ in
            Route(
                destination: Prefix(.v4(IPv4Address(rawValue: .random(in: 0..<40, using: &random))), length: 32)
                    ?? Prefix(default: .v4), metric: .random(in: 0..<5, using: &random))
        }
        var index = RouteIndex()
        for position in routes.indices { index.insert(routes[position].identity.fingerprint, at: position) }
        for metric in 0..<8 as Range<UInt32> {
            for host in 0..<45 as Range<UInt32> {
                var wanted = Route(destination: Prefix(host: .v4(IPv4Address(rawValue: host))))
                wanted.metric = metric
                let identity = wanted.identity
                let found = index.first(identity.fingerprint) { routes[$0].identity == identity }
                #expect(found == routes.firstIndex { $0.identity == identity }, "seed \(seed)")
            }
        }
    }
}
