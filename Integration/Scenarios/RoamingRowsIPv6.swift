// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension RoamingCase {
    /// Rows 24 to 30: what only IPv6 does.
    static let onlyIPv6: [RoamingCase] = [
        .init(
            row: "24", name: "temporary addresses come and go: the namespace has the lasting one",
            start: [
                .host("link set wlan0 up"), .shell("echo 2 > /proc/sys/net/ipv6/conf/wlan0/use_tempaddr"),
                .host(
                    """
                    address add 2001:db8:1::10/64 dev wlan0 nodad mngtmpaddr valid_lft 3600 preferred_lft 1800
                    route add default via 2001:db8:1::1 dev wlan0 metric 600
                    """),
                .shell("until ip -6 -o address show dev wlan0 temporary | grep -q temporary; do sleep 0.02; done"),
            ],
            steps: [
                .becomes(Net.offline4 + Net.guestWifi6), .open("tcp6"),
                .shell(
                    """
                    set -- $(ip -6 -o address show dev wlan0 temporary | head -1)
                    ip address delete "$4" dev wlan0
                    """), .reset("tcp6"), .becomes(Net.offline4 + Net.guestWifi6), .reaches("tcp6 udp6"),
            ]),
        .init(
            row: "25", name: "the provider gives another prefix: the old one is deprecated, then goes",
            options: ["-t", "8080"], start: [.host(Net.wifi6)],
            steps: [
                .open("tcp6 udp6"),
                .internet("address add 2001:db8:a::1/64 dev wlan0 nodad"),
                .host(
                    """
                    address add 2001:db8:a::10/64 dev wlan0 nodad
                    address change 2001:db8:1::10/64 dev wlan0 preferred_lft 0
                    """),
                .becomes(
                    Net.offline4 + [
                        "addr 2001:db8:a::10/64", "route6 2001:db8:a::/64",
                        "route6 default via 2001:db8:1::1 metric 600",
                        "route6 2001:db8:1::1",
                    ]),
                .kept("tcp6 udp6"), .seenAs("2001:db8:a::10"), .serves("tcp6", at: "2001:db8:a::10", port: 8080),
                .host(
                    """
                    route replace default via 2001:db8:a::1 dev wlan0 metric 600
                    address delete 2001:db8:1::10/64 dev wlan0
                    """), .reset("tcp6"),
                // The reset comes before the address goes, or the namespace's kernel would ignore it; until then a datagram
                // from that address is forwarded like any other.
                .becomes(Net.offline4 + Net.guest6("2001:db8:a:", "10", metric: 600)), .stranded("udp6"),
                .reaches("tcp6 udp6"),
            ]),
        .init(
            row: "26", name: "the default route runs out, and no router speaks",
            start: [
                .host(Net.wifi4), .host("address add 2001:db8:1::10/64 dev wlan0 nodad"),
                .host("route add default via 2001:db8:1::1 dev wlan0 metric 600 expires 2"),
            ],
            steps: [
                .becomes(Net.guestWifi), .passes(2000),
                .becomes(Net.guestWifi4 + ["addr 2001:db8:1::10/64", "route6 2001:db8:1::/64"]),
                .fails("tcp6 udp6"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "27", name: "an address is used once it is known to be unique",
            start: [
                .host("link set wlan0 up"), .shell("echo 1 > /proc/sys/net/ipv6/conf/wlan0/accept_dad"),
                .host(Net.wifi4),
            ],
            steps: [
                .becomes(Net.guestWifi4 + Net.offline6),
                .never(
                    "tentative",
                    [
                        .host(
                            """
                            address add 2001:db8:1::10/64 dev wlan0
                            route add default via 2001:db8:1::1 dev wlan0 metric 600
                            """), .becomes(Net.guestWifi),
                    ]), .reaches("tcp6 udp6"),
            ]),
        .init(
            row: "27b", name: "an address that somebody else has is never used",
            start: [
                .host("link set wlan0 up"), .shell("echo 1 > /proc/sys/net/ipv6/conf/wlan0/accept_dad"),
                .host(Net.wifi4), .internet("address add 2001:db8:1::10/64 dev wlan0 nodad"),
            ],
            steps: [
                .quiet([
                    .host("address add 2001:db8:1::10/64 dev wlan0"),
                    .shell("until ip -6 address show dev wlan0 | grep -q dadfailed; do sleep 0.05; done"),
                ]), .becomes(Net.guestWifi4 + Net.offline6),
            ]),
        .init(
            row: "28", name: "a local prefix first, then a global one",
            start: [
                .host(
                    """
                    link set wlan0 up
                    address add fd00:1::10/64 dev wlan0 nodad
                    """)
            ],
            steps: [
                .becomes(Net.offline4 + ["addr fd00:1::10/64", "route6 fd00:1::/64"]),
                .host(Net.wifi6 + "\naddress change fd00:1::10/64 dev wlan0 preferred_lft 0"),
                .becomes(Net.offline4 + Net.guestWifi6), .reaches("tcp6 udp6"),
                .seenAs("2001:db8:1::10"),
            ]),
        .init(
            row: "29", name: "IPv6 is withdrawn; IPv4 stays", options: ["-t", "8080"], start: [.host(Net.wifi)],
            steps: [
                .open("tcp4 udp4 tcp6"),
                .shell("ip -6 route flush default; ip -6 address flush dev wlan0 scope global"),
                .reset("tcp6"), .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4 udp4"), .fails("tcp6 udp6"),
                .reaches("tcp4 udp4"), .serves("tcp4", at: "192.0.2.10", port: 8080),
            ]),
        .init(
            row: "30", name: "IPv6 only, with IPv4 on a translator's interface",
            start: [.host(Net.wifi6), .resolvers("2001:db8:1::53")],
            steps: [
                .becomes(Net.offline4 + Net.guestWifi6), .open("tcp6"), .answeredBy("2001:db8:1::53"),
                .shell("ip link set tun0 name clat0"),
                .internet("address add 192.0.0.1/24 dev tun0"),
                .host(
                    """
                    link set clat0 up
                    address add 192.0.0.4/32 dev clat0
                    route add default dev clat0 src 192.0.0.4 metric 2048
                    """),
                .becomes(
                    ["addr 192.0.0.4/32", "route default scope link src 192.0.0.4 metric 2048"] + Net.guestWifi6),
                .reaches("tcp4 udp4"), .seenAs("192.0.0.4"), .kept("tcp6"),
            ]),
    ]
}
