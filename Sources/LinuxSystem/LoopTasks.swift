// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A continuation does not resume its task on the actor that waits: the runtime first puts the task on the generic
// executor, which is libdispatch's thread pool unless the task prefers another one. The pool reads /proc/self/task from
// time to time and ends the program if that is missing, as in the engine's empty root. So a task that may wait for a
// continuation prefers the event loop of its actor, and no thread pool ever starts.

/// Runs the parts of its tasks that are outside of an actor on an event loop (TaskExecutor).
final class LoopTasks: TaskExecutor {
    private unowned let loop: EventLoop

    init(_ loop: EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        loop.enqueue(.task(UnownedJob(job), self))
    }
}

extension EventLoop {
    /// Starts a task that runs on the loop's thread all the time, wherever it awaits.
    ///
    /// - Parameter operation: what it does; it awaits the methods of the actors that live on the loop.
    /// - Returns: The task.
    @discardableResult
    public func startTask(_ operation: sending @escaping () async -> Void) -> Task<Void, Never> {
        Task(executorPreference: LoopTasks(self), operation: operation)
    }
}
