// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// In a container without an init, process 1 reaps nothing: a helper of ours that we leave to it stays as a zombie for
// the life of the container. So the program reaps every helper before it ends. Helpers belong to another thread while
// the program runs; what both threads need to know of them is kept here, under a mutex.
//
// A helper may have forked one itself, which comes to us when it ends (the program is a "child subreaper", prctl(2)).
// Such a process ends when its channel does, whether we know its number or not; then everything is waited for.
//
// syscalls: setup(main): prctl
// syscalls: running(main, control): kill wait4 shutdown

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// The helper processes of the program, so that none of them outlives it.
public final class HelperProcesses: Sendable {
    private struct State {
        var processes: Set<Int32> = []
        var channels: Set<CInt> = []
        /// Whether there has ever been a helper: one that it has forked may be left although it is gone itself.
        var isUsed = false
        var hasEnded = false
    }

    private let state = Mutex(State())

    /// Makes an empty set.
    public init() {}

    /// Has processes that helpers have forked come to this process when their parent ends.
    public static func adopt() {
        _ = tapas_set_child_subreaper()
    }

    /// Whether ``endAll()`` has begun: what helpers do then is no news.
    public var hasEnded: Bool { state.withLock { $0.hasEnded } }

    /// Takes note of a process and of a channel to it.
    ///
    /// - Parameters:
    ///   - process: its number; nil if it is not known (yet).
    ///   - channel: a socket at whose end it ends; nil if that is known already.
    public func add(process: Int32? = nil, channel: CInt? = nil) {
        state.withLock { state in
            state.isUsed = true
            if let process { state.processes.insert(process) }
            if let channel { state.channels.insert(channel) }
        }
    }

    /// Forgets a channel, before it is closed.
    public func forget(channel: CInt) {
        state.withLock { _ = $0.channels.remove(channel) }
    }

    /// Ends and reaps one process, which may have ended by itself.
    public func end(_ process: Int32) {
        state.withLock { state in
            guard state.processes.remove(process) != nil else { return }
            _ = kill(process, SIGKILL)
            while waitpid(process, nil, 0) < 0 && currentErrno == .interrupted {}
        }
    }

    /// Ends and reaps all of them, and whatever other children there are; nothing of ours is left afterwards.
    ///
    /// To be called when no other child is to go on.
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
