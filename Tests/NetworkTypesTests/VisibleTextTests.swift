// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Testing

@Suite("text from outside, made visible")
struct VisibleTextTests {
    @Test(
        "what acts on a terminal is escaped, all else stays",
        arguments: [
            ("plain text", "plain text"), ("über 日本 🙂", "über 日本 🙂"), ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{1B}[31mred\u{07}", "\\u{1b}[31mred\\u{7}"), ("\0", "\\u{0}"), ("\u{7F}\u{9B}2J", "\\u{7f}\\u{9b}2J"),
            ("a\u{2028}b", "a\\u{2028}b"), ("\u{202E}fdp.exe", "\\u{202e}fdp.exe"), ("\r\n", "\\r\\n"), ("", ""),
            ("C:\\path", "C:\\path"),
        ])
    func escapes(text: String, visible: String) {
        #expect(text.escapingControlCharacters == visible)
    }
}
