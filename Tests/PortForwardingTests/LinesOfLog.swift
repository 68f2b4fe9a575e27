// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

/// What a logger has written, a line for each message.
final class LinesOfLog: Sendable {
    private let lines = Mutex<[String]>([])

    /// The messages so far.
    var all: [String] { lines.withLock { $0 } }

    /// A logger that writes here.
    ///
    /// - Parameter level: the lowest level that is kept.
    /// - Returns: the logger.
    func logger(_ level: Logger.Level) -> Logger {
        Logger(label: "test") { _ in Handler(lines: self, logLevel: level) }
    }

    private struct Handler: LogHandler {
        let lines: LinesOfLog
        var logLevel: Logger.Level
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            lines.lines.withLock { $0.append("\(event.message)") }
        }
    }
}
