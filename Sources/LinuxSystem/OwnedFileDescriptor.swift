// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): close fcntl openat

internal import CLinux
internal import Glibc
public import SystemPackage

/// A descriptor that is closed when its owner is destroyed.
///
/// Passing the ownership on consumes the owner. ``descriptor`` returns the descriptor without ownership; it must not be
/// used after the owner's end.
public struct OwnedFileDescriptor: ~Copyable, Sendable {
    /// The descriptor, without ownership: valid while this value lives.
    public let descriptor: FileDescriptor

    /// Takes ownership of an open descriptor.
    public init(taking descriptor: FileDescriptor) {
        self.descriptor = descriptor
    }

    /// Takes ownership of an open descriptor by number.
    public init(taking number: CInt) {
        descriptor = FileDescriptor(rawValue: number)
    }

    deinit {
        // The result does not matter: close(2) on Linux frees the descriptor even if it fails.
        _ = Glibc.close(descriptor.rawValue)
    }

    /// The descriptor's number, without ownership.
    @inlinable public var rawValue: CInt { descriptor.rawValue }

    /// Gives up ownership: the caller closes it.
    public consuming func release() -> FileDescriptor {
        let descriptor = self.descriptor
        discard self
        return descriptor
    }

    /// Opens a file with `O_CLOEXEC`.
    ///
    /// - Throws: The error of open(2), naming the path.
    public static func open(
        _ path: String, _ mode: FileDescriptor.AccessMode, options: FileDescriptor.OpenOptions = [],
        permissions: FilePermissions? = nil
    ) throws(SystemCallError) -> OwnedFileDescriptor {
        let flags = mode.rawValue | options.union(.closeOnExec).rawValue
        let number = try retrying("open", path) {
            unsafe Glibc.open(path, flags, mode_t(permissions?.rawValue ?? 0))
        }
        return OwnedFileDescriptor(taking: number)
    }

    /// Duplicates the descriptor with `O_CLOEXEC` (`F_DUPFD_CLOEXEC`).
    ///
    /// - Throws: The error of fcntl(2).
    public borrowing func duplicate() throws(SystemCallError) -> OwnedFileDescriptor {
        try Self.duplicate(of: descriptor)
    }

    /// Duplicates another one's descriptor with `O_CLOEXEC` (`F_DUPFD_CLOEXEC`).
    ///
    /// - Throws: The error of fcntl(2).
    public static func duplicate(of descriptor: FileDescriptor) throws(SystemCallError) -> OwnedFileDescriptor {
        let number = descriptor.rawValue
        return OwnedFileDescriptor(taking: try retrying("fcntl", "F_DUPFD_CLOEXEC") { tapas_dup_cloexec(number, 3) })
    }
}
