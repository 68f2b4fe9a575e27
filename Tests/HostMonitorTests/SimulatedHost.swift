// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport

/// A host's network as a value that behaves as Linux does towards a listener: what it announces, and what it does not.
struct SimulatedHost {
    private(set) var snapshot = HostSnapshot()
    /// The notifications since they were taken last, by the table that each names.
    var announced: [HostTables] = []
    private var nextIndex: UInt32 = 2

    init() {
        look()
    }

    /// One random change.
    mutating func change(using random: inout SplitMix64) {
        switch Int.random(in: 0..<14, using: &random) {
        case 0, 1: addLink()
        case 2: removeLink(using: &random)
        case 3, 4: toggleAdmin(using: &random)
        case 5: toggleCarrier(using: &random)
        case 6, 7: addAddress(using: &random)
        case 8: removeAddress(using: &random)
        case 9, 10: addDefault(using: &random)
        case 11: replaceDefault(using: &random)
        case 12: changeRules(using: &random)
        default: deprecate(using: &random)
        }
        look()
    }

    /// The kernel's lookups: the best live default of a family.
    private mutating func look() {
        snapshot.lookups = AddressFamily.allCases.map { family in
            let best = snapshot.routes.filter { $0.family == family && $0.isDefault }.min { $0.metric < $1.metric }
            let answer: RouteLookup.Answer =
                if let hop = best?.nextHops.first, let interface = hop.interface {
                    .route(interface: interface, gateway: hop.gateway, source: nil, table: .main)
                } else {
                    .unreachable(errno: 101)
                }
            return RouteLookup(destination: HostSnapshot.probe(family), answer: answer)
        }
    }

    private mutating func addLink() {
        guard snapshot.links.count < 5 else { return }
        snapshot.links.append(
            Link(index: InterfaceIndex(rawValue: nextIndex), name: "w\(nextIndex)", flags: [.up, .lowerUp], mtu: 1500))
        nextIndex += 1
        announced.append(.links)
    }

    private mutating func removeLink(using random: inout SplitMix64) {
        guard let link = snapshot.links.randomElement(using: &random) else { return }
        for address in snapshot.addresses where address.interface == link.index {
            _ = address
            announced.append(.addresses)
        }
        snapshot.addresses.removeAll { $0.interface == link.index }
        dropRoutes { $0.nextHops.contains { $0.interface == link.index } }
        snapshot.links.removeAll { $0.index == link.index }
        announced.append(.links)
    }

    /// Down: IPv6 addresses vanish, IPv4 ones stay, IPv4 routes vanish silently; up brings none back.
    private mutating func toggleAdmin(using random: inout SplitMix64) {
        guard let position = snapshot.links.indices.randomElement(using: &random) else { return }
        let index = snapshot.links[position].index
        snapshot.links[position].flags.formSymmetricDifference([.up, .lowerUp])
        announced.append(.links)
        guard !snapshot.links[position].flags.contains(.up) else { return }
        if snapshot.addresses.contains(where: { $0.interface == index && $0.family == .v6 }) {
            announced.append(.addresses)
        }
        snapshot.addresses.removeAll { $0.interface == index && $0.family == .v6 }
        dropRoutes { $0.nextHops.contains { $0.interface == index } }
    }

    private mutating func toggleCarrier(using random: inout SplitMix64) {
        guard let position = snapshot.links.indices.randomElement(using: &random),
            snapshot.links[position].flags.contains(.up)
        else { return }
        snapshot.links[position].flags.formSymmetricDifference(.lowerUp)
        announced.append(.links)
    }

    private mutating func addAddress(using random: inout SplitMix64) {
        guard let link = snapshot.links.randomElement(using: &random) else { return }
        let host = UInt8.random(in: 1...9, using: &random)
        let net = UInt8.random(in: 0...2, using: &random)
        let isV4 = Bool.random(using: &random)
        let address: IPAddress =
            isV4
            ? .v4(IPv4Address(192, 0, net, host))
            : .v6(IPv6Address(high: 0x2001_0DB8_0000_0000 | UInt64(net), low: UInt64(host)))
        guard let prefix = Prefix(address, length: isV4 ? 24 : 64),
            !snapshot.addresses.contains(where: { $0.prefix == prefix })
        else { return }
        snapshot.addresses.append(InterfaceAddress(interface: link.index, prefix: prefix, flags: .permanent))
        announced.append(.addresses)
    }

    /// The IPv4 default whose source it was goes along, unannounced.
    private mutating func removeAddress(using random: inout SplitMix64) {
        guard let address = snapshot.addresses.randomElement(using: &random) else { return }
        snapshot.addresses.removeAll { $0 == address }
        announced.append(.addresses)
        let isLast = !snapshot.addresses.contains {
            $0.interface == address.interface && $0.family == address.family
        }
        if isLast {
            dropRoutes { route in
                route.family == address.family && route.nextHops.contains { $0.interface == address.interface }
            }
        }
    }

    private mutating func addDefault(using random: inout SplitMix64) {
        guard let address = snapshot.addresses.randomElement(using: &random) else { return }
        let route = Route(
            destination: Prefix(default: address.family), metric: [100, 600, 20600].randomElement(using: &random) ?? 0,
            nextHops: [NextHop(interface: address.interface, gateway: address.prefix.network.address)])
        guard !snapshot.routes.contains(where: { $0.destination == route.destination && $0.metric == route.metric })
        else { return }
        snapshot.routes.append(route)
        announced.append(.routes)
    }

    /// Only the new route is announced.
    private mutating func replaceDefault(using random: inout SplitMix64) {
        guard let position = snapshot.routes.indices.randomElement(using: &random),
            let address = snapshot.addresses.filter({ $0.family == snapshot.routes[position].family })
                .randomElement(using: &random)
        else { return }
        snapshot.routes[position].nextHops = [NextHop(interface: address.interface)]
        announced.append(.routes)
    }

    private mutating func changeRules(using random: inout SplitMix64) {
        let rule = RoutingRule(
            family: .v4, priority: .random(in: 1...3, using: &random), table: RouteTable(rawValue: 51820), action: 1)
        if let position = snapshot.rules.firstIndex(of: rule) {
            snapshot.rules.remove(at: position)
        } else {
            snapshot.rules.append(rule)
        }
        announced.append(.rules)
    }

    private mutating func deprecate(using random: inout SplitMix64) {
        guard let position = snapshot.addresses.indices.randomElement(using: &random) else { return }
        snapshot.addresses[position].flags.formSymmetricDifference(.deprecated)
        announced.append(.addresses)
    }

    /// IPv4 routes go silently, IPv6 ones with an announcement.
    private mutating func dropRoutes(where isGone: (Route) -> Bool) {
        if snapshot.routes.contains(where: { $0.family == .v6 && isGone($0) }) { announced.append(.routes) }
        snapshot.routes.removeAll(where: isGone)
    }
}

/// A kernel around a simulated host, whose notifications get lost, come twice and in another order.
final class SimulatedKernel: HostKernel {
    var host = SimulatedHost()
    var random: SplitMix64
    /// How likely a notification is lost, which the kernel then tells; in percent.
    var lossPercent = 0
    /// How likely the host changes while it is read, in percent.
    var unrestPercent = 0
    /// Whether reading fails.
    var isFailing = false
    /// How long a reading takes.
    var cost: Int64 = 0
    var now = at(0)
    private(set) var readings: [HostTables] = []
    private var queue: [HostTables] = []
    private var areLost = false

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
    }

    /// There are notifications; the number is never used.
    let descriptor: FileDescriptor? = FileDescriptor(rawValue: -1)
    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) { (.init(), .init()) }

    /// Changes the host, and lets its notifications get into disorder.
    func change() {
        host.change(using: &random)
        for tables in host.announced {
            if Int.random(in: 0..<100, using: &random) < lossPercent {
                areLost = true
                continue
            }
            let copies = Int.random(in: 0..<8, using: &random) == 0 ? 2 : 1
            for _ in 0..<copies { queue.insert(tables, at: Int.random(in: 0...queue.count, using: &random)) }
        }
        host.announced = []
    }

    /// Changes the host so that there is something to tell of.
    func changeForSure() {
        while queue.isEmpty && !areLost { change() }
    }

    func drain() throws(SystemCallError) -> NetlinkNotifications {
        var found = NetlinkNotifications()
        found.count = queue.count
        for tables in queue { found.tables.formUnion(tables) }
        if areLost {
            found.wereLost = true
            found.tables = .all
        }
        queue = []
        areLost = false
        return found
    }

    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        guard !isFailing else { throw NetlinkError("route show", .interrupted(attempts: 8), .interrupted) }
        readings.append(tables)
        var snapshot = earlier
        now = MonotonicTime(nanoseconds: now.nanoseconds + cost)
        // Table by table, as dumps are made: the host may change between two of them.
        if tables.contains(.links) { snapshot.links = unrest().links }
        if tables.contains(.addresses) { snapshot.addresses = unrest().addresses }
        if tables.contains(.routes) { snapshot.routes = unrest().routes }
        if tables.contains(.rules) { snapshot.rules = unrest().rules }
        if tables.contains(.nextHops) { snapshot.nextHopObjects = unrest().nextHopObjects }
        if tables.contains(.lookups) { snapshot.lookups = unrest().lookups }
        return HostReading(tables: tables, snapshot: snapshot)
    }

    private func unrest() -> HostSnapshot {
        if Int.random(in: 0..<100, using: &random) < unrestPercent {
            change()
            changeForSure()
        }
        return host.snapshot
    }
}
