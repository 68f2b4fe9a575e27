// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension RoamingCase {
    /// What a namespace has in opaque mode, beside the host's addresses.
    private static let constant = Net.offline4 + ["route6 default via fe80::1 src fe80::2"]

    /// docs/modes.md: opaque mode.
    static let opaque = RoamingCase(
        row: "opaque", name: "a train ride: only the host's addresses come and go, and the host is always there",
        interface: "tap0", options: ["--mode", "opaque", "-t", "8080"],
        steps: [
            .becomes(constant), .fails("tcp4 tcp6"),
            .hostListens("tcp4", at: "127.0.0.1"), .hostListens("udp4", at: "127.0.0.1"),
            .hostListens("tcp6", at: "::1"),
            .openTo("tcp4.host udp4.host", "169.254.2.2"), .openTo("tcp6.host", "fe80::1%tap0"),
            .host(Net.wifi),
            .becomes(constant + ["addr 192.0.2.10/32 noprefixroute", "addr 2001:db8:1::10/128 noprefixroute"]),
            .reaches("tcp4 udp4 tcp6 udp6"), .seenAs("192.0.2.10"), .seenAs("2001:db8:1::10"),
            .reachesFrom("169.254.2.1 192.0.2.10 2001:db8:1::10"),
            .serves("tcp4", at: "192.0.2.10", port: 8080), .open("tcp4 tcp6"),
            .kept("tcp4.host udp4.host tcp6.host"),
            .fetching([
                .host(Net.cable), .has(["addr 198.51.100.5/32 noprefixroute"]),
                // A better default elsewhere: what is open goes on.
                .kept("tcp4 tcp6 tcp4.host"), .reaches("tcp4 tcp6"), .seenAs("198.51.100.5"),
                .host(Net.wifiLeft), .ended("tcp4 tcp6"),
                .becomes(constant + ["addr 198.51.100.5/32 noprefixroute", "addr 2001:db8:2::5/128 noprefixroute"]),
                .kept("tcp4.host udp4.host tcp6.host"),
            ]),
            .host("link set eth0 down"), .becomes(constant), .fails("tcp4"),
            .kept("tcp4.host udp4.host tcp6.host"), .serves("tcp4", at: "127.0.0.1", port: 8080),
        ])

    /// docs/modes.md: transparent mode.
    static let transparent = RoamingCase(
        row: "transparent", name: "the interface as it is, its neighbours, and never another",
        options: ["--mode", "transparent", "-i", "wlan0", "-t", "8080", "-u", "8080"],
        start: [
            .host(Net.cable + "\nlink set wlan0 up\naddress add fe80::10/64 dev wlan0 nodad"),
            .internet("address add fe80::99/64 dev wlan0 nodad"),
        ],
        steps: [
            // The cable is there all the time: nothing leaks by it.
            .follows, .fails("tcp4 tcp6"),
            .host(Net.wifi), .has(Net.guestWifi + ["link wlan0 mtu 1500 up"]), .follows,
            .reaches("tcp4 udp4 tcp6 udp6"), .seenAs("192.0.2.10"), .seenAs("2001:db8:1::10"),
            .reachesAt("tcp6 udp6", "fe80::99%wlan0"), .reachesAt("tcp4", "192.0.2.1"),
            .inside("ping -c 1 -W 2 fe80::99%wlan0"),
            .serves("tcp6 udp6", at: "fe80::10%wlan0", port: 8080), .serves("tcp4", at: "192.0.2.10", port: 8080),
            .unserved("tcp4", at: "198.51.100.5", port: 8080), .unserved("tcp4", at: "127.0.0.1", port: 8080),
            .openTo("tcp6.peer", "fe80::99%wlan0"), .open("tcp4"),
            .fetching([
                // Another address in the same network; the neighbour does not notice.
                .host(
                    "address delete 192.0.2.10/24 dev wlan0\naddress add 192.0.2.20/24 dev wlan0\n"
                        + "route replace default via 192.0.2.1 dev wlan0 metric 600"),
                .has(["addr 192.0.2.20/24", "route default via 192.0.2.1 metric 600"]), .ended("tcp4"),
                .kept("tcp6.peer"),
                .reaches("tcp4 tcp6"), .seenAs("192.0.2.20"),
            ]),
            .host("link set wlan0 mtu 1400"), .has(["link wlan0 mtu 1400 up"]),
            .internet("link set wlan0 down"), .inside(Self.untilCarrier(0)),
            .internet("link set wlan0 up"), .inside(Self.untilCarrier(1)), .reaches("tcp4"), .follows,
            .host("link set wlan0 down\nlink set wlan0 name gone0"), .has(["link wlan0 mtu 1500 up"]), .fails("tcp4"),
            .follows,
        ])

    /// Waits until the namespace's link has a carrier, or none.
    private static func untilCarrier(_ value: Int) -> String {
        """
        for _ in $(seq 100); do
            ip -o link show dev wlan0 | grep -q NO-CARRIER && now=0 || now=1
            [ $now = \(value) ] && exit 0
            sleep 0.05
        done
        ip link show dev wlan0 >&2
        exit 1
        """
    }

    /// Followed addresses, a constant one, those of an interface and link-local ones, together.
    static let manySources = RoamingCase(
        row: "sources", name: "sources add up: each address works, and comes and goes with its source",
        options: ["-a", "auto", "-a", "192.168.77.1/24", "-a", "%eth0", "-a", "ll", "-t", "8080"],
        start: [.host(Net.wifi)],
        steps: [
            .follows, .has(["addr 192.0.2.10/24", "addr 192.168.77.1/24", "addr 169.254.2.1/16"]),
            .reachesFrom("192.0.2.10 192.168.77.1 169.254.2.1 2001:db8:1::10"),
            .host(
                "link set eth0 up\naddress add 198.51.100.5/24 dev eth0\naddress add 2001:db8:2::5/64 dev eth0 nodad"),
            .has(["addr 198.51.100.5/24", "addr 2001:db8:2::5/64"]), .follows,
            .reachesFrom("192.0.2.10 192.168.77.1 198.51.100.5 2001:db8:2::5"),
            .serves("tcp4", at: "192.0.2.10", port: 8080), .serves("tcp4", at: "198.51.100.5", port: 8080),
            .fetching([
                .host(Net.wifiLeft + "\nroute add default via 198.51.100.1 dev eth0"), .follows,
                .reachesFrom("192.168.77.1 198.51.100.5 169.254.2.1"),
            ]),
            .host("link set eth0 down"), .follows, .has(["addr 192.168.77.1/24"]), .fails("tcp4"),
        ])

    /// Every address of the host.
    static let allAddresses = RoamingCase(
        row: "all", name: "every address of the host, of any interface",
        options: ["-a", "all", "--strict-addresses"], start: [.host(Net.wifi)],
        steps: [
            .follows, .host(Net.cable), .has(["addr 192.0.2.10/24", "addr 198.51.100.5/24"]), .follows,
            .reachesFrom("192.0.2.10 198.51.100.5 2001:db8:1::10 2001:db8:2::5"),
            // One that nobody gave.
            .inside(
                "ip address add 10.99.0.1/32 dev wlan0; ! ping -c 1 -W 1 -I 10.99.0.1 192.0.2.1; "
                    + "ip address delete 10.99.0.1/32 dev wlan0"),
            .host(Net.wifiLeft), .follows, .reachesFrom("198.51.100.5 2001:db8:2::5"),
        ])
}

extension Scenarios {
    /// Sources of addresses and modes (docs/modes.md), with traffic.
    ///
    /// Topology: see `Roaming`.
    @Suite("modes", .timeLimit(.minutes(2))) struct Modes {
        @Test(
            "row",
            arguments: [
                RoamingCase.opaque, RoamingCase.transparent, RoamingCase.manySources, RoamingCase.allAddresses,
            ])
        func row(row: RoamingCase) async throws {
            try await RoamingRun.run(row)
        }

        @Test("--strict-addresses: DHCP refuses another address, SLAAC's is taken, one that nobody gave is dropped")
        func strict() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change(Net.wifi)
                let engine = try await net.host.attach(
                    net.guest, ServiceClients.quiet + ["-I", "tap7", "--strict-addresses"])
                let client = try await net.guest.start([
                    "bash", projectFile("Integration/Lab/Programs/client.sh"), "stale", "tap7",
                ])
                func has(_ text: String, _ family: String) async throws -> Bool {
                    try await net.guest.must(["ip", family, "address", "show", "dev", "tap7"]).split(separator: "\n")
                        .contains { $0.contains(text) && !$0.contains("tentative") }
                }
                try await eventually("a refusal, then the address that is offered", within: .seconds(30)) {
                    guard client.errors.contains("DHCPNAK") else { return false }
                    return try await has("inet 192.0.2.10/24", "-4")
                }
                #expect(client.errors.contains("DHCPREQUEST for 192.0.2.99"), "\(client.errors)")
                try await eventually("an address of its own in the advertised prefix", within: .seconds(10)) {
                    try await has("inet6 2001:db8:1:", "-6")
                }
                for address in Roaming.beyond {
                    try await net.guest.must(["ping", "-c", "1", "-W", "5", address])
                }
                #expect(!engine.errors.contains("192.0.2.98"))
                try await net.guest.ip("address add 192.0.2.98/32 dev tap7")
                for _ in 1...2 {
                    let strange = try await net.guest.run([
                        "ping", "-c", "1", "-W", "1", "-I", "192.0.2.98", "192.0.2.1",
                    ])
                    #expect(strange.status == 1, "\(strange)")
                }
                let warnings = engine.errors.split(separator: "\n").filter { $0.contains("192.0.2.98") }
                #expect(warnings.count == 1, "\(engine.errors)")
            }
        }
    }
}
