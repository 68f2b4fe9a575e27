// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Why the hook cannot work: one line that begins with the cause.
public struct HookError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The cause: an annotation, a line of a file, the state.
    public var source: String
    /// What is wrong with it, and what helps.
    public var problem: String

    /// Makes an error.
    ///
    /// - Parameters:
    ///   - source: the cause.
    ///   - problem: what is wrong with it, and what helps.
    public init(_ source: String, _ problem: String) {
        self.source = source
        self.problem = problem
    }

    /// The line, without its end and with every control character escaped.
    public var description: String { "\(source): \(problem)".escapingControlCharacters }
}

/// A word of the user's, quoted for a message.
func quoted(_ text: some StringProtocol) -> String { "'\(text)'" }
