// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The result of parsing a command line.
public enum ParseOutcome: Hashable, Sendable {
    /// Run the program.
    case run(Invocation)
    /// Print ``HelpText/help(program:)`` to standard output and exit with 0.
    case help
    /// Print the version to standard output and exit with 0.
    case version
    /// Print ``HelpText/capabilities`` to standard output and exit with 0.
    case printCapabilities
}

/// Parses a command line that is compatible with pasta(1), or with passt(1) if the program is called so.
///
/// Options end at `--` or at the first operand; nothing behind it is read. `--help`, `--version` and
/// `--print-capabilities` act when they are reached: options before them must be valid, options after them are not
/// read, and checks of the whole line are skipped.
///
/// - Parameters:
///   - arguments: The program's arguments, its own name included.
///   - ephemeralRange: The host's ephemeral ports, which `all` and `auto` leave out; the namespace's are assumed to be
///     the same.
/// - Returns: The result.
/// - Throws: The error in one line; the program ends with status 1.
public func parse(
    arguments: [String], ephemeralRange: ClosedRange<Port> = EphemeralRange.fallback
) throws(UsageError) -> ParseOutcome {
    let scanner = GetoptScanner(arguments)
    var parser = CommandLineParser(ephemeralRange: ephemeralRange, program: arguments.first ?? "")
    for item in scanner.items {
        switch item.option.name {
        case .help: return .help
        case .version: return .version
        case .printCapabilities: return .printCapabilities
        default: try parser.apply(item.option, item.argument)
        }
    }
    if let failure = scanner.failure { throw failure }
    return .run(try parser.finish(arguments: arguments, operandIndex: scanner.operandIndex))
}
