// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Testing

@Suite("IPv4 addresses")
struct IPv4AddressTests {
    @Test(
        "prints what it parsed",
        arguments: [
            ("0.0.0.0", 0), ("127.0.0.1", 0x7F00_0001), ("192.0.2.1", 0xC000_0201), ("255.255.255.255", 0xFFFF_FFFF),
            ("1.2.3.4", 0x0102_0304), ("10.200.100.9", 0x0AC8_6409),
        ] as [(String, UInt32)])
    func printsWhatItParsed(text: String, number: UInt32) {
        #expect(IPv4Address(text)?.rawValue == number)
        #expect(IPv4Address(rawValue: number).description == text)
    }

    @Test(
        "refuses everything but a strict dotted quad (RFC 6943 section 3.1.1)",
        arguments: [
            "", ".", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.256", "1.2.3.1000", "01.2.3.4",
            "1.2.3.04", "0x1.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4", "+1.2.3.4", "1.2.3.4/8", "a.b.c.d",
            "1.2.3.4\n", "1\u{301}.2.3.4", "１.2.3.4", "0.00.0.0", "999999999999999999999.1.1.1",
        ])
    func refuses(text: String) {
        #expect(IPv4Address(text) == nil)
    }

    @Test(
        "classes give the prefix length",
        arguments: zip(
            [
                "10.0.2.15", "127.9.9.9", "169.254.2.15", "172.16.5.5", "191.255.0.1", "192.168.3.4", "223.255.255.1",
                "224.0.0.1", "240.0.0.1",
            ],
            [8, 8, 16, 16, 16, 24, 24, 32, 32]))
    func classesGiveThePrefixLength(text: String, length: Int) throws {
        #expect(try #require(IPv4Address(text)).classfulPrefixLength == length)
    }

    @Test("knows special addresses")
    func knowsSpecialAddresses() {
        #expect(IPv4Address.unspecified.isUnspecified)
        #expect(IPv4Address(127, 255, 0, 1).isLoopback && !IPv4Address(128, 0, 0, 1).isLoopback)
        #expect(IPv4Address(224, 0, 0, 0).isMulticast && IPv4Address(239, 255, 255, 255).isMulticast)
        #expect(!IPv4Address(223, 255, 255, 255).isMulticast && !IPv4Address(240, 0, 0, 0).isMulticast)
        #expect(IPv4Address.broadcast.isBroadcast)
        #expect(IPv4Address(169, 254, 0, 1).isLinkLocal && !IPv4Address(169, 253, 0, 1).isLinkLocal)
        #expect(IPv4Address(1, 2, 3, 4) < IPv4Address(1, 2, 4, 0))
    }
}
