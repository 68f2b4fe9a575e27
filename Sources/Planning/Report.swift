// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Collects why each choice of a plan was made, and what the user should know.
struct Report {
    /// The decisions in the order they were made.
    private(set) var reasons: [Reason] = []
    /// The warnings, each once.
    private(set) var warnings: [String] = []

    /// Records a decision.
    mutating func note(_ family: AddressFamily?, _ text: String, _ weight: Reason.Weight = .detail) {
        reasons.append(Reason(family, text, weight))
    }

    /// Records a decision that the user should know; the same text is recorded once.
    mutating func warn(_ family: AddressFamily?, _ text: String) {
        note(family, text)
        if !warnings.contains(text) { warnings.append(text) }
    }
}
