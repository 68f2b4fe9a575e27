// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("Translation rules")
struct TranslationTests {
    private static let host = Host(
        "link w", "addr 10.1.0.2/24 dev w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
        "route default via 10.1.0.1 dev w", "route default via fe80::1 dev w", "dns 10.1.0.53 2001:db8:1::53")

    private func rules(_ edit: (inout Configuration) -> Void = { _ in }, host: Host = host) -> TranslationRules {
        host.plan(wishes(edit)).rules
    }

    @Test("the gateway is the host's loopback by default")
    func hostLoopback() {
        let rules = rules()
        #expect(rules.families.v4.hostLoopback == IPAddress("10.1.0.1"))
        #expect(rules.families.v6.hostLoopback == IPAddress("fe80::1"))
        #expect(rules.families.v4.mappedGuestAddress == nil)
        #expect(rules.families.v4.learnsGuestAddress && rules.families.v4.isEnabled)
    }

    @Test("--no-map-gw removes the default only")
    func noMapGateway() {
        let removed = rules { $0.gatewayMapsToHost = false }
        #expect(removed.families.v4.hostLoopback == nil && removed.families.v6.hostLoopback == nil)
        #expect(removed.families.v4.gateway == IPAddress("10.1.0.1"))
        let kept = rules {
            $0.gatewayMapsToHost = false
            $0.hostLoopbackMappings.v4 = IPAddress("10.1.0.99").map { .address($0) } ?? .none
        }
        #expect(kept.families.v4.hostLoopback == IPAddress("10.1.0.99") && kept.families.v6.hostLoopback == nil)
        #expect(rules { $0.hostLoopbackMappings.v4 = .none }.families.v4.hostLoopback == nil)
    }

    @Test("--map-guest-addr leads to the source that the host would use now")
    func mapGuestAddress() {
        let mapping = Configuration.Mapping.address(.v4(IPv4Address(10, 1, 0, 99)))
        var host = Self.host
        host.run("addr 10.1.0.3/24 dev w secondary")
        host.lookups[.v4] = .route(
            interface: InterfaceIndex(rawValue: 2), gateway: IPAddress("10.1.0.1"), source: IPAddress("10.1.0.3"),
            table: .main)
        let rules = rules({ $0.guestAddressMappings.v4 = mapping }, host: host)
        #expect(rules.families.v4.mappedGuestAddress == IPAddress("10.1.0.99"))
        #expect(rules.families.v4.hostAddress == IPAddress("10.1.0.3"))
        #expect(rules.families.v4.guestAddress == IPAddress("10.1.0.2"))
        // Manual: the host's own address all the same.
        #expect(self.rules { $0.address("10.77.0.1") }.families.v4.hostAddress == IPAddress("10.1.0.2"))
    }

    @Test("without a way out the host's address is that of some link")
    func hostAddressOffline() {
        var host = Host("link w", "addr 10.1.0.2/24 dev w", "route unreachable default metric 1")
        #expect(rules(host: host).families.v4.hostAddress == IPAddress("10.1.0.2"))
        host = Host()
        #expect(rules(host: host).families.v4.hostAddress == nil)
    }

    @Test(
        "our address: the IPv4 gateway; the IPv6 gateway if link-local, else the template's own link-local, else fe80::1"
    )
    func ownAddresses() {
        #expect(rules().families.v4.ownAddress == IPAddress("10.1.0.1"))
        #expect(rules().families.v6.ownAddress == IPAddress("fe80::1"))
        #expect(rules { $0.gateway("2001:db8:1::1") }.families.v6.ownAddress == IPAddress("fe80::10"))
        let tunnel = Host("link t", "addr 2001:db8:8::2/64 dev t", "route -6 default dev t")
        #expect(rules(host: tunnel).families.v6.ownAddress == IPAddress("fe80::1"))
        #expect(rules(host: tunnel).families.v6.gateway == nil && rules(host: tunnel).families.v6.hostLoopback == nil)
    }

    @Test("what binds host sockets is the user's; link-local destinations are the template's")
    func outbound() {
        let rules = rules {
            $0.outboundAddresses.v4 = .v4(IPv4Address(10, 1, 0, 2))
            $0.outboundInterfaces.v4 = "w"
        }
        #expect(rules.families.v4.outboundAddress == IPAddress("10.1.0.2"))
        #expect(rules.families.v4.outboundInterface == "w" && rules.families.v6.outboundInterface == nil)
        #expect(rules.families.v6.linkLocalScope == InterfaceIndex(rawValue: 2))
        #expect(Host().plan().rules.families.v6.linkLocalScope == nil)
    }

    @Test("an address that stands for something else but is the namespace's own is warned of")
    func shadowedMapping() {
        let plan = Self.host.plan(wishes { $0.hostLoopbackMappings.v4 = .address(.v4(IPv4Address(10, 1, 0, 2))) })
        #expect(plan.warnings.count == 1 && plan.warnings[0].hasPrefix("10.1.0.2 stands for the host's loopback"))
    }

    // MARK: DNS

    @Test("queries go to all of the host's resolvers in turn, or to those of --dns-host")
    func servers() {
        var host = Self.host
        host.run("dns 127.0.0.53 fe80::53%w 10.1.0.53")
        #expect(
            rules(host: host).dnsServers.map { "\($0.address)" + ($0.zone.map { "%\($0)" } ?? "") }
                == ["10.1.0.53", "2001:db8:1::53", "127.0.0.53", "fe80::53%w"])
        #expect(
            rules({ $0.dnsHost.v4 = .v4(IPv4Address(9, 9, 9, 9)) }, host: host).dnsServers.map(\.address.description)
                == ["9.9.9.9"])
        #expect(Host().plan().rules.dnsServers.isEmpty)
    }

    @Test("--dns-forward is constant, in every mode (I2)")
    func dnsForward() {
        let forward = { (configuration: inout Configuration) in
            configuration.dnsForward.v4 = .v4(IPv4Address(169, 254, 1, 1))
            configuration.dnsForward.v6 = IPAddress("fd00::53")
        }
        for host in [Self.host, Host(), Host("link w", "addr 10.1.0.2/24 dev w")] {
            #expect(rules(forward, host: host).families.v4.dnsForward == IPAddress("169.254.1.1"))
            #expect(rules(forward, host: host).families.v6.dnsForward == IPAddress("fd00::53"))
        }
    }

    @Test(
        "a resolver on the host's loopback, or at the mapped address, is forwarded to by way of the mapped address",
        arguments: [
            ("127.0.0.53", "10.1.0.1", nil), ("10.1.0.1", "10.1.0.1", nil), ("10.1.0.53", nil, nil),
            ("::1", nil, "fe80::1"), ("10.1.0.53 127.0.0.1", "10.1.0.1", nil),
        ] as [(String, String?, String?)])
    func impliedForward(resolvers: String, v4: String?, v6: String?) {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w", "addr 2001:db8:1::10/64 dev w", "route default via 10.1.0.1 dev w",
            "route default via fe80::1 dev w", "dns \(resolvers)")
        #expect(rules(host: host).families.v4.dnsForward == v4.flatMap { IPAddress($0) })
        #expect(rules(host: host).families.v6.dnsForward == v6.flatMap { IPAddress($0) })
        // Not with -D of the family, -D none, or nothing mapped.
        for edit: (inout Configuration) -> Void in [
            { $0.dnsServers = [.v4(IPv4Address(9, 9, 9, 9)), .v6(.loopback)] }, { $0.suppressesDNS = true },
            { $0.gatewayMapsToHost = false },
        ] {
            #expect(rules(edit, host: host).families.v4.dnsForward == nil)
            #expect(rules(edit, host: host).families.v6.dnsForward == nil)
        }
        #expect(
            Host("dns \(resolvers)").plan().rules.families.v4.dnsForward
                == (v4 == nil || resolvers == "10.1.0.1" ? nil : IPAddress("169.254.2.2")))
    }

    @Test("a gateway that is the host's resolver, too, is known as one, whatever else is forwarded")
    func resolverAtTheGateway() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w", "route default via 10.1.0.1 dev w", "dns 9.9.9.9 10.1.0.1")
        let rules = rules({ $0.dnsForward.v4 = IPAddress("169.254.1.1") }, host: host)
        #expect(rules.families.v4.hostLoopbackIsResolver)
        #expect(rules.families.v4.dnsForward == IPAddress("169.254.1.1"))
        #expect(!self.rules().families.v4.hostLoopbackIsResolver)
        #expect(!self.rules({ $0.gatewayMapsToHost = false }, host: host).families.v4.hostLoopbackIsResolver)
    }
}
