// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): write

import Diagnostics
import Engine
import Glibc
import LinuxSystem
import NetworkTypes
import Options
import Sandbox

/// The program: reads the command line and runs the engine.
enum Program {
    /// Runs the program.
    ///
    /// - Returns: How the program ends.
    static func run() -> Ending {
        let arguments = CommandLine.arguments
        InheritedDescriptors.fillStandard()
        // The runtime reads the arguments from /proc/self/cmdline. Without them options would be ignored in silence.
        guard !arguments.isEmpty else {
            LogDestinations.writeToStandardError(
                "\(Engine.name): the command line cannot be read: /proc is not mounted here; mount it "
                    + "(mount -t proc proc /proc)\n")
            return .status(UsageError.exitStatus)
        }
        let outcome: ParseOutcome
        do throws(UsageError) {
            outcome = try parse(arguments: arguments, ephemeralRange: Engine.ephemeralRange())
        } catch {
            var text = "\(Engine.name): \("\(error)".escapingControlCharacters)\n"
            if error.showsUsageHint { text += HelpText.hint(program: calledName(arguments)) }
            LogDestinations.writeToStandardError(text)
            return .status(UsageError.exitStatus)
        }
        switch outcome {
        case .version: return printed("\(Engine.name) \(Engine.version)\n")
        case .help: return printed(HelpText.help(program: calledName(arguments)))
        case .printCapabilities: return printed(HelpText.capabilities)
        case .run(let invocation): return Engine.run(invocation)
        }
    }

    private static func calledName(_ arguments: [String]) -> String {
        arguments.first?.split(separator: "/").last.map { String($0) } ?? Engine.name
    }

    private static func printed(_ text: String) -> Ending {
        var text = text
        let count = text.utf8.count
        let result = transferring { text.withUTF8 { unsafe write(1, $0.baseAddress, $0.count) } }
        return .status(result == .bytes(count) ? 0 : Engine.failureStatus)
    }
}
