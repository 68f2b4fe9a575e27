// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A value that a process leaves to its successor is in memory that the supervisor keeps (memfd_create(2)). The process
// may be killed at any moment, also while it writes. So there are two files, and a new value goes to the one that has
// the older value. Each has a header of 16 bytes: a number that grows with each value, and the length of the value. The
// header is cleared first and written last, so that a half-written value does not count.
//
// syscalls: setup(main): close memfd_create pread64 pwrite64
// syscalls: running(control, ports, namespace): pwrite64

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// A value of bytes that outlives the process.
final class StateFile: Sendable {
    private static let headerLength = 16
    /// The longest value that is read, in bytes.
    private static let greatestLength = 64 << 20

    private let files: (OwnedFile, OwnedFile)
    /// The number of the last value; its lowest bit is the index of its file.
    private let last: Mutex<UInt64>

    private final class OwnedFile: Sendable {
        let file: OwnedFileDescriptor

        init(_ file: consuming OwnedFileDescriptor) {
            self.file = file
        }
    }

    /// Makes a file in memory.
    ///
    /// - Throws: The error of memfd_create(2).
    static func memory() throws(SystemCallError) -> OwnedFileDescriptor {
        OwnedFileDescriptor(taking: try retrying("memfd_create") { tapas_open_memory() })
    }

    /// Takes both files, with what a predecessor has left there.
    init(_ first: consuming OwnedFileDescriptor, _ second: consuming OwnedFileDescriptor) {
        files = (OwnedFile(first), OwnedFile(second))
        last = Mutex(0)
        let numbers = [Self.header(of: files.0), Self.header(of: files.1)].map { $0?.number ?? 0 }
        last.withLock { $0 = numbers.max() ?? 0 }
    }

    private func file(_ index: UInt64) -> OwnedFile { index & 1 == 0 ? files.0 : files.1 }

    /// The last value; nil if there is none.
    func read() -> [UInt8]? {
        last.withLock { last in
            guard last > 0, let header = Self.header(of: file(last)), header.length <= Self.greatestLength else {
                return nil
            }
            var bytes = [UInt8](repeating: 0, count: header.length)
            let number = file(last).file.rawValue
            var done = 0
            while done < bytes.count {
                let (place, rest) = (done, bytes.count - done)
                let result = transferring {
                    unsafe bytes.withUnsafeMutableBytes {
                        unsafe pread(
                            number, $0.baseAddress?.advanced(by: place), rest, off_t(Self.headerLength + place))
                    }
                }
                guard case .bytes(let count) = result, count > 0 else { return nil }
                done += count
            }
            return bytes
        }
    }

    /// Replaces the value; if there is no memory for it, the last one stays.
    func write(_ bytes: [UInt8]) {
        last.withLock { last in
            let next = last + 1
            let target = file(next)
            guard Self.write(Self.header(number: 0, length: 0), to: target, at: 0),
                Self.write(bytes, to: target, at: Self.headerLength),
                Self.write(Self.header(number: next, length: bytes.count), to: target, at: 0)
            else { return }
            last = next
        }
    }

    private static func header(number: UInt64, length: Int) -> [UInt8] {
        [number, UInt64(length)].flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    }

    private static func header(of file: OwnedFile) -> (number: UInt64, length: Int)? {
        var bytes = [UInt8](repeating: 0, count: headerLength)
        let number = file.file.rawValue
        let size = bytes.count
        guard transferring({ unsafe pread(number, &bytes, size, 0) }) == .bytes(headerLength) else { return nil }
        func word(_ start: Int) -> UInt64 { bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        guard word(0) > 0, let length = Int(exactly: word(8)) else { return nil }
        return (word(0), length)
    }

    private static func write(_ bytes: [UInt8], to file: OwnedFile, at start: Int) -> Bool {
        let number = file.file.rawValue
        var done = 0
        while done < bytes.count {
            let (place, rest) = (done, bytes.count - done)
            let result = transferring {
                unsafe bytes.withUnsafeBytes {
                    unsafe pwrite(number, $0.baseAddress?.advanced(by: place), rest, off_t(start + place))
                }
            }
            guard case .bytes(let count) = result, count > 0 else { return false }
            done += count
        }
        return true
    }
}
