// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

/// Scenarios of a host that changes, as far as plans and differences decide them;
/// Integration/Scenarios/RoamingCase.swift has the same numbers.
///
/// The cast: `w` Wi-Fi, 192.0.2.10/24 and 2001:db8:1::10/64; `e` Ethernet, 198.51.100.5/24; `t` a tunnel, 10.8.0.2.
@Suite("Scenarios of a host that changes")
struct ScenarioTests {
    private static let wifi = Host(
        "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w proto dhcp metric 600",
        "dns 192.0.2.53")

    private static let docked = Host(
        "link w", "link e", "addr 192.0.2.10/24 dev w", "addr 198.51.100.5/24 dev e",
        "route default via 192.0.2.1 dev w proto dhcp metric 600",
        "route default via 198.51.100.1 dev e proto dhcp metric 100", "dns 198.51.100.53")

    /// What is left after following equals what a fresh start gives, the interface's name aside.
    private func expectFollowed(_ plans: [NamespacePlan], as last: NamespacePlan) {
        var state = AppliedState(mac: .defaultGateway)
        for plan in plans { state = apply(diff(applied: state, plan: plan), to: state) }
        let fresh = AppliedState(mac: .defaultGateway)
        let wanted = apply(diff(applied: fresh, plan: last), to: fresh)
        #expect(state.canonicalText(device: "d") == wanted.canonicalText(device: "d"))
    }

    @Test("1: offline, then Wi-Fi: addresses come before the old ones go, flows are reset in between")
    func bootsOffline() {
        let offline = Host().plan()
        let online = Self.wifi.plan(previous: offline)
        #expect(
            steps(from: offline, to: online) == [
                "addr add 192.0.2.10/24 dev tap0", "route add default via 192.0.2.1 dev tap0 proto dhcp metric 600",
                "route del default via 169.254.2.2 dev tap0", "reset flows of 169.254.2.1",
                "addr del 169.254.2.1/16 dev tap0",
            ])
        expectFollowed([offline, online, Host().plan(previous: online), online], as: Self.wifi.plan())
    }

    @Test("4: an address without a default, then the default")
    func lateDefault() {
        let without = Host("link w", "addr 192.0.2.10/24 dev w").plan()
        #expect(without.text(.v4) == "template w\ninet 192.0.2.10/24 scope global")
        let with = Self.wifi.plan(previous: without)
        #expect(
            steps(from: without, to: with) == ["route add default via 192.0.2.1 dev w proto dhcp metric 600"])
        expectFollowed([without, with], as: Self.wifi.plan())
    }

    @Test("5, 6, 17, 20, 37, 42, 43, 46: what does not concern the namespace writes nothing inside")
    func quiet() {
        let before = Self.wifi.plan()
        var snapshot = Self.wifi.taken()
        snapshot.epoch += 1
        snapshot.resolvers = .init(servers: [.init(.v4(IPv4Address(9, 9, 9, 9)))])
        snapshot.links[1].name = "renamed"
        snapshot.links[1].mtu = 1280
        snapshot.links.append(Link(index: .init(rawValue: 9), name: "veth0", flags: [.up, .lowerUp], mtu: 1500))
        snapshot.addresses.append(
            InterfaceAddress(interface: .init(rawValue: 9), prefix: Prefix(host: .v4(IPv4Address(172, 17, 0, 1)))))
        snapshot.rules.append(RoutingRule(family: .v4, priority: 5, table: .init(rawValue: 52), action: 1))
        let after = plan(snapshot, wishes(), previous: before, namespaceFamilies: [.v4, .v6])
        #expect(after.interfaceName == "w")
        #expect(after.families.v4.mode.description == "template renamed")
        #expect(after.rules.dnsServers.map(\.address.description) == ["9.9.9.9"])
        #expect(steps(from: before, to: after).isEmpty)
    }

    @Test("9: another network: the new address first, the default replaced or moved, the old one reset and removed")
    func anotherNetwork() {
        let before = Self.wifi.plan()
        let after = Host(
            "link w", "addr 203.0.113.7/24 dev w", "route default via 203.0.113.1 dev w proto dhcp metric 600"
        )
        .plan(previous: before)
        #expect(
            steps(from: before, to: after) == [
                "addr add 203.0.113.7/24 dev w", "route replace default via 203.0.113.1 dev w proto dhcp metric 600",
                "reset flows of 192.0.2.10", "addr del 192.0.2.10/24 dev w",
            ])
        expectFollowed([before, after], as: after)
    }

    @Test("13: docked: Ethernet is the template; the Wi-Fi address lingers, deprecated, while flows have it")
    func docking() throws {
        let before = Self.wifi.plan()
        let after = Self.docked.plan(previous: before)
        let inUse: Set<IPAddress> = try [#require(IPAddress("192.0.2.10"))]
        let retained = inUse
        #expect(
            steps(from: before, to: after, retaining: retained) == [
                "addr add 198.51.100.5/24 dev w", "addr add 192.0.2.10/32 noprefixroute dev w preferred_lft 0",
                "route add default via 198.51.100.1 dev w proto dhcp metric 100",
                "route del default via 192.0.2.1 dev w proto dhcp metric 600", "addr del 192.0.2.10/24 dev w",
            ])
        // The last flow on it has ended.
        let lingering = apply(diff(applied: applied(before), plan: after, retaining: retained), to: applied(before))
        #expect(
            diff(applied: lingering, plan: after).map { $0.text(device: "w") } == [
                "reset flows of 192.0.2.10", "addr del 192.0.2.10/32 noprefixroute dev w",
            ])
        expectFollowed([before, after], as: Self.docked.plan())
        // Back on the train: the address that lingers is planned again, and its flows are left alone.
        #expect(
            diff(applied: lingering, plan: before).map { $0.text(device: "w") } == [
                "addr add 192.0.2.10/24 dev w",
                "route add default via 192.0.2.1 dev w proto dhcp metric 600",
                "route del default via 198.51.100.1 dev w proto dhcp metric 100", "reset flows of 198.51.100.5",
                "addr del 192.0.2.10/32 noprefixroute dev w", "addr del 198.51.100.5/24 dev w",
            ])
    }

    @Test("nothing lingers at an address to which the plan gives another meaning")
    func meaningfulAddress() throws {
        let before = Self.wifi.plan()
        let after = Host(
            "link w", "addr 192.0.2.20/24 dev w", "route default via 192.0.2.10 dev w proto dhcp metric 600"
        )
        .plan(previous: before)
        let inUse: Set<IPAddress> = try [#require(IPAddress("192.0.2.10"))]
        #expect(steps(from: before, to: after, retaining: inUse) == steps(from: before, to: after))
        expectFollowed([before, after], as: after)
    }

    @Test("the plan's reasons say which addresses linger for how many flows, and not twice")
    func lingeringReasons() throws {
        var plan = Self.docked.plan()
        let own = plan.reasons
        plan.note(lingering: [try #require(IPAddress("192.0.2.10")): 2])
        plan.note(lingering: [try #require(IPAddress("192.0.2.10")): 1, try #require(IPAddress("2001:db8:1::10")): 3])
        #expect(
            plan.reasons.dropFirst(own.count).map(\.description) == [
                "IPv4: address 192.0.2.10 is not planned any more and stays for one flow that uses it",
                "IPv6: address 2001:db8:1::10 is not planned any more and stays for 3 flows that use it",
            ])
        plan.note(lingering: [:])
        #expect(plan.reasons == own)
    }

    @Test("14 and 44: undocked, or the link gone to another namespace: its addresses are not retained")
    func undocking() {
        let before = Self.docked.plan()
        let after = Self.wifi.plan(previous: before)
        #expect(
            steps(from: before, to: after).suffix(2) == [
                "reset flows of 198.51.100.5", "addr del 198.51.100.5/24 dev e",
            ])
        #expect(after.interfaceName == "e")
        expectFollowed([before, after], as: after)
    }

    @Test("16: a tether of a higher metric changes nothing; it is taken when it is the only one")
    func tethering() {
        var host = Self.wifi
        host.run("link enx0")
        host.run("addr 172.20.10.2/28 dev enx0")
        host.run("route default via 172.20.10.1 dev enx0 proto dhcp metric 700")
        #expect(steps(from: Self.wifi.plan(), to: host.plan()).isEmpty)
        let alone = Host(
            "link enx0", "addr 172.20.10.2/28 dev enx0", "route default via 172.20.10.1 dev enx0 metric 700")
        #expect(alone.plan(previous: Self.wifi.plan()).interfaceName == "w")
        expectFollowed([Self.wifi.plan(), Host().plan(), alone.plan()], as: alone.plan())
    }

    @Test("21: renumbered within the subnet: the old primary goes without taking the new address along")
    func renumbered() {
        let before = Self.wifi.plan()
        let after = Host(
            "link w", "addr 192.0.2.20/24 dev w", "route default via 192.0.2.1 dev w proto dhcp metric 600"
        )
        .plan(previous: before)
        #expect(
            steps(from: before, to: after) == [
                "addr add 192.0.2.20/24 dev w", "reset flows of 192.0.2.10",
                "sysctl net.ipv4.conf.w.promote_secondaries=1", "addr del 192.0.2.10/24 dev w",
            ])
        #expect(
            steps(from: before, to: after) { $0.promotesSecondaries = true } == [
                "addr add 192.0.2.20/24 dev w", "reset flows of 192.0.2.10", "addr del 192.0.2.10/24 dev w",
            ])
        expectFollowed([before, after], as: after)
    }

    @Test("21: renumbered while a connection lives on: the old address lingers behind the new one")
    func renumberedUnderAFlow() throws {
        let before = Self.wifi.plan()
        let after = Host(
            "link w", "addr 192.0.2.20/24 dev w", "route default via 192.0.2.1 dev w proto dhcp metric 600"
        )
        .plan(previous: before)
        let inUse: Set<IPAddress> = try [#require(IPAddress("192.0.2.10"))]
        #expect(
            steps(from: before, to: after, retaining: inUse) == [
                "addr add 192.0.2.20/24 dev w", "addr add 192.0.2.10/32 noprefixroute dev w preferred_lft 0",
                "sysctl net.ipv4.conf.w.promote_secondaries=1", "addr del 192.0.2.10/24 dev w",
                // The new address has become a primary one behind it: it goes behind that without a gap.
                "addr add 192.0.2.10/31 noprefixroute dev w preferred_lft 0",
                "addr del 192.0.2.10/32 noprefixroute dev w",
                "addr add 192.0.2.10/32 noprefixroute dev w preferred_lft 0",
                "addr del 192.0.2.10/31 noprefixroute dev w",
            ])
        let lingering = apply(diff(applied: applied(before), plan: after, retaining: inUse), to: applied(before))
        #expect(diff(applied: lingering, plan: after, retaining: inUse).isEmpty)
        #expect(
            diff(applied: lingering, plan: after).map { $0.text(device: "w") } == [
                "reset flows of 192.0.2.10", "addr del 192.0.2.10/32 noprefixroute dev w",
            ])
    }

    @Test("an address that lingers already leaves its place to one of its subnet that comes later")
    func lingeringAddressYields() throws {
        let first = Self.wifi.plan()
        let away = Self.docked.plan(previous: first)
        let back = Host(
            "link w", "addr 192.0.2.20/24 dev w", "route default via 192.0.2.1 dev w proto dhcp metric 600"
        )
        .plan(previous: away)
        let inUse: Set<IPAddress> = try [#require(IPAddress("192.0.2.10"))]
        let lingering = apply(diff(applied: applied(first), plan: away, retaining: inUse), to: applied(first))
        let returned = apply(diff(applied: lingering, plan: back, retaining: inUse), to: lingering)
        let primary = returned.addresses.filter { !$0.value.flags.contains(.secondary) }.map(\.value.prefix.description)
        #expect(primary == ["192.0.2.20/24", "192.0.2.10/32"])
        #expect(diff(applied: returned, plan: back, retaining: inUse).isEmpty)
    }

    @Test("the first address of a subnet on the host is the first one in the namespace")
    func orderOfASubnet() {
        let commands = [
            "link w", "addr 192.0.2.5/24 dev w", "addr 192.0.2.7/24 dev w", "addr 192.0.2.9/24 dev w",
            "route default via 192.0.2.1 dev w",
        ]
        func host(_ order: [Int]) -> NamespacePlan {
            var host = Host()
            for index in order { host.run(commands[index]) }
            return host.plan()
        }
        let plans = [[0, 1, 2, 3, 4], [0, 2, 1, 3, 4], [0, 3, 2, 1, 4], [0, 3, 4], [0, 1, 3, 4]].map(host)
        for before in plans {
            for after in plans {
                let result = apply(diff(applied: applied(before), plan: after), to: applied(before))
                let primary = result.addresses.filter { !$0.value.flags.contains(.secondary) }.map(\.value.prefix)
                #expect(primary == [after.families.v4.addresses[0].prefix])
                #expect(diff(applied: result, plan: after).isEmpty)
            }
        }
        #expect(steps(from: plans[0], to: plans[3]).filter { $0.hasPrefix("addr add") }.isEmpty)
    }

    @Test("22 and 39: another gateway: one replacement")
    func anotherGateway() {
        let after = Host(
            "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.254 dev w proto dhcp metric 600"
        )
        .plan()
        #expect(
            steps(from: Self.wifi.plan(), to: after) == [
                "route replace default via 192.0.2.254 dev w proto dhcp metric 600"
            ])
        #expect(after.rules.families.v4.gateway == IPAddress("192.0.2.254"))
    }

    @Test("24 and 25: a rotating or renumbered IPv6 prefix: the deprecated one lingers while flows have it")
    func renumberedIPv6() throws {
        let hosts = [
            "addr 2001:db8:1::10/64 dev w|route default via fe80::1 dev w",
            "addr 2001:db8:1::10/64 dev w deprecated|addr 2001:db8:2::10/64 dev w|route default via fe80::1 dev w",
            "addr 2001:db8:2::10/64 dev w|route default via fe80::1 dev w",
        ].map { commands in
            var host = Host("link w")
            for command in commands.split(separator: "|") { host.run(String(command)) }
            return host
        }
        let plans = hosts.map { $0.plan() }
        let old: Set<IPAddress> = try [#require(IPAddress("2001:db8:1::10"))]
        let retained = old
        #expect(
            steps(from: plans[0], to: plans[1], retaining: retained) == [
                "addr add 2001:db8:2::10/64 nodad dev w", "addr del 2001:db8:1::10/64 nodad dev w",
                "addr add 2001:db8:1::10/128 noprefixroute nodad dev w preferred_lft 0",
            ])
        let lingering = apply(
            diff(applied: applied(plans[0]), plan: plans[1], retaining: retained), to: applied(plans[0]))
        #expect(
            diff(applied: lingering, plan: plans[2]).map { $0.text(device: "w") } == [
                "reset flows of 2001:db8:1::10", "addr del 2001:db8:1::10/128 noprefixroute nodad dev w",
            ])
        expectFollowed(plans, as: plans[2])
    }

    @Test("29: IPv6 is withdrawn: it becomes local, IPv4 is not touched")
    func withdrawnIPv6() {
        var host = Self.wifi
        host.run("addr 2001:db8:1::10/64 dev w")
        host.run("route default via fe80::99 dev w proto ra metric 600")
        let before = host.plan()
        let after = Self.wifi.plan(previous: before)
        #expect(
            steps(from: before, to: after) == [
                "route add default via fe80::1 dev w metric 1024",
                "route del default via fe80::99 dev w proto ra metric 600", "reset flows of 2001:db8:1::10",
                "addr del 2001:db8:1::10/64 nodad dev w",
            ])
        #expect(after.families.v4 == before.families.v4)
    }

    @Test("30: IPv4 by way of a CLAT device is followed if the kernel's lookup says so")
    func clat() {
        let host = Host(
            "link w", "link clat0", "addr 2001:db8:1::10/64 dev w", "route default via fe80::1 dev w",
            "addr 192.0.0.4/32 dev clat0", "route default dev clat0 scope link metric 2048")
        #expect(
            host.plan().text(.v4)
                == "template clat0\ninet 192.0.0.4/32 scope global\ndefault dev clat0 scope link metric 2048")
        #expect(host.plan().families.v6.mode.description == "template w")
    }

    @Test("31, 34, 35: a VPN comes, drops behind its kill switch, goes: a default holds at each step")
    func vpn() {
        var up = Self.wifi
        up.run("link t")
        up.run("addr 10.8.0.2/24 dev t")
        up.run("route 0.0.0.0/1 via 10.8.0.1 dev t")
        up.run("route 128.0.0.0/1 via 10.8.0.1 dev t")
        var dropped = Self.wifi
        dropped.run("route unreachable default metric 1")
        let plans = [Self.wifi.plan(), up.plan(), dropped.plan(), Self.wifi.plan()]
        #expect(plans.map { $0.families.v4.mode.description } == ["template w", "template t", "local", "template w"])
        var state = applied(plans[0])
        for plan in plans.dropFirst() {
            for operation in diff(applied: state, plan: plan) {
                #expect(simulate(operation, on: &state) == nil)
                #expect(state.routes.contains { $0.value.isDefault && $0.value.family == .v4 })
            }
        }
        expectFollowed(plans, as: plans[3])
    }

    @Test("40: a member of a multipath default goes, the other is left")
    func multipathMember() {
        let both = Host(
            "link w", "addr 192.0.2.10/24 dev w",
            "route default nexthop via 192.0.2.1 dev w nexthop via 192.0.2.2 dev w")
        let one = Host(
            "link w", "addr 192.0.2.10/24 dev w",
            "route default nexthop via 192.0.2.1 dev w dead nexthop via 192.0.2.2 dev w")
        #expect(steps(from: both.plan(), to: one.plan()) == ["route replace default via 192.0.2.2 dev w"])
    }

    @Test("45: the address moves to a bridge: nothing changes inside")
    func bridged() {
        let before = Self.docked.plan()
        var host = Self.wifi
        host.run("link br0")
        host.run("addr 198.51.100.5/24 dev br0")
        host.run("route default via 198.51.100.1 dev br0 proto dhcp metric 100")
        let after = host.plan(previous: before)
        #expect(after.families.v4.mode.description == "template br0" && after.interfaceName == "e")
        #expect(steps(from: before, to: after).isEmpty)
    }

    @Test("50: what somebody changed inside: ours is repaired, theirs is left")
    func repaired() throws {
        let plan = Self.wifi.plan()
        var state = applied(plan)
        state.routes.removeAll { $0.value.isDefault && $0.value.family == .v4 }
        let foreign = Route(destination: try #require(Prefix("10.0.0.0/8")), nextHops: [NextHop(interface: nil)])
        state.routes.append(.init(foreign, origin: .foreign))
        #expect(
            diff(applied: state, plan: plan).map { $0.text(device: "w") } == [
                "route add default via 192.0.2.1 dev w proto dhcp metric 600"
            ])
        // A default of theirs in the place of ours stays, and ours is left out.
        let theirs = Route(
            destination: Prefix(default: .v4), metric: 600,
            nextHops: [NextHop(interface: nil, gateway: IPAddress("192.0.2.77"))])
        state.routes.append(.init(theirs, origin: .foreign))
        #expect(diff(applied: state, plan: plan).isEmpty)
    }

    @Test("a change of flags that the kernel cannot make in place keeps address, routes and flows")
    func exchangedAddress() throws {
        let before = Self.wifi.plan()
        let after = Host(
            "link w", "addr 192.0.2.10/24 dev w noprefixroute",
            "route 192.0.2.0/24 dev w proto kernel scope link metric 600",
            "route default via 192.0.2.1 dev w proto dhcp metric 600"
        ).plan()
        #expect(
            steps(from: before, to: after) == [
                "addr add 192.0.2.10/32 noprefixroute dev w", "addr del 192.0.2.10/24 dev w",
                "addr add 192.0.2.10/24 noprefixroute dev w", "addr del 192.0.2.10/32 noprefixroute dev w",
                "route add 192.0.2.0/24 dev w proto kernel scope link metric 600",
            ])
        expectFollowed([before, after], as: after)
    }

    @Test("a plan explains itself")
    func reasons() {
        let texts = Self.docked.plan().reasons.map(\.description)
        #expect(
            texts.contains(
                "IPv4: template e: the kernel sends packets to everywhere through it, default route, metric 100"))
        #expect(texts.contains("IPv4: w is not the template (default route, metric 600): e comes first"))
        #expect(texts.contains("IPv4: address 198.51.100.5/24 is copied from e; it is the guest address"))
        #expect(texts.contains("IPv4: route default via 198.51.100.1 proto dhcp metric 100 is copied"))
        #expect(texts.contains("IPv6: mode local"))
        #expect(texts.contains("interface name e: the IPv4 template's"))
        let forwards = wishes { $0.dnsForward.v4 = .v4(IPv4Address(169, 254, 1, 1)) }
        let queries = "forwarded queries go to 198.51.100.53: the host's resolvers"
        #expect(Self.docked.plan(forwards).reasons.map(\.description).contains(queries))
        // Without forwarding there is nothing to tell.
        #expect(!texts.contains(queries))
    }

    @Test("its summary has a line for each family, and what a person may miss")
    func summary() {
        #expect(
            Self.docked.plan().summary == [
                "IPv4: template e: the kernel sends packets to everywhere through it, default route, metric 100; "
                    + "address 198.51.100.5/24; 1 route, gateway 198.51.100.1",
                "IPv6: local, without the host's network; no host interface has a route that is not link-local; "
                    + "1 route, gateway fe80::1",
            ])
        let narrow = wishes {
            $0.families = [.v4]
            $0.gateways.v4 = IPAddress("198.51.100.9")
        }
        let lines = Self.docked.plan(narrow).summary
        #expect(lines[0].hasPrefix("IPv4: given by options; template e: "), "\(lines)")
        #expect(lines[0].hasSuffix("; 1 route, gateway 198.51.100.9"), "\(lines)")
        #expect(lines[1] == "IPv6: off: not asked for")
    }
}
