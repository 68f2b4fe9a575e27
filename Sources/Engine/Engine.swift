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

internal import Diagnostics
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
public import NetworkTypes
public import Options
internal import Sandbox

/// The engine: one run of the program, from a command line that has been parsed to how it ends.
public enum Engine {
    /// The version, as `--version` and the log file tell it.
    public static let version = ProgramVersion.current
    /// What messages begin with, and what the system log calls us.
    public static let name = "tapas"
    /// The exit status of every failure before and during set-up, and of a tap that breaks.
    public static let failureStatus: Int32 = 1

    /// Sets everything up and serves until the end; to be called with one thread only.
    ///
    /// Failures are told where messages go.
    ///
    /// - Parameter invocation: what the command line asks for.
    /// - Returns: how the program is to end.
    public static func run(_ invocation: Invocation) -> Ending {
        var console: LogDestinations?
        let helpers = HelperProcesses()
        // A process 1 that reaps nothing would keep them as zombies.
        defer { helpers.endAll() }
        let controlFiles = ControlFiles()
        defer { controlFiles.removeAll() }
        do {
            if let lack = ProcessLimits.lack { throw Failure(lack) }
            let namespaces = try GivenNamespaces(invocation)
            let waiters = try Waiters(invocation)
            InheritedDescriptors.closeAll(keeping: namespaces.descriptors + waiters.descriptors)
            let identity = try RunAs.identity(invocation)
            let background = try goToBackground(invocation)
            let log = try Log(invocation, becoming: identity)
            console = log.destinations
            let session = try Session(
                invocation, log: log, namespaces: namespaces, waiters: waiters, background: background,
                becoming: identity, helpers: helpers, controlFiles: controlFiles)
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
    public static func ephemeralRange() -> ClosedRange<Port> {
        guard let text = Sysctl.read(EphemeralRange.path), let range = EphemeralRange.parse(text) else {
            return EphemeralRange.fallback
        }
        return range
    }
}
