// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why a text cannot be split into words.
public struct ShellWordsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong.
    public var description: String
}

/// Words as a shell splits them (POSIX, "Shell Command Language" §2.2 and §2.6.5), without any expansion.
public enum ShellWords {
    /// Splits a text into words.
    ///
    /// Blanks and line ends separate words. Single quotes keep everything; double quotes keep everything except a
    /// backslash before `$`, `` ` ``, `"`, `\` and the end of a line. Outside of quotes, a backslash keeps the next
    /// character. `$`, `` ` ``, `*`, `~`, `#`, `;` and the like have no special meaning.
    ///
    /// - Parameter text: the text.
    /// - Returns: The words; an empty pair of quotes is an empty word.
    /// - Throws: When a quote or a backslash has no end, or a zero byte occurs, which no argument can hold.
    public static func split(_ text: String) throws(ShellWordsError) -> [String] {
        var splitter = Splitter(scalars: Array(text.unicodeScalars))
        try splitter.run()
        return splitter.words
    }

    private struct Splitter {
        let scalars: [Unicode.Scalar]
        var position = 0
        var words: [String] = []
        /// The current word; nil between words.
        var word: String.UnicodeScalarView?

        init(scalars: [Unicode.Scalar]) {
            self.scalars = scalars
        }

        mutating func run() throws(ShellWordsError) {
            while let scalar = next() {
                switch scalar {
                case " ", "\t", "\n":
                    if let word { words.append(String(word)) }
                    word = nil
                case "'": try singleQuotes()
                case "\"": try doubleQuotes()
                case "\\":
                    guard let kept = next() else { throw ShellWordsError(description: "ends with a backslash") }
                    // A backslash before the end of a line joins the lines.
                    if kept != "\n" { try append(kept) }
                default: try append(scalar)
                }
            }
            if let word { words.append(String(word)) }
        }

        private mutating func next() -> Unicode.Scalar? {
            guard position < scalars.count else { return nil }
            defer { position += 1 }
            return scalars[position]
        }

        private mutating func append(_ scalar: Unicode.Scalar) throws(ShellWordsError) {
            guard scalar != "\0" else { throw ShellWordsError(description: "contains a zero byte") }
            word = word ?? String.UnicodeScalarView()
            word?.append(scalar)
        }

        private mutating func singleQuotes() throws(ShellWordsError) {
            word = word ?? String.UnicodeScalarView()
            while let scalar = next() {
                if scalar == "'" { return }
                try append(scalar)
            }
            throw ShellWordsError(description: "has a single quote without its partner")
        }

        private mutating func doubleQuotes() throws(ShellWordsError) {
            word = word ?? String.UnicodeScalarView()
            while let scalar = next() {
                switch scalar {
                case "\"": return
                case "\\":
                    guard let kept = next() else { break }
                    switch kept {
                    case "\n": break
                    case "$", "`", "\"", "\\": try append(kept)
                    default:
                        try append(scalar)
                        try append(kept)
                    }
                default: try append(scalar)
                }
            }
            throw ShellWordsError(description: "has a double quote without its partner")
        }
    }
}
