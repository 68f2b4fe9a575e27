// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): fchmod geteuid listen mkdir newfstatat unlink

internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// Why a control socket cannot be made: one line that names the path and the remedy.
public struct ControlSocketError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The line.
    public var description: String

    init(_ description: String) {
        self.description = description
    }
}

/// A listening UNIX socket in the file system, to which only its owner may connect.
///
/// The file has mode 0600 from the moment it exists. A file that an ended program has left behind is replaced; a file
/// on which a process listens is refused. The folder stays open, so that the file can be removed when the file system
/// is out of reach.
public struct ControlSocket: ~Copyable, Sendable {
    /// The greatest number of connections that wait to be accepted.
    private static let waitingConnections: CInt = 16

    /// The listening socket.
    let listener: OwnedFileDescriptor
    /// The file, which must be removed at the end.
    public let file: ControlSocketFile

    /// Makes the socket and listens.
    ///
    /// - Throws: The obstacle.
    public init(path: String) throws(ControlSocketError) {
        guard let address = UnixSocketAddress(path: path) else {
            throw ControlSocketError(
                path.isEmpty
                    ? "the path is empty"
                    : "'\(path)': longer than the \(UnixSocketAddress.greatestLength) bytes that the address of a socket has"
            )
        }
        do throws(SystemCallError) {
            let socket = try Self.listen(at: address)
            file = try ControlSocketFile(path: path)
            listener = socket
        } catch {
            throw Self.explained(error, path)
        }
    }

    /// Takes over a listening socket that another process has made, which removes the file.
    public init(continuing listener: consuming OwnedFileDescriptor) {
        self.listener = listener
        file = ControlSocketFile()
    }

    /// Removes the file, unless another socket has replaced it.
    public borrowing func remove() { file.remove() }

    /// The listening socket alone, for who serves it otherwise.
    public consuming func takeListener() -> OwnedFileDescriptor { listener }

    // MARK: Making

    private static func listen(at address: UnixSocketAddress) throws(SystemCallError) -> OwnedFileDescriptor {
        let socket = try UnixSocketAddress.socket(.stream)
        // bind(2) gives the file the mode of the socket.
        try retrying("fchmod", address.path) { fchmod(socket.rawValue, 0o600) }
        do throws(SystemCallError) {
            try address.bind(socket.descriptor)
        } catch {
            guard error.errno == .addressInUse, try isLeftBehind(address) else { throw error }
            try retrying("unlink", address.path) { unsafe unlink(address.path) }
            try address.bind(socket.descriptor)
        }
        try retrying("listen", address.path) { Glibc.listen(socket.rawValue, waitingConnections) }
        return socket
    }

    /// Whether the file at a path is a socket on which no process listens any more.
    private static func isLeftBehind(_ address: UnixSocketAddress) throws(SystemCallError) -> Bool {
        var status = stat()
        guard unsafe lstat(address.path, &status) == 0 else { return false }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw SystemCallError("bind", address.path, .notSocket)
        }
        // A socket of another type: who listens is found without being connected to, which would be the end of a
        // program that serves one client only. The kernel says EPROTOTYPE then, and ECONNREFUSED if there is nobody.
        let probe = try UnixSocketAddress.socket(.datagrams)
        do throws(SystemCallError) {
            try address.connect(probe.descriptor)
            return false
        } catch {
            return error.errno == .connectionRefused
        }
    }

    private static func explained(_ error: SystemCallError, _ path: String) -> ControlSocketError {
        switch error.errno {
        case .addressInUse:
            ControlSocketError("'\(path)': a running program listens there; give each instance a path of its own")
        case .notSocket:
            ControlSocketError("'\(path)': there is a file that is no socket; remove it or give another path")
        case .noSuchFileOrDirectory:
            ControlSocketError("'\(path)': the folder does not exist")
        default: ControlSocketError("'\(path)': \(error.call): \(error.errno.explanation)")
        }
    }
}

extension ControlSocket {
    /// The folder of the control sockets of a user's instances: `$XDG_RUNTIME_DIR/tapas`.
    ///
    /// - Parameter runtimeFolder: the value of `XDG_RUNTIME_DIR`.
    /// - Returns: its path.
    public static func folder(runtimeFolder: String) -> String { "\(runtimeFolder)/tapas" }

    /// Makes the socket that an instance has when no path was given: `$XDG_RUNTIME_DIR/tapas/PID.sock`.
    ///
    /// - Parameters:
    ///   - runtimeFolder: the value of `XDG_RUNTIME_DIR`; the folder in it is made with mode 0700.
    ///   - process: the instance's process id.
    /// - Returns: the listening socket.
    /// - Throws: The obstacle; the instance then has no socket.
    public static func ofInstance(
        runtimeFolder: String, process: Int32
    ) throws(ControlSocketError) -> ControlSocket {
        let folder = folder(runtimeFolder: runtimeFolder)
        if unsafe mkdir(folder, 0o700) != 0, currentErrno != .fileExists {
            throw ControlSocketError("'\(folder)': mkdir: \(currentErrno.explanation)")
        }
        var status = stat()
        guard unsafe lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid(),
            status.st_mode & 0o077 == 0
        else { throw ControlSocketError("'\(folder)': not a folder of this user's alone (mode 0700)") }
        return try ControlSocket(path: "\(folder)/\(process).sock")
    }
}
