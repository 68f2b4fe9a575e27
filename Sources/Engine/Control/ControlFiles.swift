// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import Synchronization

/// The files of the control sockets, which are removed however the program ends, and the servers, which live as long.
final class ControlFiles: Sendable {
    private let files = Mutex<[ControlSocketFile]>([])
    /// The event loop does not keep them: what it calls refers to them weakly.
    private let servers = Mutex<[any Actor]>([])

    /// Keeps a server until the program ends.
    func keep(_ server: any Actor) {
        servers.withLock { $0.append(server) }
    }

    /// Whether there is no control socket.
    var isEmpty: Bool { files.withLock { $0.isEmpty } }

    /// Takes note of a file.
    func add(_ file: ControlSocketFile) {
        files.withLock { $0.append(file) }
    }

    /// Removes all files that are still ours.
    func removeAll() {
        let all = files.withLock { files in
            defer { files = [] }
            return files
        }
        for file in all { file.remove() }
    }
}
