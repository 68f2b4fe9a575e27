// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A socket keeps the network namespace of its making, so all that has to happen on the thread that lives in the target
// namespace is socket(2); binding, connecting and accepting work from here. That thread also reprograms the namespace
// and reads it back, which may take seconds: nobody who serves traffic waits for it. While the program starts, requests
// are answered at once (`open`); later they are sent there and answered when they are (`openLater`), and what
// connections need is made in advance (`NamespaceSocketPool`).
//
// syscalls: setup(namespace): openat socket
// syscalls: running(namespace): openat socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// A descriptor that is wanted from the target network namespace.
public enum NamespaceRequest: Hashable, Sendable {
    /// A socket (socket(2)); it is made non-blocking.
    case socket(domain: Int32, type: Int32, ipProtocol: Int32)
    /// A file opened for reading: one of /proc/thread-self/net.
    case file(String)

    /// Makes the descriptor in the network namespace of the calling thread, with `O_CLOEXEC`.
    ///
    /// - Returns: The descriptor, which the caller owns, or the error.
    public func open() -> Result<FileDescriptor, Errno> {
        let number: CInt
        switch self {
        case .socket(let domain, let type, let ipProtocol):
            number = Glibc.socket(domain, type | CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), ipProtocol)
        case .file(let path):
            number = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        }
        return number >= 0 ? .success(FileDescriptor(rawValue: number)) : .failure(currentErrno)
    }
}

/// The descriptors that requests have led to, in their order; each is its receiver's.
public typealias NamespaceAnswers = [Result<FileDescriptor, Errno>]

/// Makes descriptors in the target network namespace.
public struct NamespaceSockets: Sendable {
    /// Answers all requests before it returns: only while the program starts.
    let open: @Sendable ([NamespaceRequest]) -> NamespaceAnswers
    /// Returns at once; the answers come later, on any thread.
    let openLater: @Sendable ([NamespaceRequest], @escaping @Sendable (NamespaceAnswers) -> Void) -> Void

    /// Names the two ways to reach the thread in the namespace.
    ///
    /// - Parameters:
    ///   - open: answers all requests before it returns.
    ///   - openLater: returns at once and answers later, on any thread.
    public init(
        open: @escaping @Sendable ([NamespaceRequest]) -> NamespaceAnswers,
        openLater: @escaping @Sendable ([NamespaceRequest], @escaping @Sendable (NamespaceAnswers) -> Void) -> Void
    ) {
        self.open = open
        self.openLater = openLater
    }
}
