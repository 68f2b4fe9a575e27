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
// syscalls: running(data-path, control): clock_nanosleep kill shutdown wait4

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// The helper processes of the program, kept so that none outlives it.
public final class HelperProcesses: Sendable {
    private struct State {
        var processes: Set<Int32> = []
        /// The helper that leads the process group of all that it has forked.
        var leader: Int32?
        /// The helpers outside of that group.
        var alone: Set<Int32> = []
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
    ///   - isGroupLeader: whether its process id is also that of the process group of all that it has forked.
    ///   - standsAlone: whether it is in no group of another helper.
    public func add(
        process: Int32? = nil, channel: CInt? = nil, isGroupLeader: Bool = false, standsAlone: Bool = false
    ) {
        state.withLock { state in
            state.isUsed = true
            if isGroupLeader { state.leader = process }
            if let process { state.processes.insert(process) }
            if let process, standsAlone { state.alone.insert(process) }
            if let channel { state.channels.insert(channel) }
        }
    }

    /// Forgets a channel; call it before the channel is closed.
    public func forget(channel: CInt) {
        state.withLock { _ = $0.channels.remove(channel) }
    }

    /// The numbers of the helpers for kill(2): the first one, and, negative, its process group; and those in no group.
    public var signalTargets: [Int32] {
        state.withLock { ($0.leader.map { [$0, -$0] } ?? []) + $0.alone.sorted() }
    }

    /// Ends and reaps one process, which may have ended already; with it, other helpers may end.
    public func end(_ process: Int32) {
        finish(process) { state in Self.kill(process, state) }
    }

    /// Reaps a process that has ended or is about to.
    public func reap(_ process: Int32) {
        finish(process) { _ in }
    }

    private func finish(_ process: Int32, _ end: (State) -> Void) {
        state.withLock { state in
            guard state.processes.contains(process) else { return }
            end(state)
            state.processes.remove(process)
            while waitpid(process, nil, 0) < 0 && currentErrno == .interrupted {}
        }
    }

    /// Reaps helpers whose channels are closed, for 20 ms at most; whether all have ended.
    ///
    /// One that ends by itself needs less than a millisecond. One that is killed leaves its inotify instance to the
    /// kernel, which waits 10 to 20 ms before it gives that back.
    private static func haveEndedByThemselves() -> Bool {
        for _ in 0..<100 {
            let process = waitpid(-1, nil, WNOHANG)
            if process < 0 && currentErrno != .interrupted { return true }
            guard process == 0 else { continue }
            var pause = timespec(tv_sec: 0, tv_nsec: 200_000)
            unsafe nanosleep(&pause, nil)
        }
        return false
    }

    /// Kills a helper that has not been reaped.
    ///
    /// One that a helper has forked is in the leader's group, and is killed with
    /// the group: the filter of system calls allows no other numbers than ``signalTargets``.
    private static func kill(_ process: Int32, _ state: State) {
        guard let leader = state.leader, process != leader, !state.alone.contains(process) else {
            _ = Glibc.kill(process, SIGKILL)
            return
        }
        _ = Glibc.kill(-leader, SIGKILL)
    }

    /// Ends and reaps all helpers and every other child, so that no process of ours is left.
    ///
    /// Call it only when no other child is to go on running.
    public func endAll() {
        state.withLock { state in
            state.hasEnded = true
            for channel in state.channels { shutdown(channel, CInt(SHUT_RDWR)) }
            if state.isUsed && Self.haveEndedByThemselves() { return state.processes = [] }
            for process in state.processes { Self.kill(process, state) }
            // One whose process id is not known yet.
            if let leader = state.leader { _ = Glibc.kill(-leader, SIGKILL) }
            guard state.isUsed else { return }
            while waitpid(-1, nil, 0) > 0 || currentErrno == .interrupted {}
            state.processes = []
        }
    }
}
