// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): close fsync getpid ioctl openat rename unlink write

import ControlClient
import Glibc
import JSON
import LinuxSystem
import SystemPackage

/// The program's output.
enum Output {
    /// Writes lines to standard output.
    ///
    /// - Throws: If they cannot be written.
    static func write(_ lines: [String]) throws(ClientError) {
        guard !lines.isEmpty else { return }
        try write(lines.joined(separator: "\n") + "\n")
    }

    /// Writes a value to standard output: on one line, or for people to read.
    static func write(_ value: JSONValue, onOneLine: Bool = false) throws(ClientError) {
        try write((onOneLine ? value.compactText : value.indentedText) + "\n")
    }

    /// Writes text to standard output as it is.
    static func write(_ text: String) throws(ClientError) {
        try write(text, to: STDOUT_FILENO, "standard output")
    }

    /// Writes a line to standard error.
    static func writeError(_ line: String) {
        // If this fails, there is no other place to report it to.
        try? write(line + "\n", to: STDERR_FILENO, "standard error")
    }

    /// The style for standard output: colours on a terminal, unless `NO_COLOR` says otherwise.
    static var style: TextStyle {
        let refused = unsafe getenv("NO_COLOR").map { unsafe $0.pointee != 0 } ?? false
        return TextStyle(isColored: isatty(STDOUT_FILENO) == 1 && !refused)
    }

    /// Replaces the contents of a file atomically: a reader sees the old text or the new text, never a part.
    static func replace(_ path: String, with text: String) throws(ClientError) {
        let temporary = "\(path).\(getpid()).tmp"
        let number = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
        guard number >= 0 else { throw ClientError("'\(temporary)': \(Errno(rawValue: errno))") }
        let file = OwnedFileDescriptor(taking: number)
        do throws(ClientError) {
            try write(text, to: file.rawValue, temporary)
            guard fsync(file.rawValue) == 0, unsafe rename(temporary, path) == 0 else {
                throw ClientError("'\(path)': \(Errno(rawValue: errno))")
            }
        } catch {
            unsafe unlink(temporary)
            throw error
        }
    }

    private static func write(_ text: String, to descriptor: CInt, _ name: String) throws(ClientError) {
        var text = text
        let failure: Errno? = text.withUTF8 { buffer in
            var done = 0
            while done < buffer.count {
                let result = transferring {
                    unsafe Glibc.write(descriptor, buffer.baseAddress?.advanced(by: done), buffer.count - done)
                }
                switch result {
                case .bytes(let count): done += count
                case .wouldBlock: continue
                case .failed(let error): return error
                }
            }
            return nil
        }
        if let failure { throw ClientError("cannot write to \(name): \(failure)") }
    }
}
