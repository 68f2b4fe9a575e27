// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close openat
// syscalls: running(control): pread64

internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// Reads the memory of the process.
///
/// The file was opened before /proc went out of reach.
final class MemoryMeter: Sendable {
    private let file: OwnedFileDescriptor

    /// Opens the file; nil if there is none.
    init?() {
        guard let file = try? OwnedFileDescriptor.open("/proc/self/statm", .readOnly) else { return nil }
        self.file = file
    }

    /// Resident memory in bytes (proc(5), statm).
    var residentBytes: Int? {
        var bytes: [UInt8] = .init(repeating: 0, count: 128)
        let number = file.rawValue
        let result = transferring { unsafe pread(number, &bytes, bytes.count, 0) }
        guard case .bytes(let count) = result else { return nil }
        let words = bytes[..<count].split(separator: UInt8(ascii: " "))
        guard words.count > 1, let pages = Int(String(decoding: words[1], as: UTF8.self)) else { return nil }
        return pages * Int(sysconf(CInt(_SC_PAGESIZE)))
    }
}
