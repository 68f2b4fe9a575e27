// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("Routes of the namespace")
struct RouteTests {
    @Test("metric, protocol, scope, MTU, MSS, type of service, preference and on-link stay")
    func attributes() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w",
            "route default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600 mtu 1400 advmss 1360",
            "route 10.0.0.0/8 via 192.0.2.254 dev w proto static metric 7 tos 16",
            "route 172.16.0.0/12 via 198.51.100.9 dev w onlink", "route 198.18.0.0/15 dev w scope link",
            "route default via fe80::1 dev w proto ra metric 100 pref high", "route 2001:db8:9::/48 dev w metric 5")
        #expect(
            host.plan().text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global
                198.18.0.0/15 dev w scope link
                default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600 mtu 1400 advmss 1360
                10.0.0.0/8 tos 16 via 192.0.2.254 dev w proto static metric 7
                172.16.0.0/12 via 198.51.100.9 dev w onlink
                """)
        #expect(
            host.plan().text(.v6) == """
                template w
                inet6 2001:db8:1::10/64 scope global
                2001:db8:9::/48 dev w metric 5
                default via fe80::1 dev w proto ra metric 100 pref high
                """)
        #expect(diff(applied: applied(host.plan()), plan: host.plan()).isEmpty)
    }

    @Test("other interfaces' routes, other tables, rules and error routes are not copied")
    func left() {
        let host = Host(
            "link w", "link x", "addr 192.0.2.10/24 dev w", "addr 10.2.0.2/24 dev x",
            "route default via 192.0.2.1 dev w",
            "route 10.3.0.0/16 via 10.2.0.1 dev x", "route 10.4.0.0/16 via 192.0.2.9 dev w table 100",
            "route blackhole 10.5.0.0/16", "route unreachable 10.6.0.0/16", "route throw 10.7.0.0/16")
        #expect(
            host.plan().text(.v4) == "template w\ninet 192.0.2.10/24 scope global\ndefault via 192.0.2.1 dev w")
        #expect(host.plan().warnings.isEmpty)
    }

    @Test("connected routes are left to the kernel, and appear once")
    func connected() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
            "addr 10.5.0.1/24 dev w deprecated", "route default via 192.0.2.1 dev w", "route default via fe80::1 dev w",
            "route -6 ff00::/8 dev w proto kernel metric 256")
        #expect(
            shown(host.plan()) == """
                link up mtu 65520 address 9a:55:9a:55:9a:55
                inet 192.0.2.10/24 scope global
                inet6 2001:db8:1::10/64 scope global
                default via 192.0.2.1 dev w
                192.0.2.0/24 dev w proto kernel scope link src 192.0.2.10
                default via fe80::1 dev w metric 1024
                2001:db8:1::/64 dev w proto kernel metric 256
                """)
        #expect(
            host.plan().reasonTexts(.v4).contains(
                "route 10.5.0.0/24 proto kernel scope link is left out: it belongs to an address that is not copied"))
    }

    @Test("with -a outside the template's prefixes these are on the link, as the host has them (issue 9, 7)")
    func connectedBesideGivenAddress() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 203.0.113.7/25 dev w noprefixroute",
            "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
            "route 203.0.113.0/25 dev w proto kernel scope link src 203.0.113.7 metric 600",
            "route default via 192.0.2.1 dev w", "route 10.9.0.0/16 via 203.0.113.1 dev w",
            "route default via 2001:db8:1::1 dev w")
        let outside = host.plan(
            wishes {
                $0.address("10.1.2.3", length: 24)
                $0.address("2001:db8:7::7")
            })
        #expect(
            outside.text(.v4) == """
                manual
                inet 10.1.2.3/24 scope global
                192.0.2.0/24 dev w proto kernel scope link
                203.0.113.0/25 dev w proto kernel scope link metric 600
                default via 192.0.2.1 dev w
                10.9.0.0/16 via 203.0.113.1 dev w
                """)
        #expect(
            outside.text(.v6) == """
                manual
                inet6 2001:db8:7::7/64 scope global
                2001:db8:1::/64 dev w proto kernel metric 256
                default via 2001:db8:1::1 dev w metric 1024
                """)
        #expect(outside.warnings.isEmpty)
        #expect(diff(applied: applied(outside), plan: outside).isEmpty)
        // Inside the template's prefix the namespace's kernel makes the route; it is there once.
        let inside = host.plan(wishes { $0.address("192.0.2.77", length: 24) })
        #expect(
            inside.text(.v4) == """
                manual
                inet 192.0.2.77/24 scope global
                203.0.113.0/25 dev w proto kernel scope link metric 600
                default via 192.0.2.1 dev w
                10.9.0.0/16 via 203.0.113.1 dev w
                """)
        // With -g only the default is made: nothing is copied.
        let manual = host.plan(
            wishes {
                $0.address("10.1.2.3", length: 24)
                $0.gateway("10.1.2.1")
            })
        #expect(manual.text(.v4) == "manual\ninet 10.1.2.3/24 scope global\ndefault via 10.1.2.1 dev w")
    }

    @Test("connected routes of noprefixroute addresses are copied: nobody else makes them")
    func networkManager() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w noprefixroute",
            "route default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600",
            "route 192.0.2.0/24 dev w proto kernel scope link src 192.0.2.10 metric 600",
            "addr 2001:db8:1::10/64 dev w noprefixroute", "route -6 2001:db8:1::/64 dev w proto ra metric 600",
            "route default via fe80::1 dev w proto ra metric 600")
        #expect(
            host.plan().text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global noprefixroute
                192.0.2.0/24 dev w proto kernel scope link src 192.0.2.10 metric 600
                default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600
                """)
        #expect(
            host.plan().text(.v6) == """
                template w
                inet6 2001:db8:1::10/64 scope global noprefixroute
                2001:db8:1::/64 dev w proto ra metric 600
                default via fe80::1 dev w proto ra metric 600
                """)
        #expect(diff(applied: applied(host.plan()), plan: host.plan()).isEmpty)
    }

    @Test("a /32 address with its router on the link, in whatever order the host lists it (scenario 41)")
    func onLinkGateway() {
        let commands = ["route default via 192.0.2.1 dev w", "route 192.0.2.1 dev w scope link"]
        for order in [commands, commands.reversed()] {
            var host = Host("link w", "addr 198.51.100.5/32 dev w noprefixroute")
            for command in order { host.run(command) }
            #expect(
                host.plan().text(.v4) == """
                    template w
                    inet 198.51.100.5/32 scope global noprefixroute
                    192.0.2.1 dev w scope link
                    default via 192.0.2.1 dev w
                    """)
        }
        let flagged = Host("link w", "addr 198.51.100.5/32 dev w", "route default via 192.0.2.1 dev w onlink")
        #expect(
            flagged.plan().text(.v4)
                == "template w\ninet 198.51.100.5/32 scope global\ndefault via 192.0.2.1 dev w onlink")
    }

    @Test("a route through a router that itself needs a route comes after it")
    func chains() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "route default via 10.9.0.1 dev w",
            "route 172.20.0.0/16 via 10.9.0.7 dev w", "route 10.9.0.0/24 dev w scope link")
        #expect(
            host.plan().text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global
                10.9.0.0/24 dev w scope link
                default via 10.9.0.1 dev w
                172.20.0.0/16 via 10.9.0.7 dev w
                """)
    }

    @Test("a route whose router cannot be reached is skipped with one warning; a default is never given up")
    func unreachableRouters() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "route default via 203.0.113.1 dev w metric 9",
            "route 10.0.0.0/8 via 198.51.100.9 dev w")
        let plan = host.plan()
        #expect(
            plan.text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global
                203.0.113.1 dev w scope link
                default via 203.0.113.1 dev w metric 9
                """)
        #expect(plan.warnings == ["route 10.0.0.0/8 via 198.51.100.9 of w is skipped: its gateway is unreachable"])
    }

    @Test("an IPv4 default by way of an IPv6 router is copied where IPv6 is spoken, and has no gateway to tell")
    func viaIPv6() {
        let host = Host("link w", "addr 192.0.2.10/32 dev w", "route default via inet6 fe80::1 dev w")
        #expect(
            host.plan().text(.v4)
                == "template w\ninet 192.0.2.10/32 scope global\ndefault via inet6 fe80::1 dev w")
        #expect(host.plan().families.v4.gateway == nil)
        #expect(
            host.plan(families: [.v4]).text(.v4)
                == "template w\ninet 192.0.2.10/32 scope global\ndefault dev w scope link")
    }

    @Test("the preferred source stays if the namespace has that address")
    func preferredSources() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 192.0.2.11/24 dev w secondary",
            "route default via 192.0.2.1 dev w src 192.0.2.11", "route 10.0.0.0/8 via 192.0.2.1 dev w src 172.31.0.1")
        #expect(
            shown(host.plan()) == """
                link up mtu 65520 address 9a:55:9a:55:9a:55
                inet 192.0.2.10/24 scope global
                inet 192.0.2.11/24 scope global secondary
                default via 192.0.2.1 dev w src 192.0.2.11
                10.0.0.0/8 via 192.0.2.1 dev w
                192.0.2.0/24 dev w proto kernel scope link src 192.0.2.10
                default via fe80::1 dev w metric 1024
                """)
        let narrowed = host.plan(wishes { $0.copiesAddresses = false })
        #expect(narrowed.families.v4.routes.allSatisfy { $0.preferredSource == nil })
    }

    @Test("of routes that the kernel cannot tell apart the first is taken")
    func duplicates() {
        let host = Host(
            "link w", "addr 2001:db8:1::10/64 dev w", "route default via fe80::1 dev w proto ra metric 1024",
            "route default via fe80::2 dev w proto ra metric 1024")
        #expect(
            host.plan().text(.v6) == """
                template w
                inet6 2001:db8:1::10/64 scope global
                default via fe80::1 dev w proto ra metric 1024
                """)
        #expect(host.plan().reasonTexts(.v6).contains { $0.hasSuffix("the kernel uses another one in its place") })
    }

    @Test("multipath routes keep the hops that are on the template")
    func multipath() {
        let host = Host(
            "link w", "link x", "addr 192.0.2.10/24 dev w", "addr 10.2.0.2/24 dev x",
            "route default via 192.0.2.1 dev w",
            "route 10.9.0.0/16 nexthop via 192.0.2.2 dev w weight 2 nexthop via 10.2.0.1 dev x",
            "route 10.8.0.0/16 nexthop via 192.0.2.2 dev w weight 2 nexthop via 192.0.2.3 dev w")
        #expect(
            host.plan().text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global
                default via 192.0.2.1 dev w
                10.9.0.0/16 via 192.0.2.2 dev w
                10.8.0.0/16 nexthop via 192.0.2.2 dev w weight 2 nexthop via 192.0.2.3 dev w weight 1
                """)
    }

    @Test("source-specific routes are for sources that the namespace has; a plain default is made beside them")
    func sourceSpecific() {
        let host = Host(
            "link w", "addr 2001:db8:1::10/64 dev w", "route default via fe80::1 dev w from 2001:db8:1::/64",
            "route default via fe80::2 dev w from 2001:db8:2::/64")
        #expect(
            host.plan().text(.v6) == """
                template w
                inet6 2001:db8:1::10/64 scope global
                default from 2001:db8:1::/64 via fe80::1 dev w metric 1024
                default via fe80::1 dev w metric 1024
                """)
    }

    @Test("--no-copy-routes leaves the default alone, with or without a gateway")
    func noCopyRoutes() {
        let configuration = wishes { $0.copiesRoutes = false }
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600",
            "route 10.0.0.0/8 via 192.0.2.9 dev w")
        #expect(
            host.plan(configuration).text(.v4)
                == "template w\ninet 192.0.2.10/24 scope global\ndefault via 192.0.2.1 dev w")
        let tunnel = Host("link t", "addr 10.8.0.2/24 dev t", "route default dev t scope link metric 50")
        #expect(
            tunnel.plan(configuration).text(.v4)
                == "template t\ninet 10.8.0.2/24 scope global\ndefault dev t scope link")
    }

    @Test("many routes are no limit")
    func many() {
        var host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w")
        for number in 0..<2000 { host.run("route 10.\(number / 256).\(number % 256).0/24 via 192.0.2.9 dev w") }
        #expect(host.plan().families.v4.routes.count == 2001)
        #expect(host.plan().warnings.isEmpty)
    }
}
