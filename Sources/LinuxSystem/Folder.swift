// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): close fcntl fstat getdents64 newfstatat openat

internal import Glibc

/// Folders, read by name (readdir(3)).
public enum Folder {
    /// The names in a folder, in no order, `.` and `..` among them.
    ///
    /// - Parameter path: the folder.
    /// - Returns: the names; none if it cannot be read.
    public static func names(in path: String) -> [String] {
        guard let folder = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) { names.append(unsafe name(of: entry)) }
        return names
    }

    /// The names in an open folder, in no order, `.` and `..` among them.
    ///
    /// - Parameters:
    ///   - number: the descriptor, which is closed.
    ///   - most: the greatest number of names.
    /// - Returns: the names; nil if it is no folder, or has more names.
    public static func names(closing number: CInt, atMost most: Int = .max) -> [String]? {
        guard let folder = unsafe fdopendir(number) else {
            close(number)
            return nil
        }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) {
            guard names.count < most else { return nil }
            names.append(unsafe name(of: entry))
        }
        return names
    }

    private static func name(of entry: UnsafeMutablePointer<dirent>) -> String {
        unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
