// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension RoamingCase {
    /// The Wi-Fi is exchanged for another in one go.
    private static let otherWifi = """
        address flush dev wlan0 scope global
        address add 198.18.7.7/24 dev wlan0
        address add 2001:db8:7::7/64 dev wlan0 nodad
        route add default via 198.18.7.1 dev wlan0 metric 600
        route replace default via 2001:db8:7::1 dev wlan0 metric 600
        """
    private static let guestOtherWifi =
        Net.guest4("198.18.7", 7, metric: 600) + Net.guest6("2001:db8:7:", "7", metric: 600)

    /// Rows 9 to 12, 15, 18, 21 to 23: one Wi-Fi that goes, comes, and gives other addresses.
    static let wireless: [RoamingCase] = [
        .init(
            row: "9", name: "from one Wi-Fi to another", options: ["-t", "8080", "-t", "192.0.2.10/9090"],
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .becomes(Net.guestWifi), .open("tcp4 udp4 tcp6 udp6"), .answeredBy("192.0.2.53"),
                .findsHost("192.0.2.10"), .serves("tcp4", at: "192.0.2.10", port: 9090),
                .internet("link set wlan0 down"), .passes(200), .internet("link set wlan0 up"),
                .host(otherWifi), .resolvers("198.18.7.53"),
                .reset("tcp4 tcp6"), .becomes(guestOtherWifi), .stranded("udp4 udp6"), .reaches("tcp4 udp4 tcp6 udp6"),
                .seenAs("198.18.7.7"),
                .answeredBy("198.18.7.53"), .findsHost("198.18.7.7"),
                .serves("tcp4", at: "198.18.7.7", port: 8080), .unserved("tcp4", at: "198.18.7.7", port: 9090),
            ]),
        .init(
            row: "9b", name: "a connection is under way when the Wi-Fi changes", start: [.host(Net.wifi)],
            steps: [
                .internet("link set wlan0 down"),
                // The old address goes first: with it, the open that waits could be answered as soon as there is a carrier.
                .connectsMeanwhile(
                    "tcp4",
                    [
                        .host("address flush dev wlan0 scope global"), .internet("link set wlan0 up"), .host(otherWifi),
                    ]),
                .becomes(guestOtherWifi),
            ]),
        .init(
            row: "10", name: "from access point to access point: no carrier for a while, the same address",
            options: ["-t", "8080", "--hold-down", "2"], start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 udp4 tcp6 udp6"),
                .quiet([.internet("link set wlan0 down"), .passes(1000), .internet("link set wlan0 up")]),
                .kept("tcp4 udp4 tcp6 udp6"), .reaches("tcp4 udp4 tcp6 udp6"),
                .serves("tcp4", at: "192.0.2.10", port: 8080),
            ]),
        .init(
            row: "11", name: "no network for longer than the hold-down, then the same address: carrier only",
            start: [.host(Net.wifi4), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4 udp4"), .internet("link set wlan0 down"), .becomes(Net.offline), .unansweredSoon,
                .internet("link set wlan0 up"), .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4 udp4"),
                .reaches("tcp4 udp4"), .answeredBy("192.0.2.53"),
            ]),
        .init(
            row: "11b", name: "no network for longer than the hold-down, then the same address: taken away and back",
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4 udp4 tcp6"), .host(Net.wifiLeft), .reset("tcp4 tcp6"), .becomes(Net.offline),
                .fails("tcp4 udp4 tcp6"), .unansweredSoon, .host(Net.wifi), .becomes(Net.guestWifi),
                .moved("udp4", to: "192.0.2.10"), .reaches("tcp4 udp4 tcp6 udp6"), .answeredBy("192.0.2.53"),
            ]),
        .init(
            row: "11c", name: "the address is away for less than the hold-down", options: ["--hold-down", "3"],
            start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 udp4 tcp6"),
                .quiet([.host(Net.wifiLeft), .passes(800), .host(Net.wifi), .kept("tcp4 udp4 tcp6")]),
                .reaches("tcp4 udp4 tcp6 udp6"),
            ]),
        .init(
            row: "12", name: "another network with the same address and router", interface: "wlan0",
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4"), .answeredBy("192.0.2.53"), .otherInternet, .resolvers("192.0.2.54"),
                .ended("tcp4"), .reaches("tcp4 udp4 tcp6 udp6"), .answeredBy("192.0.2.54"), .becomes(Net.guestWifi),
            ]),
        .init(
            row: "15", name: "the address goes, and the cable comes before the hold-down ends",
            options: ["--hold-down", "3"], start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4 udp4"),
                .never(
                    "169.254.",
                    [
                        .host(Net.wifiLeft4), .passes(1000), .host(Net.cable4),
                        .becomes(Net.guestCable4 + Net.offline6),
                    ]),
                .reset("tcp4"), .stranded("udp4"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "20", name: "a lease is renewed: only lifetimes change", start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 tcp6"),
                .quiet([
                    .host(
                        """
                        address change 192.0.2.10/24 dev wlan0 valid_lft 3600 preferred_lft 1800
                        address change 2001:db8:1::10/64 dev wlan0 valid_lft 3600 preferred_lft 1800
                        """), .passes(300),
                    .host("address change 192.0.2.10/24 dev wlan0 valid_lft 3700 preferred_lft 1900"),
                ]), .kept("tcp4 tcp6"),
            ]),
        .init(
            row: "21", name: "another address in the same network; the old one takes it along",
            start: [.shell("echo 0 > /proc/sys/net/ipv4/conf/wlan0/promote_secondaries"), .host(Net.wifi4)],
            steps: [
                .open("tcp4 udp4"),
                .host("address add 192.0.2.20/24 dev wlan0\naddress delete 192.0.2.10/24 dev wlan0"),
                .becomes(Net.offline), .reset("tcp4"),
                .host("address add 192.0.2.20/24 dev wlan0\nroute add default via 192.0.2.1 dev wlan0 metric 600"),
                .becomes(Net.guest4("192.0.2", 20, metric: 600) + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "21b", name: "another address in the same network, which outlives the old one",
            start: [.shell("echo 1 > /proc/sys/net/ipv4/conf/wlan0/promote_secondaries"), .host(Net.wifi4)],
            steps: [
                .open("tcp4 udp4"),
                .host("address add 192.0.2.20/24 dev wlan0\naddress delete 192.0.2.10/24 dev wlan0"), .reset("tcp4"),
                .becomes(Net.guest4("192.0.2", 20, metric: 600) + Net.offline6), .stranded("udp4"),
                .reaches("tcp4 udp4"), .seenAs("192.0.2.20"),
            ]),
        .init(
            row: "21c", name: "a second address of the network goes and comes", start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4"), .host("address add 192.0.2.20/24 dev wlan0"),
                .becomes(Net.guestWifi4 + Net.offline6 + ["addr 192.0.2.20/24 secondary"]),
                .host("address delete 192.0.2.20/24 dev wlan0"), .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4"),
            ]),
        .init(
            row: "22", name: "the router changes", start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4 udp4"), .host("route replace default via 192.0.2.254 dev wlan0 metric 600"),
                .becomes(Net.guest4("192.0.2", 10, metric: 600, router: 254) + Net.offline6), .kept("tcp4 udp4"),
                .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "23", name: "IPv4's lease runs out; IPv6 stays",
            start: [.host(Net.wifi6)],
            steps: [
                .host(
                    """
                    address add 192.0.2.10/24 dev wlan0 valid_lft 2 preferred_lft 2
                    route add default via 192.0.2.1 dev wlan0 metric 600
                    """), .becomes(Net.guestWifi), .open("tcp4 tcp6"), .reset("tcp4"),
                .becomes(Net.offline4 + Net.guestWifi6), .kept("tcp6"), .fails("tcp4"), .reaches("tcp6 udp6"),
            ]),
        .init(
            row: "47", name: "the interface is set down and up", start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 tcp6"), .host("link set wlan0 down"), .reset("tcp6"), .becomes(Net.offline), .fails("tcp4"),
                .host("link set wlan0 up"),
                .becomes(["addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10"] + Net.offline6),
                .host(Net.wifi.split(separator: "\n").filter { !$0.contains("192.0.2.10") }.joined(separator: "\n")),
                .becomes(Net.guestWifi), .kept("tcp4"), .reaches("tcp4 udp4 tcp6 udp6"),
            ]),
    ]
}
