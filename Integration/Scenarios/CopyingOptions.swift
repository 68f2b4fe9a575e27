// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension HostConfiguration {
    private static let guestNetwork = "route 192.0.2.0/24 scope link src 192.0.2.10"

    /// The plain host with options, and the sets of options that other programs' users need.
    static let withOptions: [HostConfiguration] = [
        .init(
            name: "-a ADDRESS/LENGTH", host: plain, options: ["-a", "10.1.2.3/24", "-g", "10.1.2.1"],
            guest: eth0 + [
                "addr 10.1.2.3/24", "route 10.1.2.0/24 scope link src 10.1.2.3", "route default via 10.1.2.1",
            ] + guest6),
        .init(
            name: "-a and -n", host: plain, options: ["-a", "10.1.2.3", "-n", "255.255.240.0", "-g", "10.1.2.1"],
            guest: eth0 + [
                "addr 10.1.2.3/20", "route 10.1.0.0/20 scope link src 10.1.2.3", "route default via 10.1.2.1",
            ] + guest6),
        .init(
            name: "-a alone: the class gives the prefix", host: plain4,
            options: ["-a", "172.16.5.5", "-g", "172.16.0.1"],
            guest: eth0 + [
                "addr 172.16.5.5/16", "route 172.16.0.0/16 scope link src 172.16.5.5", "route default via 172.16.0.1",
            ] + local6),
        .init(
            name: "-a for IPv6", host: plain, options: ["-a", "2001:db8:7::7", "-g", "2001:db8:7::1"],
            guest: eth0 + guest4 + [
                "addr 2001:db8:7::7/64", "route6 2001:db8:7::/64", "route6 default via 2001:db8:7::1",
            ]),
        .init(
            name: "-a and -g of both families", host: plain,
            options: [
                "-a", "10.1.2.3/24", "-g", "10.1.2.1", "-a", "2001:db8:7::7", "-g", "2001:db8:7::1",
            ],
            guest: eth0 + [
                "addr 10.1.2.3/24", "route 10.1.2.0/24 scope link src 10.1.2.3", "route default via 10.1.2.1",
                "addr 2001:db8:7::7/64", "route6 2001:db8:7::/64", "route6 default via 2001:db8:7::1",
            ]),
        .init(
            name: "-a outside the template's prefix: the host's connected prefixes are on the link",
            host: plain + ["address add 198.51.100.5/24 dev eth0"],
            options: ["-a", "10.1.2.3/24", "-a", "2001:db8:7::7"],
            guest: eth0 + [
                "addr 10.1.2.3/24", "route 10.1.2.0/24 scope link src 10.1.2.3", "route 192.0.2.0/24 scope link",
                "route 198.51.100.0/24 scope link", "route default via 192.0.2.1",
                "addr 2001:db8:7::7/64", "route6 2001:db8:7::/64", "route6 2001:db8:1::/64",
                "route6 default via 2001:db8:1::1",
            ]),
        .init(
            name: "-a inside the template's prefix: the connected route is there once", host: plain4,
            options: ["-a", "192.0.2.77/24"],
            guest: eth0 + [
                "addr 192.0.2.77/24", "route 192.0.2.0/24 scope link src 192.0.2.77", "route default via 192.0.2.1",
            ] + local6),
        .init(
            name: "-g alone: only the default", host: plain4 + ["route add 198.18.0.0/15 via 192.0.2.1"],
            options: ["-g", "192.0.2.99"],
            guest: eth0 + ["addr 192.0.2.10/24", guestNetwork, "route default via 192.0.2.99"] + local6),
        .init(
            name: "-i NAME",
            host: plain + ["address add 198.51.100.5/24 dev eth1", "route add default via 198.51.100.1 metric 500"],
            options: ["-i", "eth1"],
            guest: [
                "link eth1 mtu 65520 up", "addr 198.51.100.5/24", "route 198.51.100.0/24 scope link src 198.51.100.5",
                "route default via 198.51.100.1 metric 500",
            ] + local6),
        .init(
            name: "--outbound-if4 NAME is the IPv4 template",
            host: plain + ["address add 198.51.100.5/24 dev eth1", "route add default via 198.51.100.1 metric 500"],
            options: ["--outbound-if4", "eth1"],
            guest: [
                "link eth1 mtu 65520 up", "addr 198.51.100.5/24", "route 198.51.100.0/24 scope link src 198.51.100.5",
                "route default via 198.51.100.1 metric 500",
            ] + guest6),
        .init(
            name: "--outbound-if6 NAME is the IPv6 template",
            host: plain + [
                "address add 2001:db8:5::5/64 dev eth1 nodad", "-6 route add default via 2001:db8:5::1 metric 2000",
            ],
            options: ["--outbound-if6", "eth1"],
            guest: eth0 + guest4 + [
                "addr 2001:db8:5::5/64", "route6 2001:db8:5::/64", "route6 default via 2001:db8:5::1 metric 2000",
            ]),
        .init(
            name: "-m 1400", host: plain, options: ["-m", "1400"], guest: ["link eth0 mtu 1400 up"] + guest4 + guest6),
        .init(
            name: "--mtu=1280", host: plain, options: ["--mtu=1280"],
            guest: ["link eth0 mtu 1280 up"] + guest4 + guest6),
        .init(
            name: "-m 0 leaves the kernel's", host: plain, options: ["-m", "0"],
            guest: ["link eth0 mtu 1500 up"] + guest4 + guest6),
        .init(
            name: "-I NAME", host: plain, options: ["-I", "net0"],
            guest: ["link net0 mtu 65520 up"] + guest4 + guest6),
        .init(name: "-4", host: plain, options: ["-4"], guest: eth0 + guest4),
        .init(name: "-6", host: plain, options: ["-6"], guest: eth0 + guest6),
        .init(
            name: "--no-copy-routes: only the default", warning: "--no-copy-routes",
            host: plain + ["route add 198.18.0.0/15 via 192.0.2.1", "-6 route add 2001:db8:8::/48 via 2001:db8:1::2"],
            options: ["--no-copy-routes"], guest: eth0 + guest4 + guest6),
        .init(
            name: "--no-copy-addrs: only the one address", warning: "--no-copy-addrs",
            host: plain4 + ["address add 198.51.100.5/24 dev eth0"], options: ["--no-copy-addrs"],
            guest: eth0 + guest4 + local6),
        .init(
            name: "explicit options hold without any network (R6)", host: [],
            options: ["-a", "10.1.2.3/24", "-g", "10.1.2.1", "-I", "eth0"],
            guest: eth0 + [
                "addr 10.1.2.3/24", "route 10.1.2.0/24 scope link src 10.1.2.3", "route default via 10.1.2.1",
            ] + local6),
        .init(
            name: "S1: the bug report's own values", host: plain,
            options: [
                "-4", "-I", "eth0", "-a", "169.254.2.15", "-n", "16", "-g", "169.254.2.2", "-M", "52:56:00:00:00:02",
                "--dns-forward", "169.254.2.3",
            ],
            guest: eth0 + [
                "addr 169.254.2.15/16", "route 169.254.0.0/16 scope link src 169.254.2.15",
                "route default via 169.254.2.2",
            ]),
        .init(
            name: "S2: QEMU's default network", host: plain,
            options: [
                "-4", "-I", "eth0", "-a", "10.0.2.15/24", "-g", "10.0.2.2", "-M", "52:55:0a:00:02:02", "-m", "1500",
                "--dns-forward", "10.0.2.3",
            ],
            guest: [
                "link eth0 mtu 1500 up", "addr 10.0.2.15/24", "route 10.0.2.0/24 scope link src 10.0.2.15",
                "route default via 10.0.2.2",
            ]),
        .init(
            name: "S3: slirp4netns' network", host: plain,
            options: [
                "-4", "-I", "eth0", "-a", "10.0.2.100/24", "-g", "10.0.2.2", "-M", "52:55:0a:00:02:02", "-m", "1500",
                "--dns-forward", "10.0.2.3",
            ],
            guest: [
                "link eth0 mtu 1500 up", "addr 10.0.2.100/24", "route 10.0.2.0/24 scope link src 10.0.2.100",
                "route default via 10.0.2.2",
            ]),
        .init(
            name: "S4: a router outside the subnet (R3)", host: plain,
            options: ["-4", "-I", "eth0", "-a", "169.254.2.15", "-n", "16", "-g", "192.168.0.1"],
            guest: eth0 + [
                "addr 169.254.2.15/16", "route 169.254.0.0/16 scope link src 169.254.2.15",
                "route 192.168.0.1 scope link", "route default via 192.168.0.1",
            ]),
        .init(
            name: "an IPv6 router outside the subnet (R3)", host: plain,
            options: ["-6", "-a", "2001:db8:7::7", "-g", "2001:db8:9::1"],
            guest: eth0 + [
                "addr 2001:db8:7::7/64", "route6 2001:db8:7::/64", "route6 2001:db8:9::1",
                "route6 default via 2001:db8:9::1",
            ]),
        .init(
            name: "the network address of the prefix is used and called out (R1)", warning: "169.254.0.0",
            host: plain, options: ["-4", "-I", "eth0", "-a", "169.254.0.0", "-n", "16", "-g", "169.254.2.2"],
            guest: eth0 + [
                "addr 169.254.0.0/16", "route 169.254.0.0/16 scope link src 169.254.0.0",
                "route default via 169.254.2.2",
            ]),
        .init(
            name: "Podman's -a 10.0.2.0 -n 24 is used and called out (R1)", warning: "network address",
            host: plain, options: ["-4", "-a", "10.0.2.0", "-n", "24", "-g", "10.0.2.2"],
            guest: eth0 + [
                "addr 10.0.2.0/24", "route 10.0.2.0/24 scope link src 10.0.2.0", "route default via 10.0.2.2",
            ]),
        .init(
            name: "the broadcast address of the prefix is used and called out (R1)", warning: "broadcast address",
            host: plain, options: ["-4", "-a", "10.0.2.255/24", "-g", "10.0.2.2"],
            guest: eth0 + [
                "addr 10.0.2.255/24", "route 10.0.2.0/24 scope link src 10.0.2.255", "route default via 10.0.2.2",
            ]),
    ]

    private init(
        name: String, warning: String, host: [String], options: [String], guest: [String]
    ) {
        self.init(name: name, host: host, options: options, guest: guest, warning: warning)
    }
}
