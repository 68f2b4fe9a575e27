// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import Synchronization

/// The files of the control sockets, which are removed in any case when the program ends, and the servers, which must
/// live until then.
final class ControlFiles: Sendable {
    private let files = Mutex<[ControlSocketFile]>([])
    /// The event loop does not retain them: its handlers hold weak references.
    private let servers = Mutex<[any Actor]>([])

    /// Retains a server until the program ends.
    func retain(_ server: any Actor) {
        servers.withLock { $0.append(server) }
    }

    /// Whether there is no control socket.
    var isEmpty: Bool { files.withLock { $0.isEmpty } }

    /// Adds a file.
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
