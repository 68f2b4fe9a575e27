// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// What a service wants a person to know: each sentence once, and only so many, since what a client sends decides.
struct Remarks: Sendable {
    /// Sentences that wait to be told at most.
    private static let most = 8

    private var waiting: [String] = []

    /// Adds a sentence, unless it waits already or too many do.
    mutating func add(_ text: String) {
        if !waiting.contains(text), waiting.count < Self.most { waiting.append(text) }
    }

    /// Returns what waits, and forgets it.
    mutating func take() -> [String] {
        defer { waiting = [] }
        return waiting
    }
}
