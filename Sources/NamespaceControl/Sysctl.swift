// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close openat read
// syscalls: setup(namespace): close openat read write
// syscalls: running(namespace): close openat write

internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// Reads and writes /proc/sys; the entries under net/ are those of the calling thread's network namespace.
public enum Sysctl {
    /// The value without its line end; nil if it cannot be read.
    public static func read(_ path: String) -> String? {
        SmallFile.line(path)
    }

    /// Writes a value; returns whether that worked.
    static func write(_ value: String, to path: String) -> Bool {
        guard let file = try? OwnedFileDescriptor.open(path, .writeOnly) else { return false }
        let number = file.rawValue
        var value = value
        return transferring({ value.withUTF8 { unsafe Glibc.write(number, $0.baseAddress, $0.count) } })
            == .bytes(value.utf8.count)
    }
}
