// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("Template interface")
struct TemplateTests {
    /// The kernel is not asked, as at a monitor that cannot: the main table decides, as it does for upstream.
    private func scanned(_ host: Host, _ configuration: Configuration = wishes()) -> NamespacePlan {
        var host = host
        host.isAsked = false
        return host.plan(configuration)
    }

    @Test("the default of the lowest metric wins, whichever way it is found")
    func lowestMetric() {
        let host = Host(
            "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
            "route default via 10.2.0.1 dev d2 metric 300", "route default via 10.1.0.1 dev d1 metric 200")
        let expected = """
            template d1
            inet 10.1.0.2/24 scope global
            default via 10.1.0.1 dev d1 metric 200
            """
        #expect(host.plan().text(.v4) == expected)
        #expect(scanned(host).text(.v4) == expected)
        #expect(host.plan().reasonTexts(.v4).contains { $0.hasPrefix("d2 is not the template") })
    }

    @Test("without a default the first network's link is taken, and there is no gateway")
    func noDefault() {
        let host = Host("link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2")
        let plan = host.plan()
        #expect(plan.text(.v4) == "template d1\ninet 10.1.0.2/24 scope global")
        #expect(plan.families.v4.gateway == nil && plan.rules.families.v4.hostLoopback == nil)
        #expect(plan.families.v4.ownAddress == nil)
    }

    @Test("a link with 169.254.0.0/16 alone is no template, unless it is named")
    func linkLocalOnly() {
        let host = Host("link d1", "addr 169.254.7.7/16 dev d1")
        #expect(host.plan().families.v4.mode == .local)
        #expect(host.plan().interfaceName == "tap0")
        let named = host.plan(wishes { $0.templateInterface = "d1" })
        #expect(named.text(.v4) == "template d1\ninet 169.254.7.7/16 scope global")
        #expect(named.interfaceName == "d1")
    }

    @Test("a default by way of a device has no gateway, and is copied")
    func deviceDefault() {
        let host = Host("link t", "addr 10.8.0.2/24 dev t", "route default dev t scope link")
        let plan = host.plan()
        #expect(plan.text(.v4) == "template t\ninet 10.8.0.2/24 scope global\ndefault dev t scope link")
        #expect(plan.families.v4.gateway == nil)
    }

    @Test("a named interface without an address makes the family local, and names nothing")
    func namedWithoutAddress() {
        let host = Host(
            "link d1", "link d3", "addr 10.1.0.2/24 dev d1", "route default via 10.1.0.1 dev d1")
        let plan = host.plan(wishes { $0.templateInterface = "d3" })
        #expect(plan.families.v4.mode == .local && plan.families.v6.mode == .local)
        #expect(plan.interfaceName == "tap0")
        #expect(plan.reasonTexts(.v4).contains("d3 (-i): it has no IPv4 address"))
    }

    @Test("a named interface is awaited, and never replaced by another")
    func namedAbsent() {
        var host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w")
        let configuration = wishes { $0.templateInterface = "e" }
        #expect(host.plan(configuration).families.v4.mode == .local)
        host.run("link e")
        host.run("addr 198.51.100.5/24 dev e")
        #expect(
            host.plan(configuration).text(.v4) == "template e\ninet 198.51.100.5/24 scope global")
    }

    @Test("--outbound-if4 and --outbound-if6 name the template of their family, -i comes before them")
    func outboundInterfaces() {
        let host = Host(
            "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
            "addr 2001:db8:1::2/64 dev d1", "addr 2001:db8:2::2/64 dev d2", "route default via 10.1.0.1 dev d1",
            "route default via fe80::1 dev d1")
        var configuration = wishes { $0.outboundInterfaces.v4 = "d2" }
        var plan = host.plan(configuration)
        #expect(plan.families.v4.mode.description == "template d2")
        #expect(plan.families.v6.mode.description == "template d1")
        #expect(plan.rules.families.v4.outboundInterface == "d2" && plan.rules.families.v6.outboundInterface == nil)
        configuration.templateInterface = "d1"
        plan = host.plan(configuration)
        #expect(plan.families.v4.mode.description == "template d1")
        configuration.templateInterface = nil
        configuration.outboundInterfaces.v4 = "gone"
        plan = host.plan(configuration)
        #expect(plan.families.v4.mode == .local)
        #expect(plan.warnings == ["interface gone of --outbound-if4 is not usable now"])
    }

    @Test("an address of -o that the host lacks is warned of, until it has it", arguments: AddressFamily.allCases)
    func outboundAddress(family: AddressFamily) throws {
        var host = Host(
            "link d1", "addr 10.1.0.2/24 dev d1", "addr 2001:db8:1::2/64 dev d1", "route default via 10.1.0.1 dev d1",
            "route default via fe80::1 dev d1")
        let text = family == .v4 ? "10.1.0.77" : "2001:db8:1::77"
        let address = try #require(IPAddress(text))
        let configuration = wishes { $0.outboundAddresses[family] = address }
        var plan = host.plan(configuration)
        #expect(plan.warnings.count == 1 && plan.warnings[0].contains("does not have \(text) (-o)"), "\(plan.warnings)")
        #expect(plan.rules.families[family].outboundAddress == address, "it is used as soon as the kernel has it")
        host.run("addr \(text)/24 dev d1")
        plan = host.plan(configuration)
        #expect(plan.warnings.isEmpty && plan.rules.families[family].outboundAddress == address)
        let loopback = wishes { $0.outboundAddresses.v4 = .v4(.loopback) }
        #expect(host.plan(loopback).warnings.isEmpty)
    }

    @Test("links without carrier are passed over", arguments: ["no-carrier", "down"])
    func carrier(state: String) {
        let host = Host(
            "link e \(state)", "link w", "addr 198.51.100.5/24 dev e", "addr 192.0.2.10/24 dev w",
            "route default via 198.51.100.1 dev e linkdown metric 100", "route default via 192.0.2.1 dev w metric 600")
        #expect(host.plan().families.v4.mode.description == "template w")
        #expect(scanned(host).families.v4.mode.description == "template w")
        #expect(host.plan().reasonTexts(.v4).contains { $0.hasSuffix("no carrier") })
    }

    @Test("a link whose addresses are tentative is passed over until they are not (scenarios 2 and 27)")
    func tentative() {
        let commands = { (flag: String) in
            Host(
                "link e", "link w", "addr 2001:db8:2::5/64 dev e \(flag)", "addr fe80::5/64 dev e",
                "addr 2001:db8:1::10/64 dev w", "route default via fe80::2 dev e metric 100",
                "route default via fe80::1 dev w metric 600")
        }
        #expect(commands("tentative").plan().families.v6.mode.description == "template w")
        #expect(commands("dadfailed").plan().families.v6.mode == .local)
        #expect(commands("permanent").plan().families.v6.mode.description == "template e")
        #expect(commands("tentative optimistic").plan().families.v6.mode.description == "template e")
    }

    @Test("a multipath default has its template at the first live hop, its gateway at the heaviest hop there")
    func multipath() {
        let host = Host(
            "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
            "route default nexthop via 10.1.0.1 dev d1 weight 1 nexthop via 10.2.0.1 dev d2 weight 9 "
                + "nexthop via 10.1.0.3 dev d1 weight 2")
        let expected = """
            template d1
            inet 10.1.0.2/24 scope global
            default nexthop via 10.1.0.1 dev d1 weight 1 nexthop via 10.1.0.3 dev d1 weight 2
            """
        #expect(host.plan().text(.v4) == expected)
        #expect(scanned(host).text(.v4) == expected)
        #expect(host.plan().families.v4.gateway == IPAddress("10.1.0.3"))
    }

    @Test("a dead leg of a multipath default is not used (scenario 40)")
    func deadLeg() {
        let host = Host(
            "link d1 no-carrier", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
            "route default nexthop via 10.1.0.1 dev d1 dead nexthop via 10.2.0.1 dev d2")
        #expect(
            host.plan().text(.v4) == "template d2\ninet 10.2.0.2/24 scope global\ndefault via 10.2.0.1 dev d2")
    }

    @Test("nexthop objects are followed and flattened, members that are gone are not missed")
    func nextHopObjects() {
        let host = Host(
            "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2", "nexthop 1 via 10.1.0.1 dev d1",
            "nexthop 2 via 10.2.0.1 dev d2", "nexthop 9 blackhole", "nexthop 10 group 7/1/2/9",
            "route default nhid 10")
        #expect(scanned(host).text(.v4) == "template d1\ninet 10.1.0.2/24 scope global\ndefault via 10.1.0.1 dev d1")
    }

    @Test("families have templates of their own, and the interface is named after the IPv4 one")
    func twoTemplates() {
        let host = Host(
            "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 2001:db8:2::2/64 dev d2",
            "route default via 10.1.0.1 dev d1", "route default via fe80::2 dev d2")
        let plan = host.plan()
        #expect(plan.families.v4.mode.description == "template d1")
        #expect(plan.families.v6.mode.description == "template d2")
        #expect(plan.interfaceName == "d1")
        #expect(plan.rules.families.v6.linkLocalScope == InterfaceIndex(rawValue: 3))
    }

    @Test("a default by way of lo, or to the link-local network, is none")
    func loopbackRoutes() {
        let host = Host(
            "link d1", "addr 10.1.0.2/24 dev d1 scope link", "route 169.254.0.0/16 dev d1 scope link metric 1000",
            "route default dev lo")
        #expect(host.plan().families.v4.mode == .local)
    }

    // MARK: The kernel decides

    @Test("OpenVPN's two halves make the tunnel the template, with a default of its own (scenario 31)")
    func openVPN() {
        let host = Host(
            "link w", "link t", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/24 dev t",
            "route default via 192.0.2.1 dev w metric 600", "route 0.0.0.0/1 via 10.8.0.1 dev t",
            "route 128.0.0.0/1 via 10.8.0.1 dev t", "route 198.51.100.7 via 192.0.2.1 dev w")
        #expect(
            host.plan().text(.v4) == """
                template t
                inet 10.8.0.2/24 scope global
                0.0.0.0/1 via 10.8.0.1 dev t
                128.0.0.0/1 via 10.8.0.1 dev t
                default via 10.8.0.1 dev t
                """)
        #expect(host.plan().rules.families.v4.hostAddress == IPAddress("10.8.0.2"))
    }

    @Test("wg-quick's table and rules decide though the main table did not change (scenarios 32 and 36)")
    func wireGuard() {
        var host = Host(
            "link w", "link wg0", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/32 dev wg0",
            "route default via 192.0.2.1 dev w metric 600", "route default dev wg0 scope link table 51820")
        #expect(host.plan().families.v4.mode.description == "template w")
        host.lookupTables = [.init(rawValue: 51820), .main]
        #expect(
            host.plan().text(.v4) == "template wg0\ninet 10.8.0.2/32 scope global\ndefault dev wg0 scope link")
    }

    @Test("a split tunnel leaves the template alone (scenario 33)")
    func splitTunnel() {
        let host = Host(
            "link w", "link t", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/24 dev t",
            "route default via 192.0.2.1 dev w metric 600", "route 10.0.0.0/8 via 10.8.0.1 dev t")
        #expect(
            host.plan().text(.v4) == """
                template w
                inet 192.0.2.10/24 scope global
                default via 192.0.2.1 dev w metric 600
                """)
    }

    @Test(
        "a kill switch makes the family local and never shows the interface below (scenario 34)",
        arguments: ["unreachable", "prohibit", "blackhole"])
    func killSwitch(type: String) {
        var host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600",
            "route \(type) default metric 1")
        #expect(host.plan().text(.v4) == "local\ninet 169.254.2.1/16 scope global\ndefault via 169.254.2.2 dev tap0")
        #expect(host.plan().reasonTexts(.v4).contains { $0.hasPrefix("the host refuses the default") })
        // A rule that refuses has no route to show for it.
        host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600")
        host.lookups[.v4] = .unreachable(errno: 113)
        #expect(host.plan().families.v4.mode == .local)
        // Named is named.
        #expect(host.plan(wishes { $0.templateInterface = "w" }).families.v4.mode.description == "template w")
    }

    @Test("a refused documentation network says nothing of the default")
    func bogons() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w", "addr 2001:db8:7::10/64 dev w",
            "route default via 192.0.2.1 dev w", "route default via fe80::1 dev w", "route blackhole 203.0.113.0/24",
            "route unreachable 2001:db8::/32")
        #expect(host.plan().families.v4.mode.description == "template w")
        #expect(host.plan().families.v6.mode.description == "template w")
    }

    @Test("a host on a documentation network itself has its template by its default")
    func documentationNetwork() {
        let host = Host(
            "link e", "link w", "addr 203.0.113.7/24 dev w", "addr 198.51.100.5/24 dev e",
            "route default via 198.51.100.1 dev e metric 100", "route default via 203.0.113.1 dev w metric 600")
        #expect(host.plan().families.v4.mode.description == "template e")
        var broadcast = host
        broadcast.lookups[.v4] = .route(
            interface: InterfaceIndex(rawValue: 3), gateway: nil, source: IPAddress("203.0.113.7"), table: .local)
        #expect(broadcast.plan().families.v4.mode.description == "template e")
    }

    @Test("an answer that names an interface which is gone is no answer")
    func staleAnswer() {
        var host = Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w")
        host.lookups[.v4] = .route(interface: InterfaceIndex(rawValue: 77), gateway: nil, source: nil, table: .main)
        #expect(host.plan().families.v4.mode.description == "template w")
    }

    @Test("a tunnel without an address of the family makes it local, not another interface")
    func tunnelWithoutAddress() {
        let host = Host(
            "link w", "link t", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600",
            "route default dev t scope link metric 50")
        #expect(host.plan().families.v4.mode == .local)
    }
}
