// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension StringProtocol {
    /// Whether the text has another one as a part of it, byte for byte.
    ///
    /// The standard library's search of a text in a text comes with the parser of regular expressions, which would be a
    /// tenth of the program (docs/CONTRIBUTING.md).
    ///
    /// - Parameter part: the text that is searched; an empty one is a part of every text.
    /// - Returns: whether it was found.
    /// - Complexity: O(length of the text × length of the part).
    public func hasPart(_ part: String) -> Bool {
        var rest = utf8[...]
        while true {
            if rest.starts(with: part.utf8) { return true }
            if rest.isEmpty { return false }
            rest = rest.dropFirst()
        }
    }
}
