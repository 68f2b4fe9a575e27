// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): bind close connect socket
// syscalls: running(client): close connect socket

internal import CLinux
internal import Glibc
public import SystemPackage

/// The address of a UNIX socket, in the file system or abstract (unix(7)).
public struct UnixSocketAddress: Sendable {
    /// The longest path in bytes; the address ends with a NUL.
    public static let greatestLength = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    /// The path.
    public let path: String
    private let address: sockaddr_un
    /// The length of the address in bytes: that of the whole structure, or for an abstract name up to its end.
    private let length: Int

    /// Makes an address; nil if the path is empty, has a NUL, or is longer than ``greatestLength`` bytes.
    public init?(path: String) {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, bytes.count <= Self.greatestLength, !bytes.contains(0) else { return nil }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        self.path = path
        self.address = address
        length = MemoryLayout<sockaddr_un>.size
    }

    /// Makes the address that a service manager gives in `NOTIFY_SOCKET` (sd_notify(3)): an absolute path, or `@` and an
    /// abstract name; nil for anything else.
    public init?(notifying text: String) {
        if text.hasPrefix("/") {
            self.init(path: text)
            return
        }
        let name = Array(text.utf8.dropFirst())
        guard text.hasPrefix("@"), !name.isEmpty, name.count < Self.greatestLength else { return nil }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.dropFirst().copyBytes(from: name) }
        self.init(
            path: text, address: address,
            length: MemoryLayout<sockaddr_un>.size - MemoryLayout.size(ofValue: address.sun_path) + 1 + name.count)
    }

    private init(path: String, address: sockaddr_un, length: Int) {
        self.path = path
        self.address = address
        self.length = length
    }

    /// The kinds of UNIX sockets.
    public enum Kind: Sendable {
        /// A stream of bytes (`SOCK_STREAM`).
        case stream
        /// Datagrams (`SOCK_DGRAM`).
        case datagrams
    }

    /// Makes a socket without an address.
    ///
    /// - Throws: The error of socket(2).
    public static func socket(_ kind: Kind, waits: Bool = false) throws(SystemCallError) -> OwnedFileDescriptor {
        var type = CInt(SOCK_CLOEXEC.rawValue)
        switch kind {
        case .stream: type |= CInt(SOCK_STREAM.rawValue)
        case .datagrams: type |= CInt(SOCK_DGRAM.rawValue)
        }
        if !waits { type |= CInt(SOCK_NONBLOCK.rawValue) }
        return OwnedFileDescriptor(taking: try retrying("socket", "AF_UNIX") { Glibc.socket(AF_UNIX, type, 0) })
    }

    /// Binds a socket to the path, which makes the file.
    ///
    /// - Throws: The error of bind(2): EADDRINUSE if there is something at the path.
    public func bind(_ socket: FileDescriptor) throws(SystemCallError) {
        try unsafe call("bind") { address, length in unsafe Glibc.bind(socket.rawValue, address, length) }
    }

    /// Connects a socket to the one at the path.
    ///
    /// - Throws: The error of connect(2): ECONNREFUSED if no process listens any more.
    public func connect(_ socket: FileDescriptor) throws(SystemCallError) {
        try unsafe call("connect") { address, length in unsafe Glibc.connect(socket.rawValue, address, length) }
    }

    private func call(
        _ name: StaticString, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt
    ) throws(SystemCallError) {
        var copy = address
        let size = socklen_t(length)
        try retrying(name, path) {
            unsafe withUnsafePointer(to: &copy) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, size) }
            }
        }
    }
}
