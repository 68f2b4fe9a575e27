// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import OCIHook
import TestSupport
import Testing

@Suite("Words as a shell splits them") struct ShellWordsTests {
    @Test(
        "are split at blanks, joined by quotes and backslashes, and never expanded",
        arguments: [
            ("", []),
            ("  \t\n", []),
            ("a b", ["a", "b"]),
            (" --mtu  1400\n-4 ", ["--mtu", "1400", "-4"]),
            ("a'b c'd", ["ab cd"]),
            ("''", [""]),
            ("a \"\" b", ["a", "", "b"]),
            ("\"a b\"'c d' e", ["a bc d", "e"]),
            ("a\\ b", ["a b"]),
            ("a\\\nb", ["ab"]),
            ("\\'\\\"", ["'\""]),
            ("'a\\b\"$x'", ["a\\b\"$x"]),
            ("\"\\$HOME \\` \\\" \\\\ \\n \\\n.\"", ["$HOME ` \" \\ \\n ."]),
            ("$HOME `id` $(id) ~ * # ; | > &", ["$HOME", "`id`", "$(id)", "~", "*", "#", ";", "|", ">", "&"]),
            ("ä 'ö ü'", ["ä", "ö ü"]),
        ] as [(String, [String])])
    func areSplit(text: String, words: [String]) throws {
        #expect(try ShellWords.split(text) == words)
    }

    @Test("need the end of what they begin", arguments: ["'a", "\"a", "a\\", "\"a\\\"", "a 'b' \"", "a\0b", "'\0'"])
    func needTheirEnd(text: String) {
        #expect(throws: ShellWordsError.self) { try ShellWords.split(text) }
    }

    @Test("come back from any quoting", arguments: 0..<200 as Range<UInt64>)
    func comeBack(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let alphabet = Array("ab '\"\\$`\n\t;é")
        let words = (0..<Int.random(in: 0...4, using: &random)).map { _ in
            String(
                (0..<Int.random(in: 0...6, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? "a" })
        }
        let quoted = words.map { word in
            switch Int.random(in: 0...1, using: &random) {
            case 0: "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
            default: "\"" + word.map { "\\\"$`".contains($0) ? "\\\($0)" : "\($0)" }.joined() + "\""
            }
        }
        #expect(try ShellWords.split(quoted.joined(separator: " ")) == words)
    }

    @Test("any text is split or refused", arguments: 0..<300 as Range<UInt64>)
    func anyText(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let alphabet = Array("a '\"\\\n\0")
        let text = String((0..<12).map { _ in alphabet.randomElement(using: &random) ?? "a" })
        if let words = try? ShellWords.split(text) { #expect(words.count <= 12) }
    }
}
