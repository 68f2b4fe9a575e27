// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid write

internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// The file of `--pid`: opened early, with the rights of the user that starts the program, and written once, late.
///
/// It may be a pipe by way of /proc/PID/fd, so it is never renamed, locked or created exclusively.
public struct PIDFile: ~Copyable {
    private let path: String
    private let file: OwnedFileDescriptor

    /// Opens or creates the file, mode 0600, and empties it; a file that contains anything but a process id is refused.
    ///
    /// - Parameters:
    ///   - path: the file's path.
    ///   - user: the user and group that real root is about to become; nil if the ids stay.
    /// - Throws: The reason why it cannot be opened, with option and path.
    public init(_ path: String, becoming user: (user: UInt32, group: UInt32)? = nil) throws(NamespaceError) {
        self.path = path
        let output = OutputFile(path, purpose: "process id") { Self.isProcessID($0) }
        do throws(OutputFileError) {
            file = try output.open(becoming: user)
        } catch {
            throw NamespaceError("--pid '\(path)': \(error)")
        }
    }

    /// Whether a file's beginning is a decimal number with a line end.
    static func isProcessID(_ beginning: ArraySlice<UInt8>) -> Bool {
        beginning.count <= 12 && beginning.last == UInt8(ascii: "\n")
            && beginning.dropLast().allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// The descriptor; this value keeps the ownership.
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
