// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import Testing

/// The payload of a captured message, without its header.
private func payload(_ text: String) -> [UInt8] { Array(hexBytes(text).dropFirst(16)) }

/// The parsers on arrays: a span may not cross the tests' macros.
private enum Parsed {
    static func link(_ bytes: [UInt8]) -> Link? { LinkMessage.parse(bytes.span) }
    static func address(_ bytes: [UInt8]) -> InterfaceAddress? { AddressMessage.parse(bytes.span) }
    static func route(_ bytes: [UInt8]) -> ParsedRoute? { RouteMessage.parse(bytes.span) }
    static func rule(_ bytes: [UInt8]) -> RoutingRule? { RuleMessage.parse(bytes.span) }
    static func nextHop(_ bytes: [UInt8]) -> NextHopObject? { NextHopMessage.parse(bytes.span) }
    static func neighbour(_ bytes: [UInt8]) -> Neighbour? { NeighbourMessage.parse(bytes.span) }
}

private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
private func prefix(_ text: String) throws -> Prefix { try #require(Prefix(text)) }
private func index(_ number: UInt32) -> InterfaceIndex { InterfaceIndex(rawValue: number) }

/// Messages captured on Linux 6.18 in a private namespace.
@Suite("rtnetlink messages, kernel to values")
struct ParsingTests {
    @Test("a link with its hardware address and master")
    func link() throws {
        let bytes = payload(
            """
            00000000 10000000 00000000 00000000   // header
            0000 0100 05000000 43100100 00000000  // AF_UNSPEC, ARPHRD_ETHER, index 5, flags UP|...|LOWER_UP, change
            07000300 64320000                     // IFLA_IFNAME "d2"
            08000400 dc050000                     // IFLA_MTU 1500
            08000a00 06000000                     // IFLA_MASTER 6
            0a000100 6ebf9e97 345f0000            // IFLA_ADDRESS
            04003e80                              // an attribute we do not know, nested
            """)
        let link = try #require(Parsed.link(bytes))
        #expect(link.index == index(5))
        #expect(link.name == "d2")
        #expect(link.mtu == 1500)
        #expect(link.master == index(6))
        #expect(link.mac == MACAddress("6e:bf:9e:97:34:5f"))
        #expect(link.hasCarrier)
        #expect(link.flags.rawValue == 0x11043)
    }

    @Test("the loopback link has no Ethernet address")
    func loopback() throws {
        let bytes = payload(
            """
            00000000 10000000 00000000 00000000
            0000 0403 01000000 49000100 00000000  // ARPHRD_LOOPBACK
            07000300 6c6f0000
            0a000100 00000000 00000000
            """)
        #expect(try #require(Parsed.link(bytes)).mac == nil)
    }

    @Test("an IPv4 address with broadcast: 32-bit flags")
    func address4() throws {
        let bytes = payload(
            """
            54000000 14000200 07000000 2c4d0000
            02188000 03000000                       // AF_INET, /24, IFA_F_PERMANENT, universe, index 3
            08000100 c000020a                       // IFA_ADDRESS
            08000200 c000020a                       // IFA_LOCAL
            08000400 c00002ff                       // IFA_BROADCAST
            07000300 64300000                       // IFA_LABEL "d0"
            08000800 80020000                       // IFA_FLAGS PERMANENT|NOPREFIXROUTE
            14000600 ffffffff ffffffff 46ee0400 46ee0400
            """)
        #expect(
            try Parsed.address(bytes)
                == InterfaceAddress(
                    interface: index(3), prefix: prefix("192.0.2.10/24"), broadcast: IPv4Address(192, 0, 2, 255),
                    flags: [.permanent, .noPrefixRoute]))
    }

    @Test("a point-to-point address: IFA_LOCAL is ours, IFA_ADDRESS the peer's")
    func peer() throws {
        let bytes = payload(
            """
            4c000000 14000200 07000000 2c4d0000
            02208000 05000000 08000100 0a090002 08000200 0a090001 07000300 64320000
            08000800 80000000 14000600 ffffffff ffffffff 47ee0400 47ee0400
            """)
        let it = try #require(Parsed.address(bytes))
        #expect(try it.prefix == prefix("10.9.0.1/32"))
        #expect(try it.peer == address("10.9.0.2"))
    }

    @Test("an IPv6 address has no IFA_LOCAL")
    func address6() throws {
        let bytes = payload(
            """
            50000000 14000200 07000000 2c4d0000
            0a40c0fd 02000000                       // AF_INET6, /64, TENTATIVE|PERMANENT, link, index 2
            14000100 fe800000 00000000 ec6648ff fe353631
            14000600 ffffffff ffffffff 46ee0400 46ee0400
            08000800 c0000000 05000b00 03000000     // IFA_FLAGS, IFA_PROTO
            """)
        let it = try #require(Parsed.address(bytes))
        #expect(try it.prefix == prefix("fe80::ec66:48ff:fe35:3631/64"))
        #expect(it.scope == .link)
        #expect(it.isTentative)
        #expect(it.peer == nil)
    }

    @Test("a multipath route: weights, on-link")
    func multipath() throws {
        let bytes = payload(
            """
            50000000 18002200 07000000 2c4d0000
            02100000 fe030001 00000000              // AF_INET, /16, main, boot, universe, unicast
            08000f00 fe000000 08000100 0a020000     // RTA_TABLE, RTA_DST
            24000900                                // RTA_MULTIPATH
            10000001 03000000 08000500 c0000205     //   length 16, flags 0, weight 2, index 3, RTA_GATEWAY
            10000404 03000000 08000500 c0000206     //   length 16, RTNH_F_ONLINK, weight 5
            """)
        let it = try #require(Parsed.route(bytes))
        #expect(
            try it.route
                == Route(
                    destination: prefix("10.2.0.0/16"),
                    nextHops: [
                        NextHop(interface: index(3), gateway: address("192.0.2.5"), weight: 2),
                        NextHop(interface: index(3), gateway: address("192.0.2.6"), weight: 5, flags: .onLink),
                    ]))
        #expect(it.expiry == nil)
    }

    @Test("a gateway of the other family, in a table above 255")
    func via() throws {
        let bytes = payload(
            """
            4c000000 18002200 07000000 2c4d0000
            02100000 fc030001 00000000              // table RT_TABLE_COMPAT
            08000f00 6cca0000 08000100 0a030000     // RTA_TABLE 51820
            16001200 0a002001 0db80001 00000000 00000000 00090000  // RTA_VIA AF_INET6 2001:db8:1::9, padded
            08000400 03000000
            """)
        let route = try #require(Parsed.route(bytes)).route
        #expect(route.table == RouteTable(rawValue: 51820))
        #expect(try route.nextHops == [NextHop(interface: index(3), gateway: address("2001:db8:1::9"))])
    }

    @Test("an IPv6 default of a Router Advertisement expires")
    func expiring() throws {
        let bytes = payload(
            """
            74000000 18002200 07000000 2c4d0000
            0a000000 fe030001 00000000 08000f00 fe000000
            08000600 00040000                       // RTA_PRIORITY 1024
            14000500 20010db8 00010000 00000000 00000001
            08000400 03000000
            24000c00 00000000 00000000 24750000 00000000 00000000 00000000 00000000 00000000  // rta_expires 29988
            05001400 00000000                       // RTA_PREF medium
            """)
        let it = try #require(Parsed.route(bytes))
        #expect(it.expiry == 29988)
        #expect(it.route.isDefault)
        #expect(it.route.metric == 1024)
        #expect(it.route.preference == 0)
    }

    @Test("a route that refers to a nexthop group keeps both the group and its hops")
    func nextHopID() throws {
        let bytes = payload(
            """
            58000000 18002200 07000000 2c4d0000
            02190000 fe030001 00000000 08000f00 fe000000 08000100 cb007180
            08001e00 0c000000                       // RTA_NH_ID 12
            24000900 10000002 03000000 08000500 c0000203 10000000 03000000 08000500 c0000204
            """)
        let route = try #require(Parsed.route(bytes)).route
        #expect(route.nextHopID == 12)
        #expect(route.nextHops.map(\.weight) == [3, 1])
    }

    @Test("an IPv6 error route names lo, which is no hop")
    func blackhole() throws {
        let bytes = payload(
            """
            74000000 18002200 07000000 2c4d0000
            0a300000 fe030006 00000000 08000f00 fe000000
            14000100 20010db8 dead0000 00000000 00000000 08000600 00040000 08000400 01000000
            24000c00 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 05001400 00000000
            """)
        let route = try #require(Parsed.route(bytes)).route
        #expect(route.type == .blackhole)
        #expect(route.nextHops.isEmpty)
    }

    @Test("a rule keeps its whole message as fingerprint")
    func rule() throws {
        let bytes = payload(
            """
            4c000000 20000200 07000000 2c4d0000
            02000000 fc000001 02000000              // AF_INET, compat, FR_ACT_TO_TBL, FIB_RULE_INVERT
            08000f00 6cca0000 08000e00 ffffffff 05001500 00000000
            08000600 64000000                       // FRA_PRIORITY 100
            08000a00 07000000 08001000 ffffffff     // FRA_FWMARK, FRA_FWMASK
            """)
        let rule = try #require(Parsed.rule(bytes))
        #expect(rule.priority == 100)
        #expect(rule.table == RouteTable(rawValue: 51820))
        #expect(rule.action == 1)
        #expect(rule.fingerprint == bytes)
    }

    @Test("nexthop objects: single, group, blackhole")
    func nextHopObjects() throws {
        let single = payload(
            "30000000 68000200 07000000 2c4d0000 02fd0000 00000000 08000100 0a000000 08000500 03000000 08000600 c0000203"
        )
        #expect(
            try Parsed.nextHop(single)
                == NextHopObject(id: 10, hop: NextHop(interface: index(3), gateway: address("192.0.2.3"))))
        let group = payload(
            """
            44000000 68000200 07000000 2c4d0000 00000000 00000000 08000100 0c000000 06000300 00000000
            14000200 0a000000 02000000 0b000000 00010000   // NHA_GROUP: 10 with weight 3, 11 with 257
            08000e00 00000080
            """)
        #expect(
            Parsed.nextHop(group) == NextHopObject(id: 12, hop: nil, group: [(10, 3), (11, 257)]))
        let blackhole = payload("24000000 68000200 07000000 2c4d0000 02000000 00000000 08000100 0d000000 04000400")
        #expect(Parsed.nextHop(blackhole) == NextHopObject(id: 13, hop: nil, isBlackhole: true))
    }

    @Test("a neighbour set by hand")
    func neighbour() throws {
        let bytes = payload(
            """
            4c000000 1c000200 07000000 2c4d0000 02000000 03000000 80000001
            08000100 c000024d 0a000200 02000000 00770000 08000400 00000000
            14000300 09000000 09000000 09000000 00000000
            """)
        #expect(
            try Parsed.neighbour(bytes)
                == Neighbour(
                    interface: index(3), address: address("192.0.2.77"), mac: MACAddress("02:00:00:00:00:77"),
                    state: .permanent))
    }

    @Test("a lookup's reply names link, gateway, source and table")
    func lookupReply() throws {
        let bytes = payload(
            """
            70000000 18000000 09000000 2c4d0000
            02200000 fe000001 00020000              // RTM_F_CLONED
            08000f00 fe000000 08000100 cb0071ff 08000400 03000000 08000700 c000020a 08000500 c0000203
            08001900 00000000                       // RTA_UID
            24000c00 02000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
            """)
        let it = try #require(Parsed.route(bytes))
        #expect(it.isCached)
        #expect(it.route.nextHops.first?.interface == index(3))
        #expect(try it.route.preferredSource == address("192.0.2.10"))
    }

    @Test("an extended acknowledgement tells the kernel's words")
    func extendedAcknowledgement() throws {
        let bytes = hexBytes(
            """
            44000000 02000003 0a000000 2c4d0000     // NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS
            9bffffff                                // -ENETUNREACH
            34000000 18000506 0a000000 00000000     // the request's header
            20000100 4e657874 686f7020 68617320 696e7661 6c696420 67617465 77617900
            """)
        var walk = MessageWalk()
        let first = walk.next(in: bytes.span)
        let (header, range) = try #require(first)
        let answer = Acknowledgement(header, bytes.span.extracting(range))
        let outcome = try #require(answer)
        #expect(outcome.errno == 101)
        #expect(outcome.message == "Nexthop has invalid gateway")
        #expect(outcome.offset == nil)
    }
}
