// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Messages of a service for the user: each sentence once, and a bounded number, since clients can cause them.
struct Remarks: Sendable {
    /// The greatest number of waiting sentences.
    private static let most = 8

    private var waiting: [String] = []

    /// Adds a sentence, unless it is waiting already or too many are.
    mutating func add(_ text: String) {
        if !waiting.contains(text), waiting.count < Self.most { waiting.append(text) }
    }

    /// Returns the waiting sentences, and clears them.
    mutating func take() -> [String] {
        defer { waiting = [] }
        return waiting
    }
}
