// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import TestSupport
import Testing

@Suite("Properties of plans and differences")
struct PropertyTests {
    private static let seeds: [UInt64] = Array(1...8)
    private static let both: Set<AddressFamily> = [.v4, .v6]

    /// A new link with its kernel-made link-local address, as the configurator finds it.
    private static func fresh() throws -> AppliedState {
        let address = PlannedAddress(prefix: try #require(Prefix("fe80::aa/64")), scope: .link)
        var state = AppliedState(addresses: [.init(address, origin: .kernel)])
        state.mac = .defaultGateway
        return state
    }

    /// What tapas put there, as text; what only depends on the order of additions is left out.
    private func ours(_ state: AppliedState) -> [String] {
        let addresses = state.addresses.filter { $0.origin == .ours }.map { entry in
            var address = entry.value
            address.flags.subtract([.secondary])
            return address.text
        }
        return addresses.sorted() + state.routes.filter { $0.origin == .ours }.map(\.value.text).sorted()
    }

    private func wanted(_ plan: NamespacePlan) -> [String] {
        let families = AddressFamily.allCases.map { plan.families[$0] }
        return families.flatMap { $0.addresses.map(\.text) }.sorted()
            + families.flatMap { $0.routes.map(\.text) }.sorted()
    }

    @Test("every host has a plan, with a default wherever one belongs", arguments: seeds)
    func everyHostHasAPlan(seed: UInt64) {
        var source = RandomHost(seed: seed)
        for round in 0..<120 {
            let (snapshot, configuration) = (source.snapshot(), source.configuration())
            let plan = plan(snapshot, configuration, namespaceFamilies: Self.both)
            for family in AddressFamily.allCases {
                let part = plan.families[family]
                let hasDefault = part.routes.contains(where: \.isDefault)
                switch part.mode {
                case .off: #expect(part == FamilyPlan(mode: .off))
                case .local, .manual, .opaque: #expect(hasDefault, "seed \(seed) round \(round)")
                case .transparent:
                    // The interface's own, or none by design.
                    let isRefused = plan.reasons.contains {
                        $0.family == family && $0.text.hasPrefix("route default")
                            && ($0.text.contains("is left out") || $0.text.contains("is skipped"))
                    }
                    // It may be for some sources only.
                    let hasOwn = part.routes.contains { $0.destination.isDefault }
                    #expect(part.gateway == nil || hasOwn || part.addresses.isEmpty || isRefused)
                case .template(_, let name):
                    #expect(part.gateway == nil || hasDefault, "seed \(seed) round \(round)")
                    #expect(snapshot.link(named: name)?.hasCarrier == true)
                    // Without an address, only where all that is named has none: then the kernel's own link-local one.
                    let isNamed = configuration.sources(of: family) != [.template]
                    #expect(!part.addresses.isEmpty || family == .v6 && isNamed)
                }
                #expect(part.addresses.allSatisfy { $0.origin != nil && $0.origin != .observed })
                if family == .v4, part.mode != .off { #expect(part.guestAddress == nil || !part.addresses.isEmpty) }
                #expect(
                    part.guestAddress.map { guest in part.addresses.contains { $0.address == guest.address } } ?? true)
                #expect(!plan.reasons.filter { $0.family == family }.isEmpty)
            }
            #expect(plan == Planning.plan(snapshot, configuration, namespaceFamilies: Self.both))
        }
    }

    @Test("only the interface's name depends on the plan before", arguments: seeds)
    func followEqualsFresh(seed: UInt64) {
        var source = RandomHost(seed: seed)
        let configuration = source.configuration()
        var previous: NamespacePlan?
        for _ in 0..<100 {
            let snapshot = source.snapshot()
            let followed = plan(snapshot, configuration, previous: previous, namespaceFamilies: Self.both)
            let fresh = plan(snapshot, configuration, namespaceFamilies: Self.both)
            #expect(followed.families == fresh.families && followed.rules == fresh.rules)
            #expect(followed.warnings == fresh.warnings)
            if let previous { #expect(followed.interfaceName == previous.interfaceName) }
            previous = followed
        }
    }

    @Test("a gateway never changes the prefix (R5), nor a given address (R6)", arguments: seeds)
    func gatewayNeverChangesThePrefix(seed: UInt64) {
        var source = RandomHost(seed: seed)
        for _ in 0..<120 {
            let snapshot = source.snapshot()
            var configuration = source.configuration()
            configuration.networkMode = .auto
            configuration.gateways = .init(v4: nil, v6: nil)
            configuration.addressSources = []
            configuration.address("169.254.2.15")
            configuration.address("fd00::15")
            let without = plan(snapshot, configuration, namespaceFamilies: Self.both)
            let other = source.configuration().gateways
            configuration.gateways = other
            let with = plan(snapshot, configuration, namespaceFamilies: Self.both)
            for family in AddressFamily.allCases {
                #expect(with.families[family].addresses == without.families[family].addresses)
                #expect(with.families[family].guestAddress == without.families[family].guestAddress)
                if let gateway = other[family], with.families[family].mode != .off {
                    #expect(with.families[family].gateway == gateway)
                    #expect(with.rules.families[family].gateway == gateway)
                }
            }
        }
    }

    @Test("the kernel takes a plan in its order, and then nothing differs", arguments: seeds)
    func kernelTakesThePlan(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        for round in 0..<100 {
            let plan = plan(source.snapshot(), source.configuration(), namespaceFamilies: Self.both)
            var state = try Self.fresh()
            for operation in diff(applied: state, plan: plan) {
                let refusal = simulate(operation, on: &state)
                #expect(
                    refusal == nil, "seed \(seed) round \(round): \(operation.text(device: "d"))\n\(plan.canonicalText)"
                )
            }
            #expect(ours(state) == wanted(plan), "seed \(seed) round \(round)")
            #expect(diff(applied: state, plan: plan).isEmpty)
        }
    }

    @Test("a difference leads from any state to any plan, make before break", arguments: seeds)
    func differenceReachesThePlan(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        var state = try Self.fresh()
        for round in 0..<120 {
            let target = plan(source.snapshot(), source.configuration(), namespaceFamilies: Self.both)
            if source.random.chance(20) { state.promotesSecondaries.toggle() }
            let hadDefault = defaults(state)
            for operation in diff(applied: state, plan: target) {
                let before = state
                let refusal = simulate(operation, on: &state)
                #expect(refusal == nil, "seed \(seed) round \(round): \(operation.text(device: "d"))")
                for family in hadDefault where target.families[family].routes.contains(where: \.isDefault) {
                    #expect(
                        defaults(state).contains(family), "seed \(seed) round \(round): \(operation.text(device: "d"))")
                }
                if case .removeAddress(let address) = operation {
                    #expect(
                        before.addresses.contains {
                            $0.value.identity == address.identity && $0.origin == .ours
                        })
                }
            }
            #expect(ours(state) == wanted(target), "seed \(seed) round \(round)")
            #expect(diff(applied: state, plan: target).isEmpty, "seed \(seed) round \(round)")
        }
    }

    private func defaults(_ state: AppliedState) -> Set<AddressFamily> {
        Set(state.routes.map(\.value).filter(\.isDefault).map(\.family))
    }

    @Test("what somebody else added stays, whatever changes", arguments: seeds)
    func foreignObjectsStay(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        var state = try Self.fresh()
        state.isUp = true
        state.promotesSecondaries = true
        let foreign = [
            PlannedAddress(prefix: try #require(Prefix("10.77.0.1/24"))),
            PlannedAddress(prefix: try #require(Prefix("fd77::1/64")), flags: .noDuplicateDetection),
        ]
        for address in foreign { #expect(simulate(.addAddress(address), on: &state) == nil) }
        let routes = [
            Route(
                destination: try #require(Prefix("10.78.0.0/16")),
                nextHops: [.init(interface: nil, gateway: IPAddress("10.77.0.9"))]),
            Route(destination: try #require(Prefix("fd78::/64")), metric: 7, nextHops: [.init(interface: nil)]),
        ]
        for route in routes { #expect(simulate(.addRoute(route), on: &state) == nil) }
        for index in state.addresses.indices { state.addresses[index].origin = .foreign }
        for index in state.routes.indices where state.routes[index].origin == .ours {
            state.routes[index].origin = .foreign
        }
        let kept = state
        for _ in 0..<100 {
            let target = plan(source.snapshot(), source.configuration(), namespaceFamilies: Self.both)
            state = apply(diff(applied: state, plan: target), to: state)
            for entry in kept.addresses where entry.origin == .foreign {
                #expect(state.addresses.contains { $0.value.identity == entry.value.identity && $0.origin == .foreign })
            }
            for entry in kept.routes where entry.origin == .foreign {
                #expect(state.routes.contains(entry))
            }
        }
    }

    @Test("resets come right before removals, and only for addresses that really go", arguments: seeds)
    func resetsComeBeforeRemovals(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        var state = try Self.fresh()
        for _ in 0..<120 {
            let target = plan(source.snapshot(), source.configuration(), namespaceFamilies: Self.both)
            let operations = diff(applied: state, plan: target)
            let after = apply(operations, to: state)
            let (old, new) = (Set(state.addresses.map(\.value.address)), Set(after.addresses.map(\.value.address)))
            var reset: Set<IPAddress> = []
            for operation in operations {
                if case .resetFlows(let address) = operation { reset.insert(address) }
                if case .removeAddress(let address) = operation, !new.contains(address.address) {
                    #expect(reset.contains(address.address))
                }
            }
            #expect(reset == old.subtracting(new))
            state = after
        }
    }
}
