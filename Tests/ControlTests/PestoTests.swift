// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport
import Testing

@testable import Control

@Suite("the protocol of pesto, version 2") struct PestoTests {
    /// `-t 192.0.2.1%eth0/80-82:198.51.100.2/8080-8082`, field by field.
    private static let rule: [UInt8] =
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1]  // listening address, IPv4 in mapped form
        + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 198, 51, 100, 2]  // target address
        + Array("eth0".utf8) + [UInt8](repeating: 0, count: 12)  // interface
        + [0, 80, 0, 82, 0x1F, 0x90, 6, 0]  // first, last, to, protocol, flags

    private static let ruleValue = PortForward(
        direction: .inbound, transport: .tcp, address: IPAddress("192.0.2.1"), interface: "eth0", first: Port(80),
        last: Port(82), targetFirst: Port(8080), targetAddress: IPAddress("198.51.100.2"))

    /// `-u auto`-like: both families, found by scanning.
    private static let scanned = PortForward(
        direction: .inbound, transport: .udp, first: Port(53), last: Port(53), targetFirst: Port(53), policy: .scanned)

    @Test("a rule is 56 bytes, field by field")
    func aRuleIs56Bytes() throws {
        var bytes: [UInt8] = []
        PestoRule.append(Self.ruleValue, to: &bytes)
        #expect(bytes == Self.rule)
        #expect(try PestoRule.parse(Self.rule[...], in: .host) == Self.ruleValue)
    }

    @Test("a greeting begins with the magic, the version and the sizes, and has a block for each table")
    func aGreetingHasABlockForEachTable() {
        let greeting = PestoGreeting(
            tables: [.host, .splice], capabilities: [.ipv4, .ipv6, .tcp, .udp, .scanning, .interfaces],
            rules: [Self.ruleValue])
        var expected: [UInt8] = Array("basil:s".utf8) + [0] + [0, 0, 0, 2] + [0, 0, 0, 128] + [0, 0, 0, 16]
        expected += [1] + Array("HOST".utf8) + [UInt8](repeating: 0, count: 124) + [0, 0, 0, 0x3F] + [0, 0, 0, 1]
        expected += Self.rule
        expected += [3] + Array("SPLICE".utf8) + [UInt8](repeating: 0, count: 122) + [0, 0, 0, 0x3F] + [0, 0, 0, 0]
        expected += [0]
        #expect(greeting.bytes == expected)
    }

    @Test(
        "rules of every kind are the same after both ways",
        arguments: [
            ruleValue, scanned,
            PortForward(
                direction: .inbound, transport: .udp, address: IPAddress("0.0.0.0"), first: Port(1), last: Port(65535),
                targetFirst: Port(1), policy: .bestEffort),
            PortForward(
                direction: .inbound, transport: .tcp, address: IPAddress("::"), first: Port(9), last: Port(9),
                targetFirst: Port(65535)),
            PortForward(
                direction: .inbound, transport: .tcp, address: IPAddress("2001:db8::1"), first: Port(9), last: Port(9),
                targetFirst: Port(10), targetAddress: IPAddress("2001:db8::2")),
            PortForward(
                direction: .outbound, transport: .tcp, interface: "lo", first: Port(5000), last: Port(5001),
                targetFirst: Port(6000)),
        ])
    func rulesOfEveryKindAreTheSameAfterBothWays(rule: PortForward) throws {
        var bytes: [UInt8] = []
        PestoRule.append(rule, to: &bytes)
        #expect(bytes.count == PestoRule.length)
        let table = try #require(PestoTable.allCases.first { $0.direction == rule.direction })
        #expect(try PestoRule.parse(bytes[...], in: table) == rule)
    }

    @Test(
        "a rule that cannot be carried out is refused",
        arguments: [
            ([54: 132], "IP protocol 132"), ([55: 0x08], "unknown flags"), ([48: 0, 49: 0], "ports 0"),
            ([48: 1, 49: 0], "ports 256 to 82"), ([52: 0, 53: 0], "to ports from 0"),
            ([52: 0xFF, 53: 0xFF], "to ports from 65535"), ([47: 1], "has no end"),
            ([32: 0x2F], "no interface can have"),
            ([55: 1], "both families"), ([12: 224], "no address of a host"), ([28: 239], "no address of a host"),
            ([26: 0, 27: 0], "of its family"),
        ] as [([Int: UInt8], String)])
    func aRuleThatCannotBeCarriedOutIsRefused(changes: [Int: UInt8], words: String) {
        var bytes = Self.rule
        for (offset, value) in changes { bytes[offset] = value }
        #expect { try PestoRule.parse(bytes[...], in: .host) } throws: { "\($0)".contains(words) }
    }

    @Test("a client that sends nothing changes nothing")
    func aClientThatSendsNothingChangesNothing() throws {
        let request = PestoRequest(tables: [.host, .splice])
        #expect(try request.outcome(current: [Self.ruleValue]) == nil)
    }

    @Test("whole tables replace those in force, in pieces of any size", arguments: [1, 2, 7, 55, 1000])
    func wholeTablesReplaceThoseInForce(size: Int) throws {
        let bytes: [UInt8] = [1, 0, 0, 0, 2] + Self.rule + Self.rule.dropLast(8) + [0, 90, 0, 90, 0, 91, 6, 2] + [0]
        var request = PestoRequest(tables: [.host, .splice])
        for start in stride(from: 0, to: bytes.count, by: size) {
            #expect(!request.isComplete)
            try request.take(bytes[start..<min(start + size, bytes.count)])
        }
        #expect(request.isComplete)
        let outbound = PortForward(
            direction: .outbound, transport: .tcp, first: Port(1), last: Port(1), targetFirst: Port(1))
        let rules = try #require(try request.outcome(current: [Self.scanned, outbound]))
        #expect(rules.count == 3)
        #expect(rules[0] == Self.ruleValue)
        #expect(rules[1].first == Port(90) && rules[1].policy == .bestEffort)
        // The client did not send the other table.
        #expect(rules[2] == outbound)
    }

    @Test("an empty table clears")
    func anEmptyTableClears() throws {
        var request = PestoRequest(tables: [.host, .splice])
        try request.take([1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0])
        #expect(try request.outcome(current: [Self.ruleValue]) == [])
    }

    @Test(
        "what no client sends is refused",
        arguments: [
            [2], [4], [1, 0, 0, 1, 1], [1, 0, 0, 0, 0, 1], [0, 0], [1, 0, 0, 0, 0, 0, 1], [1, 0xFF, 0xFF, 0xFF, 0xFF],
        ] as [[UInt8]])
    func whatNoClientSendsIsRefused(bytes: [UInt8]) {
        var request = PestoRequest(tables: [.host, .splice])
        #expect(throws: PestoError.self) { try request.take(bytes) }
    }

    @Test("a list without end changes nothing", arguments: [[1], [1, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0]] as [[UInt8]])
    func aListWithoutEndChangesNothing(bytes: [UInt8]) throws {
        var request = PestoRequest(tables: [.host])
        try request.take(bytes)
        #expect(throws: PestoError.self) { try request.outcome(current: []) }
    }

    @Test("no bytes make the reader trap", arguments: 1...20)
    func noBytesMakeTheReaderTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var refused = 0
        for _ in 0..<2000 {
            var request = PestoRequest(tables: [.host, .splice])
            var bytes: [UInt8] = [1, 0, 0, 0, 2] + Self.rule + Self.rule + [0]
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            do {
                try request.take(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
                _ = try request.outcome(current: [])
            } catch {
                refused += 1
            }
        }
        #expect(refused > 100)
    }
}
