// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension HostConfiguration {
    /// An address and a default route of each family on eth0.
    static let plain = [
        "address add 192.0.2.10/24 dev eth0",
        "address add 2001:db8:1::10/64 dev eth0 nodad",
        "route add default via 192.0.2.1",
        "-6 route add default via 2001:db8:1::1",
    ]
    /// The IPv4 half of `plain`.
    static let plain4 = [plain[0], plain[2]]
    /// The IPv6 half of `plain`.
    static let plain6 = [plain[1], plain[3]]

    /// What `plain4` gives.
    static let guest4 = [
        "addr 192.0.2.10/24", "route default via 192.0.2.1", "route 192.0.2.0/24 scope link src 192.0.2.10",
    ]
    /// What `plain6` gives.
    static let guest6 = ["addr 2001:db8:1::10/64", "route6 default via 2001:db8:1::1", "route6 2001:db8:1::/64"]
    /// IPv4 in local mode: the host has none.
    static let local4 = [
        "addr 169.254.2.1/16", "route default via 169.254.2.2", "route 169.254.0.0/16 scope link src 169.254.2.1",
    ]
    /// IPv6 in local mode: the host has none.
    static let local6 = ["route6 default via fe80::1"]
    /// The link as it is unless options say otherwise.
    static let eth0 = ["link eth0 mtu 65520 up"]

    /// Host networks with the default options.
    static let copied: [HostConfiguration] = [
        .init(name: "one address of each family", host: plain, guest: eth0 + guest4 + guest6),
        .init(name: "IPv4 only", host: plain4, guest: eth0 + guest4 + local6),
        .init(name: "IPv6 only", host: plain6, guest: eth0 + local4 + guest6),
        .init(name: "no network at all", host: [], guest: ["link tap0 mtu 65520 up"] + local4 + local6),
        .init(
            name: "two defaults: the lower metric is the template",
            host: [
                "address add 192.0.2.10/24 dev eth0", "address add 198.51.100.5/24 dev eth1",
                "route add default via 192.0.2.1 metric 300", "route add default via 198.51.100.1 metric 200",
            ],
            guest: [
                "link eth1 mtu 65520 up", "addr 198.51.100.5/24", "route default via 198.51.100.1 metric 200",
                "route 198.51.100.0/24 scope link src 198.51.100.5",
            ] + local6),
        .init(
            name: "each family has its own template; the name is IPv4's",
            host: [
                "address add 198.51.100.5/24 dev eth1", "route add default via 198.51.100.1",
            ] + plain6,
            guest: [
                "link eth1 mtu 65520 up", "addr 198.51.100.5/24", "route default via 198.51.100.1",
                "route 198.51.100.0/24 scope link src 198.51.100.5",
            ] + guest6),
        .init(
            name: "no default: the first network is the template",
            host: ["address add 192.0.2.10/24 dev eth0", "address add 198.51.100.5/24 dev eth1"],
            guest: eth0 + ["addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10"] + local6),
        .init(
            name: "on-link gateway of a /32",
            host: [
                "address add 192.0.2.10/32 dev eth0", "route add 198.51.100.1 dev eth0",
                "route add default via 198.51.100.1",
            ],
            guest: eth0 + [
                "addr 192.0.2.10/32", "route 198.51.100.1 scope link", "route default via 198.51.100.1",
            ] + local6),
        .init(
            name: "gateway marked onlink",
            host: ["address add 192.0.2.10/32 dev eth0", "route add default via 198.51.100.1 dev eth0 onlink"],
            guest: eth0 + ["addr 192.0.2.10/32", "route default via 198.51.100.1 onlink"] + local6),
        .init(
            name: "noprefixroute with a network route of its own",
            host: [
                "address add 192.0.2.10/24 dev eth0 noprefixroute",
                "route add 192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.10 metric 100",
                "route add default via 192.0.2.1 proto dhcp src 192.0.2.10 metric 100",
            ],
            guest: eth0 + [
                "addr 192.0.2.10/24 noprefixroute", "route 192.0.2.0/24 scope link src 192.0.2.10 metric 100",
                "route default via 192.0.2.1 src 192.0.2.10 metric 100",
            ] + local6),
        .init(
            name: "multipath on one interface",
            host: [
                "address add 192.0.2.10/24 dev eth0",
                "route add default nexthop via 192.0.2.1 weight 1 nexthop via 192.0.2.2 weight 3",
            ],
            guest: eth0 + [
                "addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10",
                "route default [via 192.0.2.1 weight 1] [via 192.0.2.2 weight 3]",
            ] + local6),
        .init(
            name: "multipath over two interfaces: the template's hops",
            host: [
                "address add 192.0.2.10/24 dev eth0", "address add 198.51.100.5/24 dev eth1",
                "route add default nexthop via 192.0.2.1 weight 1 nexthop via 198.51.100.1 weight 3",
            ],
            options: ["-i", "eth0"],
            guest: eth0 + [
                "addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10", "route default via 192.0.2.1",
            ] + local6),
        .init(
            name: "a nexthop object",
            host: [
                "address add 192.0.2.10/24 dev eth0", "nexthop add id 7 via 192.0.2.1 dev eth0",
                "route add default nhid 7",
            ], guest: eth0 + guest4 + local6),
        .init(
            name: "a group of nexthop objects",
            host: [
                "address add 192.0.2.10/24 dev eth0", "nexthop add id 7 via 192.0.2.1 dev eth0",
                "nexthop add id 8 via 192.0.2.2 dev eth0", "nexthop add id 9 group 7/8", "route add default nhid 9",
            ],
            guest: eth0 + [
                "addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10",
                "route default [via 192.0.2.1 weight 1] [via 192.0.2.2 weight 1]",
            ] + local6),
        .init(
            name: "routes with metrics, an MTU and a preferred source",
            host: plain4 + [
                "address add 192.0.2.11/24 dev eth0", "route add 198.51.100.0/24 via 192.0.2.1 metric 50 mtu 1400",
                "route add 198.18.0.0/15 via 192.0.2.1 src 192.0.2.11",
            ],
            guest: eth0 + guest4 + [
                "addr 192.0.2.11/24 secondary", "route 198.51.100.0/24 via 192.0.2.1 metric 50 mtu 1400",
                "route 198.18.0.0/15 via 192.0.2.1 src 192.0.2.11",
            ] + local6),
        .init(
            name: "several addresses; link-scope, deprecated and tentative ones stay out",
            host: plain + [
                "address add 198.51.100.5/24 dev eth0", "address add 169.254.7.7/16 dev eth0 scope link",
                "address add 2001:db8:2::5/64 dev eth0 nodad",
                "address add 2001:db8:3::5/64 dev eth0 nodad preferred_lft 0",
            ],
            guest: eth0 + guest4 + guest6 + [
                "addr 198.51.100.5/24", "route 198.51.100.0/24 scope link src 198.51.100.5", "addr 2001:db8:2::5/64",
                "route6 2001:db8:2::/64",
            ]),
        .init(
            name: "lifetimes and labels are not copied",
            host: [
                "address add 192.0.2.10/24 dev eth0 label eth0:x valid_lft 3600 preferred_lft 1800", plain[2],
                "address add 2001:db8:1::10/64 dev eth0 nodad valid_lft 3600 preferred_lft 1800", plain[3],
            ], guest: eth0 + guest4 + guest6),
        .init(
            name: "a peer address",
            host: ["address add 10.8.0.2 peer 10.8.0.1/32 dev eth0", "route add default via 10.8.0.1"],
            guest: eth0 + [
                "addr 10.8.0.2 peer 10.8.0.1/32", "route 10.8.0.1 scope link src 10.8.0.2",
                "route default via 10.8.0.1",
            ] + local6),
        .init(
            name: "other tables, error routes and other interfaces' routes stay out",
            host: plain4 + [
                "address add 198.51.100.5/24 dev eth1", "route add blackhole 198.18.0.0/24",
                "route add unreachable 198.18.1.0/24", "route add 198.18.2.0/24 via 198.51.100.1",
                "route add 198.18.3.0/24 via 192.0.2.1 table 7",
            ], guest: eth0 + guest4 + local6),
        .init(
            name: "IPv6 with an on-link gateway, a metric and a link-local router",
            host: [
                "address add 2001:db8:1::10/128 dev eth0 nodad",
                "-6 route add default via fe80::99 dev eth0 metric 300",
                "-6 route add 2001:db8:9::/48 via fe80::98 dev eth0",
            ],
            guest: eth0 + local4 + [
                "addr 2001:db8:1::10/128", "route6 2001:db8:1::10", "route6 default via fe80::99 metric 300",
                "route6 2001:db8:9::/48 via fe80::98",
            ]),
        .init(
            name: "IPv4 by way of an IPv6 router",
            host: [
                "address add 192.0.2.10/32 dev eth0", "-4 route add default via inet6 fe80::99 dev eth0",
            ] + plain6,
            guest: eth0 + ["addr 192.0.2.10/32", "route default via inet6 fe80::99"] + guest6),
        .init(
            name: "a default that names a device and no router",
            host: ["address add 192.0.2.10/24 dev eth0", "route add default dev eth0"],
            guest: eth0 + [
                "addr 192.0.2.10/24", "route 192.0.2.0/24 scope link src 192.0.2.10", "route default scope link",
            ] + local6),
    ]
}
