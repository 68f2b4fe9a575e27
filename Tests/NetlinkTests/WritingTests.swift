// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import TestSupport
import Testing

private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
private func prefix(_ text: String) throws -> Prefix { try #require(Prefix(text)) }
private func index(_ number: UInt32) -> InterfaceIndex { InterfaceIndex(rawValue: number) }

private func bytes(_ request: MessageWriter) -> [UInt8] {
    var request = request
    return request.finish(sequence: 9, portID: 0x1234)
}

@Suite("rtnetlink messages, values to kernel")
struct WritingTests {
    @Test("setting a link up changes that bit alone")
    func linkUp() {
        #expect(
            bytes(LinkMessage.change(index(3), LinkChange(isUp: true, mtu: 1400)))
                == hexBytes(
                    """
                    28000000 1000 0500 09000000 34120000   // length 40, RTM_NEWLINK, REQUEST|ACK
                    0000 0000 03000000 01000000 01000000   // index 3, flags IFF_UP, change IFF_UP
                    08000400 78050000                      // IFLA_MTU 1400
                    """))
    }

    @Test("a change that is not of the flags leaves them alone")
    func linkName() {
        #expect(
            bytes(LinkMessage.change(index(3), LinkChange(name: "eth0", addressGeneration: AddressGeneration.none)))
                == hexBytes(
                    """
                    3c000000 1000 0500 09000000 34120000
                    00000000 03000000 00000000 00000000
                    09000300 65746830 00000000             // IFLA_IFNAME "eth0", padded
                    10001a00 0c000a00 05000800 01000000    // IFLA_AF_SPEC { AF_INET6 { ADDR_GEN_MODE none } }
                    """))
    }

    @Test("an address: local and prefix address, settable flags only, 32 bits")
    func addAddress() throws {
        let value = try InterfaceAddress(
            interface: index(3), prefix: prefix("192.0.2.10/24"), broadcast: IPv4Address(192, 0, 2, 255),
            flags: [.permanent, .noPrefixRoute, .secondary])
        #expect(
            bytes(AddressMessage.add(value, .exclusive, lifetime: nil))
                == hexBytes(
                    """
                    38000000 1400 0506 09000000 34120000   // RTM_NEWADDR, REQUEST|ACK|EXCL|CREATE
                    02180000 03000000
                    08000200 c000020a                      // IFA_LOCAL
                    08000100 c000020a                      // IFA_ADDRESS
                    08000400 c00002ff                      // IFA_BROADCAST
                    08000800 00020000                      // IFA_FLAGS NOPREFIXROUTE
                    """))
    }

    @Test("a deprecated address has a preferred lifetime of 0, replaced in place")
    func deprecate() throws {
        let value = try InterfaceAddress(
            interface: index(3), prefix: prefix("2001:db8::1/64"), flags: [.noDuplicateDetection, .deprecated])
        #expect(
            bytes(AddressMessage.add(value, .replacing, lifetime: nil))
                == hexBytes(
                    """
                    5c000000 1400 0505 09000000 34120000   // REQUEST|ACK|REPLACE|CREATE
                    0a400000 03000000
                    14000200 20010db8 00000000 00000000 00000001
                    14000100 20010db8 00000000 00000000 00000001
                    08000800 02000000                      // IFA_FLAGS NODAD
                    14000600 00000000 ffffffff 00000000 00000000  // preferred 0, valid for ever
                    """))
    }

    @Test("a route with everything")
    func addRoute() throws {
        let route = try Route(
            destination: prefix("10.4.0.0/16"), table: RouteTable(rawValue: 51820), protocol: .static, metric: 7,
            preferredSource: address("192.0.2.10"),
            nextHops: [NextHop(interface: index(3), gateway: address("203.0.113.1"), flags: [.onLink, .linkDown])],
            mtu: 1400, advertisedMSS: 1360)
        #expect(
            bytes(RouteMessage.add(route, .exclusive))
                == hexBytes(
                    """
                    60000000 1800 0506 09000000 34120000   // RTM_NEWROUTE
                    02100000 fc040001 04000000             // compat table, static, universe, unicast, RTNH_F_ONLINK
                    08000100 0a040000                      // RTA_DST
                    08000f00 6cca0000                      // RTA_TABLE 51820
                    08000600 07000000                      // RTA_PRIORITY
                    08000500 cb007101 08000400 03000000    // RTA_GATEWAY, RTA_OIF
                    08000700 c000020a                      // RTA_PREFSRC
                    14000800 08000200 78050000 08000800 50050000  // RTA_METRICS { MTU, ADVMSS }
                    """))
    }

    @Test("a multipath route with a gateway of the other family")
    func multipath() throws {
        let route = try Route(
            destination: Prefix(default: .v4),
            nextHops: [
                NextHop(interface: index(3), gateway: address("192.0.2.1"), weight: 2),
                NextHop(interface: index(4), gateway: address("fe80::1"), weight: 1),
            ])
        #expect(
            bytes(RouteMessage.add(route, .replacing))
                == hexBytes(
                    """
                    50000000 1800 0505 09000000 34120000
                    02000000 fe030001 00000000
                    34000900
                    10000001 03000000 08000500 c0000201
                    20000000 04000000 16001200 0a00fe80 00000000 00000000 00000000 00010000 // RTA_VIA, padded
                    """))
    }

    @Test("a deletion matches any IPv4 scope and carries no metrics")
    func deleteRoute() throws {
        let route = try Route(
            destination: prefix("10.4.0.0/16"), scope: .link, metric: 7, nextHops: [NextHop(interface: index(3))],
            mtu: 1400)
        #expect(
            bytes(RouteMessage.delete(route))
                == hexBytes(
                    """
                    34000000 1900 0500 09000000 34120000
                    02100000 fe03ff01 00000000             // RT_SCOPE_NOWHERE
                    08000100 0a040000 08000600 07000000 08000400 03000000
                    """))
    }

    @Test("what is written and read again is the same route", arguments: 0..<200)
    func roundTrip(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let route = Route.random(using: &random)
        var writer = RouteMessage.add(route, .exclusive)
        let message = writer.finish(sequence: 1, portID: 1)
        let parsed = RouteMessage.parse(message.span.extracting(16..<message.count))
        #expect(parsed?.route == route, "seed \(seed)")
    }

    @Test("an attribute that is too long marks the message instead of trapping")
    func overlong() {
        let hop = NextHop(interface: index(3), gateway: .v6(.loopback))
        let route = Route(destination: Prefix(default: .v6), nextHops: Array(repeating: hop, count: 5000))
        #expect(RouteMessage.add(route, .exclusive).isOverlong)
    }
}

extension Route {
    /// A route of any shape that the model allows and the kernel's messages can carry.
    static func random(using random: inout SplitMix64) -> Route {
        let family: AddressFamily = Bool.random(using: &random) ? .v4 : .v6
        func address(_ family: AddressFamily) -> IPAddress {
            switch family {
            case .v4: .v4(IPv4Address(rawValue: .random(in: .min ... .max, using: &random)))
            case .v6: .v6(IPv6Address(high: .random(in: 1 ... .max, using: &random), low: random.next()))
            }
        }
        func prefix() -> Prefix {
            Prefix(address(family), length: Int.random(in: 1...family.addressBitCount, using: &random))?.network
                ?? Prefix(default: family)
        }
        func maybe<Value>(_ value: () -> Value) -> Value? { Int.random(in: 0..<3, using: &random) == 0 ? value() : nil }
        let hops = (0..<Int.random(in: 1...4, using: &random)).map { _ in
            NextHop(
                interface: InterfaceIndex(rawValue: .random(in: 1...99, using: &random)),
                gateway: maybe { address(family == .v4 && Bool.random(using: &random) ? .v6 : family) },
                weight: 1, flags: Bool.random(using: &random) ? .onLink : [])
        }
        var route = Route(
            destination: maybe(prefix) ?? Prefix(default: family), source: family == .v6 ? maybe(prefix) : nil,
            table: RouteTable(rawValue: .random(in: 1...1000, using: &random)), scope: .universe,
            protocol: RouteProtocol(rawValue: .random(in: 2...200, using: &random)),
            metric: .random(in: 0...2000, using: &random),
            typeOfService: family == .v4 ? .random(in: 0...7, using: &random) << 2 : 0,
            preferredSource: maybe { address(family) }, nextHops: hops,
            mtu: maybe { .random(in: 1280...9000, using: &random) },
            advertisedMSS: maybe { .random(in: 500...9000, using: &random) },
            preference: family == .v6 ? maybe { 1 } : nil)
        if hops.count > 1 {
            for index in route.nextHops.indices { route.nextHops[index].weight = .random(in: 1...256, using: &random) }
        }
        return route
    }
}
