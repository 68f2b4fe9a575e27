// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A failure of the lab or of a wait, in words for the person who reads the test's output.
public struct LabError: Error, CustomStringConvertible, Sendable {
    /// What failed, with all that helps to see why.
    public let description: String

    /// Makes an error.
    ///
    /// - Parameter description: What failed.
    public init(_ description: String) {
        self.description = description
    }
}

/// Waits until a condition holds.
///
/// The condition is evaluated every few milliseconds until it is true.
///
/// - Parameters:
///   - what: The condition in words, for the error.
///   - limit: After this time the wait has failed.
///   - condition: Evaluated repeatedly; an error ends the wait.
/// - Returns: How long it took.
/// - Throws: `LabError` that names the condition when the limit has passed.
@discardableResult
public func eventually(
    _ what: String, within limit: Duration = .seconds(10), _ condition: () async throws -> Bool
) async throws -> Duration {
    let start = ContinuousClock.now
    while true {
        if try await condition() { return .now - start }
        guard .now - start < limit else { throw LabError("waited \(limit) for: \(what)") }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// Checks that a condition stays true for a while: for events that must *not* happen.
///
/// - Parameters:
///   - duration: How long to watch.
///   - what: The condition in words, for the error.
///   - condition: Evaluated repeatedly.
/// - Throws: `LabError` that names the condition when it fails.
public func throughout(
    _ duration: Duration, _ what: String, _ condition: () async throws -> Bool
) async throws {
    let start = ContinuousClock.now
    while .now - start < duration {
        guard try await condition() else { throw LabError("after \(ContinuousClock.now - start), no longer: \(what)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}
