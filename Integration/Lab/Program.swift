// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Subprocess
import SystemPackage
import Synchronization

/// How a program ended.
public enum Termination: Sendable, Equatable, CustomStringConvertible {
    /// It exited by itself with this status.
    case exited(Int32)
    /// This signal ended it.
    case signalled(Int32)

    /// The ending in words, for messages of failed tests.
    public var description: String {
        switch self {
        case .exited(let status): "exit status \(status)"
        case .signalled(let signal): "ended by signal \(signal)"
        }
    }

    /// True if the program has crashed: by a trap, a bad instruction, an abort, a bad access.
    public var isCrash: Bool {
        switch self {
        case .exited: false
        case .signalled(let signal): [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS].contains(signal)
        }
    }
}

/// The result of a program that has ended: its ending, its output and its errors.
public struct Outcome: Sendable, CustomStringConvertible {
    /// The command line as a person would type it, without the part that enters the namespace.
    public let command: String
    /// How it ended.
    public let termination: Termination
    /// Everything it wrote to standard output.
    public let output: String
    /// Everything it wrote to standard error.
    public let errors: String
    /// From start to end.
    public let duration: Duration

    /// The exit status, or nil when a signal ended the program.
    public var status: Int32? {
        guard case .exited(let status) = termination else { return nil }
        return status
    }

    /// The lines of standard output.
    public var lines: [String] { output.split(separator: "\n").map(String.init) }

    /// The lines of standard error.
    public var errorLines: [String] { errors.split(separator: "\n").map(String.init) }

    /// All of it, for messages of failed tests.
    public var description: String {
        "$ \(command)\n\(termination) after \(duration)\nstandard output:\n\(output)standard error:\n\(errors)"
    }
}

/// A program that was started and may still run.
///
/// Standard output and standard error are files of the lab's directory: nothing must be read while the program runs,
/// and its output can be read at any time. Each program is the leader of a process group of its own.
public final class Program: Sendable {
    /// The command line as a person would type it.
    public let command: String
    /// The process id, as the test sees it.
    public let processID: Int32

    private let outputPath: String
    private let errorPath: String
    private let started: ContinuousClock.Instant
    private let ending: Ending

    /// The result that the task which waits for the process stores.
    private final class Ending: Sendable {
        let seen = Mutex<(termination: Termination, at: ContinuousClock.Instant)?>(nil)
    }

    private init(
        command: String, processID: Int32, outputPath: String, errorPath: String, started: ContinuousClock.Instant,
        ending: Ending
    ) {
        self.command = command
        self.processID = processID
        self.outputPath = outputPath
        self.errorPath = errorPath
        self.started = started
        self.ending = ending
    }

    /// Starts `arguments[0]` with the rest as its arguments.
    ///
    /// - Parameters:
    ///   - arguments: The whole command line, with the part that enters a namespace.
    ///   - command: The command line to show.
    ///   - environment: Variables set besides those inherited.
    ///   - files: The path that the output files' names begin with.
    /// - Returns: The running program.
    /// - Throws: `SubprocessError` when the program cannot be started.
    static func start(
        _ arguments: [String], shownAs command: String, environment: [String: String], files: String
    ) async throws -> Program {
        let outputPath = files + ".out"
        let errorPath = files + ".err"
        let output = try FileDescriptor.open(
            FilePath(outputPath), .writeOnly, options: [.create, .truncate, .append], permissions: [.ownerReadWrite])
        let errors = try FileDescriptor.open(
            FilePath(errorPath), .writeOnly, options: [.create, .truncate, .append], permissions: [.ownerReadWrite])
        var options = PlatformOptions()
        options.processGroupID = 0
        let ending = Ending()
        let started = ContinuousClock.now
        let (identifiers, identifier) = AsyncStream<Int32>.makeStream()
        // Owned by the program's own end: the lab ends every program before it goes.
        let waiting = Task { [options] in
            defer { identifier.finish() }
            let result = try await Subprocess.run(
                .name(arguments[0]),
                arguments: Arguments(Array(arguments.dropFirst())),
                environment: .inherit.updating(
                    Dictionary(
                        uniqueKeysWithValues: environment.map { key, value in
                            (Environment.Key(stringLiteral: key), String?.some(value))
                        })),
                platformOptions: options,
                input: .none,
                output: .fileDescriptor(output, closeAfterSpawningProcess: true),
                error: .fileDescriptor(errors, closeAfterSpawningProcess: true)
            ) { execution in
                identifier.yield(execution.processIdentifier.value)
                identifier.finish()
            }
            let termination: Termination =
                switch result.terminationStatus {
                case .exited(let status): .exited(status)
                case .signaled(let signal): .signalled(signal)
                }
            ending.seen.withLock { $0 = (termination, .now) }
        }
        for await processID in identifiers {
            return Program(
                command: command, processID: processID, outputPath: outputPath, errorPath: errorPath,
                started: started, ending: ending)
        }
        try await waiting.value
        throw LabError("\(command): ended before it began")
    }

    // MARK: - Watching

    /// What it has written to standard output so far.
    public var output: String { contents(of: outputPath) }

    /// What it has written to standard error so far.
    public var errors: String { contents(of: errorPath) }

    /// Its ending, or nil while it runs.
    public var termination: Termination? { ending.seen.withLock { $0?.termination } }

    /// Waits for the end of the program.
    ///
    /// - Parameter limit: After this time the program is killed and an error thrown.
    /// - Returns: What the program left.
    /// - Throws: `LabError` at the limit, with what the program wrote until then.
    public func end(within limit: Duration = .seconds(20)) async throws -> Outcome {
        do {
            try await eventually("\(command) has ended", within: limit) { self.termination != nil }
        } catch {
            sendToGroup(SIGKILL)
            throw LabError("\(error)\nstandard output:\n\(output)standard error:\n\(errors)")
        }
        let seen = ending.seen.withLock { $0 }
        return Outcome(
            command: command, termination: seen?.termination ?? .exited(-1), output: output, errors: errors,
            duration: (seen?.at ?? .now) - started)
    }

    /// Waits until the program has written a text to standard output.
    ///
    /// - Parameters:
    ///   - text: The text to wait for.
    ///   - limit: How long at most.
    /// - Throws: `LabError` at the limit, or when the program ended without writing it.
    public func wrote(_ text: String, within limit: Duration = .seconds(20)) async throws {
        do {
            try await eventually("\(command) writes \"\(text)\"", within: limit) {
                let ended = self.termination
                if self.output.contains(text) { return true }
                if let ended { throw LabError("\(self.command): \(ended) before it wrote \"\(text)\"") }
                return false
            }
        } catch {
            throw LabError("\(error)\nstandard output:\n\(output)standard error:\n\(errors)")
        }
    }

    // MARK: - Signals

    /// Sends a signal to the program alone.
    public func send(_ signal: Int32) {
        guard termination == nil else { return }
        kill(processID, signal)
    }

    /// Sends a signal to the program's process group.
    public func sendToGroup(_ signal: Int32) {
        guard termination == nil else { return }
        kill(-processID, signal)
    }
}

/// The text of a file; empty when there is none.
///
/// - Parameter path: Any file, also one of /proc.
/// - Returns: The text; bytes that are not UTF-8 are replaced.
public func contents(of path: String) -> String {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly) else { return "" }
    defer { try? file.close() }
    var bytes: [UInt8] = []
    let chunk = 65_536
    while true {
        let piece = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, count in
            count = (try? file.read(into: UnsafeMutableRawBufferPointer(buffer))) ?? 0
        }
        if piece.isEmpty { break }
        bytes += piece
    }
    return String(decoding: bytes, as: UTF8.self)
}
