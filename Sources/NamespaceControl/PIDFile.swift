// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close getpid openat write

internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// The file of `--pid`: opened early, with the rights of whoever started us; written once, late.
///
/// It may be a pipe by way of /proc/PID/fd, so it is never renamed, locked or made exclusively.
public struct PIDFile: ~Copyable {
    private let path: String
    private let file: OwnedFileDescriptor

    /// Opens or makes the file, mode 0600, and empties it.
    ///
    /// - Throws: The error of open(2), naming the path.
    public init(_ path: String) throws(NamespaceError) {
        self.path = path
        do {
            file = try OwnedFileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
        } catch {
            throw NamespaceError("--pid '\(path)': cannot open", error)
        }
    }

    /// The descriptor, lent.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Writes the calling process's id, decimal with a line end, and closes the file.
    ///
    /// - Throws: The error of write(2).
    public consuming func write() throws(NamespaceError) {
        let number = file.rawValue
        var text = "\(getpid())\n"
        do {
            try retrying("write", path) { text.withUTF8 { unsafe Glibc.write(number, $0.baseAddress, $0.count) } }
        } catch {
            throw NamespaceError("--pid '\(path)': cannot write", error)
        }
    }
}
