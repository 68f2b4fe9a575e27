// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import TestSupport
import Testing

@Suite("Settings of the services")
struct ServiceTests {
    private static let host = Host(
        "link w", "addr 10.1.0.2/24 dev w", "addr 2001:db8:1::10/64 dev w", "addr fe80::10/64 dev w",
        "route default via 10.1.0.1 dev w", "route default via fe80::1 dev w", "dns 10.1.0.53 2001:db8:1::53")

    private func told(
        _ host: Host = Self.host, _ edit: (inout Configuration) -> Void = { _ in }
    ) -> ServiceSettings {
        var configuration = Configuration()
        edit(&configuration)
        return host.plan(configuration).services
    }

    private func texts(_ routes: [ServiceSettings.StaticRoute]) -> [String] {
        routes.map { "\($0.destination) via \($0.router)" }
    }

    private func texts(_ prefixes: [ServiceSettings.AdvertisedPrefix]) -> [String] {
        prefixes.map { "\($0.prefix) " + ($0.isOnLink ? "L" : "") + ($0.isAutonomous ? "A" : "") }
    }

    @Test("a template's address, router and prefixes")
    func template() {
        let told = told()
        #expect(told.v4.guestAddress == Prefix("10.1.0.2/24"))
        #expect(told.v4.router == IPv4Address("10.1.0.1") && told.v4.serverAddress == told.v4.router)
        #expect(told.v4.routes.isEmpty)
        #expect(told.v6.guestAddress == Prefix("2001:db8:1::10/64"))
        #expect(told.v6.ownAddress == IPv6Address("fe80::1") && told.v6.isDefaultRouter)
        #expect(texts(told.v6.prefixes) == ["2001:db8:1::/64 LA"])
        #expect(told.services == .all && told.leaseTime == 120 && told.mtu == 65520)
        #expect(told.v4.dnsServers.isEmpty && told.v6.dnsServers.isEmpty && told.searchDomains.isEmpty)
        #expect(told.neighbourLinks.v4 == InterfaceIndex(rawValue: 2))
        #expect(told.v4.mappedAddresses == [IPv4Address(10, 1, 0, 1)])
        #expect(told.v4.guestAddresses == [IPv4Address(10, 1, 0, 2)])
    }

    @Test("without a host network: the local address and router, and no IPv6 router")
    func local() {
        let told = told(Host())
        #expect(told.v4.guestAddress == Prefix("169.254.2.1/16"))
        #expect(told.v4.router == IPv4Address("169.254.2.2") && told.v4.serverAddress == told.v4.router)
        #expect(told.v4.routes.isEmpty)
        #expect(told.v6.guestAddress == nil && told.v6.prefixes.isEmpty && !told.v6.isDefaultRouter)
        #expect(told.v6.ownAddress == IPv6Address("fe80::1"))
    }

    @Test("given addresses in every mode (S1, S4)", arguments: [true, false])
    func manual(isOffline: Bool) {
        let host = isOffline ? Host() : Self.host
        let seed = told(host) {
            $0.address("169.254.2.15", length: 16)
            $0.gateway("169.254.2.2")
            $0.gatewayMAC = MACAddress(0x52, 0x56, 0, 0, 0, 2)
        }
        #expect(seed.v4.guestAddress == Prefix("169.254.2.15/16") && seed.v4.router == IPv4Address("169.254.2.2"))
        #expect(seed.v4.routes.isEmpty && seed.gatewayMAC == MACAddress(0x52, 0x56, 0, 0, 0, 2))
        let offSubnet = told(host) {
            $0.address("169.254.2.15", length: 16)
            $0.gateway("192.168.0.1")
        }
        #expect(offSubnet.v4.guestAddress == Prefix("169.254.2.15/16"))
        #expect(texts(offSubnet.v4.routes) == ["192.168.0.1/32 via 0.0.0.0", "0.0.0.0/0 via 192.168.0.1"])
        let six = told(host) { $0.address("2001:db8:7::5") }
        #expect(six.v6.guestAddress == Prefix("2001:db8:7::5/64") && six.v6.isDefaultRouter)
        // The host's own prefix, if it has one, is on the link beside it (issue 9, 7).
        #expect(texts(six.v6.prefixes) == ["2001:db8:7::/64 LA"] + (isOffline ? [] : ["2001:db8:1::/64 L"]))
    }

    @Test("IPv6 prefixes with the length that they have on the host, and one of 64 for autoconfiguration")
    func realPrefixes() {
        let host = Host(
            "link w", "addr 2001:db8:1::10/128 dev w", "addr 2001:db8:2::10/48 dev w", "addr 2001:db8:3::10/112 dev w",
            "addr fe80::10/64 dev w", "route default via fe80::1 dev w", "route 2001:db8:8::/48 via fe80::1 dev w",
            "route 2001:db8:9::/48 dev w")
        let told = told(host)
        #expect(told.v6.guestAddress == Prefix("2001:db8:1::10/128"))
        #expect(
            texts(told.v6.prefixes) == [
                "2001:db8:1::/64 A", "2001:db8:2::/48 L", "2001:db8:2::/64 A", "2001:db8:3::/112 L",
                "2001:db8:3::/64 A", "2001:db8:9::/48 L",
            ])
        #expect(told.v6.routes.map(\.destination) == [Prefix("2001:db8:8::/48")])
    }

    @Test("static routes: what the router does not say, the default last, nearest metric first")
    func staticRoutes() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w", "addr 10.2.0.2/24 dev w", "route default via 10.1.0.1 dev w",
            "route 172.16.0.0/12 via 10.1.0.9 dev w", "route 172.16.0.0/12 via 10.1.0.8 dev w metric 50",
            "route 192.0.2.0/24 dev w", "route 198.51.100.0/24 via 10.2.0.7 dev w")
        // What is behind a router of another network is on the link: the namespace has no address in that network.
        #expect(
            texts(told(host).v4.routes) == [
                "192.0.2.0/24 via 0.0.0.0", "172.16.0.0/12 via 10.1.0.9", "198.51.100.0/24 via 0.0.0.0",
                "0.0.0.0/0 via 10.1.0.1",
            ])
        let device = Host("link w", "addr 10.1.0.2/32 dev w", "route default dev w")
        let told = told(device)
        #expect(texts(told.v4.routes) == ["0.0.0.0/0 via 0.0.0.0"])
        #expect(told.v4.router == nil && told.v4.serverAddress == IPv4Address("169.254.2.2"))
    }

    @Test("static routes fit the option")
    func staticRoutesFit() {
        var host = Self.host
        for number in 0..<200 { host.run("route 172.16.\(number).0/24 via 10.1.0.9 dev w") }
        let routes = told(host).v4.routes
        #expect(routes.reduce(0) { $0 + $1.optionLength } <= 255)
        #expect(routes.count > 20 && routes.last?.destination.isDefault == true)
    }

    @Test("resolvers only if they are to be announced")
    func resolvers() {
        let announced = told { $0.announcesResolvers = true }
        #expect(announced.v4.dnsServers == [IPv4Address(10, 1, 0, 53)])
        #expect(announced.v6.dnsServers.map(\.description) == ["2001:db8:1::53"])
        let forwarded = told {
            $0.announcesResolvers = true
            $0.dnsForward.v4 = IPAddress("169.254.1.1")
        }
        #expect(forwarded.v4.dnsServers.map(\.description) == ["169.254.1.1"])
        let given = told {
            $0.announcesResolvers = true
            $0.dnsServers = [IPAddress("9.9.9.9")].compactMap(\.self)
        }
        #expect(given.v4.dnsServers.map(\.description) == ["9.9.9.9"])
        #expect(given.v6.dnsServers.map(\.description) == ["2001:db8:1::53"])
    }

    private func told(_ edit: (inout Configuration) -> Void) -> ServiceSettings { told(Self.host, edit) }

    @Test("the address that is forwarded stands for a resolver that the namespace cannot reach")
    func hiddenResolvers() {
        let host = Host(
            "link w", "addr 10.1.0.2/24 dev w", "route default via 10.1.0.1 dev w",
            "dns 127.0.0.53 10.1.0.1 9.9.9.9 ::1")
        #expect(
            told(host) { $0.announcesResolvers = true }.v4.dnsServers.map(\.description) == ["10.1.0.1", "9.9.9.9"])
        let unmapped = told(host) {
            $0.announcesResolvers = true
            $0.gatewayMapsToHost = false
        }
        #expect(unmapped.v4.dnsServers.map(\.description) == ["10.1.0.1", "9.9.9.9"])
        let elsewhere = Host("link w", "addr 10.1.0.2/24 dev w", "route default via 10.1.0.1 dev w", "dns 127.0.0.53")
        let none = told(elsewhere) {
            $0.announcesResolvers = true
            $0.gatewayMapsToHost = false
        }
        #expect(none.v4.dnsServers.isEmpty)
    }

    @Test("that no resolver is announced is said once, with the cause")
    func noResolvers() {
        var configuration = Configuration()
        configuration.announcesResolvers = true
        let plan = Host("link w", "addr 10.1.0.2/24 dev w").plan(configuration)
        #expect(plan.warnings.filter { $0.contains("--dhcp-dns") }.count == 1)
        configuration.suppressesDNS = true
        #expect(Self.host.plan(configuration).warnings.contains { $0.contains("-D none") })
        #expect(Self.host.plan(configuration).services.v4.dnsServers.isEmpty)
    }

    @Test("names, domains and switches")
    func names() {
        let told = told(Self.host) {
            $0.announcesSearchList = true
            $0.searchDomains = ["a", "b"]
            $0.hostName = "box"
            $0.fullName = "box.example"
            $0.leaseTime = 60
            $0.udhcpcLeaseTime = 50
            $0.togglesCarrier = false
            $0.services = [.dhcpv4]
            $0.mtu = nil
            $0.configuresNamespace = true
        }
        #expect(told.searchDomains == ["a", "b"] && told.hostName == "box" && told.fullName == "box.example")
        #expect(told.udhcpcLeaseTime == 50)
        #expect(told.leaseTime == 60 && !told.togglesCarrier && told.services == [.dhcpv4] && told.mtu == nil)
        #expect(told.configuresNamespace)
        #expect(self.told { $0.configuresNamespace = true }.services == [.dhcpv4, .dhcpv6, .neighborDiscovery])
        #expect(self.told { $0.searchDomains = ["a"] }.searchDomains.isEmpty)
    }

    @Test("a family that is off is not announced")
    func off() {
        let told = told { $0.families = [.v4] }
        #expect(told.v4.isEnabled && !told.v6.isEnabled && told.v6.prefixes.isEmpty)
    }

    @Test("any host: the settings are consistent", arguments: 1...200 as ClosedRange<UInt64>)
    func property(seed: UInt64) {
        var random = RandomHost(seed: seed)
        let snapshot = random.snapshot()
        var configuration = random.configuration()
        configuration.announcesResolvers = true
        let plan = Planning.plan(snapshot, configuration, namespaceFamilies: [.v4, .v6])
        let told = plan.services
        #expect(told.v4.isEnabled == (plan.families.v4.mode != .off), "seed \(seed)")
        if told.v4.isEnabled {
            #expect(told.v4.guestAddress == plan.families.v4.guestAddress, "seed \(seed)")
            #expect(told.v4.serverAddress != nil, "seed \(seed)")
            #expect(!told.v4.ownAddresses.contains { told.v4.guestAddresses.contains($0) }, "seed \(seed)")
            #expect(told.v4.routes.reduce(0) { $0 + $1.optionLength } <= 255, "seed \(seed)")
            let hasDefault = plan.families.v4.routes.contains { $0.destination.isDefault }
            // A client that takes the routes ignores the router, so the default is among them.
            if !told.v4.routes.isEmpty, hasDefault {
                #expect(told.v4.routes.contains { $0.destination.isDefault }, "seed \(seed)")
            }
        }
        for prefix in told.v6.prefixes {
            #expect(prefix.prefix == prefix.prefix.network && (!prefix.isAutonomous || prefix.prefix.length == 64))
        }
    }
}
