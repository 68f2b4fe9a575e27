// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close fcntl fstat ioctl newfstatat openat setns
// syscalls: setup(namespace): fstat newfstatat setns

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// An open namespace of a given kind (namespaces(7)).
public struct NamespaceFile: ~Copyable, Sendable {
    /// The kinds that can be joined.
    public enum Kind: Hashable, Sendable {
        /// A network namespace (`CLONE_NEWNET`).
        case network
        /// A user namespace (`CLONE_NEWUSER`).
        case user

        var flag: CInt {
            switch self {
            case .network: CInt(TAPAS_NEW_NETWORK)
            case .user: CInt(TAPAS_NEW_USER)
            }
        }

        var word: String {
            switch self {
            case .network: "network namespace"
            case .user: "user namespace"
            }
        }

        /// The calling thread's own namespace of this kind.
        var ownPath: String {
            switch self {
            case .network: "/proc/thread-self/ns/net"
            case .user: "/proc/self/ns/user"
            }
        }
    }

    /// The kind.
    public let kind: Kind
    /// The path by which it was opened.
    public let path: String
    private let file: OwnedFileDescriptor

    /// Opens a namespace; the descriptor is above 2, even if 0, 1 or 2 is closed.
    ///
    /// - Parameters:
    ///   - kind: the expected kind.
    ///   - path: the namespace's path.
    ///   - refusesOwn: whether the calling thread's own namespace is refused.
    /// - Throws: An error that names the path: it cannot be opened, is not of that kind, or is our own.
    public init(_ kind: Kind, path: String, refusesOwn: Bool = false) throws(NamespaceError) {
        let opened = try Self.open(kind, path)
        guard tapas_namespace_type(opened.rawValue) == kind.flag else {
            throw NamespaceError("'\(path)' is not a \(kind.word)")
        }
        guard !refusesOwn || !Self.isOwn(kind, opened.rawValue) else {
            throw NamespaceError("'\(path)' is the \(kind.word) that tapas is started in: there is nothing to connect")
        }
        file = opened
        self.kind = kind
        self.path = path
    }

    /// Takes over a network namespace that was opened elsewhere.
    public init(network file: consuming OwnedFileDescriptor, path: String) {
        kind = .network
        self.path = path
        self.file = file
    }

    /// The descriptor; this value keeps the ownership.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Another descriptor of the namespace.
    ///
    /// - Throws: The error of fcntl(2).
    public func duplicate() throws(SystemCallError) -> OwnedFileDescriptor { try file.duplicate() }

    /// Whether the calling thread is in this namespace already (same device and inode, namespaces(7)).
    public var isOwn: Bool { Self.isOwn(kind, file.rawValue) }

    private static func isOwn(_ kind: Kind, _ number: CInt) -> Bool {
        var own = stat()
        var other = stat()
        guard unsafe stat(kind.ownPath, &own) == 0, unsafe fstat(number, &other) == 0 else { return false }
        return own.st_dev == other.st_dev && own.st_ino == other.st_ino
    }

    /// Makes the calling thread join the namespace; a user namespace can be joined with one thread only.
    ///
    /// If the process is in that user namespace already, this succeeds, although the kernel refuses to join it again.
    ///
    /// - Throws: The error of setns(2) with its remedy.
    public func join() throws(NamespaceError) {
        if kind == .user && isOwn { return }
        let number = file.rawValue
        do {
            try retrying("setns", path) { tapas_setns(number, kind.flag) }
        } catch {
            let remedy: String? =
                switch (kind, error.errno) {
                case (.network, .notPermitted):
                    "CAP_SYS_ADMIN in the user namespace that owns it is needed: name that with --userns, "
                        + "or give the process id instead of the path"
                case (.user, .notPermitted): "it must be a descendant of ours that the same user has made"
                default: nil
                }
            throw NamespaceError("cannot enter \(kind.word) '\(path)'", error, remedy: remedy)
        }
    }

    private static func open(_ kind: Kind, _ path: String) throws(NamespaceError) -> OwnedFileDescriptor {
        do {
            let opened = try OwnedFileDescriptor.open(path, .readOnly)
            // The number must not be 0, 1 or 2, which are replaced later.
            return opened.rawValue > 2 ? opened : try opened.duplicate()
        } catch {
            throw NamespaceError(
                "cannot open \(kind.word) '\(path)'", error, remedy: Self.remedy(path, error.errno))
        }
    }

    private static func remedy(_ path: String, _ errno: Errno) -> String? {
        guard path.hasPrefix("/proc/") else { return nil }
        switch errno {
        case .noSuchFileOrDirectory, .noSuchProcess: return "there is no such process"
        case .permissionDenied: return "the process belongs to another user, or is not to be inspected (non-dumpable)"
        default: return nil
        }
    }
}
