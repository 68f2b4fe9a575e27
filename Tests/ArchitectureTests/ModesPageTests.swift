// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("docs/modes.md")
struct ModesPageTests {
    @Test("every test that the page names exists, and every cell of its tables names one")
    func namesTests() async throws {
        let page = try Package.text(of: "docs/modes.md")
        let tests = try await Package.files().filter { $0.hasPrefix("Tests/") || $0.hasPrefix("Integration/") }
        var declared: Set<String> = []
        for file in tests where file.hasSuffix(".swift") {
            declared.formUnion(Self.declarations(try Package.text(of: file)))
        }
        var named = 0
        for piece in page.split(separator: "`")
        where ["Tests.", "RoamingCase.", "Scenarios."].contains(where: { piece.contains($0) }) {
            named += 1
            #expect(declared.contains(String(piece)), "\(piece)")
        }
        #expect(named > 40)
        let table = page.split(separator: "\n").drop { !$0.hasPrefix("| addresses") }.prefix { $0.hasPrefix("|") }
        for row in table {
            let cells = row.split(separator: "|").map(String.init)
            #expect(cells.count == 4)
            for cell in cells.dropFirst() {
                #expect(cell.contains("Tests.") || cell.contains("RoamingCase."), "\(cell)")
            }
        }
        #expect(table.count == 9)
    }

    /// `Type.member` for the functions and static constants of each type of a file.
    private static func declarations(_ text: String) -> [String] {
        var type = ""
        var found: [String] = []
        for line in text.split(separator: "\n") {
            let words = line.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
            for keyword in ["struct", "extension", "enum"] where !line.hasPrefix(" ") {
                guard let place = words.firstIndex(of: keyword), place + 1 < words.count else { continue }
                type = words[place + 1]
            }
            if let place = words.firstIndex(of: "func"), place + 1 < words.count {
                found.append("\(type).\(words[place + 1])")
            }
            if let place = words.firstIndex(of: "let"), place > 0, words[place - 1] == "static" {
                found.append("\(type).\(words[place + 1])")
            }
        }
        return found
    }
}
