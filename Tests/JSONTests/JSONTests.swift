// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import TestSupport
import Testing

@Suite("JSON (RFC 8259)") struct JSONTests {
    @Test(
        "reads what it writes, to the letter",
        arguments: [
            #"null"#, #"true"#, #"false"#, #"0"#, #"-1"#, #"9223372036854775807"#, #"-9223372036854775808"#, #"1.5"#,
            #""""#, #""a\"b\\c\n\r\t\u0001\u007f""#, #""größe ☂ 𝄞""#, #"[]"#, #"{}"#, #"[1,[2,[3]],{"a":null}]"#,
            #"{"v":1,"id":"x","params":{"b":[true,false]}}"#,
        ])
    func readsWhatItWrites(text: String) throws {
        #expect(try JSONValue(parsing: text).compactText == text)
    }

    @Test(
        "reads what has several spellings",
        arguments: zip(
            [
                " { \"a\" : [ 1 , 2 ] }\r\n\t", #""\u0041\/\b\f""#, #""\ud834\udd1e""#, "1e2", "1E+2", "-0", "-0.0",
                "18446744073709551616",
            ],
            [
                ["a": [1, 2]], "A/\u{8}\u{C}", "\u{1D11E}", JSONValue.number(100), .number(100), 0, .number(-0.0),
                .number(18_446_744_073_709_551_616),
            ] as [JSONValue]))
    func readsWhatHasSeveralSpellings(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test(
        "refuses what is no JSON, and says where",
        arguments: zip(
            [
                "", " ", "{", "[", "[1", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}",
                "{\"a\":1,\"a\":2}", "01", "+1", ".5", "1.", "1e", "1e+", "0x10", "NaN", "Infinity", "1e999", "tru",
                "nulll", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
                "\"\\udc00\"", "\"\u{1}\"", "1 2", "[1] x", "\u{FEFF}1", "/**/1",
            ],
            [
                0, 1, 1, 1, 2, 3, 1, 4, 5, 7, 1, 1, 10, 1, 0, 0, 2, 2, 3, 1, 0, 0, 5, 3, 4, 1, 2, 2, 5, 5, 7, 13, 7, 1,
                2, 4, 0, 0,
            ]))
    func refusesWhatIsNoJSON(text: String, offset: Int) {
        #expect { try JSONValue(parsing: text) } throws: { ($0 as? JSONError)?.offset == offset }
    }

    @Test("refuses strings that are not UTF-8")
    func refusesStringsThatAreNotUTF8() {
        for bytes: [UInt8] in [[0x80], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xC3]] {
            #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22] + bytes + [0x22]) }
        }
    }

    @Test("nesting is bounded")
    func nestingIsBounded() throws {
        let depth = JSONValue.greatestDepth
        let fits = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        #expect(try JSONValue(parsing: fits).compactText == fits)
        #expect(throws: JSONError.self) { try JSONValue(parsing: "[" + fits + "]") }
        #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "{\"a\":", count: 100_000)) }
    }

    @Test("the text for people has a member a line")
    func theTextForPeopleHasAMemberALine() {
        let value: JSONValue = ["a": 1, "b": ["x", [:], []], "c": ["d": nil]]
        #expect(
            value.indentedText == """
                {
                  "a": 1,
                  "b": [
                    "x",
                    {},
                    []
                  ],
                  "c": {
                    "d": null
                  }
                }
                """)
    }

    @Test("no bytes make the parser trap, and what it accepts it writes and reads again", arguments: 1...20)
    func noBytesMakeTheParserTrap(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let pieces: [[UInt8]] = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "d834", "true", "null", "1", "-", ".5", "e9", " ", "a",
        ].map { Array($0.utf8) }
        var accepted = 0
        for _ in 0..<5000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0...12, using: &random) {
                bytes += pieces.randomElement(using: &random) ?? []
                if Int.random(in: 0..<20, using: &random) == 0 {
                    bytes.append(UInt8.random(in: 0...255, using: &random))
                }
            }
            guard let value = try? JSONValue(parsing: bytes) else { continue }
            accepted += 1
            #expect(try JSONValue(parsing: value.compactText) == value, "seed \(seed): \(value.compactText)")
            #expect(try JSONValue(parsing: value.indentedText) == value)
        }
        #expect(accepted > 30)
    }
}
