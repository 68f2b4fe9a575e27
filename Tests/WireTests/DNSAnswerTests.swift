// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("DNS answers (RFC 1035, RFC 3596)")
struct DNSAnswerTests {
    /// An answer to "example.com AAAA?": a CNAME, an address of each family, and what is stepped over.
    ///
    /// That is a TXT record, one of another class, and an authority record. Owners are compressed as resolvers do.
    private static let message = hex(
        """
        1234 8180 0001 0005 0001 0000
        07 6578616d706c65 03 636f6d 00  001c 0001
        c00c 0005 0001 0000012c 0006  03 777777 c00c
        c029 001c 0001 0000003c 0010  20010db8 00000000 00000000 00000001
        c029 0001 0001 80000000 0004  c0000201
        c029 0010 0001 0000003c 0003  02 6869
        c029 0001 0003 0000003c 0004  c0000202
        c00c 0002 0001 0000003c 0002  c00c
        """)

    /// Reads an answer; a span cannot stand in an expectation.
    private func read(_ bytes: some Sequence<UInt8>) throws(ParseError) -> DNSAnswer {
        let bytes = Array(bytes)
        return try DNSAnswer(bytes.span)
    }

    @Test("are read: aliases, addresses and their times")
    func areRead() throws {
        let answer = try read(Self.message)
        let name = try #require(DNSName("example.com"))
        let www = try #require(DNSName("www.example.com"))
        #expect(answer.question == DNSQuestion(name: name, type: 28))
        #expect(
            answer.records == [
                .init(owner: name, timeToLive: 300, content: .alias(www)),
                .init(owner: www, timeToLive: 60, content: .address(.v6(IPv6Address(high: 0x2001_0DB8 << 32, low: 1)))),
                .init(owner: www, timeToLive: 0, content: .address(.v4(IPv4Address(192, 0, 2, 1)))),
            ])
    }

    @Test("are refused when they end early")
    func areRefusedWhenTheyEndEarly() {
        // The authority section, 14 bytes, is not read.
        for count in 0..<(Self.message.count - 14) {
            #expect(throws: ParseError.truncated, "\(count)") { try read(Self.message[..<count]) }
        }
    }

    @Test("that were truncated count as far as they go")
    func thatWereTruncated() throws {
        var bytes = Array(Self.message[..<47])
        bytes[2] |= 2
        #expect(try read(bytes).records.count == 1)
        #expect(throws: ParseError.truncated) { try read(bytes.dropLast()) }
    }

    static let bad: [(Int, [UInt8], ParseError)] = [
        // A query, another operation, two questions.
        (2, [0x01], .badType), (2, [0x89], .badType), (4, [0, 2], .badType),
        // An alias shorter or longer than its record, an address of three bytes, a name that points at itself.
        (39, [0, 5], .badLength), (39, [0, 7], .badLength), (29, [0xC0, 29], .badValue),
    ]

    @Test("are refused when they contradict themselves", arguments: bad)
    func areRefusedWhenTheyContradictThemselves(offset: Int, bytes: [UInt8], error: ParseError) {
        var message = Self.message
        message.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
        #expect(throws: error) { try read(message) }
    }

    @Test("of any bytes are read or refused", arguments: 0..<8 as Range<UInt64>)
    func ofAnyBytes(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var accepted = 0
        for _ in 0..<3000 {
            var bytes = Self.message
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            if random.chance(20) { bytes = random.bytes(upTo: 100) }
            if random.chance(20) { bytes.removeLast(Int.random(in: 0...bytes.count, using: &random)) }
            if let answer = try? read(bytes) {
                accepted += 1
                #expect(answer.records.count <= Int(answer.header.answerCount))
            }
        }
        #expect(accepted > 100)
    }

    @Test("with the most records cost no more than the bound")
    func withTheMostRecords() throws {
        let count = 4000
        var bytes = Array(Self.message[..<29])
        bytes[6] = UInt8(count >> 8)
        bytes[7] = UInt8(count & 255)
        for _ in 0..<count { bytes += hex("c00c 0001 0001 0000003c 0004 c0000201") }
        #expect(try read(bytes).records.count == DNSAnswer.maximumCount)
    }
}
