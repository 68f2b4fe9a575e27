// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close newfstatat openat unlinkat
// syscalls: running(data-path): newfstatat unlinkat

internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// The file of a listening UNIX socket.
///
/// It can be removed from any thread, and even when the file system is out of reach, because the folder stays open.
public final class ControlSocketFile: Sendable {
    /// The path as it was given.
    public let path: String
    private let folder: OwnedFileDescriptor?
    private let name: String
    private let identity: Identity?

    private struct Identity: Hashable, Sendable {
        var device: UInt64
        var inode: UInt64
    }

    /// Records the file of a socket that has just been made.
    init(path: String) throws(SystemCallError) {
        self.path = path
        let parts = Self.split(path)
        name = parts.name
        let folder = try OwnedFileDescriptor.open(parts.folder, .readOnly, options: .directory)
        identity = Self.identity(of: parts.name, in: folder.descriptor)
        self.folder = consume folder
    }

    /// Stands for a file that another process removes.
    init() {
        path = ""
        name = ""
        folder = nil
        identity = nil
    }

    /// The folder, lent: for rules about what may be removed there; nil if there is nothing to remove.
    public var folderDescriptor: FileDescriptor? {
        switch folder {
        case .some(let folder): folder.descriptor
        case nil: nil
        }
    }

    /// Removes the file, unless another one has replaced it.
    public func remove() {
        guard let identity, let folder = folderDescriptor, Self.identity(of: name, in: folder) == identity else {
            return
        }
        unsafe unlinkat(folder.rawValue, name, 0)
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = path[..<slash]
        return (folder.isEmpty ? "/" : String(folder), String(path[path.index(after: slash)...]))
    }

    private static func identity(of name: String, in folder: FileDescriptor) -> Identity? {
        var status = stat()
        guard unsafe fstatat(folder.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
        return Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }
}
