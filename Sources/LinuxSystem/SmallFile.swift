// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): close openat read readlinkat

internal import Glibc
public import SystemPackage

/// Small files that are read whole: those of /proc and /sys, and configuration files.
public enum SmallFile {
    /// Reads a file.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - limit: the greatest number of bytes to read.
    ///   - options: options of open(2) beside `O_CLOEXEC`.
    /// - Returns: Its contents, or the beginning of a longer file.
    /// - Throws: The error of open(2) or read(2).
    public static func read(
        _ path: String, limit: Int = 4096, options: FileDescriptor.OpenOptions = []
    ) throws(SystemCallError) -> [UInt8] {
        let file = try OwnedFileDescriptor.open(path, .readOnly, options: options)
        return try contents(of: file.descriptor, named: path, limit: limit)
    }

    /// Reads an open descriptor to its end.
    ///
    /// - Parameters:
    ///   - file: the descriptor, which waits for data.
    ///   - name: its name in an error.
    ///   - limit: the number of bytes that are read at most.
    /// - Returns: The bytes.
    /// - Throws: The error of read(2).
    public static func contents(
        of file: FileDescriptor, named name: String, limit: Int
    ) throws(SystemCallError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(max(limit, 1), 32768))
        while bytes.count < limit {
            let wanted = min(chunk.count, limit - bytes.count)
            let count = try retrying("read", name) {
                unsafe chunk.withUnsafeMutableBytes { unsafe Glibc.read(file.rawValue, $0.baseAddress, wanted) }
            }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return bytes
    }

    /// The first line of a file without its line end; nil if it cannot be read.
    public static func line(_ path: String) -> String? {
        guard let bytes = try? read(path) else { return nil }
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
}

/// Symbolic links.
public enum SymbolicLink {
    /// The target of a link (readlinkat(2)).
    ///
    /// - Parameters:
    ///   - path: the link; empty for the link that `folder` itself was opened for with `O_PATH`.
    ///   - folder: the folder that a relative path begins at; nil for the working folder.
    /// - Returns: The text of the link; nil if it is no link, cannot be read, or is longer than `PATH_MAX`.
    public static func target(_ path: String, in folder: FileDescriptor? = nil) -> String? {
        let folder = folder?.rawValue ?? AT_FDCWD
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return -1 }
            return unsafe readlinkat(folder, path, base.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        guard count > 0, count < bytes.count else { return nil }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
