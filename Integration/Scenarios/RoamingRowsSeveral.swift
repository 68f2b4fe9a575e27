// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension RoamingCase {
    /// Rows 13, 14, 16, 19, 39, 40, 43 to 45: several interfaces, of which one is preferred.
    static let severalInterfaces: [RoamingCase] = [
        .init(
            row: "13", name: "docked: the cable is preferred, flows on the Wi-Fi stay there", options: ["-t", "8080"],
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4 udp4 tcp6 udp6"), .host(Net.cable), .resolvers("198.51.100.53"), .becomes(Net.guestCable),
                .kept("tcp4 udp4 tcp6 udp6"), .seenAs("198.51.100.5"), .seenAs("2001:db8:2::5"),
                .reaches("tcp4 udp4 tcp6 udp6"), .answeredBy("198.51.100.53"), .findsHost("198.51.100.5"),
                .serves("tcp4", at: "198.51.100.5", port: 8080), .serves("tcp4", at: "192.0.2.10", port: 8080),
            ]),
        .init(
            row: "14", name: "undocked: back to the Wi-Fi, flows on the cable end", options: ["-t", "8080"],
            start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 tcp6"), .host(Net.cable), .becomes(Net.guestCable),
                .open("tcp4.cable udp4.cable tcp6.cable"),
                .host("link delete eth0"), .reset("tcp4.cable tcp6.cable"), .becomes(Net.guestWifi),
                .kept("tcp4 tcp6"), .stranded("udp4.cable"), .reaches("tcp4 udp4 tcp6 udp6"),
                .serves("tcp4", at: "192.0.2.10", port: 8080),
            ]),
        .init(
            row: "16", name: "a telephone is plugged in: used when the Wi-Fi goes", options: ["-t", "8080"],
            start: [.host(Net.wifi4), .shell("ip link set usb0 name enx0a1b2c3d4e5f")],
            steps: [
                .open("tcp4"),
                .quiet([
                    .host(
                        """
                        link set enx0a1b2c3d4e5f up
                        address add 192.168.44.7/24 dev enx0a1b2c3d4e5f
                        route add default via 192.168.44.1 dev enx0a1b2c3d4e5f metric 700
                        """)
                ]), .kept("tcp4"),
                .host(Net.wifiLeft4), .reset("tcp4"),
                .becomes(Net.guest4("192.168.44", 7, metric: 700) + Net.offline6), .reaches("tcp4 udp4"),
                .seenAs("192.168.44.7"), .serves("tcp4", at: "192.168.44.7", port: 8080),
            ]),
        .init(
            row: "19", name: "a portal raises the metric and lowers it again", start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4 udp4"),
                .host("route add default via 192.0.2.1 dev wlan0 metric 20600\nroute delete default metric 600"),
                .becomes(Net.guest4("192.0.2", 10, metric: 20600) + Net.offline6), .kept("tcp4 udp4"),
                .host("route add default via 192.0.2.1 dev wlan0 metric 600\nroute delete default metric 20600"),
                .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4 udp4"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "19b", name: "a portal on the cable: the Wi-Fi is preferred for a while", interface: "eth0",
            start: [.host(Net.wifi4), .host(Net.cable4)],
            steps: [
                .open("tcp4 udp4"),
                .host("route add default via 198.51.100.1 dev eth0 metric 20100\nroute delete default metric 100"),
                .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4 udp4"), .seenAs("192.0.2.10"), .open("tcp4.wifi"),
                .host("route add default via 198.51.100.1 dev eth0 metric 100\nroute delete default metric 20100"),
                .becomes(Net.guestCable4 + Net.offline6), .kept("tcp4 udp4 tcp4.wifi"), .seenAs("198.51.100.5"),
            ]),
        .init(
            row: "39", name: "the default is replaced by one on another interface", interface: "eth0",
            start: [
                .host(
                    """
                    link set wlan0 up
                    address add 192.0.2.10/24 dev wlan0
                    link set eth0 up
                    address add 198.51.100.5/24 dev eth0
                    route add default via 198.51.100.1 dev eth0 metric 50
                    """)
            ],
            steps: [
                .open("tcp4 udp4"), .host("route replace default via 192.0.2.1 dev wlan0 metric 50"),
                .becomes(Net.guest4("192.0.2", 10, metric: 50) + Net.offline6), .kept("tcp4 udp4"),
                .seenAs("192.0.2.10"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "40", name: "one of two next hops goes", interface: "eth0",
            start: [
                .host(
                    """
                    link set wlan0 up
                    address add 192.0.2.10/24 dev wlan0
                    link set eth0 up
                    address add 198.51.100.5/24 dev eth0
                    nexthop add id 1 via 198.51.100.1 dev eth0
                    nexthop add id 2 via 192.0.2.1 dev wlan0
                    nexthop add id 10 group 1
                    route add default nhid 10
                    """)
            ],
            steps: [
                .open("tcp4"), .host("nexthop replace id 10 group 1/2"), .follows, .kept("tcp4"),
                .host("nexthop delete id 1"), .follows, .seenAs("192.0.2.10"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "40b", name: "the link of one of two next hops goes down",
            start: [
                .host(
                    """
                    link set wlan0 up
                    address add 192.0.2.10/24 dev wlan0
                    link set eth0 up
                    address add 198.51.100.5/24 dev eth0
                    route add default nexthop via 192.0.2.1 dev wlan0 weight 100 nexthop via 198.51.100.1 dev eth0
                    """)
            ],
            steps: [
                .follows, .host("link set wlan0 down"), .follows, .seenAs("198.51.100.5"),
                .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "41", name: "a /32 with a router on the link, in the wrong order", interface: "tap0",
            steps: [
                .becomes(Net.offline),
                .host(
                    """
                    link set wlan0 up
                    route add 192.0.2.1 dev wlan0
                    route add default via 192.0.2.1 dev wlan0
                    """), .passes(300), .host("address add 192.0.2.10/32 dev wlan0"),
                .becomes(
                    ["addr 192.0.2.10/32", "route 192.0.2.1 scope link", "route default via 192.0.2.1"] + Net.offline6),
                .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "41b", name: "noprefixroute, network route and default last", interface: "tap0",
            steps: [
                .host("link set wlan0 up\naddress add 192.0.2.10/24 dev wlan0 noprefixroute"), .passes(300),
                .host(
                    """
                    route add 192.0.2.0/24 dev wlan0 proto kernel scope link src 192.0.2.10 metric 600
                    route add default via 192.0.2.1 dev wlan0 proto dhcp src 192.0.2.10 metric 600
                    """),
                .becomes(
                    [
                        "addr 192.0.2.10/24 noprefixroute", "route 192.0.2.0/24 scope link src 192.0.2.10 metric 600",
                        "route default via 192.0.2.1 src 192.0.2.10 metric 600",
                    ] + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "42", name: "containers' interfaces come and go", start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 tcp6"),
                .quiet([
                    .shell(
                        """
                        for i in 1 2 3 4 5; do
                            ip link add veth$i type veth peer name peer$i
                            ip link set veth$i up
                            ip address add 172.17.$i.1/24 dev veth$i
                            ip route add 172.18.$i.0/24 via 172.17.$i.2 2> /dev/null || true
                            ip link delete veth$i
                        done
                        """)
                ]), .kept("tcp4 tcp6"),
            ]),
        .init(
            row: "43", name: "the interface is renamed", start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 udp4"), .quiet([.host("link set wlan0 name wifi1")]), .kept("tcp4 udp4"),
                .becomes(Net.guestWifi), .reaches("tcp4 udp4 tcp6 udp6"),
            ]),
        .init(
            row: "44", name: "the interface is taken away", start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4"), .shell("ip link set wlan0 netns @internet@ name gone0"),
                .reset("tcp4"), .becomes(Net.offline), .fails("tcp4"), .host(Net.cable4),
                .becomes(Net.guestCable4 + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "45", name: "the interface joins a bridge, to which its address moves", interface: "eth0",
            start: [.host(Net.cable4)],
            steps: [
                .open("tcp4 udp4"),
                .quiet([
                    .host(
                        """
                        link add br0 type bridge
                        address flush dev eth0 scope global
                        link set eth0 master br0
                        link set br0 up
                        address add 198.51.100.5/24 dev br0
                        route add default via 198.51.100.1 dev br0 metric 100
                        """)
                ]), .kept("tcp4 udp4"), .becomes(Net.guestCable4 + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "46", name: "the link's MTU shrinks", start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4"), .quiet([.host("link set wlan0 mtu 1280")]), .kept("tcp4"), .reaches("tcp4 udp4"),
                .becomes(Net.guestWifi4 + Net.offline6),
            ]),
    ]
}
