// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Options
import Testing

/// Parses a command line of words separated by blanks, `tapas` in front.
func parseLine(_ line: String) throws(UsageError) -> ParseOutcome {
    try parseWords(line.split(separator: " ").map(String.init))
}

/// Parses a command line, `tapas` in front.
func parseWords(_ words: [String]) throws(UsageError) -> ParseOutcome {
    try parse(arguments: ["tapas"] + words, ephemeralRange: ephemeral)
}

/// What a command line that is to be run asks for.
func invocation(_ line: String) throws -> Invocation {
    let outcome = try parseLine(line)
    guard case .run(let invocation) = outcome else {
        Issue.record("\(line): \(outcome)")
        return Invocation()
    }
    return invocation
}

/// The error of a command line.
func usageError(_ words: [String]) -> UsageError? {
    do {
        _ = try parseWords(words)
        return nil
    } catch {
        return error
    }
}

/// The error of a command line of words separated by blanks.
func usageError(_ line: String) -> UsageError? {
    usageError(line.split(separator: " ").map(String.init))
}

/// An address literal.
func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
