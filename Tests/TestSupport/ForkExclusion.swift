// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Testing
import Synchronization

/// Prevents tests that start programs and tests that reuse a port at once from running at the same time.
///
/// Theory of operation. A new process holds a copy of every descriptor of this one between fork(2) and execve(2), also
/// of those that are closed on exec. Until then a port that a test has just closed is still in use, and a test that
/// binds it again fails. So each such test names its group, tests of one group run together, and the two groups take
/// turns: waiting tests start in the order of arrival when the other group has finished.
public struct ForkExclusion: SuiteTrait, TestTrait, TestScoping {
    enum Group: Sendable { case startsPrograms, takesPortsBack }

    let group: Group

    /// A suite's tests enter one by one.
    public var isRecursive: Bool { true }

    @TaskLocal private static var isInside = false
    private static let turns = Turns()

    /// Runs the test when its group may run.
    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        try await Self.run(in: group, function)
    }

    /// Starts a program from a test that does so only now and then, when its group may.
    ///
    /// - Parameter function: what starts the program, and waits until it has ended.
    /// - Returns: What it returned.
    /// - Throws: What it threw.
    public static func startingPrograms<Result: Sendable>(
        _ function: @concurrent @Sendable () async throws -> Result
    ) async throws -> Result {
        try await run(in: .startsPrograms, function)
    }

    private static func run<Result: Sendable>(
        in group: Group, _ function: @concurrent @Sendable () async throws -> Result
    ) async throws -> Result {
        // The suite and the test may both say it.
        if isInside { return try await function() }
        await turns.enter(group)
        defer { turns.leave() }
        return try await $isInside.withValue(true) { try await function() }
    }
}

extension Trait where Self == ForkExclusion {
    /// The test forks or starts a program (exit tests do): none that takes ports back runs meanwhile.
    public static var startsPrograms: Self { ForkExclusion(group: .startsPrograms) }

    /// The test closes a port and wants it back at once: none that starts a program runs meanwhile.
    public static var takesPortsBack: Self { ForkExclusion(group: .takesPortsBack) }
}

/// The running and the waiting tests.
private final class Turns: Sendable {
    private struct State {
        var inside: ForkExclusion.Group?
        var count = 0
        var waiting: [(group: ForkExclusion.Group, resume: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    func enter(_ group: ForkExclusion.Group) async {
        await withCheckedContinuation { continuation in
            let isLetIn = state.withLock { state in
                // Behind those that wait, so that neither group starves.
                if state.count == 0 || (state.inside == group && state.waiting.isEmpty) {
                    state.inside = group
                    state.count += 1
                    return true
                }
                state.waiting.append((group, continuation))
                return false
            }
            if isLetIn { continuation.resume() }
        }
    }

    func leave() {
        let next = state.withLock { state in
            state.count -= 1
            guard state.count == 0, let first = state.waiting.first else { return [CheckedContinuation<Void, Never>]() }
            let next = state.waiting.filter { $0.group == first.group }
            state.waiting.removeAll { $0.group == first.group }
            state.inside = first.group
            state.count = next.count
            return next.map(\.resume)
        }
        for waiting in next { waiting.resume() }
    }
}
