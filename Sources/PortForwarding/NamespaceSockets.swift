// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A socket belongs to the network namespace that it was made in. So only socket(2) has to run on the thread that lives in
// the target namespace; bind(2), connect(2) and accept(2) work from any thread. The namespace thread also reprograms the
// namespace and reads it back, which may take seconds, so no thread that serves traffic waits for it. At start-up,
// requests are answered before the call returns (`open`). Later they are sent to the namespace thread, and the answers
// arrive when it has made the sockets (`openLater`); the sockets that connections need are made ahead of time
// (`NamespaceSocketPool`).
//
// syscalls: setup(main, namespace): close openat
// syscalls: running(ports, namespace): close openat

internal import LinuxSystem
public import SystemPackage

/// A request for a descriptor that must be made in the target network namespace.
public enum NamespaceRequest: Hashable, Sendable {
    /// A socket (socket(2)); it is made non-blocking.
    case socket(domain: Int32, type: Int32, ipProtocol: Int32)
    /// A file opened for reading: one of /proc/thread-self/net.
    case file(String)

    /// Makes the descriptor in the network namespace of the calling thread, with `O_CLOEXEC`.
    ///
    /// - Returns: The descriptor, which the caller owns.
    /// - Throws: The error of socket(2) or open(2).
    public func open() throws(Errno) -> FileDescriptor {
        switch self {
        case .socket(let domain, let type, let ipProtocol):
            return FileDescriptor(
                rawValue: try HostSocket.open(domain: domain, type: type, ipProtocol: ipProtocol))
        case .file(let path):
            do throws(SystemCallError) {
                return try OwnedFileDescriptor.open(path, .readOnly).release()
            } catch {
                throw error.errno
            }
        }
    }

    /// Answers requests, each on its own, in the calling thread's network namespace.
    public static func answers(to requests: [NamespaceRequest]) -> NamespaceAnswers {
        requests.map { request in Result { () throws(Errno) in try request.open() } }
    }
}

/// The descriptors that were made for requests, in the order of the requests; the receiver owns them.
public typealias NamespaceAnswers = [Result<FileDescriptor, Errno>]

/// Makes descriptors in the target network namespace.
public struct NamespaceSockets: Sendable {
    /// Answers all requests before it returns; used only while the program starts.
    let open: @Sendable ([NamespaceRequest]) -> NamespaceAnswers
    /// Returns at once; the answers come later, on any thread.
    let openLater: @Sendable ([NamespaceRequest], @escaping @Sendable (NamespaceAnswers) -> Void) -> Void

    /// Makes none: there is no namespace, but a virtual machine.
    ///
    /// Rules that need one are refused; those that lead to the guest over the link need none.
    public static let none = NamespaceSockets(
        open: { requests in requests.map { _ in .failure(.operationNotSupportedByDevice) } },
        openLater: { requests, completion in completion(requests.map { _ in .failure(.operationNotSupportedByDevice) })
        })

    /// Combines the two ways to reach the thread in the namespace.
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
