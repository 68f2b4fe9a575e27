// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why the program cannot continue: one line for people.
struct Failure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }

    /// Makes the failure of an attempt, with its cause.
    init(_ attempt: String, _ cause: any Error) {
        description = "\(attempt): \(cause)"
    }
}
