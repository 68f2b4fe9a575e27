// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// A host's network in the words of ip(8), for tests: commands in, a snapshot as the monitor would take it out.
///
/// What a kernel does by itself is done here too, as far as plans depend on it: connected routes, and the answer to
/// the lookup, from the tables in the order of `lookupTables`.
struct Host {
    private(set) var snapshot = HostSnapshot()
    /// Tables that the host's policy rules look up, first to last.
    var lookupTables: [RouteTable] = [.main]
    /// Answers that replace the computed ones.
    var lookups: [AddressFamily: RouteLookup.Answer] = [:]
    /// Whether the kernel is asked at all.
    var isAsked = true

    /// Runs commands: `link w`, `addr 192.0.2.10/24 dev w`, `route default via 192.0.2.1 dev w`, `dns 192.0.2.53`.
    init(_ commands: String...) {
        snapshot.links.append(
            Link(index: .loopback, name: "lo", flags: [.up, .loopback, .running, .lowerUp], mtu: 65536))
        for command in commands { run(command) }
    }

    mutating func run(_ command: String) {
        var words = command.split(separator: " ").map(String.init)
        let verb = words.removeFirst()
        switch verb {
        case "link": link(&words)
        case "addr": address(&words)
        case "route": route(words)
        case "nexthop": nextHop(&words)
        case "dns": snapshot.resolvers.servers += words.map { server($0) }
        default: fatalError("unknown command \(command)")
        }
    }

    // MARK: Commands

    private mutating func link(_ words: inout [String]) {
        let name = words.removeFirst()
        var flags: Link.Flags = [.up, .running, .lowerUp]
        if words.contains("no-carrier") { flags = .up }
        if words.contains("down") { flags = [] }
        let index = InterfaceIndex(rawValue: UInt32(snapshot.links.count + 1))
        snapshot.links.append(Link(index: index, name: name, flags: flags, mtu: 1500))
    }

    private func index(_ name: String) -> InterfaceIndex {
        guard let link = snapshot.link(named: name) else { fatalError("no link \(name)") }
        return link.index
    }

    /// `PREFIX dev LINK [peer ADDRESS] [brd ADDRESS] [scope S] [FLAG...]`; adds the connected route too.
    private mutating func address(_ words: inout [String]) {
        guard let prefix = Prefix(words.removeFirst()) else { fatalError("bad prefix") }
        var address = InterfaceAddress(
            interface: .loopback, prefix: prefix,
            scope: prefix.address.isLinkLocal && prefix.family == .v6 ? .link : .universe)
        while !words.isEmpty {
            switch words.removeFirst() {
            case "dev": address.interface = index(words.removeFirst())
            case "peer": address.peer = IPAddress(words.removeFirst())
            case "brd": address.broadcast = IPv4Address(words.removeFirst())
            case "scope": address.scope = scope(words.removeFirst())
            case "secondary", "temporary": address.flags.insert(.secondary)
            case "deprecated": address.flags.insert(.deprecated)
            case "tentative": address.flags.insert(.tentative)
            case "optimistic": address.flags.insert(.optimistic)
            case "dadfailed": address.flags.formUnion([.tentative, .duplicate])
            case "noprefixroute": address.flags.insert(.noPrefixRoute)
            case "mngtmpaddr": address.flags.insert(.manageTemporary)
            case "home": address.flags.insert(.home)
            case "permanent": address.flags.insert(.permanent)
            case let word: fatalError("unknown word \(word)")
            }
        }
        snapshot.addresses.append(address)
        let hasRoute = !address.flags.contains(.noPrefixRoute) && !address.isSecondary
        let subnet = (address.peer.flatMap { Prefix($0, length: prefix.length) } ?? prefix).network
        guard hasRoute, prefix.family == .v6 || prefix.length < 32 || address.peer != nil else { return }
        snapshot.routes.append(
            Route(
                destination: subnet, scope: prefix.family == .v4 ? .link : .universe, protocol: .kernel,
                metric: prefix.family == .v6 ? 256 : 0, preferredSource: prefix.family == .v4 ? prefix.address : nil,
                nextHops: [NextHop(interface: address.interface)]))
    }

    private func scope(_ word: String) -> RoutingScope {
        switch word {
        case "link": .link
        case "host": .host
        case "site": .site
        default: .universe
        }
    }

    private mutating func nextHop(_ words: inout [String]) {
        guard let id = UInt32(words.removeFirst()) else { fatalError("bad nexthop id") }
        if words.first == "group" {
            let members = words[1].split(separator: "/").compactMap { UInt32($0) }
            snapshot.nextHopObjects.append(NextHopObject(id: id, hop: nil, group: members.map { ($0, 1) }))
        } else if words.first == "blackhole" {
            snapshot.nextHopObjects.append(NextHopObject(id: id, hop: nil, isBlackhole: true))
        } else {
            var hop = NextHop(interface: nil)
            parse(&words, into: &hop)
            snapshot.nextHopObjects.append(NextHopObject(id: id, hop: hop))
        }
    }

    private mutating func route(_ text: [String]) {
        var words = text
        guard let route = parseRoute(&words) else { fatalError("bad route \(text)") }
        // The kernel's order: equal prefixes by ascending metric.
        let same = snapshot.routes.lastIndex { $0.destination == route.destination && $0.metric <= route.metric }
        let larger = snapshot.routes.firstIndex {
            $0.destination == route.destination && $0.metric > route.metric
        }
        if let same {
            snapshot.routes.insert(route, at: same + 1)
        } else if let larger {
            snapshot.routes.insert(route, at: larger)
        } else if route.destination.isDefault, route.family == .v4 {
            snapshot.routes.insert(route, at: 0)
        } else {
            snapshot.routes.append(route)
        }
    }

    private func parse(_ words: inout [String], into hop: inout NextHop) {
        while let word = words.first {
            switch word {
            case "via":
                words.removeFirst()
                if words.first == "inet6" { words.removeFirst() }
                hop.gateway = IPAddress(words.removeFirst())
            case "dev":
                words.removeFirst()
                hop.interface = index(words.removeFirst())
            case "weight":
                words.removeFirst()
                hop.weight = Int(words.removeFirst()) ?? 1
            case "onlink":
                words.removeFirst()
                hop.flags.insert(.onLink)
            case "dead":
                words.removeFirst()
                hop.flags.formUnion([.dead, .linkDown])
            case "linkdown":
                words.removeFirst()
                hop.flags.insert(.linkDown)
            default:
                return
            }
        }
    }

    private func parseRoute(_ words: inout [String]) -> Route? {
        var type = RouteType.unicast
        switch words.first {
        case "unreachable": type = .unreachable
        case "blackhole": type = .blackhole
        case "prohibit": type = .prohibit
        case "throw": type = .throw
        default: break
        }
        if type != .unicast { words.removeFirst() }
        let isIPv6 = words.first == "-6"
        if isIPv6 { words.removeFirst() }
        let first = words.removeFirst()
        let isVia6 = words.contains { $0.contains(":") } && !words.contains("inet6") && first == "default"
        guard let destination = first == "default" ? Prefix(default: isIPv6 || isVia6 ? .v6 : .v4) : Prefix(first)
        else { return nil }
        var route = Route(destination: destination, type: type)
        if destination.family == .v6 { route.metric = 1024 }
        var hop = NextHop(interface: nil)
        parse(&words, into: &hop)
        var hops: [NextHop] = []
        while !words.isEmpty {
            switch words.removeFirst() {
            case "proto":
                switch words.removeFirst() {
                case "kernel": route.protocol = .kernel
                case "static": route.protocol = .static
                case "ra": route.protocol = RouteProtocol(rawValue: 9)
                case "dhcp": route.protocol = RouteProtocol(rawValue: 16)
                case let other: route.protocol = RouteProtocol(rawValue: UInt8(other) ?? 3)
                }
            case "scope": route.scope = scope(words.removeFirst())
            case "src": route.preferredSource = IPAddress(words.removeFirst())
            case "metric": route.metric = UInt32(words.removeFirst()) ?? 0
            case "table": route.table = RouteTable(rawValue: UInt32(words.removeFirst()) ?? 254)
            case "mtu": route.mtu = UInt32(words.removeFirst())
            case "advmss": route.advertisedMSS = UInt32(words.removeFirst())
            case "pref": route.preference = words.removeFirst() == "high" ? 1 : 3
            case "tos": route.typeOfService = UInt8(words.removeFirst()) ?? 0
            case "from": route.source = Prefix(words.removeFirst())
            case "nhid": route.nextHopID = UInt32(words.removeFirst())
            case "nexthop":
                var next = NextHop(interface: nil)
                parse(&words, into: &next)
                hops.append(next)
            default: return nil
            }
            if hops.isEmpty { parse(&words, into: &hop) }
        }
        if !hops.isEmpty {
            route.nextHops = hops
        } else if hop.interface != nil {
            route.nextHops = [hop]
        }
        return route
    }

    private func server(_ text: String) -> ResolverConfiguration.Server {
        let parts = text.split(separator: "%").map(String.init)
        guard let address = IPAddress(parts[0]) else { fatalError("bad server \(text)") }
        return .init(address, zone: parts.count > 1 ? parts[1] : nil)
    }

    // MARK: The snapshot

    /// What the monitor would take.
    func taken() -> HostSnapshot {
        var snapshot = snapshot
        for family in AddressFamily.allCases where isAsked {
            let answer = lookups[family] ?? answer(family)
            snapshot.lookups.append(RouteLookup(destination: HostSnapshot.probe(family), answer: answer))
        }
        return snapshot
    }

    private func answer(_ family: AddressFamily) -> RouteLookup.Answer {
        let probe = HostSnapshot.probe(family)
        for table in lookupTables {
            let matching = snapshot.routes.filter {
                $0.table == table && $0.family == family && $0.source == nil && $0.destination.contains(probe)
            }
            let best = matching.min {
                ($0.destination.length, $1.metric) > ($1.destination.length, $0.metric)
            }
            guard let best, best.type != .throw else { continue }
            if best.type == .unreachable { return .unreachable(errno: 113) }
            if best.type == .prohibit { return .unreachable(errno: 13) }
            if best.type == .blackhole { return .unreachable(errno: 22) }
            guard let hop = best.nextHops.first(where: { !$0.flags.contains(.dead) }), let interface = hop.interface
            else { continue }
            let source =
                best.preferredSource
                ?? snapshot.addresses.first {
                    $0.interface == interface && $0.family == family && $0.scope == .universe
                }?.address
            return .route(interface: interface, gateway: hop.gateway, source: source, table: table)
        }
        return .unreachable(errno: 101)
    }
}
