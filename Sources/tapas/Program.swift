// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The program is synchronous and has one thread until the namespaces are settled: fork(2), unshare(CLONE_NEWUSER) and
// joining a user namespace all need that. The order of a start (docs/architecture.md):
//
//     parse ─ open namespace files ─ close what was inherited ─ [fork to the background] ─ log, pid file
//       ─ give root up ─ user namespace ─ [clone the command's init] ─ snapshot of the host
//       ─ own mount namespace ─ thread in the target namespace ─ plan ─ tap, addresses, routes
//       ─ empty root, drop capabilities ─ pid file, ready, command ─ event loop
//
// Whatever fails on the way ends the program with one line and status 1; the init sees its channel close and ends.
//
// syscalls: setup(main): write

import Diagnostics
import Glibc
import LinuxSystem
import Logging
import NamespaceControl
import NetworkTypes
import Options
import Sandbox
import SystemPackage

/// Why the program cannot go on: one line for people.
struct Failure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) {
        self.description = description
    }

    /// Says what was attempted when a part of the program failed.
    init(_ attempt: String, _ cause: any Error) {
        description = "\(attempt): \(cause)"
    }
}

/// The program from its first line to its exit status.
enum Program {
    /// The version, as `--version` and the log file tell it.
    static let version = "0.1.0"
    /// What messages begin with, and what the system log calls us.
    static let name = "tapas"
    /// The exit status of every failure before and during set-up, and of a tap that breaks.
    static let failureStatus: Int32 = 1

    /// Runs the program.
    ///
    /// - Returns: how the program ends.
    static func run() -> Ending {
        let start = MonotonicTime.now
        let arguments = CommandLine.arguments
        InheritedDescriptors.fillStandard()
        let outcome: ParseOutcome
        do throws(UsageError) {
            outcome = try parse(arguments: arguments, ephemeralRange: ephemeralRange())
        } catch {
            var text = "\(name): \("\(error)".escapingControlCharacters)\n"
            if error.showsUsageHint { text += HelpText.hint(program: calledName(arguments)) }
            LogDestinations.writeToStandardError(text)
            return .status(UsageError.exitStatus)
        }
        switch outcome {
        case .version: return printed("\(name) \(version)\n")
        case .help: return printed(HelpText.help(program: calledName(arguments)))
        case .printCapabilities: return printed(HelpText.capabilities)
        case .run(let invocation): return run(invocation, start: start)
        }
    }

    private static func run(_ invocation: Invocation, start: MonotonicTime) -> Ending {
        var console: LogDestinations?
        let helpers = HelperProcesses()
        // A process 1 that reaps nothing would keep them as zombies.
        defer { helpers.endAll() }
        do {
            if let lack = ProcessLimits.lack { throw Failure(lack) }
            let namespaces = try GivenNamespaces(invocation)
            InheritedDescriptors.closeAll(keeping: namespaces.descriptors)
            let identity = try RunAs.identity(invocation)
            let background = try goToBackground(invocation)
            let log = try Log(invocation, becoming: identity, start: start)
            console = log.destinations
            let session = try Session(
                invocation, log: log, namespaces: namespaces, background: background,
                becoming: identity, helpers: helpers)
            return try session.run()
        } catch {
            if let console {
                console.write(.error, "\(error)")
            } else {
                LogDestinations.writeToStandardError("\(name): \("\(error)".escapingControlCharacters)\n")
            }
            return .status(failureStatus)
        }
    }

    private static func goToBackground(_ invocation: Invocation) throws(Failure) -> Background? {
        guard invocation.goesToBackground else { return nil }
        do {
            return try Background.enter()
        } catch {
            throw Failure("cannot go to the background", error)
        }
    }

    /// The host's ephemeral ports, which `auto` and `all` leave out.
    static func ephemeralRange() -> ClosedRange<Port> {
        guard let text = Sysctl.read(EphemeralRange.path), let range = EphemeralRange.parse(text) else {
            return EphemeralRange.fallback
        }
        return range
    }

    private static func calledName(_ arguments: [String]) -> String {
        arguments.first?.split(separator: "/").last.map { String($0) } ?? name
    }

    private static func printed(_ text: String) -> Ending {
        var text = text
        let count = text.utf8.count
        let result = transferring { text.withUTF8 { unsafe write(1, $0.baseAddress, $0.count) } }
        return .status(result == .bytes(count) ? 0 : failureStatus)
    }
}
