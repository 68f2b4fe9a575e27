// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): write
// syscalls: running(any): write

internal import Glibc
internal import LinuxSystem
public import Logging
internal import NetworkTypes
internal import Synchronization
public import SystemPackage

/// The destinations of log messages, shared by all loggers: standard error, a file, the system's log.
public final class LogDestinations: Sendable {
    private struct State: ~Copyable {
        /// Messages below this level do not go to standard error; nil if none does.
        var standardErrorLevel: Logger.Level?
        var file: LogFile?
        var systemLog: SystemLog?
        /// Messages below this level are not written.
        var level: Logger.Level = .trace
    }

    private let state: Mutex<State>
    private let program: String
    private let showsTimes: Bool
    private let stampsTimes: Bool

    /// Makes the set of destinations.
    ///
    /// - Parameters:
    ///   - program: the program's name, which lines begin with.
    ///   - showsTimes: whether lines on standard error begin with the time and the level (`-d`).
    ///   - stampsTimes: whether they begin with the time and the program's name (`-f`).
    ///   - standardError: whether messages go to standard error, until ``limitStandardError(to:)`` says otherwise.
    ///   - file: the log file, if one is wanted.
    ///   - systemLog: the system's log, if it is wanted and exists.
    public init(
        program: String, showsTimes: Bool, stampsTimes: Bool = false, standardError: Bool = true,
        file: consuming LogFile? = nil,
        systemLog: consuming SystemLog? = nil
    ) {
        self.program = program
        self.showsTimes = showsTimes
        self.stampsTimes = stampsTimes
        state = Mutex(State(standardErrorLevel: standardError ? .trace : nil, file: file, systemLog: systemLog))
    }

    /// From now on only messages at or above a level go to standard error; with nil, none does.
    public func limitStandardError(to level: Logger.Level?) {
        state.withLock { $0.standardErrorLevel = level }
    }

    /// The lowest level that is written by all loggers without a level of their own.
    public var level: Logger.Level {
        get { state.withLock { $0.level } }
        set { state.withLock { $0.level = newValue } }
    }

    /// The log file, lent; nil if there is none.
    public var fileDescriptor: FileDescriptor? { state.withLock { $0.file?.descriptor } }

    /// Goes on behind what another process has written to the log file meanwhile.
    public func followOthers() { state.withLock { $0.file?.followOthers() } }

    /// Writes one message to all destinations.
    public func write(_ level: Logger.Level, _ text: String) {
        // A message with text from outside must neither look like several messages nor control the terminal.
        let text = text.escapingControlCharacters
        state.withLock { state in
            if let least = state.standardErrorLevel, level >= least {
                let name = stampsTimes ? "\(WallTime.now) \(program): " : "\(program): "
                let prefix = showsTimes ? "\(WallTime.now) \(level): " : name
                Self.writeToStandardError("\(prefix)\(text)\n")
            }
            state.file?.write("\(WallTime.now) \(level): \(text)\n")
            state.systemLog?.send(level, program: program, text)
        }
    }

    /// Writes text to standard error as it is.
    public static func writeToStandardError(_ text: String) {
        var text = text
        text.withUTF8 { buffer in
            var done = 0
            while done < buffer.count {
                let result = transferring {
                    unsafe Glibc.write(2, buffer.baseAddress?.advanced(by: done), buffer.count - done)
                }
                guard case .bytes(let count) = result, count > 0 else { return }
                done += count
            }
        }
    }
}
