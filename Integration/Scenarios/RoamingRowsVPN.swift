// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension RoamingCase {
    private static let tunnelUp = "link set tun0 up\naddress add 10.8.0.2/24 dev tun0"
    /// As wg-quick does it: a table of its own, and rules before the main table's.
    private static let rulesUp = """
        route add default dev tun0 table 51820
        rule add not fwmark 51820 table 51820 priority 32765
        rule add table main suppress_prefixlength 0 priority 32764
        """
    private static let rulesDown = """
        rule delete priority 32764
        rule delete priority 32765
        route flush table 51820
        """
    private static let guestTunnel = [
        "addr 10.8.0.2/24", "route 10.8.0.0/24 scope link src 10.8.0.2", "route default scope link",
    ]

    /// Rows 31 to 36: tunnels, and the policy rules that lead into them.
    static let tunnels: [RoamingCase] = [
        .init(
            row: "31", name: "OpenVPN: two halves of everything through the tunnel", options: ["-t", "8080"],
            start: [.host(Net.wifi4), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4 udp4"),
                .host(
                    tunnelUp + """

                        route add 192.0.2.200 via 192.0.2.1 dev wlan0
                        route add 0.0.0.0/1 via 10.8.0.1
                        route add 128.0.0.0/1 via 10.8.0.1
                        """), .resolvers("10.8.0.1"),
                .becomes(
                    [
                        "addr 10.8.0.2/24", "route 10.8.0.0/24 scope link src 10.8.0.2",
                        "route 0.0.0.0/1 via 10.8.0.1", "route 128.0.0.0/1 via 10.8.0.1",
                        "route default via 10.8.0.1",
                    ] + Net.offline6),
                .kept("tcp4 udp4"), .seenAs("10.8.0.2"), .reaches("tcp4 udp4"), .answeredBy("10.8.0.1"),
                .open("tcp4.tunnel"),
                .host("link set tun0 down\naddress flush dev tun0\nroute delete 192.0.2.200"), .resolvers("192.0.2.53"),
                .reset("tcp4.tunnel"), .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4"),
                .reaches("tcp4 udp4"), .answeredBy("192.0.2.53"), .seenAs("192.0.2.10"),
            ]),
        .init(
            row: "32", name: "wg-quick: a table and rules; the main table stays as it is",
            start: [.host(Net.wifi4), .resolvers("192.0.2.53"), .host(tunnelUp)],
            steps: [
                .becomes(Net.guestWifi4 + Net.offline6), .open("tcp4 udp4"), .host(rulesUp), .resolvers("10.8.0.53"),
                .becomes(guestTunnel + Net.offline6), .kept("tcp4 udp4"), .seenAs("10.8.0.2"), .reaches("tcp4 udp4"),
                .answeredBy("10.8.0.53"),
            ]),
        .init(
            row: "33", name: "split tunnel: part of the addresses, nothing else changes",
            start: [.host(Net.wifi4), .resolvers("127.0.0.53"), .listenDNS("127.0.0.53")],
            steps: [
                .open("tcp4"), .answeredBy("127.0.0.53"),
                .quiet([.host(tunnelUp + "\nroute add 10.0.0.0/8 via 10.8.0.1")]), .kept("tcp4"),
                .reachesAt("tcp4 udp4", "10.9.9.9"), .seenAs("192.0.2.10"), .answeredBy("127.0.0.53"),
            ]),
        .init(
            row: "34", name: "the tunnel drops, and a kill switch refuses everything", interface: "tun0",
            start: [.host(Net.wifi4), .host(tunnelUp), .host("route add default dev tun0 metric 50")],
            steps: [
                .open("tcp4"),
                .never(
                    "192.0.2.",
                    [
                        .host(
                            """
                            route add unreachable default metric 10
                            link set tun0 down
                            address flush dev tun0
                            """), .reset("tcp4"), .becomes(Net.offline), .fails("tcp4 udp4"),
                    ]),
                .host("link set tun0 up\naddress add 10.8.0.2/24 dev tun0\nroute add default dev tun0 metric 50"),
                .host("route delete unreachable default metric 10"),
                .becomes(
                    [
                        "addr 10.8.0.2/24", "route 10.8.0.0/24 scope link src 10.8.0.2",
                        "route default scope link metric 50",
                    ] + Net.offline6), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "35", name: "the VPN goes down in order", interface: "tun0",
            start: [.host(Net.wifi4), .host(tunnelUp + "\n" + rulesUp), .resolvers("10.8.0.53")],
            steps: [
                .becomes(guestTunnel + Net.offline6), .open("tcp4 udp4"), .answeredBy("10.8.0.53"),
                .never(
                    "169.254.",
                    [
                        .host(rulesDown + "\naddress flush dev tun0\nlink set tun0 down"), .resolvers("192.0.2.53"),
                        .becomes(Net.guestWifi4 + Net.offline6),
                    ]),
                .reset("tcp4"), .stranded("udp4"), .answeredBy("192.0.2.53"), .reaches("tcp4 udp4"),
            ]),
        .init(
            row: "36", name: "an exit node in a table of its own, with small routes that come and go",
            start: [.host(Net.wifi4)],
            steps: [
                .open("tcp4"),
                .host(
                    """
                    link set tun0 up mtu 1280
                    address add 10.8.0.2/32 dev tun0
                    route add default dev tun0 table 52
                    rule add priority 5210 fwmark 0x80000/0xff0000 table main
                    rule add priority 5270 table 52
                    """),
                .becomes(["addr 10.8.0.2/32", "route default scope link"] + Net.offline6), .kept("tcp4"),
                .seenAs("10.8.0.2"),
                .quiet([
                    .host(
                        """
                        route add 10.8.0.77/32 dev tun0 table 52
                        route add 10.8.0.78/32 dev tun0 table 52
                        route delete 10.8.0.77/32 dev tun0 table 52
                        """)
                ]), .reaches("tcp4 udp4"),
                .host("rule delete priority 5270\nrule delete priority 5210"),
                .becomes(Net.guestWifi4 + Net.offline6), .kept("tcp4"), .seenAs("192.0.2.10"),
            ]),
    ]
}
