// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing

@Suite("Prefixes")
struct PrefixTests {
    @Test(
        "parse, print and find their network",
        arguments: [
            ("192.0.2.5/24", "192.0.2.5/24", "192.0.2.0/24"), ("192.0.2.5", "192.0.2.5/32", "192.0.2.5/32"),
            ("10.1.2.3/0", "10.1.2.3/0", "0.0.0.0/0"), ("10.1.2.3/31", "10.1.2.3/31", "10.1.2.2/31"),
            ("2001:db8::5/64", "2001:db8::5/64", "2001:db8::/64"), ("::1", "::1/128", "::1/128"),
            ("2001:db8:ffff:ffff:ffff::1/65", "2001:db8:ffff:ffff:ffff::1/65", "2001:db8:ffff:ffff:8000::/65"),
            ("2001:db8:ffff::1/33", "2001:db8:ffff::1/33", "2001:db8:8000::/33"), ("ffff::1/0", "ffff::1/0", "::/0"),
            ("2001:db8::ffff/127", "2001:db8::ffff/127", "2001:db8::fffe/127"),
        ])
    func parseAndPrint(text: String, printed: String, network: String) throws {
        let prefix = try #require(Prefix(text))
        #expect(prefix.description == printed)
        #expect(prefix.network.description == network)
        #expect(prefix.network.contains(prefix.address))
    }

    @Test(
        "refuse bad lengths and addresses",
        arguments: [
            "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0", "10.0.0.0/8 ", "::ffff:10.0.0.0/104", "10.0.0.0/99999999999999999999",
        ])
    func refuse(text: String) {
        #expect(Prefix(text) == nil)
    }

    @Test(
        "know the subnet's own and broadcast addresses",
        arguments: [
            ("169.254.0.0/16", true, false), ("169.254.255.255/16", false, true), ("169.254.2.15/16", false, false),
            ("10.0.2.0/24", true, false), ("10.0.2.0/8", false, false), ("192.0.2.1/32", false, false),
            ("192.0.2.0/31", true, false), ("192.0.2.1/31", false, true), ("2001:db8::/64", true, false),
            ("2001:db8::ffff:ffff:ffff:ffff/64", false, true), ("2001:db8::1/128", false, false),
        ] as [(String, Bool, Bool)])
    func knowEdges(text: String, isNetwork: Bool, isBroadcast: Bool) throws {
        let prefix = try #require(Prefix(text))
        #expect(prefix.isNetworkAddress == isNetwork)
        #expect(prefix.isBroadcastAddress == isBroadcast)
    }

    @Test("contain what shares their leading bits, and nothing of the other family", arguments: [11, 12] as [UInt64])
    func contain(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<1000 {
            let a = UInt32.random(in: 0...(.max), using: &random)
            let b = random.chance(50) ? a ^ (1 << UInt32.random(in: 0..<32, using: &random)) : a
            let length = Int.random(in: 0...32, using: &random)
            let prefix = try #require(Prefix(.v4(IPv4Address(rawValue: a)), length: length))
            let common = (a ^ b).leadingZeroBitCount
            #expect(prefix.contains(.v4(IPv4Address(rawValue: b))) == (common >= length), "seed \(seed)")
            let (high, low) = (UInt64(a) << 32 | UInt64(b), UInt64(b) << 32 | UInt64(a))
            let bit = Int.random(in: 0..<128, using: &random)
            let flipped = IPv6Address(
                high: bit < 64 ? high ^ (1 << UInt64(63 - bit)) : high,
                low: bit < 64 ? low : low ^ (1 << UInt64(127 - bit)))
            let length6 = Int.random(in: 0...128, using: &random)
            let wide = try #require(Prefix(.v6(IPv6Address(high: high, low: low)), length: length6))
            #expect(wide.contains(.v6(flipped)) == (bit >= length6), "seed \(seed)")
            #expect(!prefix.contains(.v6(flipped)) && !wide.contains(prefix.address))
        }
    }

    @Test("netmasks follow the length")
    func netmasks() {
        #expect(Prefix.mask4(0) == 0 && Prefix.mask4(1) == 0x8000_0000 && Prefix.mask4(24) == 0xFFFF_FF00)
        #expect(Prefix.mask4(32) == .max && Prefix.mask4(33) == .max && Prefix.mask4(-1) == 0)
        #expect(Prefix(default: .v4).description == "0.0.0.0/0" && Prefix(default: .v6).description == "::/0")
        #expect(Prefix(.v4(.loopback), length: 33) == nil && Prefix(.v6(.loopback), length: -1) == nil)
    }
}

@Suite("MAC addresses and ports")
struct MACAddressAndPortTests {
    @Test(
        "a MAC address prints what it parsed",
        arguments: ["9a:55:9a:55:9a:55", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:0f"])
    func prints(text: String) throws {
        let mac = try #require(MACAddress(text))
        #expect(mac.description == text)
        #expect(MACAddress(bytes: mac.bytes) == mac)
        #expect(MACAddress(text.uppercased()) == mac)
    }

    @Test(
        "a MAC address is six pairs joined by colons",
        arguments: [
            "", "9a:55:9a:55:9a", "9a:55:9a:55:9a:55:", "9a:55:9a:55:9a:5", "9a-55-9a-55-9a-55", "9a559a559a55",
            "9a:55:9a:55:9a:+5", "9a:55:9a:55:9a:5g", "9a:55:9a:55:9a:555", "9a:55:9a:55:9a: 5", "9a:55:9a:55:9a:é",
        ])
    func refuses(text: String) {
        #expect(MACAddress(text) == nil)
    }

    @Test("group addresses")
    func groupAddresses() {
        #expect(MACAddress.broadcast.isMulticast && !MACAddress.defaultGateway.isMulticast)
        // RFC 2464 section 7.
        #expect(MACAddress.multicast(for: .allNodes).description == "33:33:00:00:00:01")
        #expect(MACAddress(rawValue: .max) == .broadcast)
    }

    @Test("a port is a decimal number up to 65535")
    func ports() {
        #expect(Port("0") == Port(0) && Port("65535") == Port(65535) && Port("22")?.description == "22")
        for text in ["", "65536", "-1", "+1", " 1", "1 ", "0x10", "1.0", "99999999999999999999", "1\u{301}", "１"] {
            #expect(Port(text) == nil, "\(text)")
        }
    }

    @Test("a digit with a combining mark is no digit")
    func combiningMarks() {
        #expect(!Character("1\u{301}").isASCIIDigit && !Character("e\u{332}").isASCIIHexDigit)
        #expect(Character("f").isASCIIHexDigit && Character("F").isASCIIHexDigit && !Character("g").isASCIIHexDigit)
    }
}
