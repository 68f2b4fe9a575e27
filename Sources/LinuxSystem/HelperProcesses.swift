// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// In a container without an init, process 1 reaps nothing: a helper process that it inherits from us stays a zombie for
// the life of the container. So the program reaps every helper before it ends. While the program runs, another thread
// uses the helpers; what both threads need to know about them is kept here, under a mutex.
//
// A helper may have forked a process itself. When the helper ends, that process becomes our child, because the program
// is a "child subreaper" (prctl(2)). It ends when its channel is closed, whether its process id is known here or not.
// After that, the program waits for all children.
//
// syscalls: setup(main): prctl
// syscalls: running(data-path, control): kill shutdown wait4

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// The helper processes of the program, kept so that none outlives it.
public final class HelperProcesses: Sendable {
    private struct State {
        var processes: Set<Int32> = []
        var channels: Set<CInt> = []
        /// Whether there has ever been a helper: a process that it forked may be left although the helper itself is
        /// gone.
        var isUsed = false
        var hasEnded = false
    }

    private let state = Mutex(State())

    /// Makes an empty set.
    public init() {}

    /// Makes processes that helpers have forked children of this process when their parent ends.
    public static func adopt() {
        _ = tapas_set_child_subreaper()
    }

    /// Whether ``endAll()`` has begun: what helpers do from then on is expected.
    public var hasEnded: Bool { state.withLock { $0.hasEnded } }

    /// Records a process and a channel to it.
    ///
    /// - Parameters:
    ///   - process: its process id; nil if that is not known (yet).
    ///   - channel: a socket; the process ends when it is closed. Nil if it is recorded already.
    public func add(process: Int32? = nil, channel: CInt? = nil) {
        state.withLock { state in
            state.isUsed = true
            if let process { state.processes.insert(process) }
            if let channel { state.channels.insert(channel) }
        }
    }

    /// Forgets a channel; call it before the channel is closed.
    public func forget(channel: CInt) {
        state.withLock { _ = $0.channels.remove(channel) }
    }

    /// Ends and reaps one process, which may have ended already.
    public func end(_ process: Int32) {
        state.withLock { state in
            guard state.processes.remove(process) != nil else { return }
            _ = kill(process, SIGKILL)
            while waitpid(process, nil, 0) < 0 && currentErrno == .interrupted {}
        }
    }

    /// Ends and reaps all helpers and every other child, so that no process of ours is left.
    ///
    /// Call it only when no other child is to go on running.
    public func endAll() {
        state.withLock { state in
            state.hasEnded = true
            for channel in state.channels { shutdown(channel, CInt(SHUT_RDWR)) }
            for process in state.processes { _ = kill(process, SIGKILL) }
            guard state.isUsed else { return }
            while waitpid(-1, nil, 0) > 0 || currentErrno == .interrupted {}
            state.processes = []
        }
    }
}
