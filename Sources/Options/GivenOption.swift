// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An option as given on a command line, with its argument uninterpreted.
public struct GivenOption: Hashable, Sendable {
    /// The option.
    public var option: OptionDescription
    /// Its argument; empty if it takes none.
    public var argument: String

    /// Splits the words of a command line into options, like ``parse(arguments:ephemeralRange:)``.
    ///
    /// It knows clusters of letters, abbreviated names, and arguments in the same word or the next.
    ///
    /// - Parameter words: the words, without the program's name.
    /// - Returns: The options in order, and the operands behind them.
    /// - Throws: When a word is not an option, or lacks its argument.
    public static func scan(_ words: [String]) throws(UsageError) -> (options: [GivenOption], operands: [String]) {
        let scanner = GetoptScanner(["tapas"] + words)
        if let failure = scanner.failure { throw failure }
        let options = scanner.items.map { GivenOption(option: $0.option, argument: $0.argument) }
        return (options, Array(words.dropFirst(scanner.operandIndex - 1)))
    }
}
