// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid

import Diagnostics
import Glibc
import LinuxSystem
import Logging
import Options

/// The log as the command line asks for it.
struct Log {
    /// Where messages go.
    let destinations: LogDestinations
    /// What they are written with.
    let logger: Logger
    /// Whether standard error goes on being used when the command runs (`-d`).
    private let keepsStandardError: Bool

    /// Opens the log.
    ///
    /// - Throws: If the file of `--log-file` cannot be opened.
    init(_ invocation: Invocation, start: MonotonicTime) throws(Failure) {
        let isVerbose = invocation.verbosity >= .debug
        let level: Logger.Level =
            switch invocation.verbosity {
            case .quiet: .warning
            case .standard: invocation.isSpawn ? .warning : .info
            case .debug: .debug
            case .trace: .trace
            }
        if let path = invocation.logFile {
            let header = "\(Program.name) \(Program.version): \(CommandLine.arguments.first ?? "?") (\(getpid()))"
            let file: LogFile
            do {
                file = try LogFile(path: path, limit: invocation.logSize, header: header)
            } catch {
                throw Failure("--log-file '\(path)': cannot open: \(error.errno.explanation)")
            }
            destinations = LogDestinations(program: Program.name, showsTimes: isVerbose, file: file, start: start)
        } else {
            destinations = LogDestinations(
                program: Program.name, showsTimes: isVerbose, systemLog: isVerbose ? nil : SystemLog(), start: start)
        }
        logger = TapasLogHandler.logger(level: level, destinations: destinations)
        keepsStandardError = isVerbose || invocation.foreground && !invocation.isSpawn
        for warning in invocation.warnings { logger.warning("\(warning)") }
        for option in invocation.unsupported { logger.warning("\(option) is not supported yet and has no effect") }
    }

    /// Set-up is complete: standard error belongs to the command, or to nobody.
    func setUpIsComplete() {
        if !keepsStandardError { destinations.stopStandardError() }
    }
}
