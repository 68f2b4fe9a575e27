// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing

@Suite("IPv6 addresses")
struct IPv6AddressTests {
    @Test(
        "prints canonical text (RFC 5952 section 4)",
        arguments: [
            // 4.1: leading zeros go, a group of zeros is one 0.
            ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"),
            ("2001:db8:aaaa:bbbb:cccc:dddd:eeee:0001", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1"),
            // 4.2.1: as short as can be.
            ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
            // 4.2.2: one group of zeros is not shortened.
            ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            // 4.2.3: the longest run, the first of equal ones.
            ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            // 4.3: lower case.
            ("2001:DB8::ABCD:EF", "2001:db8::abcd:ef"),
            // 5: mapped addresses in mixed notation.
            ("::FFFF:c000:0201", "::ffff:192.0.2.1"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
            // Edges.
            ("::", "::"), ("0:0:0:0:0:0:0:0", "::"), ("::1", "::1"), ("1::", "1::"), ("::0:1", "::1"),
            ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
            ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
            ("::1.2.3.4", "::102:304"), ("fe80::1", "fe80::1"), ("ff02::1:ff00:1", "ff02::1:ff00:1"),
        ])
    func printsCanonicalText(text: String, canonical: String) {
        #expect(IPv6Address(text)?.description == canonical)
    }

    @Test(
        "refuses what RFC 4291 section 2.2 does not allow",
        arguments: [
            "", ":", ":::", "1", "1:", ":1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "::1::", "1:::2",
            "12345::", "g::", "1::2:3:4:5:6:7:8", "::1:2:3:4:5:6:7:8", "1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4",
            "::1.2.3", "::1.2.3.4:5", "::1.2.3.256", "::01.2.3.4", "fe80::1%eth0", "[::1]", " ::1", "::1 ", "::-1",
            "::+1", "::1/64", "2001:db8:::1", "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8", "::1\u{301}", "::１",
        ])
    func refuses(text: String) {
        #expect(IPv6Address(text) == nil)
    }

    @Test("parses what it prints", arguments: [1, 2, 3] as [UInt64])
    func parsesWhatItPrints(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<2000 {
            var groups: [8 of UInt16] = .init(repeating: 0)
            for index in 0..<8 where random.chance(50) { groups[index] = UInt16.random(in: 0...0xFFFF, using: &random) }
            let address = IPv6Address(groups)
            #expect(IPv6Address(address.description) == address, "seed \(seed), \(address)")
            #expect(!address.description.contains(":::"))
        }
    }

    @Test("never traps on any text", arguments: [7, 8] as [UInt64])
    func neverTraps(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let alphabet = Array("0123456789abcdefABCF::::..%/ g")
        var parsed = 0
        for _ in 0..<20_000 {
            let text = String(
                (0..<Int.random(in: 0...24, using: &random)).map { _ in
                    alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                })
            if let address = IPv6Address(text) {
                parsed += 1
                #expect(IPv6Address(address.description) == address)
            }
            _ = IPv4Address(text)
            _ = Prefix(text)
            _ = MACAddress(text)
            _ = Port(text)
        }
        #expect(parsed > 0)
    }

    @Test("knows special addresses")
    func knowsSpecialAddresses() throws {
        let linkLocal = try #require(IPv6Address("febf::1"))
        #expect(linkLocal.isLinkLocal)
        #expect(try !#require(IPv6Address("fec0::1")).isLinkLocal)
        #expect(try #require(IPv6Address("fd00::1")).isUniqueLocal)
        #expect(try !#require(IPv6Address("fe00::1")).isUniqueLocal)
        #expect(IPv6Address.loopback.isLoopback && !IPv6Address.loopback.isUnspecified)
        #expect(IPv6Address.allNodes.isMulticast && IPv6Address.allNodes.description == "ff02::1")
        #expect(IPv6Address.allRouters.description == "ff02::2")
        // RFC 4291 section 2.7.1, the example.
        let example = try #require(IPv6Address("4037::01:800:200e:8c6c"))
        #expect(example.solicitedNode.description == "ff02::1:ff0e:8c6c")
    }

    @Test("maps IPv4 addresses both ways")
    func mapsIPv4() throws {
        let quad = IPv4Address(192, 0, 2, 1)
        #expect(IPv6Address(mapping: quad).mappedIPv4 == quad)
        #expect(IPAddress("::ffff:192.0.2.1") == .v4(quad))
        #expect(IPAddress(unmapping: IPAddress.v4(quad).asIPv6) == .v4(quad))
        let other = try #require(IPAddress("2001:db8::1"))
        #expect(IPAddress(unmapping: other.asIPv6) == other)
        #expect(IPv6Address("::192.0.2.1")?.mappedIPv4 == nil)
    }

    @Test("groups give the address back")
    func groupsGiveTheAddressBack() {
        let address = IPv6Address(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210)
        #expect(IPv6Address(address.groups) == address)
        #expect(address.description == "123:4567:89ab:cdef:fedc:ba98:7654:3210")
    }
}
