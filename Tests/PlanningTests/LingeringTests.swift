// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import TestSupport
import Testing

/// Random roams with random connections: at each moment the namespace has the state of a fresh start, plus exactly the
/// addresses that connections keep, in the form that new connections do not choose.
@Suite("Properties of addresses that linger")
struct LingeringTests {
    /// The last ones failed before old IPv6 routes made room for routes that a fresh start gets.
    private static let seeds: [UInt64] = Array(1...12) + [452, 453, 583, 626, 827, 959, 977, 1393]

    /// A new link with its kernel-made link-local address, as the configurator finds it.
    private static func fresh(_ promotesSecondaries: Bool) throws -> AppliedState {
        let address = PlannedAddress(prefix: try #require(Prefix("fe80::aa/64")), scope: .link)
        var state = AppliedState(addresses: [.init(address, origin: .kernel)])
        state.mac = .defaultGateway
        state.promotesSecondaries = promotesSecondaries
        return state
    }

    /// The addresses to which a plan gives a meaning of its own.
    private static func meanings(_ plan: NamespacePlan) -> Set<IPAddress> {
        var result: Set<IPAddress> = []
        for family in AddressFamily.allCases {
            let rules = plan.rules.families[family]
            result.formUnion(plan.families[family].addresses.map(\.address))
            result.formUnion(plan.families[family].routes.flatMap(\.nextHops).compactMap(\.gateway))
            for address in [
                rules.ownAddress, rules.gateway, rules.hostLoopback, rules.mappedGuestAddress, rules.dnsForward,
            ] {
                if let address { result.insert(address) }
            }
        }
        return result
    }

    /// Addresses and routes, whoever put them there, as text; IPv6 defaults without their source if that is not to count.
    private static func text(_ state: AppliedState, plainDefaults: Bool = false) -> [String] {
        let addresses = state.addresses.map { entry in
            var address = entry.value
            // Which of several is secondary is seen in the connected routes.
            address.flags.subtract(.secondary)
            return address.text
        }
        let routes = state.routes.map { entry in
            var route = entry.value
            if plainDefaults, route.family == .v6, route.isDefault { route.preferredSource = nil }
            return route.text(device: "d")
        }
        return addresses.sorted() + routes.sorted()
    }

    @Test("follow == fresh, plus exactly what connections keep", arguments: seeds)
    func followEqualsFreshAndWhatIsKept(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        var state = try Self.fresh(source.random.chance(50))
        var lingered = 0
        for round in 0..<120 {
            let place: Comment = "seed \(seed) round \(round)"
            let target = plan(source.snapshot(), source.configuration(), namespaceFamilies: [.v4, .v6])
            let before = state.ourAddresses
            // Flows on whatever address: those that the namespace does not have keep nothing.
            // In an order of their own: that of a set is another one in each process, and so would be the journey.
            let kept = Set(before.sorted { "\($0)" < "\($1)" }.filter { _ in source.random.chance(60) })
            let foreign: Set<IPAddress> = [.v4(IPv4Address(203, 0, 113, 250))]
            let operations = diff(applied: state, plan: target, retaining: kept.union(foreign))
            for operation in operations {
                let refusal = simulate(operation, on: &state)
                #expect(refusal == nil, "\(place): \(operation.text(device: "d"))")
                // A connection's address is there at each moment, but for an IPv6 one that changes its length.
                if case .resetFlows(let address) = operation {
                    #expect(!kept.contains(address) || Self.meanings(target).contains(address), place)
                }
            }
            let start = try Self.fresh(state.promotesSecondaries)
            let fresh = apply(diff(applied: start, plan: target), to: start)
            let lingering = kept.subtracting(Self.meanings(target))
            lingered += lingering.count
            let forms = lingering.map { address in
                "\(address.family == .v4 ? "inet" : "inet6") \(Prefix(host: address)) scope "
            }
            let extra = state.addresses.filter { lingering.contains($0.value.address) }.map(\.value.text)
            #expect(extra.count == forms.count, place)
            for form in forms {
                #expect(extra.contains { $0.hasPrefix(form) && $0.hasSuffix(" deprecated noprefixroute") }, place)
            }
            var rest = state
            rest.addresses.removeAll { lingering.contains($0.value.address) }
            // Where the plan has only link-local addresses, the default keeps new IPv6 flows from what lingers.
            let isGuarded =
                lingering.contains { $0.family == .v6 }
                && target.families.v6.addresses.allSatisfy { $0.address.isLinkLocal }
            #expect(
                Self.text(rest, plainDefaults: isGuarded) == Self.text(fresh, plainDefaults: isGuarded), place)
            if isGuarded {
                let defaults = state.routes.map(\.value).filter { $0.family == .v6 && $0.isDefault }
                #expect(defaults.allSatisfy { $0.preferredSource?.isLinkLocal ?? false }, place)
            }
            Self.expectBehind(lingering, in: state, place)
            #expect(diff(applied: state, plan: target, retaining: kept).isEmpty, place)
            // And without the connections it is a fresh start's.
            let ended = apply(diff(applied: state, plan: target), to: state)
            #expect(Self.text(ended) == Self.text(fresh), place)
            if source.random.chance(25) { state = ended }
        }
        #expect(lingered > 20)
    }

    /// IPv4 takes the first primary address where no subnet has the router: it must be a planned one.
    private static func expectBehind(_ lingering: Set<IPAddress>, in state: AppliedState, _ place: Comment) {
        let primary = state.addresses.map(\.value).filter {
            $0.family == .v4 && !$0.flags.contains(.secondary)
        }
        let planned = primary.lastIndex { !lingering.contains($0.address) }
        let first = primary.firstIndex { lingering.contains($0.address) }
        if let planned, let first { #expect(planned < first, place) }
    }
}
