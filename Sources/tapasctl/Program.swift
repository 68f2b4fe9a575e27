// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A command sends one request to a running instance over its control socket (docs/control.md), and prints the answer as
// aligned text or JSON. The room ControlClient makes the text of the answer.

import ArgumentParser
import ControlClient
import LinuxSystem
import NetworkTypes

/// The program.
enum Program {
    /// Exit statuses (tapasctl(1)).
    enum Status {
        static let success: Int32 = 0
        static let failure: Int32 = 1
        static let usage: Int32 = 2
    }

    /// Runs the program.
    ///
    /// - Parameter arguments: the arguments without the program's name.
    /// - Returns: the exit status.
    static func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try TapasControl.parseAsRoot(ArgumentOrder.normalized(arguments))
            try command.run()
            return Status.success
        } catch let error as ClientError {
            Output.writeError("tapasctl: \(error.description.escapingControlCharacters)")
            return Status.failure
        } catch let code as ExitCode {
            return code.rawValue
        } catch {
            let text = TapasControl.fullMessage(for: error)
            guard TapasControl.exitCode(for: error) != .success else {
                do throws(ClientError) { try Output.write(text + "\n") } catch { return Status.failure }
                return Status.success
            }
            Output.writeError(text)
            return Status.usage
        }
    }
}

/// The command line.
struct TapasControl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tapasctl",
        abstract: "Asks a running tapas what it does and why, and tells it to do something else.",
        usage: "tapasctl [-s PATH | --pid PID | --all] [--json] COMMAND ...",
        discussion: """
            Without -s, --pid and --all the only running instance of this user is asked. These options and --json may \
            stand before the command or after it. See tapasctl(1).
            """,
        version: "tapasctl \(ProgramVersion.current)",
        subcommands: [
            Status.self, Explain.self, Watch.self, Wait.self, Flows.self, Forward.self, DNS.self, Metrics.self,
            LogCommand.self, Capture.self, PolicyCommand.self, FlowLogCommand.self, Upgrade.self,
        ])
}
