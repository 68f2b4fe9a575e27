// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(hook): close openat read write

import Glibc
import LinuxSystem
import OCIHook
import SystemPackage

/// The files that the hook reads whole, and the lines that it writes for a person.
enum HookFiles {
    /// Reads a file; nil if there is none.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - limit: the expected greatest length; at most one byte more is read.
    /// - Returns: Its contents.
    /// - Throws: When it exists and cannot be read.
    static func read(_ path: String, limit: Int) throws(HookError) -> [UInt8]? {
        do throws(SystemCallError) {
            return try SmallFile.read(path, limit: limit + 1)
        } catch {
            if [.noSuchFileOrDirectory, .notDirectory].contains(error.errno) { return nil }
            throw HookError(path, "cannot be read: \(error.errno.explanation)")
        }
    }

    /// Reads standard input to its end, one byte more than the limit at most.
    static func standardInput(limit: Int) throws(HookError) -> [UInt8] {
        do throws(SystemCallError) {
            return try SmallFile.contents(of: .standardInput, named: "standard input", limit: limit + 1)
        } catch {
            throw HookError("the container's state", "\(error)")
        }
    }

    /// Writes a line to standard error.
    static func writeError(_ line: String) {
        var text = line + "\n"
        // If this fails, there is no other place to report it to.
        _ = text.withUTF8 { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
