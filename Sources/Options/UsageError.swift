// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// A wrong command line: one line for standard error, and exit status 1.
public struct UsageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The exit status of the program.
    public static let exitStatus: Int32 = 1

    /// What is wrong: one line that names the option, the value and a remedy; no line end.
    public var message: String
    /// Whether a hint at `--help` should follow, because the words could not be read as options at all.
    public var showsUsageHint: Bool

    /// Makes an error.
    public init(_ message: String, showsUsageHint: Bool = false) {
        self.message = message
        self.showsUsageHint = showsUsageHint
    }

    /// The message.
    public var description: String { message }

    /// Makes the error of an option whose value cannot be used.
    init(_ option: OptionDescription, _ value: String, _ problem: String) {
        self.init("\(option.displayName) \(quoted(value)): \(problem)")
    }

    /// Makes the error of an option that takes no value.
    init(_ option: OptionDescription, _ problem: String) {
        self.init("\(option.displayName): \(problem)")
    }
}

/// A value from outside in single quotes.
///
/// Control characters are escaped, so that a message stays one line and cannot control a terminal, and a very long
/// value is cut off.
func quoted(_ text: String) -> String {
    "'\(printable(text))'"
}

/// As ``quoted(_:)``, without the quotes.
func printable(_ text: some StringProtocol) -> String {
    let limit = 160
    guard text.unicodeScalars.count > limit else { return text.escapingControlCharacters }
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(limit))).escapingControlCharacters + "..."
}
