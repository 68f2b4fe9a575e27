// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The rules of a file (`--egress-file`): one a line, `allow SPEC` or `deny SPEC`.
///
/// Empty lines are ignored, and so is the text after a `#` at the beginning of a line or after a blank. A file is
/// accepted as a whole or not at all.
public enum RuleFile {
    /// The longest file in bytes.
    public static let maximumLength = 4 << 20
    /// The greatest number of rules.
    public static let maximumCount = 65536

    /// Reads a file's content.
    ///
    /// - Parameters:
    ///   - content: the bytes.
    ///   - name: the file's name, for errors.
    /// - Returns: The rules in order.
    /// - Throws: for the first invalid line; the error also has the number of the others.
    public static func read(_ content: [UInt8], name: String) throws(PolicyError) -> [PolicyRule] {
        guard content.count <= maximumLength else {
            throw PolicyError("--egress-file", name, "longer than \(maximumLength >> 20) MiB; split it or use prefixes")
        }
        var rules: [PolicyRule] = []
        var first: PolicyError?
        var refused = 0
        var number = 0
        for line in content.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            do throws(PolicyError) {
                guard let rule = try rule(line, place: "\(name):\(number):") else { continue }
                guard rules.count < maximumCount else {
                    throw PolicyError("\(name):\(number)", nil, "more than \(maximumCount) rules; use prefixes or '*.'")
                }
                rules.append(rule)
            } catch {
                first = first ?? error
                refused += 1
            }
        }
        guard var error = first else { return rules }
        if refused > 1 { error.problem += " (and \(refused - 1) more lines)" }
        throw error
    }

    private static func rule(_ line: ArraySlice<UInt8>, place: String) throws(PolicyError) -> PolicyRule? {
        let bare = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        var words: [String] = []
        for word in bare.split(whereSeparator: { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) {
            if word.first == UInt8(ascii: "#") { break }
            words.append(String(decoding: word, as: UTF8.self))
        }
        guard let word = words.first else { return nil }
        guard let verdict = Verdict(rawValue: word) else {
            throw PolicyError(place, word, "a line begins with 'allow', 'deny' or '#'")
        }
        guard words.count == 2 else {
            let missing = "no destination follows; write '\(word) SPEC'"
            let problem = words.count == 1 ? missing : "one SPEC a line; comments begin with #"
            throw PolicyError(place, words.joined(separator: " "), problem)
        }
        return try PolicyRule(verdict, specification: words[1], place: place)
    }
}
