// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

/// Rows of the field notes' scenario table in each mode, with what docs/modes.md says of it.
///
/// The cast: `w` Wi-Fi, `e` Ethernet, `t` a tunnel; transparent mode mirrors `w`. Rows that plans do not decide (names,
/// sleep, churn, what somebody does inside) are the integration tests'.
@Suite("Scenarios in each mode")
struct ScenarioModeTests {
    /// A state of the host, and what each mode makes of it.
    struct State: Sendable {
        /// The host in the words of `Host`; `tables N...` are the tables that its rules look up.
        var host: [String]
        /// The mode of each family in auto mode.
        var auto: String
        /// The addresses that stand beside the constant ones in opaque mode; "-" for none.
        var opaque: String
        /// The addresses in transparent mode and, after "via", the default routers; "-" for nothing.
        var transparent: String
    }

    /// A row: states one after the other.
    struct Row: Sendable, CustomTestStringConvertible {
        var name: String
        var states: [State]
        var testDescription: String { name }

        init(_ name: String, _ states: State...) {
            self.name = name
            self.states = states
        }
    }

    private static let link = ["link w"]
    private static let wifi4 = ["addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w proto dhcp metric 600"]
    private static let wifi6 = [
        "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w", "route default via fe80::1 dev w proto ra metric 600",
    ]
    private static let cable = [
        "link e", "addr 198.51.100.5/24 dev e", "route default via 198.51.100.1 dev e proto dhcp metric 100",
    ]

    private static let offline = State(host: [], auto: "local local", opaque: "-", transparent: "-")
    private static let online4 = State(
        host: link + wifi4, auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1")
    private static let online = State(
        host: link + wifi4 + wifi6, auto: "template w, template w", opaque: "192.0.2.10 2001:db8:1::10",
        transparent: "192.0.2.10/24 2001:db8:1::10/64 fe80::10/64 via 192.0.2.1 fe80::1")
    private static let docked = State(
        host: link + wifi4 + cable, auto: "template e, local", opaque: "198.51.100.5",
        transparent: "192.0.2.10/24 via 192.0.2.1")

    static let rows: [Row] = [
        Row("1: boots offline", offline, online, offline),
        Row(
            "2: link-local addresses only",
            State(
                host: link + ["addr 169.254.7.7/16 dev w", "addr fe80::10/64 dev w"], auto: "local, local", opaque: "-",
                transparent: "169.254.7.7/16 fe80::10/64"), online),
        Row(
            "3: IPv6 first",
            State(
                host: link + wifi6, auto: "local, template w", opaque: "2001:db8:1::10",
                transparent: "2001:db8:1::10/64 fe80::10/64 via fe80::1"), online),
        Row(
            "4, 6: no default",
            State(
                host: link + ["addr 192.0.2.10/24 dev w"], auto: "template w, local", opaque: "192.0.2.10",
                transparent: "192.0.2.10/24"), online4),
        Row(
            "9: another network", online4,
            State(
                host: link + ["addr 203.0.113.7/24 dev w", "route default via 203.0.113.1 dev w metric 600"],
                auto: "template w, local", opaque: "203.0.113.7", transparent: "203.0.113.7/24 via 203.0.113.1")),
        Row(
            "10: no carrier for longer than the hold-down", online4,
            State(
                host: [
                    "link w no-carrier", "addr 192.0.2.10/24 dev w",
                    "route default via 192.0.2.1 dev w linkdown metric 600",
                ], auto: "local, local", opaque: "-", transparent: "192.0.2.10/24 via 192.0.2.1"), online4),
        Row("11, 12, 20: the same address again", online, online),
        Row("13, 14, 44: docked and undocked", online4, docked, online4),
        Row("15: from one to the other by nothing", online4, offline, docked),
        Row(
            "16: a telephone of a higher metric, then alone", online4,
            State(
                host: link + wifi4 + [
                    "link u", "addr 172.20.10.2/28 dev u", "route default via 172.20.10.1 dev u metric 700",
                ], auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1"),
            State(
                host: ["link u", "addr 172.20.10.2/28 dev u", "route default via 172.20.10.1 dev u metric 700"],
                auto: "template u, local", opaque: "172.20.10.2", transparent: "-")),
        Row(
            "19: a portal raises the metric", online4,
            State(
                host: link + ["addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 20600"],
                auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1"), online4),
        Row(
            "21: renumbered in the subnet", online4,
            State(
                host: link + ["addr 192.0.2.20/24 dev w", "route default via 192.0.2.1 dev w metric 600"],
                auto: "template w, local", opaque: "192.0.2.20", transparent: "192.0.2.20/24 via 192.0.2.1")),
        Row(
            "22: another gateway", online4,
            State(
                host: link + ["addr 192.0.2.10/24 dev w", "route default via 192.0.2.254 dev w metric 600"],
                auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.254")),
        Row(
            "23: the lease expires, IPv6 stays", online,
            State(
                host: link + wifi6, auto: "local, template w", opaque: "2001:db8:1::10",
                transparent: "2001:db8:1::10/64 fe80::10/64 via fe80::1")),
        Row(
            "24, 25: an IPv6 prefix is deprecated, then goes", online,
            State(
                host: link + wifi4 + [
                    "addr 2001:db8:1::10/64 dev w deprecated", "addr 2001:db8:2::10/64 dev w", "addr fe80::10/64 dev w",
                    "route default via fe80::1 dev w metric 600",
                ], auto: "template w, template w", opaque: "192.0.2.10 2001:db8:2::10",
                transparent: "192.0.2.10/24 2001:db8:2::10/64 fe80::10/64 via 192.0.2.1 fe80::1"),
            State(
                host: link + wifi4 + [
                    "addr 2001:db8:2::10/64 dev w", "addr fe80::10/64 dev w",
                    "route default via fe80::1 dev w metric 600",
                ], auto: "template w, template w", opaque: "192.0.2.10 2001:db8:2::10",
                transparent: "192.0.2.10/24 2001:db8:2::10/64 fe80::10/64 via 192.0.2.1 fe80::1")),
        Row(
            "27: a tentative address",
            State(
                host: link + wifi4 + [
                    "addr 2001:db8:1::10/64 dev w tentative", "addr fe80::10/64 dev w",
                    "route default via fe80::1 dev w proto ra metric 600",
                ], auto: "template w, local", opaque: "192.0.2.10",
                transparent: "192.0.2.10/24 fe80::10/64 via 192.0.2.1 fe80::1"), online),
        Row("29: IPv6 is withdrawn", online, online4),
        Row(
            "30: IPv4 by a CLAT device",
            State(
                host: link + wifi6 + [
                    "link clat0", "addr 192.0.0.4/32 dev clat0", "route default dev clat0 scope link metric 2048",
                ], auto: "template clat0, template w", opaque: "192.0.0.4 2001:db8:1::10",
                transparent: "2001:db8:1::10/64 fe80::10/64 via fe80::1")),
        Row(
            "31, 35: OpenVPN up and down", online4,
            State(
                host: link + wifi4 + [
                    "link t", "addr 10.8.0.2/24 dev t", "route 0.0.0.0/1 via 10.8.0.1 dev t",
                    "route 128.0.0.0/1 via 10.8.0.1 dev t",
                ], auto: "template t, local", opaque: "10.8.0.2", transparent: "192.0.2.10/24 via 192.0.2.1"), online4),
        Row(
            "32, 36: a VPN in a table of its own, up and down", online4,
            State(
                host: ["tables 51820 254"] + link + wifi4 + [
                    "link t", "addr 10.8.0.2/32 dev t", "route default dev t scope link table 51820",
                ], auto: "template t, local", opaque: "10.8.0.2", transparent: "192.0.2.10/24 via 192.0.2.1"), online4),
        Row(
            "33: a split tunnel", online4,
            State(
                host: link + wifi4 + ["link t", "addr 10.8.0.2/24 dev t", "route 10.0.0.0/8 via 10.8.0.1 dev t"],
                auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1")),
        Row(
            "34: the kill switch", online4,
            State(
                host: link + wifi4 + ["route unreachable default metric 1"], auto: "local, local", opaque: "-",
                transparent: "192.0.2.10/24 via 192.0.2.1"), online4),
        Row(
            "39: the default moves", docked,
            State(
                host: link + [
                    "link e", "addr 192.0.2.10/24 dev w", "addr 198.51.100.5/24 dev e",
                    "route default via 192.0.2.1 dev w metric 100",
                ], auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1")),
        Row(
            "40: a member of a multipath default goes",
            State(
                host: link + [
                    "link e", "addr 192.0.2.10/24 dev w", "addr 198.51.100.5/24 dev e",
                    "route default nexthop via 192.0.2.1 dev w nexthop via 198.51.100.1 dev e",
                ], auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/24 via 192.0.2.1"),
            online4),
        Row(
            "41: a host address and a gateway on the link",
            State(
                host: link + [
                    "addr 192.0.2.10/32 dev w noprefixroute", "route 192.0.2.1 dev w scope link",
                    "route default via 192.0.2.1 dev w",
                ], auto: "template w, local", opaque: "192.0.2.10", transparent: "192.0.2.10/32 via 192.0.2.1")),
        Row(
            "45: the address moves to a bridge", online4,
            State(
                host: link + [
                    "link br0", "addr 192.0.2.10/24 dev br0", "route default via 192.0.2.1 dev br0 metric 600",
                ],
                auto: "template br0, local", opaque: "192.0.2.10", transparent: "-")),
        Row(
            "47: down and up", online,
            State(
                host: ["link w down", "addr 192.0.2.10/24 dev w"], auto: "local, local", opaque: "-",
                transparent: "192.0.2.10/24"), online),
    ]

    private func taken(_ state: State) -> HostSnapshot {
        var host = Host()
        for command in state.host {
            let words = command.split(separator: " ").map(String.init)
            if words[0] == "tables" {
                host.lookupTables = words.dropFirst().compactMap { UInt32($0).map { RouteTable(rawValue: $0) } }
            } else {
                host.run(command)
            }
        }
        host.run("dns 192.0.2.53")
        return host.taken()
    }

    /// The plans of a row, each made after the one before; what is left after following is what a fresh start gives.
    private func plans(_ row: Row, _ configuration: Configuration) -> [NamespacePlan] {
        var plans: [NamespacePlan] = []
        var state = AppliedState(mac: .defaultGateway)
        for (index, step) in row.states.enumerated() {
            let snapshot = taken(step)
            let followed = plan(snapshot, configuration, previous: plans.last, namespaceFamilies: [.v4, .v6])
            state = apply(diff(applied: state, plan: followed), to: state)
            let fresh = plan(snapshot, configuration, namespaceFamilies: [.v4, .v6])
            let new = AppliedState(mac: .defaultGateway)
            let wanted = apply(diff(applied: new, plan: fresh), to: new)
            #expect(
                state.canonicalText(device: "d") == wanted.canonicalText(device: "d"), "\(row.name), state \(index)")
            plans.append(followed)
        }
        return plans
    }

    private func words(_ parts: [String]) -> String { parts.isEmpty ? "-" : parts.joined(separator: " ") }

    @Test("auto: the mode of each family, and a default that works", arguments: rows)
    func auto(row: Row) {
        for (state, plan) in zip(row.states, plans(row, wishes())) {
            let modes = AddressFamily.allCases.map { plan.families[$0].mode.description }
            #expect(modes.joined(separator: ", ") == state.auto.replacing("local local", with: "local, local"))
            for family in AddressFamily.allCases {
                let part = plan.families[family]
                #expect(part.addresses.allSatisfy { $0.origin != nil })
                // By design there is none where the host has a network without one (row 4).
                guard part.mode.description == "local" || part.gateway != nil else { continue }
                #expect(part.routes.contains { $0.isDefault }, "\(row.name)")
            }
        }
    }

    @Test("opaque: addresses come and go beside the constant ones, and nothing else changes", arguments: rows)
    func opaque(row: Row) {
        let plans = plans(row, wishes { $0.networkMode = .opaque })
        for (index, (state, plan)) in zip(row.states, plans).enumerated() {
            let (v4, v6) = (plan.families.v4, plan.families.v6)
            #expect(v4.addresses.first?.prefix.description == "169.254.2.1/16")
            #expect(v6.addresses.first?.prefix.description == "fe80::2/64")
            let beside = (v4.addresses.dropFirst() + v6.addresses.dropFirst()).map { $0.prefix }
            #expect(beside.allSatisfy { $0 == Prefix(host: $0.address) })
            #expect(words(beside.map(\.address.description)) == state.opaque, "state \(index)")
            #expect(v4.routes == plans[0].families.v4.routes && v6.routes == plans[0].families.v6.routes)
            #expect(v4.routes.count == 1 && v6.routes.count == 1 && plan.mtu == plans[0].mtu)
            #expect(plan.interfaceName == "tap0" && plan.services.mtu == plans[0].services.mtu)
            #expect(plan.rules.families.v4.dnsForward == IPAddress("169.254.2.2"))
            #expect(plan.rules.families.v4.hostLoopback == IPAddress("169.254.2.2"))
            #expect(plan.rules.families.v6.hostLoopback == IPAddress("fe80::1"))
            guard index > 0 else { continue }
            for step in steps(from: plans[index - 1], to: plan) {
                let isAddress = step.hasPrefix("addr ") || step.hasPrefix("reset flows of ")
                #expect(isAddress && !step.contains("169.254.2.1") && !step.contains("fe80::2"), "\(step)")
            }
        }
    }

    @Test("transparent: what the interface has, by its routers, and nothing of any other", arguments: rows)
    func transparent(row: Row) {
        let configuration = wishes {
            $0.networkMode = .transparent
            $0.templateInterface = "w"
        }
        for (index, (state, plan)) in zip(row.states, plans(row, configuration)).enumerated() {
            let families = AddressFamily.allCases.map { plan.families[$0] }
            let addresses = families.flatMap(\.addresses).map(\.prefix.description)
            let routers = families.flatMap(\.routes).filter(\.isDefault).flatMap(\.nextHops)
                .compactMap { $0.gateway?.description }
            let found = addresses + (routers.isEmpty ? [] : ["via"] + routers)
            #expect(words(found) == state.transparent, "state \(index)")
            let link = taken(state).link(named: "w")
            #expect(plan.rules.hasCarrier == (link?.hasCarrier ?? false))
            #expect(plan.mtu == link?.mtu || link == nil)
            #expect(plan.interfaceName == "w")
            for family in AddressFamily.allCases {
                #expect(plan.rules.families[family].outboundInterface == "w")
                #expect(plan.rules.families[family].hostLoopback == nil)
            }
        }
    }
}
