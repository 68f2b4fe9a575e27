// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Host networks that rows begin with, and what they give to the namespace.
enum Net {
    /// The host comes into a Wi-Fi.
    static let wifi = wifi4 + "\n" + wifi6
    static let wifi4 = """
        link set wlan0 up
        address add 192.0.2.10/24 dev wlan0
        route add default via 192.0.2.1 dev wlan0 metric 600
        """
    static let wifi6 = """
        link set wlan0 up
        address add 2001:db8:1::10/64 dev wlan0 nodad
        route add default via 2001:db8:1::1 dev wlan0 metric 600
        """
    /// What that gives.
    static let guestWifi = guestWifi4 + guestWifi6
    static let guestWifi4 = guest4("192.0.2", 10, metric: 600)
    static let guestWifi6 = guest6("2001:db8:1:", "10", metric: 600)

    /// A cable is plugged in, and preferred.
    static let cable =
        cable4 + """

            address add 2001:db8:2::5/64 dev eth0 nodad
            route add default via 2001:db8:2::1 dev eth0 metric 100
            """
    static let cable4 = """
        link set eth0 up
        address add 198.51.100.5/24 dev eth0
        route add default via 198.51.100.1 dev eth0 metric 100
        """
    static let guestCable = guestCable4 + guest6("2001:db8:2:", "5", metric: 100)
    static let guestCable4 = guest4("198.51.100", 5, metric: 100)

    /// The addresses and the default go, as when a DHCP client ends.
    static let wifiLeft = wifiLeft4 + "\nroute delete default via 2001:db8:1::1 dev wlan0"
    static let wifiLeft4 = "address flush dev wlan0 scope global"

    /// Nothing: each family for itself.
    static let offline = offline4 + offline6
    static let offline4 = [
        "addr 169.254.2.1/16", "route default via 169.254.2.2", "route 169.254.0.0/16 scope link src 169.254.2.1",
    ]
    static let offline6 = ["route6 default via fe80::1"]

    static func guest4(_ network: String, _ host: Int, metric: Int, router: Int = 1) -> [String] {
        [
            "addr \(network).\(host)/24", "route default via \(network).\(router) metric \(metric)",
            "route \(network).0/24 scope link src \(network).\(host)",
        ]
    }

    static func guest6(_ network: String, _ host: String, metric: Int) -> [String] {
        [
            "addr \(network):\(host)/64", "route6 default via \(network):1 metric \(metric)", "route6 \(network):/64",
        ]
    }
}

extension RoamingCase {
    /// Rows 1 to 8: networks that come late.
    static let arrival: [RoamingCase] = [
        .init(
            row: "1", name: "boots offline, then Wi-Fi comes", interface: "tap0",
            options: ["-t", "8080", "-t", "192.0.2.10/9090"],
            steps: [
                .becomes(Net.offline), .unanswered, .fails("tcp4 udp4 tcp6"),
                .serves("tcp4", at: "127.0.0.1", port: 8080),
                .host(Net.wifi), .resolvers("192.0.2.53"),
                .becomes(Net.guestWifi), .reaches("tcp4 udp4 tcp6 udp6"), .answeredBy("192.0.2.53"),
                .findsHost("192.0.2.10"), .serves("tcp4", at: "127.0.0.1", port: 8080),
                .serves("tcp4", at: "192.0.2.10", port: 8080), .serves("tcp4", at: "192.0.2.10", port: 9090),
            ]),
        .init(
            row: "1b", name: "a flow to the host itself lives on when Wi-Fi comes", interface: "tap0",
            steps: [
                .becomes(Net.offline), .hostListens("tcp4 udp4", at: "127.0.0.1"), .openTo("tcp4 udp4", "169.254.2.2"),
                .host(Net.wifi), .becomes(Net.guestWifi), .kept("tcp4 udp4"), .reaches("tcp4"),
            ]),
        .init(
            row: "2", name: "only link-local addresses, then DHCP's", interface: "tap0",
            start: [.host("link set wlan0 up\naddress add 169.254.7.7/16 dev wlan0 scope link")],
            steps: [
                .becomes(Net.offline), .host(Net.wifi4), .becomes(Net.guestWifi4 + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "3", name: "IPv6 at once, IPv4 later", options: ["-t", "8080"], start: [.host(Net.wifi6)],
            steps: [
                .becomes(Net.offline4 + Net.guestWifi6), .open("tcp6 udp6"), .fails("tcp4"), .host(Net.wifi4),
                .becomes(Net.guestWifi), .kept("tcp6 udp6"), .reaches("tcp4 udp4"),
                .serves("tcp4", at: "192.0.2.10", port: 8080), .serves("tcp6", at: "2001:db8:1::10", port: 8080),
            ]),
        .init(
            row: "4", name: "an address without a default, then the default",
            start: [.host("link set wlan0 up\naddress add 192.0.2.10/24 dev wlan0")],
            steps: [
                .becomes(["addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10"] + Net.offline6),
                .openTo("tcp4", "192.0.2.1"), .fails("tcp4"),
                .host("route add default via 192.0.2.1 dev wlan0 metric 600"),
                .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "5", name: "resolv.conf absent, empty, then there",
            start: [.host(Net.wifi), .shell("rm /etc/resolv.conf")],
            steps: [
                .unanswered, .shell(": > /etc/resolv.conf"), .passes(300), .unanswered,
                .quiet([.shell("echo nameserver 192.0.2.53 > /etc/resolv.conf")]), .answeredBy("192.0.2.53"),
            ]),
        .init(
            row: "6", name: "an isolated network for ever", options: ["--no-map-gw"],
            start: [.host("link set wlan0 up\naddress add 192.0.2.10/24 dev wlan0")],
            steps: [
                .openTo("tcp4 udp4", "192.0.2.1"), .quiet([.passes(1500)]), .kept("tcp4 udp4"), .wroteAtMost(lines: 1),
            ]),
        .init(
            row: "7", name: "a port of an address that comes later", interface: "tap0",
            options: ["-t", "192.0.2.10/9090", "-u", "192.0.2.10/9090"],
            steps: [
                .becomes(Net.offline), .host(Net.wifi4), .serves("tcp4 udp4", at: "192.0.2.10", port: 9090),
                .host("address delete 192.0.2.10/24 dev wlan0"), .passes(1500),
                .unserved("tcp4", at: "192.0.2.10", port: 9090),
                .host("address add 192.0.2.10/24 dev wlan0"), .serves("tcp4 udp4", at: "192.0.2.10", port: 9090),
            ]),
        .init(
            row: "8", name: "churn while it starts",
            start: [
                .host(Net.wifi),
                .shell(
                    """
                    (i=0; while [ $i -lt 20 ]; do
                        i=$((i + 1))
                        ip address add 192.0.2.$((100 + i))/24 dev wlan0
                        ip route add 10.77.$i.0/24 via 192.0.2.1
                        ip address delete 192.0.2.$((100 + i))/24 dev wlan0
                        sleep 0.01
                    done; touch /run/churned) > /dev/null 2>&1 &
                    """),
            ],
            steps: [
                .shell("until [ -e /run/churned ]; do sleep 0.02; done"), .follows, .reaches("tcp4 udp4 tcp6 udp6"),
            ]),
    ]
}
