// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A program that starts tapas in the background waits for the end of the process that it started and for the end of
// that process's output; exit status 0 means that the namespace is connected. Threads do not survive fork(2), so the
// fork comes first, while there is one thread. The launcher then waits on a pipe. The child does all the work and
// writes messages to the launcher's standard error. When it is ready, it puts /dev/null on 0, 1 and 2 and writes one
// byte to the pipe. If it ends without writing the byte, it has reported why, and the launcher ends with its status.
// syscalls: setup(main): clone close dup2 openat pipe2 prctl rt_sigaction setsid write
// syscalls: setup(launcher): close read wait4

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// The child of a program that goes to the background, until it is ready.
public struct Background: ~Copyable {
    private let ready: OwnedFileDescriptor
    private let null: NullDevice

    /// Forks; returns in the child only, in a session of its own.
    ///
    /// The process must have one thread only. The launcher never returns: it exits with 0 once the child is ready, or
    /// with the child's status if the child ends before.
    ///
    /// - Throws: The error of pipe(2), open(2) or fork(2).
    public static func enter() throws(SystemCallError) -> Background {
        var ends: (CInt, CInt) = (-1, -1)
        try retrying("pipe2") {
            unsafe withUnsafeMutableBytes(of: &ends) {
                guard let base = unsafe $0.bindMemory(to: CInt.self).baseAddress else { return -1 }
                return unsafe Int(tapas_pipe(base, O_CLOEXEC))
            }
        }
        let child = try retrying("fork") { tapas_fork() }
        close(child == 0 ? ends.0 : ends.1)
        if child != 0 { launch(child, ends.0) }
        // Until it is ready, the child dies with its launcher, which a person may interrupt. A change of the user id
        // clears this setting; then the closed pipe has the same effect.
        _ = tapas_set_parent_death_signal(SIGKILL)
        setsid()
        let null = try NullDevice()
        return Background(ready: OwnedFileDescriptor(taking: ends.1), null: null)
    }

    /// Leaves the terminal and reports to the launcher that the set-up is complete.
    ///
    /// - Throws: The error of dup2(2), or EPIPE if the launcher is gone.
    public consuming func becomeReady() throws(SystemCallError) {
        let ready = ready.rawValue
        _ = tapas_set_parent_death_signal(0)
        try null.replaceStandard()
        Glibc.signal(SIGPIPE, SIG_IGN)
        var byte: UInt8 = 1
        try retrying("write", "the launcher's pipe") { unsafe write(ready, &byte, 1) }
    }

    private static func launch(_ child: pid_t, _ pipe: CInt) -> Never {
        var byte: UInt8 = 0
        let count = try? retrying("read", "") { unsafe read(pipe, &byte, 1) }
        // _exit(2) instead of exit(3): the functions registered to run at exit belong to the child.
        if count == 1 { _exit(0) }
        var status: CInt = 0
        while unsafe waitpid(child, &status, 0) < 0 && currentErrno == .interrupted {}
        let signal = status & 0x7F
        _exit(signal == 0 && status != 0 ? (status >> 8) & 0xFF : 1)
    }
}

/// `/dev/null`, opened while there is a file system.
public struct NullDevice: ~Copyable {
    private let file: OwnedFileDescriptor

    /// Opens it.
    ///
    /// - Throws: The error of open(2).
    public init() throws(SystemCallError) {
        file = try OwnedFileDescriptor.open("/dev/null", .readWrite)
    }

    /// Puts it on 0, 1 and 2.
    ///
    /// - Throws: The error of dup2(2).
    public borrowing func replaceStandard() throws(SystemCallError) {
        let null = file.rawValue
        for number: CInt in 0...2 {
            try retrying("dup2") { dup2(null, number) }
        }
    }
}
