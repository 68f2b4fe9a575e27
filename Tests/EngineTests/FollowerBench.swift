// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Planning
import Testing

@testable import Engine
@testable import HostMonitor
@testable import NamespaceControl

/// Hosts as the monitor would show them.
enum Places {
    static let wireless = place(("w", "192.0.2.10/24", "192.0.2.1"), ("w", "2001:db8:1::10/64", "2001:db8:1::1"))
    static let tethered = place(("usb", "198.51.100.5/28", "198.51.100.1"))
    static let wired = place(("e", "10.0.0.2/8", "10.0.0.1"), ("e", "fd00::2/64", "fe80::1"))
    static let sameNetwork = place(("w", "192.0.2.99/24", "192.0.2.1"))
    static let onlyIPv6 = place(("w", "2001:db8:2::7/64", "fe80::9"))
    static let offline = place()

    static let all = [wireless, tethered, wired, sameNetwork, onlyIPv6, offline]

    /// A host with one address and one default route for each triple of interface, prefix and gateway.
    private static func place(_ networks: (link: String, prefix: String, gateway: String)...) -> HostSnapshot {
        var snapshot = HostSnapshot()
        snapshot.links = [
            Link(index: .loopback, name: "lo", flags: [.up, .loopback, .running, .lowerUp], mtu: 65536)
        ]
        for name in Set(networks.map(\.link)).sorted() {
            let index = InterfaceIndex(rawValue: UInt32(snapshot.links.count + 1))
            snapshot.links.append(Link(index: index, name: name, flags: [.up, .running, .lowerUp], mtu: 1500))
        }
        for network in networks {
            guard let link = snapshot.link(named: network.link), let prefix = Prefix(network.prefix),
                let gateway = IPAddress(network.gateway), let all = Prefix(prefix.family == .v4 ? "0.0.0.0/0" : "::/0")
            else { fatalError("bad network \(network)") }
            snapshot.addresses.append(InterfaceAddress(interface: link.index, prefix: prefix, scope: .universe))
            var connected = Route(destination: prefix.network)
            connected.nextHops = [NextHop(interface: link.index)]
            connected.scope = .link
            connected.protocol = .kernel
            var route = Route(destination: all)
            route.nextHops = [NextHop(interface: link.index, gateway: gateway)]
            snapshot.routes += [connected, route]
            snapshot.lookups.append(
                RouteLookup(
                    destination: HostSnapshot.probe(prefix.family),
                    answer: .route(
                        interface: link.index, gateway: gateway, source: prefix.address, table: .main)))
        }
        snapshot.resolvers.servers = networks.compactMap { IPAddress($0.gateway) }.map { .init($0) }
        return snapshot
    }
}

/// A stand-in for the data path.
actor PlayedFlows: FlowControl {
    private(set) var published: [TranslationRules] = []
    private(set) var unplanned: [Set<IPAddress>] = []
    private(set) var reset: Set<IPAddress> = []
    private(set) var forgotten: Set<IPAddress> = []
    private(set) var checks = 0
    private var kept: [IPAddress: Int] = [:]

    /// From now on these addresses have so many connections.
    func keep(_ kept: [IPAddress: Int]) {
        self.kept = kept
    }

    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, adjustments: FlowAdjustments, unplanned: Set<IPAddress>
    ) -> Int {
        published.append(rules)
        self.unplanned.append(unplanned)
        return 0
    }

    func publish(neighbours: [IPAddress: MACAddress]) {
        // The scenarios follow real neighbours.
    }

    func resetFlows(of address: IPAddress) {
        reset.insert(address)
    }

    func forgetObserved(_ addresses: Set<IPAddress>) { forgotten.formUnion(addresses) }

    func connectionCounts(_ unplanned: Set<IPAddress>) -> [IPAddress: Int] {
        checks += 1
        return kept.filter { unplanned.contains($0.key) }
    }
}

/// A namespace's interface whose kernel is the simulated one.
actor PlayedNamespace: InterfaceControl {
    private var present: AppliedState
    private(set) var applications = 0
    private(set) var reads = 0
    private(set) var isHeld = false
    private var fails = false
    private var holds = false
    private var held: CheckedContinuation<Void, Never>?

    init(_ state: AppliedState) {
        present = state
    }

    /// What tapas has put there, in an order of its own.
    var lines: [String] { present.lines }

    /// The addresses that tapas has put there.
    var addresses: Set<IPAddress> { present.ourAddresses }

    /// Fails the next application.
    func fail() {
        fails = true
    }

    /// Delays the next application until ``letGo()``.
    func hold() {
        holds = true
    }

    func letGo() {
        holds = false
        held?.resume()
        held = nil
    }

    func state() throws(NamespaceError) -> AppliedState {
        reads += 1
        return present
    }

    func apply(
        _ operations: [NamespaceOperation], resetFlows: @Sendable (IPAddress) async -> Void
    ) async throws(NamespaceError) -> AppliedResult {
        applications += 1
        if holds {
            isHeld = true
            await withCheckedContinuation { held = $0 }
        }
        if fails {
            fails = false
            throw NamespaceError("played: the kernel cannot be asked")
        }
        var failures: [OperationFailure] = []
        for operation in operations {
            if case .resetFlows(let address) = operation {
                await resetFlows(address)
            } else if let refusal = simulate(operation, on: &present) {
                failures.append(OperationFailure(operation, "\(refusal)"))
            }
        }
        return AppliedResult(ourAddresses: present.ourAddresses, failures: failures)
    }
}

extension AppliedState {
    /// What tapas has put there, in an order of its own.
    var lines: [String] {
        addresses.filter { $0.origin == .ours }.map { entry in
            var address = entry.value
            address.flags.subtract([.secondary])
            return address.text
        }.sorted() + routes.filter { $0.origin == .ours }.map(\.value.text).sorted()
    }
}

/// A follower with its surroundings.
struct Bench {
    let flows = PlayedFlows()
    let namespace: PlayedNamespace
    private let follower: Follower
    private let firstPlan: NamespacePlan
    private let configuration: Configuration

    init(from place: HostSnapshot, configures: Bool = true) throws {
        configuration = Self.wishes(configures)
        firstPlan = Planning.plan(place, configuration, namespaceFamilies: [.v4, .v6])
        let empty = try Self.emptyInterface()
        namespace = PlayedNamespace(
            configures ? Planning.apply(diff(applied: empty, plan: firstPlan), to: empty) : empty)
        follower = Follower(
            loop: try EventLoopThread.start().loop, configuration: configuration, families: [.v4, .v6],
            start: .init(snapshot: place, plan: firstPlan), flows: flows,
            interface: configures ? namespace : nil, logger: Logger(label: "test"), lingeringCheck: 5)
    }

    private static func wishes(_ configures: Bool) -> Configuration {
        var configuration = Configuration()
        configuration.configuresNamespace = configures
        return configuration
    }

    private static func emptyInterface() throws -> AppliedState {
        let address = PlannedAddress(prefix: try #require(Prefix("fe80::aa/64")), scope: .link)
        var state = AppliedState(addresses: [.init(address, origin: .kernel)])
        state.mac = .defaultGateway
        return state
    }

    /// What a fresh start makes of an interface.
    static func fresh(_ place: HostSnapshot) throws -> [String] {
        let plan = Planning.plan(place, wishes(true), namespaceFamilies: [.v4, .v6])
        let empty = try emptyInterface()
        return Planning.apply(diff(applied: empty, plan: plan), to: empty).lines
    }

    /// The plan for a place, as a follower that has begun where this one has makes it.
    func plan(_ place: HostSnapshot) -> NamespacePlan {
        Planning.plan(place, configuration, previous: firstPlan, namespaceFamilies: [.v4, .v6])
    }

    /// Reports a new host to the follower; `routeChanges` says that only these routes have changed.
    func go(to place: HostSnapshot, routeChanges: [RouteEvent]? = nil) async {
        let now = MonotonicTime.now
        let change = HostChange(
            snapshot: place, causes: HostChangeCauses(), held: [], firstEvent: now, lastEvent: now, published: now,
            routeChanges: routeChanges)
        await follower.hostChanged(change)
    }

    /// Waits until the follower has nothing left to do.
    func settle() async throws {
        try await eventually { await !follower.isWorking }
    }
}

/// Waits until a condition holds.
func eventually(_ condition: () async throws -> Bool) async throws {
    let limit = MonotonicTime.now.advanced(milliseconds: 50_000)
    while try await !condition() {
        guard MonotonicTime.now < limit else { throw Late() }
        try await Task.sleep(for: .milliseconds(1))
    }
}

/// A condition did not come to hold.
struct Late: Error {}
