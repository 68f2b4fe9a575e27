// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Logging

/// The handler through which swift-log's loggers write.
public struct TapasLogHandler: LogHandler {
    /// The lowest level that is written: the level of the destinations, until this logger is given its own.
    public var logLevel: Logger.Level {
        get { ownLevel ?? destinations.level }
        set { ownLevel = newValue }
    }
    /// Metadata that is added to each message.
    public var metadata: Logger.Metadata = [:]
    /// A source of more metadata.
    public var metadataProvider: Logger.MetadataProvider?
    private var ownLevel: Logger.Level?
    private let destinations: LogDestinations

    /// Makes a handler.
    public init(destinations: LogDestinations) {
        self.destinations = destinations
    }

    /// A logger that writes to `destinations`, without the logging system's global state.
    ///
    /// The level is that of the destinations, so that it can be changed while the program runs.
    public static func logger(level: Logger.Level, destinations: LogDestinations) -> Logger {
        destinations.level = level
        return Logger(label: "tapas") { _ in TapasLogHandler(destinations: destinations) }
    }

    /// One value of ``metadata``.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes a message with its metadata, in the order of their keys.
    public func log(event: LogEvent) {
        var text = "\(event.message)"
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
        if let own = event.metadata { all.merge(own) { _, new in new } }
        if !all.isEmpty {
            let pairs = all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            text += " (\(pairs.joined(separator: ", ")))"
        }
        if let error = event.error { text += ": \(error)" }
        destinations.write(event.level, text)
    }
}
