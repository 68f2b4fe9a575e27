// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid

internal import Diagnostics
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import Options
internal import Sandbox

/// The log according to the command line.
struct Log {
    /// Where messages go.
    let destinations: LogDestinations
    /// The logger that writes them.
    let logger: Logger
    /// The lowest level on standard error once set-up is complete; nil for none.
    private let runningLevel: Logger.Level?

    /// Opens the log.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - identity: the user that the program goes on as.
    ///   - opened: the log file, if a process before this one has begun it.
    /// - Throws: If the file of `--log-file` cannot be opened.
    init(
        _ invocation: Invocation, becoming identity: Identity?, continuing opened: consuming OwnedFileDescriptor? = nil
    ) throws(Failure) {
        let isVerbose = invocation.verbosity >= .debug
        let isForeground = invocation.foreground && !invocation.isSpawn
        let level: Logger.Level =
            switch invocation.verbosity {
            case .quiet: .warning
            case .standard, .verbose: .info
            case .debug: .debug
            case .trace: .trace
            }
        if let path = invocation.logFile {
            let header = "\(Engine.name) \(Engine.version): \(CommandLine.arguments.first ?? "?") (\(getpid()))"
            let file: LogFile
            if let opened = opened.take() {
                file = LogFile(continuing: opened, limit: invocation.logSize, header: header)
            } else {
                do throws(OutputFileError) {
                    let opened = try LogFile.output(path, program: Engine.name).open(becoming: identity?.numbers)
                    file = LogFile(opened, limit: invocation.logSize, header: header)
                } catch {
                    throw Failure("--log-file '\(path)': \(error)")
                }
            }
            destinations = LogDestinations(
                program: Engine.name, showsTimes: isVerbose, stampsTimes: isForeground, file: file)
        } else {
            destinations = LogDestinations(
                program: Engine.name, showsTimes: isVerbose, stampsTimes: isForeground,
                systemLog: isVerbose ? nil : SystemLog())
        }
        logger = TapasLogHandler.logger(level: level, destinations: destinations)
        runningLevel =
            if isVerbose || isForeground {
                .trace
            } else if invocation.isSpawn {
                // The terminal belongs to the command, so only important messages are written there.
                switch invocation.verbosity {
                case .quiet: .error
                case .verbose: .info
                default: .warning
                }
            } else {
                nil
            }
        // The summary is for users who attach to a namespace, not for those who start a command.
        if invocation.isSpawn, invocation.verbosity == .standard { destinations.limitStandardError(to: .notice) }
    }

    /// Writes the warnings about the command line.
    func warn(_ invocation: Invocation) {
        for warning in invocation.warnings { logger.warning("\(warning)") }
    }

    /// Called when set-up is complete: from now on standard error belongs to the command, or is closed.
    func setUpIsComplete() {
        destinations.limitStandardError(to: runningLevel)
    }
}
