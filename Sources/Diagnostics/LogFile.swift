// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): fstat ftruncate newfstatat pread64 pwrite64 write
// syscalls: running(any): ftruncate pread64 pwrite64 write

internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A log file of bounded size: when it is full, the oldest messages are removed, about three tenths of it at a time.
public struct LogFile: ~Copyable, Sendable {
    /// The smallest limit that can be set, in bytes.
    public static let smallestLimit = 40960
    private static let page = 4096

    private let file: OwnedFileDescriptor
    private let header: String
    private let limit: Int
    private let isRegular: Bool
    private var length = 0

    /// The file at a path; an existing log is replaced, any other existing file is refused.
    ///
    /// - Parameters:
    ///   - path: the file's path.
    ///   - program: the word that the header begins with.
    /// - Returns: The file, which is not opened yet.
    public static func output(_ path: String, program: String) -> OutputFile {
        OutputFile(path, purpose: "log of \(program)") { $0.starts(with: "\(program) ".utf8) }
    }

    /// Writes the header as the first line of an empty file.
    ///
    /// - Parameters:
    ///   - file: the file; a pipe or terminal is never cut.
    ///   - limit: the greatest size in bytes.
    ///   - header: the first line, without its line end.
    public init(_ file: consuming OwnedFileDescriptor, limit: Int, header: String) {
        var status = stat()
        isRegular = unsafe fstat(file.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        self.file = file
        self.header = header
        self.limit = max(limit, Self.smallestLimit)
        write(header + "\n")
    }

    /// Goes on with a log that a process before this one began.
    ///
    /// - Parameters:
    ///   - file: the file.
    ///   - limit: the greatest size in bytes.
    ///   - header: the first line of the file when the oldest messages have been removed.
    public init(continuing file: consuming OwnedFileDescriptor, limit: Int, header: String) {
        var status = stat()
        isRegular = unsafe fstat(file.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        self.file = file
        self.header = header
        self.limit = max(limit, Self.smallestLimit)
        length = isRegular ? Int(status.st_size) : 0
    }

    /// The file, lent.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Goes on behind what another process has written meanwhile.
    public mutating func followOthers() {
        var status = stat()
        if isRegular, unsafe fstat(file.rawValue, &status) == 0 { length = Int(status.st_size) }
    }

    /// Adds a line; if it does not fit, the oldest lines are removed first.
    ///
    /// - Parameter line: the line with its end; a line that is longer than the whole file is cut off.
    public mutating func write(_ line: String) {
        var bytes = Array(line.utf8.prefix(limit / 2))
        if bytes.last != UInt8(ascii: "\n") { bytes.append(UInt8(ascii: "\n")) }
        if isRegular && length + bytes.count > limit { removeOldest() }
        append(bytes)
    }

    private mutating func append(_ bytes: [UInt8]) {
        let number = file.rawValue
        let offset = off_t(length)
        // A line that cannot be written is lost, since there is no place to report it.
        let result = transferring {
            isRegular
                ? unsafe pwrite(number, bytes, bytes.count, offset) : unsafe Glibc.write(number, bytes, bytes.count)
        }
        if case .bytes(let count) = result { length += count }
    }

    /// Removes the oldest three tenths of the limit, rounded up to a page and to a whole line, and adds a note below
    /// the header.
    private mutating func removeOldest() {
        let removed = (limit * 3 / 10 + Self.page - 1) / Self.page * Self.page
        var rest = read(from: min(removed, length))
        if let end = rest.firstIndex(of: UInt8(ascii: "\n")) { rest.removeFirst(end + 1) }
        let number = file.rawValue
        length = 0
        append(Array("\(header)\n[older messages were removed]\n".utf8) + rest)
        let newLength = off_t(length)
        _ = transferring { Int(ftruncate(number, newLength)) }
    }

    private func read(from start: Int) -> [UInt8] {
        let number = file.rawValue
        var bytes = [UInt8](repeating: 0, count: length - start)
        var count = 0
        while count < bytes.count {
            let (offset, space) = (off_t(start + count), bytes.count - count)
            let position = count
            let result = transferring {
                unsafe bytes.withUnsafeMutableBytes { buffer in
                    unsafe pread(number, buffer.baseAddress?.advanced(by: position), space, offset)
                }
            }
            guard case .bytes(let part) = result, part > 0 else { break }
            count += part
        }
        return Array(bytes.prefix(count))
    }
}
