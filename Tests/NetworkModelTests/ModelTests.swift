// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Testing

@Suite("Shared model")
struct ModelTests {
    private func prefix(_ text: String) throws -> Prefix { try #require(Prefix(text)) }

    @Test("a pair keeps its families apart")
    func pair() {
        var pair = PerFamily(v4: 1, v6: 2)
        pair[.v4] += 10
        pair[.v6] += 20
        #expect(pair == PerFamily(v4: 11, v6: 22))
    }

    @Test("snapshots are compared without their epoch")
    func epochs() {
        let one = HostSnapshot(epoch: 1, resolvers: .init(search: ["a"]))
        var two = one
        two.epoch = 2
        #expect(one != two && one.hasSameContent(as: two))
        two.resolvers.search = []
        #expect(!one.hasSameContent(as: two))
    }

    @Test("links are found by index and by name")
    func links() {
        let link = Link(index: .init(rawValue: 7), name: "w", flags: [.up], mtu: 1500)
        let snapshot = HostSnapshot(links: [link])
        #expect(snapshot.link(.init(rawValue: 7)) == link && snapshot.link(named: "w") == link)
        #expect(snapshot.link(named: "x") == nil && !link.hasCarrier)
    }

    @Test("probes are documentation addresses of their family")
    func probes() throws {
        #expect(try prefix("203.0.113.0/24").contains(HostSnapshot.probe(.v4)))
        #expect(try prefix("2001:db8::/32").contains(HostSnapshot.probe(.v6)))
    }

    @Test("an address is pending while tentative, unless optimistic")
    func flags() throws {
        var address = InterfaceAddress(
            interface: .loopback, prefix: try prefix("2001:db8::1/64"), flags: [.tentative, .secondary])
        #expect(address.isTentative && address.isTemporary && !address.isSecondary)
        address.flags.insert(.optimistic)
        #expect(!address.isTentative)
        let other = InterfaceAddress(interface: .loopback, prefix: try prefix("192.0.2.1/24"), flags: .secondary)
        #expect(other.isSecondary && !other.isTemporary)
    }

    @Test("nexthop objects compare their members")
    func nextHopObjects() {
        let one = NextHopObject(id: 5, hop: nil, group: [(1, 1), (2, 3)])
        #expect(one == NextHopObject(id: 5, hop: nil, group: [(1, 1), (2, 3)]))
        #expect(one != NextHopObject(id: 5, hop: nil, group: [(1, 1), (2, 4)]))
        #expect(one.group.map(\.weight) == [1, 3])
    }

    @Test("the kernel tells IPv4 addresses apart by their network or their peer's, IPv6 ones by the address alone")
    func addressIdentity() throws {
        let four = PlannedAddress(prefix: try prefix("192.0.2.1/24"))
        #expect(four.identity != PlannedAddress(prefix: try prefix("192.0.2.1/25")).identity)
        #expect(four.identity != PlannedAddress(prefix: four.prefix, peer: IPAddress("198.51.100.9")).identity)
        #expect(four.identity == PlannedAddress(prefix: four.prefix, peer: IPAddress("192.0.2.9")).identity)
        #expect(four.identity == PlannedAddress(prefix: four.prefix, flags: .noPrefixRoute).identity)
        let six = PlannedAddress(prefix: try prefix("2001:db8::1/64"))
        #expect(six.identity == PlannedAddress(prefix: try prefix("2001:db8::1/128")).identity)
    }

    @Test("the kernel tells routes apart by destination, metric, source and, for IPv4, type of service")
    func routeIdentity() throws {
        let four = Route(destination: try prefix("10.0.0.0/8"))
        #expect(four.identity == Route(destination: try prefix("10.9.9.9/8"), protocol: .static).identity)
        #expect(four.identity != Route(destination: try prefix("10.0.0.0/8"), metric: 1).identity)
        #expect(four.identity != Route(destination: try prefix("10.0.0.0/8"), typeOfService: 4).identity)
        let six = Route(destination: .init(default: .v6))
        #expect(six.identity == Route(destination: .init(default: .v6), metric: 1024).identity)
        #expect(six.identity != Route(destination: .init(default: .v6), source: try prefix("2001:db8::/32")).identity)
    }

    @Test("ownership is carried over to a fresh dump")
    func ownership() throws {
        let mine = PlannedAddress(prefix: try prefix("192.0.2.1/24"))
        let other = PlannedAddress(prefix: try prefix("192.0.2.2/24"))
        let route = Route(destination: .init(default: .v4))
        let before = AppliedState(
            addresses: [.init(mine, origin: .ours), .init(other, origin: .foreign)],
            routes: [.init(route, origin: .ours)])
        var reported = mine
        reported.flags = .permanent
        var dump = AppliedState(
            addresses: [.init(reported, origin: .foreign), .init(other, origin: .foreign)],
            routes: [.init(Route(destination: .init(default: .v4), metric: 9), origin: .foreign)])
        dump.adoptOwnership(from: before)
        #expect(dump.addresses.map(\.origin) == [.ours, .foreign])
        #expect(dump.routes.map(\.origin) == [.foreign])
    }
}
