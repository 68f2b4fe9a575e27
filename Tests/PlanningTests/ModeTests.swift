// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import TestSupport
import Testing

/// `--mode opaque` and `--mode transparent` (docs/modes.md).
@Suite("Modes")
struct ModeTests {
    private static let commands = [
        "link w", "link e", "addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
        "addr 198.51.100.5/24 dev e", "addr fe80::e/64 dev e",
        "route default via 192.0.2.1 dev w proto dhcp metric 600", "route default via fe80::1 dev w proto ra",
        "dns 192.0.2.53",
    ]

    private static func host(_ more: String..., without: String = "nothing") -> Host {
        var host = Host()
        for command in commands + more where !command.contains(without) { host.run(command) }
        return host
    }

    private static func opaque(_ edit: (inout Configuration) -> Void = { _ in }) -> Configuration {
        wishes {
            $0.networkMode = .opaque
            edit(&$0)
        }
    }

    private static func transparent(_ name: String, _ edit: (inout Configuration) -> Void = { _ in }) -> Configuration {
        wishes {
            $0.networkMode = .transparent
            $0.templateInterface = name
            edit(&$0)
        }
    }

    // MARK: Opaque

    @Test("opaque: constant addresses and routes; the host's addresses stand beside them without routes")
    func opaqueOnline() {
        let plan = Self.host().plan(Self.opaque())
        #expect(plan.interfaceName == "tap0")
        #expect(
            plan.text(.v4) == """
                opaque
                inet 169.254.2.1/16 scope global
                inet 192.0.2.10/32 scope global noprefixroute
                default via 169.254.2.2 dev tap0
                """)
        #expect(
            plan.text(.v6) == """
                opaque
                inet6 fe80::2/64 scope link
                inet6 2001:db8:1::10/128 scope global noprefixroute
                default via fe80::1 dev tap0 src fe80::2 metric 1024
                """)
        #expect(plan.families.v4.addresses.map(\.origin) == [.linkLocal, .template])
        #expect(plan.rules.families.v4.hostLoopback == IPAddress("169.254.2.2"))
        #expect(plan.rules.families.v6.hostLoopback == IPAddress("fe80::1"))
        #expect(plan.rules.families.v4.dnsForward == IPAddress("169.254.2.2"))
        #expect(plan.rules.families.v4.guestAddress == IPAddress("169.254.2.1"))
        #expect(!plan.hasKernelLinkLocal)
    }

    @Test("opaque: a roam writes nothing but additional addresses, and no flow of the constant ones is reset")
    func opaqueRoams() {
        let offline = Host().plan(Self.opaque())
        let online = Self.host().plan(Self.opaque(), previous: offline)
        #expect(
            steps(from: offline, to: online) == [
                "addr add 192.0.2.10/32 noprefixroute dev tap0",
                "addr add 2001:db8:1::10/128 noprefixroute nodad dev tap0",
            ])
        #expect(
            steps(from: online, to: offline) == [
                "reset flows of 192.0.2.10", "reset flows of 2001:db8:1::10",
                "addr del 2001:db8:1::10/128 noprefixroute nodad dev tap0",
                "addr del 192.0.2.10/32 noprefixroute dev tap0",
            ])
        #expect(shown(Self.host().plan(Self.opaque(), previous: offline)) == shown(Self.host().plan(Self.opaque())))
    }

    @Test("opaque: with --no-map-gw the gateway is not the host; sources add up; announcements never change")
    func opaqueOptions() throws {
        let plan = Self.host().plan(
            Self.opaque {
                $0.gatewayMapsToHost = false
                $0.addressSources = [.all, .linkLocal]
                $0.address("192.168.7.1", length: 24)
            })
        #expect(plan.rules.families.v4.hostLoopback == nil && plan.rules.families.v6.hostLoopback == nil)
        #expect(
            plan.families.v4.addresses.map { "\($0.prefix) \($0.origin?.description ?? "")" } == [
                "169.254.2.1/16 link-local", "192.0.2.10/32 all", "198.51.100.5/32 all", "192.168.7.1/32 explicit",
            ])
        let told = Self.opaque { $0.configuresNamespace = false }
        let (offline, online) = (Host().plan(told).services, Self.host().plan(told).services)
        #expect(online.v4.guestAddress == Prefix("169.254.2.1/16") && online.v4.router?.description == "169.254.2.2")
        #expect(online.v6.prefixes.isEmpty && online.v6.isDefaultRouter && online.v6.guestAddress == nil)
        #expect(online.v4 == offline.v4 && online.v6 == offline.v6 && online.mtu == offline.mtu)
    }

    @Test("opaque plans differ only in additional addresses", arguments: Array(1...8) as [UInt64])
    func opaqueIsConstant(seed: UInt64) throws {
        var source = RandomHost(seed: seed)
        for round in 0..<40 {
            var configuration = source.configuration(mode: .opaque)
            configuration.gateways = .init(v4: nil, v6: nil)
            let first = plan(source.snapshot(), configuration, namespaceFamilies: [.v4, .v6])
            let second = plan(source.snapshot(), configuration, namespaceFamilies: [.v4, .v6])
            #expect(first.interfaceName == second.interfaceName && first.mtu == second.mtu)
            for family in configuration.families {
                var (one, two) = (first.families[family], second.families[family])
                #expect(one.addresses.first == two.addresses.first && one.routes.count == 1, "seed \(seed) \(round)")
                for part in [one, two] {
                    for address in part.addresses.dropFirst() {
                        #expect(
                            address.prefix == Prefix(host: address.address) && address.flags.contains(.noPrefixRoute))
                        #expect(address.origin != .linkLocal && address.origin != nil)
                    }
                }
                (one.addresses, two.addresses) = ([], [])
                #expect(one == two, "seed \(seed) round \(round)")
                #expect(
                    first.rules.families[family].dnsForward == second.rules.families[family].dnsForward
                        && first.rules.families[family].hostLoopback == second.rules.families[family].hostLoopback)
            }
            #expect(first.services.v4.dnsServers == second.services.v4.dnsServers)
            #expect(first.services.v4.routes == second.services.v4.routes)
            #expect(first.services.v6.prefixes == second.services.v6.prefixes)
        }
    }

    // MARK: Transparent

    @Test("transparent: the interface as it is, its link-local address and MTU, and no mapping of the gateway")
    func transparentOnline() {
        let plan = Self.host().plan(Self.transparent("w"))
        #expect(plan.interfaceName == "w" && plan.mtu == 1500 && plan.services.mtu == 1500)
        #expect(
            plan.text(.v4) == """
                transparent w
                inet 192.0.2.10/24 scope global
                default via 192.0.2.1 dev w proto dhcp metric 600
                """)
        #expect(
            plan.text(.v6) == """
                transparent w
                inet6 2001:db8:1::10/64 scope global
                inet6 fe80::10/64 scope link
                default via fe80::1 dev w proto ra metric 1024
                """)
        #expect(!plan.hasKernelLinkLocal && plan.rules.hasCarrier)
        for family in AddressFamily.allCases {
            let rules = plan.rules.families[family]
            #expect(rules.hostLoopback == nil && rules.outboundInterface == "w")
            #expect(rules.linkLocalScope == Self.host().taken().link(named: "w")?.index)
        }
        #expect(plan.rules.resolverInterface == "w")
        #expect(Self.host().plan(Self.transparent("w") { $0.isMTUGiven = true }).mtu == 65520)
    }

    @Test("transparent: while the interface is absent or has nothing, the namespace has nothing, and no other is used")
    func transparentAbsent() {
        let absent = Self.host().plan(Self.transparent("wg0"))
        let bare = Self.host("link wg0").plan(Self.transparent("wg0"))
        for plan in [absent, bare] {
            #expect(plan.text(.v4) == "transparent wg0" && plan.text(.v6) == "transparent wg0")
            #expect(plan.families.v4.gateway == nil && plan.rules.families.v4.outboundInterface == "wg0")
            #expect(plan.rules.families.v6.outboundInterface == "wg0" && plan.interfaceName == "wg0")
            #expect(!plan.services.v6.isDefaultRouter && plan.services.v4.guestAddress == nil)
        }
        #expect(!absent.rules.hasCarrier && bare.rules.hasCarrier)
        #expect(absent.rules.families.v6.linkLocalScope == nil)
        let gone = Self.host().plan(Self.transparent("w"))
        let after = Self.host(without: " w").plan(Self.transparent("w"), previous: gone)
        #expect(after.text(.v4) == "transparent w" && shown(after) == shown(Host().plan(Self.transparent("w"))))
        #expect(steps(from: gone, to: after).contains("addr del fe80::10/64 nodad dev w"))
    }

    @Test("transparent: without a carrier the addresses stay and the tap has none either")
    func transparentCarrier() {
        var host = Host("link w no-carrier", "addr 192.0.2.10/24 dev w")
        host.run("route default via 192.0.2.1 dev w linkdown")
        let plan = host.plan(Self.transparent("w"))
        #expect(!plan.rules.hasCarrier)
        #expect(plan.text(.v4).contains("192.0.2.10/24") && plan.text(.v4).contains("default via 192.0.2.1"))
    }

    @Test("transparent: routes of every table that the rules reach, those of the first rule before the others")
    func transparentTables() {
        let host = Self.host(
            "route 10.0.0.0/8 via 192.0.2.7 dev w table 100", "route 10.1.0.0/16 via 192.0.2.8 dev w table 200",
            "route 10.0.0.0/8 via 192.0.2.9 dev w", "route 10.2.0.0/16 via 198.51.100.1 dev e table 100")
        var snapshot = host.taken()
        for (priority, table) in [(100, 100), (32766, 254), (0, 255)] as [(UInt32, UInt32)] {
            snapshot.rules.append(
                RoutingRule(family: .v4, priority: priority, table: .init(rawValue: table), action: 1))
        }
        let made = plan(snapshot, Self.transparent("w"), namespaceFamilies: [.v4, .v6])
        #expect(
            made.families.v4.routes.map { $0.text(device: "w") } == [
                "10.0.0.0/8 via 192.0.2.7 dev w", "default via 192.0.2.1 dev w proto dhcp metric 600",
            ])
        #expect(made.families.v4.routes.allSatisfy { $0.table == .main })
    }

    @Test("transparent plans have nothing of any other interface", arguments: Array(1...8) as [UInt64])
    func transparentIsOneInterface(seed: UInt64) {
        var source = RandomHost(seed: seed)
        for round in 0..<40 {
            let (snapshot, configuration) = (source.snapshot(), source.configuration(mode: .transparent))
            let plan = plan(snapshot, configuration, namespaceFamilies: [.v4, .v6])
            let link = configuration.templateInterface.flatMap { snapshot.link(named: $0) }
            var only = snapshot
            only.addresses.removeAll { $0.interface != link?.index }
            only.routes.removeAll { route in route.nextHops.contains { $0.interface != link?.index } }
            for family in AddressFamily.allCases {
                for address in plan.families[family].addresses {
                    #expect(only.addresses.contains { $0.address == address.address }, "seed \(seed) round \(round)")
                }
                if plan.families[family].addresses.isEmpty { #expect(plan.families[family].routes.isEmpty) }
                if plan.families[family].mode != .off {
                    #expect(plan.rules.families[family].outboundInterface == configuration.templateInterface)
                }
            }
        }
    }

    // MARK: Sources that are nobody's to use

    @Test("the host's other addresses, the gateway's and tapas's are foreign; those given are not")
    func foreign() throws {
        let plan = Self.host("addr 127.0.0.1/8 dev lo scope host").plan()
        let foreign = plan.rules.families.v4.foreignAddresses
        #expect(foreign == [try #require(IPAddress("198.51.100.5")), try #require(IPAddress("192.0.2.1"))])
        #expect(plan.rules.families.v6.foreignAddresses.isEmpty)
        let all = Self.host().plan(wishes { $0.addressSources = [.all] })
        #expect(all.rules.families.v4.foreignAddresses == [try #require(IPAddress("192.0.2.1"))])
    }
}
