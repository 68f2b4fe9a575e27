// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport

/// Random hosts and wishes out of small pools, so that addresses, networks and routers collide as often as not.
struct RandomHost {
    var random: SplitMix64

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
    }

    private mutating func pick<T>(_ values: [T]) -> T {
        values[Int.random(in: 0..<values.count, using: &random)]
    }

    // MARK: Pools

    private mutating func address(_ family: AddressFamily) -> IPAddress {
        let texts =
            family == .v4
            ? [
                "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.4", "10.9.9.9", "192.0.2.10", "192.0.2.11", "198.51.100.5",
                "169.254.7.7", "172.16.0.1", "10.0.0.0",
            ]
            : [
                "2001:db8:1::10", "2001:db8:1::11", "2001:db8:2::5", "fd00::1", "fd00:1::1", "2001:db8:1:0:1::1",
                "2001:db8:1::", "fe80::7",
            ]
        guard let address = IPAddress(pick(texts)) else { return family == .v4 ? .v4(.loopback) : .v6(.loopback) }
        return address
    }

    private mutating func gateway(_ family: AddressFamily) -> IPAddress {
        let texts =
            family == .v4
            ? ["10.0.0.254", "10.0.1.1", "192.0.2.1", "198.51.100.1", "172.31.0.1", "10.0.0.1"]
            : ["fe80::1", "fe80::2", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:9::1", "fd00::fe"]
        guard let address = IPAddress(pick(texts)) else { return family == .v4 ? .v4(.loopback) : .v6(.loopback) }
        return address
    }

    private mutating func length(_ family: AddressFamily) -> Int {
        family == .v4 ? pick([8, 16, 24, 24, 24, 31, 32]) : pick([48, 64, 64, 64, 127, 128])
    }

    private mutating func prefix(_ family: AddressFamily) -> Prefix {
        let address = address(family)
        return Prefix(address, length: length(family)) ?? Prefix(host: address)
    }

    // MARK: Hosts

    /// A host with up to four links; every object is one that some kernel could report.
    mutating func snapshot() -> HostSnapshot {
        var snapshot = HostSnapshot()
        snapshot.links = [Link(index: .loopback, name: "lo", flags: [.up, .loopback, .lowerUp], mtu: 65536)]
        let count = Int.random(in: 0...3, using: &random)
        for number in 0..<count {
            let flags: Link.Flags = random.chance(80) ? [.up, .running, .lowerUp] : random.chance(50) ? [.up] : []
            snapshot.links.append(
                Link(index: .init(rawValue: UInt32(number + 2)), name: "d\(number)", flags: flags, mtu: 1500))
        }
        for link in snapshot.links.dropFirst() { addAddresses(to: link, &snapshot) }
        for family in AddressFamily.allCases {
            for _ in 0..<Int.random(in: 0...6, using: &random) { addRoute(family, &snapshot) }
            if random.chance(80) { snapshot.lookups.append(lookup(family, snapshot)) }
        }
        if random.chance(70) { snapshot.resolvers.servers = [.init(address(.v4)), .init(address(.v6))] }
        if random.chance(20) { snapshot.resolvers.servers.append(.init(.v4(IPv4Address(127, 0, 0, 53)))) }
        return snapshot
    }

    private mutating func addAddresses(to link: Link, _ snapshot: inout HostSnapshot) {
        for _ in 0..<Int.random(in: 0...4, using: &random) {
            let family: AddressFamily = random.chance(50) ? .v4 : .v6
            var new = InterfaceAddress(interface: link.index, prefix: prefix(family))
            if new.address.isLinkLocal, family == .v6 { new.scope = .link }
            if random.chance(5) { new.scope = .link }
            if random.chance(10) { new.flags.insert(.deprecated) }
            if random.chance(15) { new.flags.insert(.noPrefixRoute) }
            if random.chance(10), family == .v6 { new.flags.insert(.tentative) }
            if random.chance(10), family == .v6 { new.flags.insert(.secondary) }
            if random.chance(10), family == .v4 { new.peer = gateway(family) }
            if random.chance(50), case .v4(let v4) = new.address, new.prefix.length < 31 {
                new.broadcast = IPv4Address(rawValue: v4.rawValue | ~Prefix.mask4(new.prefix.length))
            }
            let clashes = snapshot.addresses.contains {
                $0.interface == link.index && $0.address == new.address && (family == .v6 || $0.prefix == new.prefix)
            }
            guard !clashes else { continue }
            snapshot.addresses.append(new)
            guard !new.flags.contains(.noPrefixRoute), new.prefix.length < 32 || family == .v6 else { continue }
            snapshot.routes.append(
                Route(
                    destination: new.prefix.network, scope: family == .v4 ? .link : .universe, protocol: .kernel,
                    metric: family == .v4 ? 0 : 256, preferredSource: family == .v4 ? new.address : nil,
                    nextHops: [NextHop(interface: link.index)]))
        }
    }

    private mutating func addRoute(_ family: AddressFamily, _ snapshot: inout HostSnapshot) {
        var route = Route(
            destination: random.chance(40) ? Prefix(default: family) : prefix(family).network,
            protocol: pick([.boot, .static, .kernel, .init(rawValue: 9), .init(rawValue: 16)]),
            metric: pick(family == .v4 ? [0, 0, 100, 600] : [256, 1024, 1024, 600]))
        if random.chance(10) { route.type = pick([.unreachable, .blackhole, .prohibit, .throw]) }
        if random.chance(10) { route.table = pick([.init(rawValue: 51820), .init(rawValue: 100)]) }
        if random.chance(20) { route.preferredSource = address(family) }
        if random.chance(5), family == .v6 { route.source = prefix(.v6).network }
        if random.chance(5) { route.mtu = 1400 }
        if random.chance(5), family == .v6 { route.preference = pick([0, 1, 3]) }
        guard route.type == .unicast, snapshot.links.count > 1 else {
            if route.type != .unicast { snapshot.routes.append(route) }
            return
        }
        let hops = random.chance(15) ? 2 : 1
        for _ in 0..<hops {
            var hop = NextHop(interface: pick(Array(snapshot.links.dropFirst())).index)
            if random.chance(75) || hops > 1 { hop.gateway = gateway(family) }
            if hop.gateway != nil, random.chance(20) { hop.flags.insert(.onLink) }
            if random.chance(5) { hop.flags.insert(.dead) }
            if hops > 1 { hop.weight = Int.random(in: 1...3, using: &random) }
            if family == .v4, hops == 1, random.chance(4) { hop.gateway = .v6(IPv6Address(high: 0xFE80 << 48, low: 9)) }
            route.nextHops.append(hop)
        }
        if family == .v4, route.nextHops.allSatisfy({ $0.gateway == nil }), random.chance(80) { route.scope = .link }
        snapshot.routes.append(route)
    }

    private mutating func lookup(_ family: AddressFamily, _ snapshot: HostSnapshot) -> RouteLookup {
        let probe = HostSnapshot.probe(family)
        guard snapshot.links.count > 1, random.chance(75) else {
            return RouteLookup(destination: probe, answer: .unreachable(errno: pick([101, 101, 113, 13])))
        }
        return RouteLookup(
            destination: probe,
            answer: .route(
                interface: random.chance(95) ? pick(snapshot.links).index : .init(rawValue: 99),
                gateway: random.chance(60) ? gateway(family) : nil, source: random.chance(70) ? address(family) : nil,
                table: pick([.main, .main, .init(rawValue: 51820), .local])))
    }

    // MARK: Wishes

    /// Any value of `-a`.
    mutating func source() -> AddressSource {
        switch Int.random(in: 0...4, using: &random) {
        case 0: .template
        case 1: .interface(pick(["d0", "d1", "d2", "gone"]))
        case 2: .all
        case 3: .linkLocal
        default: .explicit(address(pick([.v4, .v6])), length: nil)
        }
    }

    mutating func configuration(mode: NetworkMode? = nil) -> Configuration {
        var configuration = Configuration()
        configuration.networkMode = mode ?? pick([.auto, .auto, .auto, .auto, .opaque, .transparent])
        configuration.acceptsOtherAddresses = random.chance(80)
        configuration.configuresNamespace = true
        if random.chance(10) { configuration.families = [pick([.v4, .v6])] }
        for family in AddressFamily.allCases {
            if random.chance(20) {
                configuration.addressSources.append(
                    .explicit(address(family), length: random.chance(50) ? length(family) : nil))
            }
            if random.chance(15) { configuration.prefixLengths[family] = length(family) }
            if random.chance(20) { configuration.gateways[family] = gateway(family) }
            if random.chance(5) { configuration.outboundInterfaces[family] = pick(["d0", "d1", "gone"]) }
            if random.chance(10) { configuration.guestAddressMappings[family] = .address(gateway(family)) }
        }
        while random.chance(25) { configuration.addressSources.append(source()) }
        configuration.addressSources.shuffle(using: &random)
        if random.chance(10) || configuration.networkMode == .transparent {
            configuration.templateInterface = pick(["d0", "d1", "gone"])
        }
        if random.chance(10) { configuration.copiesRoutes = false }
        if random.chance(10) { configuration.copiesAddresses = false }
        if configuration.networkMode != .auto {
            // The parser refuses what contradicts these modes.
            (configuration.copiesRoutes, configuration.copiesAddresses) = (true, true)
            configuration.gateways = .init(v4: nil, v6: nil)
        }
        if random.chance(10) { configuration.mtu = random.chance(50) ? nil : 1500 }
        return configuration
    }
}
