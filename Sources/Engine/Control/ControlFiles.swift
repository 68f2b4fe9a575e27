// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import Synchronization
internal import SystemPackage

/// The files of the listening sockets, which are removed in any case when the program ends, and the servers of the
/// control sockets, which must live until then.
final class ControlFiles: Sendable {
    private let files = Mutex<[(file: ControlSocketFile, isForControl: Bool)]>([])
    /// The event loop does not retain them: its handlers hold weak references.
    private let servers = Mutex<[any Actor]>([])

    /// Retains a server until the program ends.
    func retain(_ server: any Actor) {
        servers.withLock { $0.append(server) }
    }

    /// Whether there is no control socket.
    var isEmpty: Bool { files.withLock { files in !files.contains { $0.isForControl } } }

    /// The folders of the files, lent.
    var folders: [FileDescriptor] { files.withLock { $0.compactMap(\.file.folderDescriptor) } }

    /// Adds a file.
    ///
    /// - Parameters:
    ///   - file: the file.
    ///   - isForControl: whether it is a control socket, and not one that virtual machines connect to.
    func add(_ file: ControlSocketFile, isForControl: Bool = true) {
        files.withLock { $0.append((file, isForControl)) }
    }

    /// Removes all files that are still ours.
    func removeAll() {
        let all = files.withLock { files in
            defer { files = [] }
            return files
        }
        for entry in all { entry.file.remove() }
    }
}
