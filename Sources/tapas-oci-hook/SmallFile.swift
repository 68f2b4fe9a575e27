// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(hook): close openat read write

import Glibc
import LinuxSystem
import OCIHook
import SystemPackage

/// Files that are read whole, and the lines that a person reads.
enum SmallFile {
    /// Reads a file; nil if there is none.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - limit: one byte more than this is read at most.
    /// - Returns: Its contents.
    /// - Throws: When it exists and cannot be read.
    static func read(_ path: String, limit: Int) throws(HookError) -> [UInt8]? {
        do {
            let file = try OwnedFileDescriptor.open(path, .readOnly)
            return try bytes(of: file.rawValue, path, limit: limit)
        } catch {
            if [.noSuchFileOrDirectory, .notDirectory].contains(error.errno) { return nil }
            throw HookError(path, "cannot be read: \(error.errno.explanation)")
        }
    }

    /// Reads standard input to its end, one byte more than the limit at most.
    static func standardInput(limit: Int) throws(HookError) -> [UInt8] {
        do {
            return try bytes(of: STDIN_FILENO, "standard input", limit: limit)
        } catch {
            throw HookError("the container's state", "\(error)")
        }
    }

    private static func bytes(of descriptor: CInt, _ path: String, limit: Int) throws(SystemCallError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= limit {
            let count = try retrying("read", path) { unsafe Glibc.read(descriptor, &chunk, chunk.count) }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return bytes
    }

    /// Writes a line to standard error.
    static func writeError(_ line: String) {
        var text = line + "\n"
        // There is nobody to tell that this failed.
        _ = text.withUTF8 { unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}
