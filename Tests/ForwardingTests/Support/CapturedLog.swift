// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

/// A log whose lines a test looks at.
final class CapturedLog: Sendable {
    private let captured = Mutex<[String]>([])

    /// The lines so far.
    var lines: [String] { captured.withLock { $0 } }

    /// Writes to this log.
    var logger: Logger {
        Logger(label: "test") { [self] _ in Handler(log: self) }
    }

    private struct Handler: LogHandler {
        let log: CapturedLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.warning

        init(log: CapturedLog) { self.log = log }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            log.captured.withLock { $0.append("\(event.message)") }
        }
    }
}
