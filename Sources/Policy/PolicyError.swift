// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Why rules cannot be used: one line that begins with the option, or with the file and its line.
public struct PolicyError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The position of the error: `--allow`, or `FILE:LINE`.
    public var place: String
    /// The wrong text; nil if there is none to show.
    public var object: String?
    /// The error, and the remedy.
    public var problem: String

    /// Makes an error.
    ///
    /// - Parameters:
    ///   - place: the option, or the file and its line.
    ///   - object: the wrong text.
    ///   - problem: the error, and the remedy.
    public init(_ place: String, _ object: String?, _ problem: String) {
        self.place = place
        self.object = object
        self.problem = problem
    }

    /// The line, without its end, with every control character escaped and long texts cut off.
    public var description: String {
        let shown = object.map { " '\(Self.short($0))'" } ?? ""
        return "\(place)\(shown): \(problem)".escapingControlCharacters
    }

    private static func short(_ text: String) -> String {
        let limit = 160
        guard text.unicodeScalars.count > limit else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.prefix(limit))) + "..."
    }
}
