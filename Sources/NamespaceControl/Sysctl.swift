// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): openat read close
// syscalls: setup(namespace): openat write close

internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// Reads and writes /proc/sys: those under net/ are the calling thread's network namespace's.
public enum Sysctl {
    /// The value without its line end; nil if it cannot be read.
    public static func read(_ path: String) -> String? {
        guard let file = try? OwnedFileDescriptor.open(path, .readOnly) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 128)
        let number = file.rawValue
        guard case .bytes(let count) = transferring({ unsafe Glibc.read(number, &bytes, bytes.count) }) else {
            return nil
        }
        return String(decoding: bytes.prefix(count).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    /// Writes a value and says whether that worked.
    static func write(_ value: String, to path: String) -> Bool {
        guard let file = try? OwnedFileDescriptor.open(path, .writeOnly) else { return false }
        let number = file.rawValue
        var value = value
        return transferring({ value.withUTF8 { unsafe Glibc.write(number, $0.baseAddress, $0.count) } })
            == .bytes(value.utf8.count)
    }
}
