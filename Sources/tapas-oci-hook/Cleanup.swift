// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(hook): close pidfd_open pidfd_send_signal poll unlink

import CLinux
import Glibc
import LinuxSystem
import OCIHook
import SystemPackage

/// Makes sure that no tapas process is left when a container is gone.
///
/// tapas ends when the namespace ends; this waits for that, and sends SIGTERM if it takes too long.
struct Cleanup {
    private let state: ContainerState
    /// How long tapas may take to end, in milliseconds, before and after SIGTERM.
    private static let patience: CInt = 2000

    init(_ state: ContainerState) {
        self.state = state
    }

    /// Ends the process that the pid file names, if it is ours, and removes the file.
    ///
    /// - Throws: When the file cannot be read, or the process does not end.
    func run() throws(HookError) {
        guard let name = state.fileName else { return }
        let path = "\(try HookPaths().runFolder())/\(name).pid"
        guard let bytes = try HookFiles.read(path, limit: 64) else { return }
        let text = String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        if let process = pid_t(text), process > 1 { try Self.end(process, started: path) }
        unsafe unlink(path)
    }

    private static func end(_ process: pid_t, started pidFile: String) throws(HookError) {
        let number = tapas_pidfd_open(process)
        guard number >= 0 else { return }
        let descriptor = OwnedFileDescriptor(taking: number)
        // The check comes after the descriptor is open, so the descriptor cannot refer to another process.
        guard isOurs(process, pidFile) else { return }
        for signal in [SIGTERM, SIGKILL] {
            _ = tapas_pidfd_send_signal(descriptor.rawValue, signal)
            var waiting = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
            if unsafe poll(&waiting, 1, patience) > 0 { return }
        }
        throw HookError("tapas, process \(process)", "does not end")
    }

    /// Whether a process was started with this pid file; its id may have been reused by another program.
    private static func isOurs(_ process: pid_t, _ pidFile: String) -> Bool {
        guard let bytes = try? HookFiles.read("/proc/\(process)/cmdline", limit: 1 << 17) else { return false }
        return bytes.split(separator: 0).contains { $0.elementsEqual(pidFile.utf8) }
    }
}
