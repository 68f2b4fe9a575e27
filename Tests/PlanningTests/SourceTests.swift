// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

/// The sources of addresses (`-a`): the host has Wi-Fi with the default route and Ethernet without.
@Suite("Sources of addresses")
struct SourceTests {
    private static let host = Host(
        "link w", "link e", "link q no-carrier", "addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w",
        "addr fe80::10/64 dev w", "addr 198.51.100.5/24 dev e", "addr 2001:db8:2::5/64 dev e", "addr 10.9.9.9/24 dev q",
        "route default via 192.0.2.1 dev w proto dhcp metric 600", "route default via fe80::1 dev w proto ra")

    private func made(_ sources: AddressSource..., by host: Host = Self.host) -> NamespacePlan {
        host.plan(wishes { $0.addressSources = sources })
    }

    private func explicit(_ text: String) throws -> AddressSource {
        let prefix = try #require(Prefix(text))
        return .explicit(prefix.address, length: prefix.length)
    }

    private func origins(_ plan: NamespacePlan, _ family: AddressFamily = .v4) -> [String] {
        plan.families[family].addresses.map { "\($0.prefix) \($0.origin?.description ?? "none")" }
    }

    private func defaultRoute(_ plan: NamespacePlan, _ family: AddressFamily = .v4) -> String? {
        plan.families[family].routes.first { $0.isDefault }?.text(device: "d")
    }

    @Test("auto and a constant one: followed addresses and the constant one, the first is offered and preferred")
    func constantBesideFollowed() throws {
        let both = made(.template, try explicit("192.168.77.1/24"))
        #expect(origins(both) == ["192.0.2.10/24 template", "192.168.77.1/24 explicit"])
        #expect(both.families.v4.guestAddress == Prefix("192.0.2.10/24"))
        #expect(both.services.v4.guestAddress == Prefix("192.0.2.10/24"))
        #expect(defaultRoute(both) == "default via 192.0.2.1 dev d proto dhcp src 192.0.2.10 metric 600")
        #expect(origins(both, .v6) == ["2001:db8:1::10/64 template"])
        let other = made(try explicit("192.168.77.1/24"), .template)
        #expect(origins(other) == ["192.168.77.1/24 explicit", "192.0.2.10/24 template"])
        #expect(other.services.v4.guestAddress == Prefix("192.168.77.1/24"))
        #expect(defaultRoute(other) == "default via 192.0.2.1 dev d proto dhcp src 192.168.77.1 metric 600")
        #expect(other.families.v4.mode.description == "template w")
    }

    @Test("two explicit ones are both set; the first is offered, preferred and the target of forwards")
    func twoExplicit() throws {
        let plan = made(try explicit("10.1.1.1/24"), try explicit("10.2.2.2/24"))
        #expect(origins(plan) == ["10.1.1.1/24 explicit", "10.2.2.2/24 explicit"])
        #expect(plan.families.v4.mode == .manual && plan.rules.families.v4.guestAddress == IPAddress("10.1.1.1"))
        #expect(
            plan.rules.families.v4.guestAddresses == [
                try #require(IPAddress("10.1.1.1")), try #require(IPAddress("10.2.2.2")),
            ])
        #expect(!plan.rules.families.v4.learnsGuestAddress && plan.rules.families.v6.learnsGuestAddress)
        #expect(defaultRoute(plan)?.contains("src 10.1.1.1") == true)
    }

    @Test("an interface's, whatever the template is: the router is on the link, the template's routes stay")
    func interface() {
        let named = made(.interface("e"))
        #expect(origins(named) == ["198.51.100.5/24 interface e"])
        #expect(origins(named, .v6) == ["2001:db8:2::5/64 interface e"])
        #expect(
            named.text(.v4)
                == """
                template w
                inet 198.51.100.5/24 scope global
                192.0.2.0/24 dev d proto kernel scope link
                default via 192.0.2.1 dev d proto dhcp metric 600
                """.replacing("dev d", with: "dev w"))
        #expect(defaultRoute(named, .v6) == "default via fe80::1 dev d proto ra metric 1024")
    }

    @Test("an interface that is absent or has no carrier gives nothing, and there is a default all the same")
    func absentInterface() {
        for name in ["gone", "q"] {
            let plan = made(.interface(name))
            #expect(origins(plan) == ["169.254.2.1/16 link-local"])
            #expect(defaultRoute(plan) != nil && defaultRoute(plan, .v6) != nil)
            #expect(plan.reasonTexts(.v4).contains { $0.hasPrefix("no address of \(name) (-a)") })
        }
    }

    @Test("all: every usable address of the host, the template's first")
    func all() {
        let plan = made(.all)
        #expect(origins(plan) == ["192.0.2.10/24 all", "198.51.100.5/24 all"])
        #expect(origins(plan, .v6) == ["2001:db8:1::10/64 all", "2001:db8:2::5/64 all"])
        #expect(plan.services.v4.guestAddress == Prefix("192.0.2.10/24"))
        #expect(defaultRoute(plan, .v6) == "default via fe80::1 dev d proto ra src 2001:db8:1::10 metric 1024")
    }

    @Test("ll stands beside the rest; each address is there once")
    func linkLocal() throws {
        #expect(origins(made(.linkLocal)) == ["192.0.2.10/24 template", "169.254.2.1/16 link-local"])
        #expect(origins(made(.linkLocal, by: Host())) == ["169.254.2.1/16 link-local"])
        #expect(
            origins(made(.all, .template, .interface("w"), try explicit("192.0.2.10/32"), .linkLocal))
                == ["192.0.2.10/24 all", "198.51.100.5/24 all", "169.254.2.1/16 link-local"])
    }

    @Test("an address that goes takes its preference along, and what depended on its prefix becomes on-link or goes")
    func anAddressGoes() throws {
        let configuration = wishes { $0.addressSources = [.interface("e"), .template] }
        let before = Self.host.plan(configuration)
        #expect(defaultRoute(before)?.contains("src 198.51.100.5") == true)
        let without = Host(
            "link w", "link e", "addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
            "route default via 192.0.2.1 dev w proto dhcp metric 600", "route default via fe80::1 dev w proto ra")
        let after = without.plan(configuration, previous: before)
        #expect(origins(after) == ["192.0.2.10/24 template"])
        #expect(defaultRoute(after) == "default via 192.0.2.1 dev d proto dhcp metric 600")
        // Make before break: the default leaves the address before the address goes.
        let lines = steps(from: before, to: after)
        let replaced = try #require(lines.firstIndex { $0.hasPrefix("route replace default via 192.0.2.1") })
        let removed = try #require(lines.firstIndex { $0.hasPrefix("addr del 198.51.100.5") })
        #expect(replaced < removed)
        #expect(shown(after) == shown(without.plan(configuration, previous: before)))
        let gone = Host("link e", "addr 198.51.100.5/24 dev e").plan(configuration, previous: after)
        #expect(origins(gone) == ["198.51.100.5/24 interface e"] && gone.families.v4.gateway == nil)
    }

    @Test("more than 64 addresses of a family: the rest is left out with a warning")
    func tooMany() {
        var host = Host("link w", "route default via 10.0.0.1 dev w")
        for number in 1...70 { host.run("addr 10.0.0.\(number + 1)/24 dev w" + (number > 1 ? " secondary" : "")) }
        let plan = host.plan(wishes { $0.addressSources = [.all] })
        #expect(plan.families.v4.addresses.count == 64)
        #expect(plan.warnings == ["addresses beyond 64 are left out: name fewer interfaces with -a"])
    }
}
