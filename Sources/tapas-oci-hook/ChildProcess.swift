// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(hook): clone clone3 close execve fcntl pipe2 read rt_sigprocmask wait4

import Glibc
import LinuxSystem
import OCIHook
import SystemPackage

/// The result of a program that has been run, with its standard error.
struct ChildProcess {
    /// Whether it exited with 0.
    let isSuccess: Bool
    /// The lines of standard error.
    let errorLines: [String]
    private let ending: String

    /// Why it failed: its last line, or how it ended.
    var problem: String {
        let lines = errorLines.filter { !$0.hasPrefix("Try ") }
        guard let last = lines.last else { return ending }
        return last.hasPrefix("tapas: ") ? String(last.dropFirst("tapas: ".count)) : last
    }

    /// The number of bytes of standard error that are kept; the rest is read and discarded.
    private static let errorLimit = 1 << 16

    /// Runs a program with standard input and output on /dev/null, and reads its standard error.
    ///
    /// - Parameters:
    ///   - program: its path.
    ///   - arguments: its arguments, without its name.
    /// - Returns: The result, once the program has ended and no process holds its standard error any more.
    /// - Throws: When it cannot be started.
    static func run(_ program: String, _ arguments: [String]) throws(HookError) -> ChildProcess {
        let reader: OwnedFileDescriptor
        var process: pid_t = 0
        do {
            reader = try spawn(program, arguments, &process)
        } catch {
            throw HookError(program, "cannot be started: \(error)")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe Glibc.read(reader.rawValue, &chunk, chunk.count)
            if count < 0, currentErrno == .interrupted { continue }
            if count <= 0 { break }
            if bytes.count < errorLimit { bytes += chunk[..<count] }
        }
        var status: CInt = 0
        while unsafe waitpid(process, &status, 0) < 0, currentErrno == .interrupted {}
        // <sys/wait.h>'s macros, which Swift cannot import.
        let signal = status & 0x7F
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        return ChildProcess(
            isSuccess: status == 0, errorLines: lines,
            ending: signal == 0 ? "ended with status \((status >> 8) & 0xFF)" : "was ended by signal \(signal)")
    }

    /// Starts the program; its standard error can be read from the descriptor.
    private static func spawn(
        _ program: String, _ arguments: [String], _ process: inout pid_t
    ) throws(SystemCallError) -> OwnedFileDescriptor {
        var ends: [CInt] = [-1, -1]
        try retrying("pipe") { unsafe pipe(&ends) }
        let reader = OwnedFileDescriptor(taking: ends[0])
        let writer = OwnedFileDescriptor(taking: ends[1])
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, writer.rawValue, STDERR_FILENO)
        var words: [UnsafeMutablePointer<CChar>?] = unsafe ([program] + arguments).map { unsafe strdup($0) } + [nil]
        defer { unsafe words.forEach { word in unsafe free(word) } }
        let result = unsafe posix_spawn(&process, program, &actions, nil, &words, environ)
        guard result == 0 else { throw SystemCallError("posix_spawn", program, Errno(rawValue: result)) }
        return reader
    }
}
