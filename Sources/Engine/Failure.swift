// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why the program cannot go on: one line for people.
struct Failure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }

    /// Says what was attempted when a part of the program failed.
    init(_ attempt: String, _ cause: any Error) {
        description = "\(attempt): \(cause)"
    }
}
