// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Testing

@Suite("a text in a text")
struct TextSearchTests {
    @Test(
        "a part is found wherever it is, and nowhere else",
        arguments: [
            ("passt", "passt", true), ("/usr/bin/passt.avx2", "passt", true), ("pasta", "passt", false), ("", "", true),
            ("a", "", true), ("", "a", false), ("aab", "ab", true), ("ab", "abc", false), ("a => b", " => ", true),
            ("xü", "ü", true),
        ])
    func finds(text: String, part: String, is expected: Bool) {
        #expect(text.hasPart(part) == expected)
        #expect(text[...].hasPart(part) == expected)
    }
}
