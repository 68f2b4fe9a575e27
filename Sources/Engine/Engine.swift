// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The program is synchronous and has one thread until the namespaces are set up, because fork(2),
// unshare(CLONE_NEWUSER) and joining a user namespace require that. The order of a start (docs/architecture.md):
//
//     parse ─ open namespace files ─ close what was inherited ─ [fork to the background] ─ log, pid file
//       ─ give root up ─ user namespace ─ [clone the command's init] ─ snapshot of the host
//       ─ own mount namespace ─ thread in the target namespace ─ plan ─ tap, addresses, routes
//       ─ empty root, drop capabilities ─ pid file, ready, command ─ event loop
//
// For a virtual machine there is no thread in a target namespace, and nothing to program there: its socket takes the
// place of the tap.
//
// A failure ends the program with one line and status 1; the init sees its channel close and ends.

internal import Diagnostics
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
public import NetworkTypes
public import Options
internal import Sandbox

/// The engine: one run of the program, from the parsed command line to the end.
public enum Engine {
    /// The version that `--version` and the log file show.
    public static let version = ProgramVersion.current
    /// The program's name in messages and in the system log.
    public static let name = "tapas"
    /// The exit status of every failure before and during set-up, and of a tap that breaks.
    public static let failureStatus: Int32 = 1

    /// Sets everything up and serves until the end; the process must have one thread only.
    ///
    /// Failures are written to the log destinations.
    ///
    /// - Parameter invocation: the parsed command line.
    /// - Returns: how the program must end.
    public static func run(_ invocation: Invocation) -> Ending {
        var console: LogDestinations?
        let helpers = HelperProcesses()
        // Otherwise they would stay zombies in a container whose process 1 reaps nothing.
        defer { helpers.endAll() }
        let controlFiles = ControlFiles()
        defer { controlFiles.removeAll() }
        do {
            if let handover = try Handover() {
                return try runSupervised(invocation, handover, helpers, controlFiles, console: &console)
            }
            if let lack = ProcessLimits.lack { throw Failure(lack) }
            let egress = invocation.egress.decidesFlows ? try EgressRules(invocation.egress) : nil
            var records = try FlowRecordFiles(handedOver: invocation.egress)
            let namespaces = try GivenNamespaces(invocation)
            let supervisor = try SupervisorChannels(invocation)
            var entrance = try GuestEntrance(invocation)
            InheritedDescriptors.closeAll(
                keeping: namespaces.descriptors + supervisor.descriptors + (entrance?.descriptors ?? [])
                    + records.descriptors)
            let identity = try RunAs.identity(invocation)
            let background = try goToBackground(invocation)
            let log = try Log(invocation, becoming: identity)
            console = log.destinations
            try records.open(invocation.egress, becoming: identity)
            log.warn(invocation)
            if invocation.persists {
                return try SupervisedRun.run(
                    invocation, log: log, program: try EngineProgram.own(), namespaces: namespaces,
                    channels: supervisor,
                    records: records.take(),
                    background: background, becoming: identity, helpers: helpers, controlFiles: controlFiles)
            }
            let session = try Session(
                invocation, log: log, namespaces: namespaces, supervisor: supervisor, background: background,
                becoming: identity, helpers: helpers, controlFiles: controlFiles, entrance: entrance.take(),
                egress: egress, records: records.take())
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

    /// Runs as the engine of a supervisor (Persistence/Supervisor.swift).
    private static func runSupervised(
        _ invocation: Invocation, _ handover: Handover, _ helpers: HelperProcesses, _ controlFiles: ControlFiles,
        console: inout LogDestinations?
    ) throws -> Ending {
        let log = try Log(invocation, becoming: nil, continuing: handover.take(Handover.Name.log))
        console = log.destinations
        if handover.isRestart {
            // The terminal is the command's already.
            log.setUpIsComplete()
            log.logger.warning("\(handover.cause): started anew (restart \(handover.restarts))")
        }
        let added = handover.addedEgressRules
        let decides = invocation.egress.decidesFlows || !added.isEmpty
        let egress = decides ? try EgressRules(invocation.egress, added: added) : nil
        let session = try Session(
            invocation, log: log, handover: handover, helpers: helpers, controlFiles: controlFiles, egress: egress,
            records: FlowRecordFiles(handover))
        let ending = try session.run()
        if case .status(let status) = ending { handover.reportEnd(status) }
        return ending
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
