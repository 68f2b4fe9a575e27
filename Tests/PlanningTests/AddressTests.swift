// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("Addresses of the namespace")
struct AddressTests {
    @Test(
        "what is copied of the template's IPv4 addresses",
        arguments: [
            ("192.0.2.10/24 dev w brd 192.0.2.255", "inet 192.0.2.10/24 brd 192.0.2.255 scope global"),
            ("192.0.2.10/24 dev w noprefixroute", "inet 192.0.2.10/24 scope global noprefixroute"),
            ("192.0.2.10/32 dev w", "inet 192.0.2.10/32 scope global"),
            ("192.0.2.10/32 dev w peer 192.0.2.99", "inet 192.0.2.10 peer 192.0.2.99/32 scope global"),
            ("192.0.2.10/24 dev w scope link", nil), ("192.0.2.10/24 dev w scope host", nil),
            ("192.0.2.10/24 dev w deprecated", nil),
        ] as [(String, String?)])
    func copiedIPv4(address: String, expected: String?) {
        let plan = Host("link w", "addr 10.1.0.2/24 dev w", "addr \(address)", "route default via 10.1.0.1 dev w")
            .plan()
        #expect(
            plan.families.v4.addresses.map(\.text) == ["inet 10.1.0.2/24 scope global"] + (expected.map { [$0] } ?? []))
        #expect(plan.reasonTexts(.v4).contains { $0.hasPrefix("address 192.0.2.10") })
    }

    @Test(
        "what is copied of the template's IPv6 addresses, all without duplicate detection",
        arguments: [
            ("2001:db8:7::1/64 dev w permanent", "inet6 2001:db8:7::1/64 scope global"),
            ("2001:db8:7::1/128 dev w", "inet6 2001:db8:7::1/128 scope global"),
            ("2001:db8:7::1/64 dev w noprefixroute", "inet6 2001:db8:7::1/64 scope global noprefixroute"),
            ("2001:db8:7::1/64 dev w mngtmpaddr", "inet6 2001:db8:7::1/64 scope global"),
            ("2001:db8:7::1/64 dev w home", "inet6 2001:db8:7::1/64 scope global home"),
            ("2001:db8:7::1/64 dev w tentative optimistic", "inet6 2001:db8:7::1/64 scope global"),
            ("fec0::1/64 dev w scope site", "inet6 fec0::1/64 scope site"),
            ("fd00::1/64 dev w", "inet6 fd00::1/64 scope global"), ("fe80::7/64 dev w", nil),
            ("2001:db8:7::1/64 dev w tentative", nil), ("2001:db8:7::1/64 dev w dadfailed", nil),
            ("::192.0.2.7/96 dev w", nil), ("2001:db8:7::1/64 dev w temporary", nil),
            ("2001:db8:7::1/64 dev w deprecated", nil),
        ] as [(String, String?)])
    func copiedIPv6(address: String, expected: String?) {
        let plan = Host("link w", "addr 2001:db8:1::10/64 dev w", "addr \(address)", "route default via fe80::1 dev w")
            .plan()
        let addresses = plan.families.v6.addresses
        #expect(addresses.map(\.text) == ["inet6 2001:db8:1::10/64 scope global"] + (expected.map { [$0] } ?? []))
        #expect(addresses.allSatisfy { $0.flags.contains(.noDuplicateDetection) })
        #expect(addresses.allSatisfy { !$0.flags.contains(.manageTemporary) })
    }

    @Test(
        "the guest address: on the gateway's subnet, primary, global, of the longest prefix, the first",
        arguments: [
            (["10.1.0.2/24 dev w", "10.9.0.2/32 dev w"], "10.1.0.2"),
            (["10.9.0.2/28 dev w", "10.1.0.2/16 dev w"], "10.1.0.2"),
            (["10.1.0.2/24 dev w", "10.1.0.3/24 dev w secondary"], "10.1.0.2"),
            (["10.1.0.3/24 dev w secondary", "10.1.0.2/24 dev w"], "10.1.0.2"),
            (["10.1.0.2/24 dev w", "10.1.0.3/25 dev w"], "10.1.0.3"),
            (["169.254.3.3/16 dev w", "10.9.0.2/24 dev w"], "10.9.0.2"),
            (["10.1.0.5/32 dev w scope link", "10.1.0.2/24 dev w"], "10.1.0.2"),
        ])
    func guestIPv4(addresses: [String], expected: String) {
        var host = Host("link w")
        for address in addresses { host.run("addr \(address)") }
        host.run("route default via 10.1.0.1 dev w")
        #expect(host.plan().families.v4.guestAddress?.address == IPAddress(expected))
    }

    @Test(
        "the IPv6 guest address: global before unique-local, then the longest prefix, in a /64",
        arguments: [
            (["fd00::1/64 dev w", "2001:db8:1::10/64 dev w"], "2001:db8:1::10/64"),
            (["2001:db8:1::10/64 dev w", "2001:db8:1::77/128 dev w"], "2001:db8:1::77/64"),
            (["2001:db8:1::10/64 dev w", "2001:db8:2::10/64 dev w"], "2001:db8:1::10/64"),
            (["2001:db8:1::10/64 dev w deprecated", "2001:db8:2::10/64 dev w"], "2001:db8:2::10/64"),
        ])
    func guestIPv6(addresses: [String], expected: String) {
        var host = Host("link w")
        for address in addresses { host.run("addr \(address)") }
        host.run("route default via fe80::1 dev w")
        #expect(host.plan().families.v6.guestAddress?.description == expected)
    }

    @Test("one address only with --no-copy-addrs, without broadcast, IPv6 in a /64")
    func noCopyAddresses() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w brd 10.1.0.255", "addr 10.9.0.2/24 dev w",
            "addr 2001:db8:1::10/128 dev w",
            "addr 2001:db8:1::11/64 dev w", "route default via 10.1.0.1 dev w", "route default via fe80::1 dev w")
        let plan = host.plan(wishes { $0.copiesAddresses = false })
        #expect(plan.families.v4.addresses.map(\.text) == ["inet 10.1.0.2/24 scope global"])
        #expect(plan.families.v6.addresses.map(\.text) == ["inet6 2001:db8:1::10/64 scope global"])
        #expect(diff(applied: applied(plan), plan: plan).isEmpty)
    }

    // MARK: Prefix lengths

    @Test(
        "an address given without a length has that of its class, never one of the gateway",
        arguments: zip(
            ["10.0.2.15", "169.254.2.15", "172.16.5.5", "192.168.3.4", "240.0.0.1"], [8, 16, 16, 24, 32]))
    func classes(address: String, length: Int) {
        for gateway in [nil, "192.0.2.1", "10.0.2.2"] {
            let plan = Host().plan(
                wishes {
                    $0.address(address)
                    if let gateway { $0.gateway(gateway) }
                })
            #expect(plan.families.v4.addresses.map(\.prefix.description) == ["\(address)/\(length)"])
        }
    }

    @Test("a given length holds, 0 is as if absent; IPv6 is a /64 unless a length is given")
    func givenLengths() {
        let lengths: [(String, Int?, String)] = [
            ("10.0.2.15", 24, "10.0.2.15/24"), ("10.0.2.15", 0, "10.0.2.15/8"), ("10.0.2.15", 99, "10.0.2.15/8"),
            ("fd00::15", nil, "fd00::15/64"), ("fd00::15", 48, "fd00::15/48"), ("fd00::15", 0, "fd00::15/64"),
        ]
        for (address, length, expected) in lengths {
            let plan = Host().plan(wishes { $0.address(address, length: length) })
            let family: AddressFamily = address.contains(":") ? .v6 : .v4
            #expect(plan.families[family].addresses.map(\.prefix.description) == [expected])
            #expect(plan.families[family].guestAddress?.description == expected)
        }
    }

    @Test("-n without -a applies to the copied guest address, and to the local one")
    func netmaskAlone() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w brd 10.1.0.255", "addr 10.9.0.2/24 dev w",
            "route default via 10.1.0.1 dev w")
        let plan = host.plan(wishes { $0.prefixLengths.v4 = 16 })
        #expect(
            plan.text(.v4) == """
                template w
                inet 10.1.0.2/16 scope global
                inet 10.9.0.2/24 scope global
                default via 10.1.0.1 dev w
                """)
        #expect(plan.families.v4.guestAddress?.length == 16)
        let narrow = host.plan(wishes { $0.prefixLengths.v4 = 32 })
        #expect(
            narrow.text(.v4) == """
                template w
                inet 10.1.0.2/32 scope global
                inet 10.9.0.2/24 scope global
                10.1.0.1 dev w scope link
                default via 10.1.0.1 dev w
                """)
        #expect(
            Host().plan(wishes { $0.prefixLengths.v4 = 24 }).text(.v4)
                == "local\ninet 169.254.2.1/24 scope global\ndefault via 169.254.2.2 dev tap0")
    }

    // MARK: R1

    @Test(
        "a network or broadcast address is used as given, with one warning that helps (R1)",
        arguments: [
            (
                "169.254.0.0", 16, "network address of 169.254.0.0/16",
                "169.254.2.15/16, which slirp makes of it (--slirp 169.254.0.0/16)"
            ),
            (
                "169.254.0.0", nil, "network address of 169.254.0.0/16",
                "169.254.2.15/16, which slirp makes of it (--slirp 169.254.0.0/16)"
            ),
            (
                "10.0.2.0", 24, "network address of 10.0.2.0/24",
                "10.0.2.15/24, which slirp makes of it (--slirp 10.0.2.0/24)"
            ),
            ("10.0.2.255", 24, "broadcast address of 10.0.2.0/24", "10.0.2.15/24"),
            ("10.0.2.3", 30, "broadcast address of 10.0.2.0/30", "10.0.2.1/30"),
            ("fd00::", 64, "network address (subnet-router anycast) of fd00::/64", "fd00::15/64"),
        ] as [(String, Int?, String, String)])
    func networkAddresses(address: String, length: Int?, kind: String, example: String) {
        let plan = Host().plan(wishes { $0.address(address, length: length) })
        #expect(
            plan.warnings == [
                "guest address \(address) is the \(kind): used as given; a usable one would be \(example)"
            ])
        let family: AddressFamily = address.contains(":") ? .v6 : .v4
        #expect(plan.families[family].guestAddress?.address == IPAddress(address))
    }

    @Test(
        "hosts of a subnet, /31, /32, /127, /128 and all-ones IPv6 are not warned of",
        arguments: [
            ("10.0.2.0", nil), ("10.0.2.15", 24), ("10.0.2.0", 31), ("10.0.2.1", 31), ("10.0.2.0", 32),
            ("fd00::", 127), ("fd00::", 128), ("fd00::ffff:ffff:ffff:ffff", 64), ("240.0.0.0", nil),
        ] as [(String, Int?)])
    func exemptAddresses(address: String, length: Int?) {
        #expect(Host().plan(wishes { $0.address(address, length: length) }).warnings.isEmpty)
    }

    @Test("the example avoids the gateway")
    func exampleAvoidsGateway() throws {
        let guest = try #require(Prefix("10.0.2.0/24"))
        let warning = unusualGuestAddress(guest, gateway: IPAddress("10.0.2.15"))?.text(guest.family)
        #expect(warning?.hasSuffix("a usable one would be 10.0.2.1/24") == true)
    }
}

@Suite("Local mode and families")
struct LocalModeTests {
    @Test("an offline host gives both families local addresses on tap0 (scenario 1)")
    func offline() {
        let plan = Host().plan()
        #expect(
            plan.canonicalText == """
                link tap0 mtu 65520
                IPv4 local
                  inet 169.254.2.1/16 scope global
                  default via 169.254.2.2 dev tap0
                  guest 169.254.2.1
                  own 169.254.2.2
                  gateway 169.254.2.2
                  host-loopback 169.254.2.2
                IPv6 local
                  default via fe80::1 dev tap0 metric 1024
                  own fe80::1
                  gateway fe80::1
                  host-loopback fe80::1
                """)
        #expect(
            shown(plan) == """
                link up mtu 65520 address 9a:55:9a:55:9a:55
                inet 169.254.2.1/16 scope global
                default via 169.254.2.2 dev tap0
                169.254.0.0/16 dev tap0 proto kernel scope link src 169.254.2.1
                default via fe80::1 dev tap0 metric 1024
                """)
        #expect(plan.warnings.isEmpty)
        #expect(plan.rules.families.v4.learnsGuestAddress)
    }

    @Test("one family local, the other not; the name is the other's (scenario 3)")
    func oneFamily() {
        let host = Host(
            "link w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w", "route default via fe80::1 dev w")
        let plan = host.plan()
        #expect(plan.families.v4.mode == .local && plan.families.v6.mode.description == "template w")
        #expect(plan.interfaceName == "w")
        #expect(shown(plan).contains("default via 169.254.2.2 dev w"))
    }

    @Test("link-local addresses alone are no connection (scenario 2)")
    func linkLocalOnly() {
        let host = Host("link w", "addr fe80::10/64 dev w", "addr 169.254.7.7/16 dev w scope link")
        #expect(host.plan().families.v4.mode == .local && host.plan().families.v6.mode == .local)
    }

    @Test("families that are not asked for, or that the namespace's kernel lacks, are off")
    func off() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w", "addr 2001:db8:1::10/64 dev w", "route default via 10.1.0.1 dev w")
        let four = host.plan(wishes { $0.families = [.v4] })
        #expect(four.text(.v6) == "off" && !four.rules.families.v6.isEnabled)
        let kernel = host.plan(families: [.v4])
        #expect(kernel.text(.v6) == "off")
        #expect(kernel.reasonTexts(.v6) == ["off: the namespace's kernel has no IPv6"])
        let six = host.plan(wishes { $0.families = [.v6] })
        #expect(six.text(.v4) == "off" && !six.rules.families.v4.isEnabled && six.rules.families.v6.isEnabled)
    }

    @Test("explicit options survive in local mode (R6)")
    func explicitOptions() {
        let four = Host().plan(
            wishes {
                $0.address("10.0.2.15", length: 24)
                $0.gateway("10.0.2.2")
            })
        #expect(four.text(.v4) == "manual\ninet 10.0.2.15/24 scope global\ndefault via 10.0.2.2 dev tap0")
        let six = Host().plan(
            wishes {
                $0.address("fd00::15")
                $0.gateway("fd00::2")
            })
        #expect(
            six.text(.v6) == "manual\ninet6 fd00::15/64 scope global\ndefault via fd00::2 dev tap0 metric 1024")
        #expect(six.families.v6.ownAddress == IPAddress("fe80::1"))
    }

    @Test("-a and -g hold each without the other (R7)")
    func independence() {
        let addressOnly = Host().plan(wishes { $0.address("10.0.2.15", length: 24) })
        #expect(
            addressOnly.text(.v4) == """
                manual
                inet 10.0.2.15/24 scope global
                169.254.2.2 dev tap0 scope link
                default via 169.254.2.2 dev tap0
                """)
        let gatewayOnly = Host().plan(wishes { $0.gateway("10.0.2.2") })
        #expect(
            gatewayOnly.text(.v4) == """
                manual
                inet 169.254.2.1/16 scope global
                10.0.2.2 dev tap0 scope link
                default via 10.0.2.2 dev tap0
                """)
        let sixAddress = Host().plan(wishes { $0.address("fd00::15") })
        #expect(
            sixAddress.text(.v6) == "manual\ninet6 fd00::15/64 scope global\ndefault via fe80::1 dev tap0 metric 1024")
        let sixGateway = Host().plan(wishes { $0.gateway("fd00::2") })
        #expect(
            sixGateway.text(.v6) == """
                manual
                fd00::2 dev tap0 metric 1024
                default via fd00::2 dev tap0 metric 1024
                """)
    }

    @Test("-a alone takes the template's router and routes, -g alone its addresses (R7)")
    func independenceWithTemplate() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 192.0.2.11/24 dev w secondary",
            "route default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600",
            "route 10.0.0.0/8 via 192.0.2.254 dev w proto static")
        #expect(
            host.plan(wishes { $0.address("10.77.0.15", length: 24) }).text(.v4) == """
                manual
                inet 10.77.0.15/24 scope global
                192.0.2.0/24 dev w proto kernel scope link
                default via 192.0.2.1 dev w proto dhcp metric 600
                10.0.0.0/8 via 192.0.2.254 dev w proto static
                """)
        #expect(
            host.plan(wishes { $0.gateway("192.0.2.7") }).text(.v4) == """
                manual
                inet 192.0.2.10/24 scope global
                inet 192.0.2.11/24 scope global
                default via 192.0.2.7 dev w
                """)
    }

    @Test("the interface's name: -I, the one before, a template's, tap0")
    func names() {
        let host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w")
        let offline = Host().plan()
        #expect(offline.interfaceName == "tap0")
        #expect(host.plan(previous: offline).interfaceName == "tap0")
        #expect(host.plan().interfaceName == "w")
        #expect(host.plan(wishes { $0.interfaceName = "eth0" }, previous: offline).interfaceName == "eth0")
        #expect(host.plan(wishes { $0.address("10.0.2.15") }).interfaceName == "w")
    }

    @Test("MTU and MAC addresses are the user's")
    func link() {
        let plan = Host().plan(
            wishes {
                $0.mtu = 1500
                $0.gatewayMAC = MACAddress(0x52, 0x56, 0, 0, 0, 2)
                $0.namespaceMAC = MACAddress(2, 0, 0, 0, 0, 9)
            })
        #expect(plan.mtu == 1500 && plan.rules.mtu == 1500)
        #expect(plan.rules.gatewayMAC.description == "52:56:00:00:00:02")
        #expect(
            diff(applied: AppliedState(mtu: 1400), plan: plan).prefix(3).map { $0.text(device: "tap0") } == [
                "link set tap0 address 02:00:00:00:00:09", "link set tap0 mtu 1500", "link set tap0 up",
            ])
        #expect(Host().plan(wishes { $0.mtu = nil }).mtu == nil)
    }
}
