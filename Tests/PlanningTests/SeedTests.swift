// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("Seed requirements: a fixed address, router and MAC as slirp gave them")
struct SeedTests {
    /// The host of the bug: router 192.168.0.1.
    private static let host = Host(
        "link w", "addr 192.168.0.20/24 dev w", "route default via 192.168.0.1 dev w proto dhcp metric 100",
        "dns 192.168.0.1")

    private static func seed(_ address: String, _ length: Int?, gateway: String, mac: String, dns: String?)
        -> Configuration
    {
        wishes {
            $0.families = [.v4]
            $0.interfaceName = "eth0"
            $0.address(address, length: length)
            $0.gateway(gateway)
            if let mac = MACAddress(mac) { $0.gatewayMAC = mac }
            $0.dnsForward.v4 = dns.flatMap { IPAddress($0) }
        }
    }

    @Test(
        "S1: the bug's own network, with the length given and by class, on a connected and an offline host",
        arguments: [16, nil] as [Int?], [true, false])
    func s1(length: Int?, isOnline: Bool) {
        let configuration = Self.seed(
            "169.254.2.15", length, gateway: "169.254.2.2", mac: "52:56:00:00:00:02", dns: "169.254.2.3")
        let plan = (isOnline ? Self.host : Host()).plan(configuration)
        #expect(
            shown(plan) == """
                link up mtu 65520 address 9a:55:9a:55:9a:55
                inet 169.254.2.15/16 scope global
                default via 169.254.2.2 dev eth0
                169.254.0.0/16 dev eth0 proto kernel scope link src 169.254.2.15
                """)
        #expect(plan.families.v4.mode == .manual && plan.families.v6.mode == .off)
        #expect(plan.interfaceName == "eth0")
        #expect(plan.rules.gatewayMAC.description == "52:56:00:00:00:02")
        #expect(plan.rules.families.v4.gateway == IPAddress("169.254.2.2"))
        #expect(plan.rules.families.v4.ownAddress == IPAddress("169.254.2.2"))
        #expect(plan.rules.families.v4.dnsForward == IPAddress("169.254.2.3"))
        #expect(plan.rules.dnsServers.map(\.address) == (isOnline ? [IPAddress("192.168.0.1")] : []))
        #expect(!plan.rules.families.v4.learnsGuestAddress)
        #expect(plan.warnings.isEmpty)
    }

    @Test("S2 and S3: QEMU's and slirp4netns's networks", arguments: ["10.0.2.15", "10.0.2.100"])
    func s2(address: String) {
        var configuration = Self.seed(address, 24, gateway: "10.0.2.2", mac: "52:55:0a:00:02:02", dns: "10.0.2.3")
        configuration.mtu = 1500
        #expect(
            shown(Self.host.plan(configuration)) == """
                link up mtu 1500 address 9a:55:9a:55:9a:55
                inet \(address)/24 scope global
                default via 10.0.2.2 dev eth0
                10.0.2.0/24 dev eth0 proto kernel scope link src \(address)
                """)
    }

    @Test("S4: a router outside the subnet never widens it, and is reached on the link (R3, R5)")
    func s4() {
        let configuration = Self.seed("169.254.2.15", 16, gateway: "192.168.0.1", mac: "52:56:00:00:00:02", dns: nil)
        let plan = Self.host.plan(configuration)
        #expect(
            shown(plan) == """
                link up mtu 65520 address 9a:55:9a:55:9a:55
                inet 169.254.2.15/16 scope global
                default via 192.168.0.1 dev eth0
                169.254.0.0/16 dev eth0 proto kernel scope link src 169.254.2.15
                192.168.0.1 dev eth0 scope link
                """)
        let steps = diff(applied: AppliedState(isUp: true, mtu: 65520), plan: plan).map { $0.text(device: "eth0") }
        #expect(
            steps == [
                "addr add 169.254.2.15/16 dev eth0", "route add 192.168.0.1 dev eth0 scope link",
                "route add default via 192.168.0.1 dev eth0",
            ])
    }

    @Test("the network address of the bug is used, with one warning (R1)")
    func networkAddress() {
        let plan = Self.host.plan(
            Self.seed("169.254.0.0", 16, gateway: "169.254.2.2", mac: "52:56:00:00:00:02", dns: nil))
        #expect(plan.families.v4.guestAddress?.description == "169.254.0.0/16")
        #expect(plan.warnings.count == 1)
    }

    @Test("nothing that happens on the host changes what was given (R6, I8)")
    func hostEvents() {
        let configuration = Self.seed("10.0.2.15", 24, gateway: "10.0.2.2", mac: "52:55:0a:00:02:02", dns: "10.0.2.3")
        let online = Self.host.plan(configuration)
        let offline = Host().plan(configuration, previous: online)
        #expect(offline.families == online.families && offline.warnings == online.warnings)
        #expect(steps(from: online, to: offline).isEmpty)
        #expect(offline.rules.families.v4.dnsForward == online.rules.families.v4.dnsForward)
        #expect(offline.rules.dnsServers.isEmpty && !online.rules.dnsServers.isEmpty)
    }

    @Test("a router that is the guest itself is warned of, and leaves a default")
    func routerIsGuest() {
        let plan = Self.host.plan(wishes { $0.address("192.168.0.1", length: 24) })
        #expect(
            plan.text(.v4) == """
                manual
                inet 192.168.0.1/24 scope global
                default dev w proto dhcp scope link metric 100
                """)
        #expect(plan.warnings.contains("guest address and gateway are both 192.168.0.1"))
    }
}
