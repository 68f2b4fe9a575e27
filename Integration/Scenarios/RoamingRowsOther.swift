// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension RoamingCase {
    /// Rows 37 and 38: name servers that change, and ones that are dead.
    static let resolvers: [RoamingCase] = [
        .init(
            row: "37",
            name: "resolv.conf: renamed over, written in place, a link that is switched, deleted, unreadable",
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .answeredBy("192.0.2.53"),
                .quiet([
                    .resolvers("192.0.2.1"), .answeredSoonBy("192.0.2.1"),
                    .shell(": > /etc/resolv.conf; sleep 0.1; echo nameserver 192.0.2.53 >> /etc/resolv.conf"),
                    .answeredSoonBy("192.0.2.53"),
                    .shell(
                        """
                        mkdir /run/stub /run/uplink
                        echo nameserver 192.0.2.254 > /run/stub/resolv.conf
                        echo nameserver 192.0.2.1 > /run/uplink/resolv.conf
                        ln -s /run/stub/resolv.conf /etc/link
                        mv -T /etc/link /etc/resolv.conf
                        """), .answeredSoonBy("192.0.2.254"),
                    .shell("ln -s /run/uplink/resolv.conf /etc/link; mv -T /etc/link /etc/resolv.conf"),
                    .answeredSoonBy("192.0.2.1"),
                    .shell(
                        """
                        echo nameserver 192.0.2.53 > /run/uplink/new
                        mv /run/uplink/new /run/uplink/resolv.conf
                        """), .answeredSoonBy("192.0.2.53"),
                    .shell("rm /etc/resolv.conf"), .passes(1500), .unanswered,
                    .resolvers("192.0.2.254"), .answeredSoonBy("192.0.2.254"),
                    .shell("rm /etc/resolv.conf; mkdir /etc/resolv.conf"), .passes(300),
                    .shell("rmdir /etc/resolv.conf; echo nameserver 192.0.2.1 > /etc/resolv.conf"),
                    .answeredSoonBy("192.0.2.1"),
                ]),
            ]),
        .init(
            row: "37b", name: "a half-written file does not interrupt",
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .answeredBy("192.0.2.53"), .shell(": > /etc/resolv.conf"), .answeredBy("192.0.2.53"),
                .shell("echo nameserver 192.0.2.1 > /etc/resolv.conf"), .answeredSoonBy("192.0.2.1"),
            ]),
        .init(
            row: "38", name: "the first of three servers is dead",
            start: [.host(Net.wifi), .resolvers("192.0.2.99 192.0.2.53 192.0.2.1")],
            steps: [.answeredBy("192.0.2.53")]),
        .init(
            row: "38b", name: "the first two are dead, one silently, one with an error",
            start: [
                .host(Net.wifi), .internet("address add 192.0.2.98/24 dev wlan0"),
                .internetShell(
                    """
                    nft -f - << END
                    table ip dead {
                        chain arriving {
                            type filter hook input priority 0;
                            ip daddr 192.0.2.98 reject
                        }
                    }
                    END
                    """), .resolvers("192.0.2.99 192.0.2.98 192.0.2.53"),
            ], steps: [.answeredBy("192.0.2.53")]),
        .init(
            row: "38c", name: "only IPv6 servers",
            start: [.host(Net.wifi), .resolvers("2001:db8:1::99 2001:db8:1::53")],
            steps: [.answeredBy("2001:db8:1::53")]),
        .init(
            row: "38d", name: "the host's own stub on loopback",
            start: [
                .host(Net.wifi), .resolvers("127.0.0.53"), .listenDNS("127.0.0.53"),
            ], steps: [.answeredBy("127.0.0.53")]),
        .init(
            row: "38e", name: "a server on 127.0.0.1, after one that is not there",
            start: [
                .host(Net.wifi), .resolvers("127.0.0.2 127.0.0.1"), .listenDNS("127.0.0.1"),
            ], steps: [.answeredBy("127.0.0.1")]),
        .init(
            row: "38f", name: "no server at all", start: [.host(Net.wifi), .resolvers("")],
            steps: [.unanswered, .resolvers("192.0.2.53"), .answeredSoonBy("192.0.2.53")]),
        .init(
            row: "38g", name: "a question in flight goes to the new server",
            start: [.host(Net.wifi), .resolvers("192.0.2.99")],
            steps: [.answeredInFlight(by: "192.0.2.53", [.resolvers("192.0.2.53")])]),
    ]

    /// Rows 48 to 52 and the options that hold whatever the host does (I8).
    static let itself: [RoamingCase] = [
        .init(
            row: "50", name: "the namespace's own changes stay; what tapas put there is repaired at the next change",
            start: [.host(Net.wifi4)],
            steps: [
                .becomes(Net.guestWifi4 + Net.offline6),
                .inside(
                    """
                    ip address add 10.99.0.1/24 dev wlan0
                    ip route add 10.98.0.0/24 dev wlan0
                    ip route delete default
                    """), .passes(300),
                .host("address add 192.0.2.20/24 dev wlan0"),
                .has([
                    "addr 10.99.0.1/24", "route 10.98.0.0/24 scope link", "route default via 192.0.2.1 metric 600",
                    "addr 192.0.2.20/24 secondary",
                ]), .reaches("tcp4"),
            ]),
        .init(
            row: "51", name: "a tapas in the namespace sees each change, too", start: [.host(Net.wifi4)],
            steps: [
                .nested, .nestedBecomes(Net.guestWifi4 + Net.offline6),
                .host("address flush dev wlan0 scope global\naddress add 192.0.2.20/24 dev wlan0"),
                .host("route add default via 192.0.2.1 dev wlan0 metric 600"),
                .nestedBecomes(Net.guest4("192.0.2", 20, metric: 600) + Net.offline6),
            ]),
        .init(
            row: "I8", name: "-a and -g are never overridden", interface: "wlan0",
            options: ["-a", "10.1.2.3", "-n", "24", "-g", "10.1.2.1"],
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [
                .open("tcp4"), .host(Net.cable), .resolvers("198.51.100.53"),
                .becomes(
                    ["addr 10.1.2.3/24", "route 10.1.2.0/24 scope link src 10.1.2.3", "route default via 10.1.2.1"]
                        + Net.guest6("2001:db8:2:", "5", metric: 100)),
                .kept("tcp4"), .answeredBy("198.51.100.53"), .seenAs("198.51.100.5"),
            ]),
        .init(
            row: "I8b", name: "-i names the only interface that counts", interface: "tap0",
            options: ["-i", "eth0"], start: [.host(Net.wifi)],
            steps: [
                .becomes(Net.offline), .host(Net.cable), .becomes(Net.guestCable),
                .host("link set eth0 down"), .becomes(Net.offline),
            ]),
        .init(
            row: "I8c", name: "--dns-host is never overridden", options: ["--dns-host", "192.0.2.254"],
            start: [.host(Net.wifi), .resolvers("192.0.2.53")],
            steps: [.answeredBy("192.0.2.254"), .resolvers("192.0.2.1"), .passes(300), .answeredBy("192.0.2.254")]),
        .init(
            row: "I8d", name: "--no-monitor takes the host as it was", options: ["--no-monitor"],
            start: [.host(Net.wifi4), .resolvers("192.0.2.53")],
            steps: [
                .becomes(Net.guestWifi4 + Net.offline6),
                .quiet([
                    .host(
                        """
                        address flush dev wlan0 scope global
                        address add 192.0.2.20/24 dev wlan0
                        route add default via 192.0.2.1 dev wlan0
                        """), .resolvers("192.0.2.1"), .passes(1000),
                ]), .reaches("tcp4 udp4"), .answeredBy("192.0.2.53"),
            ]),
    ]
}
