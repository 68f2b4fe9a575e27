// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: called(any): close fcntl fstat getdents64 newfstatat openat read readlinkat

/// The process that holds a socket, as /proc tells it to those who may look into that process (proc(5)).
public struct SocketOwner: Sendable {
    /// Its process id.
    public let id: Int
    /// Its name, at most 15 bytes.
    public let name: String

    /// Finds the first process that has a socket open; nil if there is none that may be looked into.
    ///
    /// - Parameter inode: the number of the socket.
    public init?(of inode: UInt32) {
        let link = "socket:[\(inode)]"
        for name in Folder.names(in: "/proc") {
            guard let id = Int(name) else { continue }
            for file in Folder.names(in: "/proc/\(name)/fd")
            where SymbolicLink.target("/proc/\(name)/fd/\(file)") == link {
                self.id = id
                self.name = Self.name(of: name) ?? "?"
                return
            }
        }
        return nil
    }

    /// `nginx, process 1234`.
    public var description: String { "\(name), process \(id)" }

    /// The name of a process.
    ///
    /// - Parameter process: its process id, or `self`.
    /// - Returns: its name; nil if there is no such process.
    public static func name(of process: String) -> String? { SmallFile.line("/proc/\(process)/comm") }
}
