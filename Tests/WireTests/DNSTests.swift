// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import Wire

@Suite("DNS (RFC 1035)")
struct DNSTests {
    @Test("reads dig's query")
    func readsDigsQuery() throws {
        let frame = Capture.dnsQuery.frame
        let query = try Array(frame[FrameSummary(frame.span).payloadOffset...])
        let header = try DNSHeader(query.span)
        #expect(!header.isResponse && header.questionCount == 1 && header.additionalCount == 1)
        var offset = DNSHeader.length
        let question = try DNSQuestion(query.span, at: &offset)
        #expect(question.name.description == "example.com")
        #expect(question.type == 28 && question.recordClass == 1)
        #expect(offset == DNSHeader.length + 13 + 4)
    }

    @Test("follows compression (RFC 1035 §4.1.4)")
    func followsCompression() throws {
        let message = [UInt8](repeating: 0, count: 20) + hex("01 46 03 495349 04 41525041 00  03 464f4f c014  c01a")
        var offset = 32
        #expect(try DNSName(message.span, at: &offset).description == "FOO.F.ISI.ARPA")
        #expect(offset == 38)
        #expect(try DNSName(message.span, at: &offset).description == "ARPA")
        #expect(offset == 40)
    }

    static let bad: [([UInt8], ParseError)] = [
        ([], .truncated), ([3, 97, 98], .truncated), ([63], .truncated), ([0xC0], .truncated), ([0xC0, 0], .badValue),
        ([0xC0, 9], .badValue), ([0x40, 0], .badValue), ([1, 97], .truncated),
    ]

    @Test("refuses bad names", arguments: bad)
    func refusesBadNames(bytes: [UInt8], error: ParseError) {
        var offset = 0
        #expect(throws: error) { try DNSName(bytes.span, at: &offset) }
    }

    @Test("refuses names and pointer chains that are too long")
    func refusesTooLong() {
        let long = [UInt8](repeating: 0, count: 0) + (0..<5).flatMap { _ in [63] + [UInt8](repeating: 97, count: 63) }
        var offset = 0
        #expect(throws: ParseError.tooLong) { try DNSName((long + [0]).span, at: &offset) }
        var chain: [UInt8] = [0]
        for index in 0..<50 { chain += [0xC0, UInt8(index == 0 ? 0 : index * 2 - 1)] }
        offset = chain.count - 2
        #expect(throws: ParseError.tooLong) { try DNSName(chain.span, at: &offset) }
    }

    @Test("makes names of text", arguments: zip(["example.com", "example.com.", "."], [13, 13, 0]))
    func makesNamesOfText(text: String, length: Int) {
        #expect(DNSName(text)?.wireBytes.count ?? 0 == length)
    }

    @Test(
        "refuses text that is no name",
        arguments: ["", "a..b", String(repeating: "x", count: 64), String(repeating: "abcdefg.", count: 32) + "com"])
    func refusesText(text: String) {
        #expect(DNSName(text) == nil)
    }
}
