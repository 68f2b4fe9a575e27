// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close fcntl getpid rt_sigaction

internal import Diagnostics
internal import Forwarding
internal import Glibc
internal import LinuxSystem
internal import NamespaceControl
internal import Options
internal import Sandbox
internal import SystemPackage

/// One run of the program as a supervisor (Supervisor.swift), from setting up the namespaces to the end.
enum SupervisedRun {
    /// Sets up what outlives engines, and supervises engines until the end; the process must have one thread only.
    ///
    /// - Throws: One line on the failure.
    static func run(
        _ invocation: Invocation, log: Log, program: EngineProgram, namespaces: consuming GivenNamespaces,
        channels: SupervisorChannels, records: consuming FlowRecordFiles, background: consuming Background?,
        becoming identity: Identity?,
        helpers: HelperProcesses, controlFiles: ControlFiles
    ) throws -> Ending {
        var background = background
        var records = records
        var pidFile = try Session.openPIDFile(invocation, identity)
        var capture = try Session.openCaptureFile(invocation, identity)
        let isEarly = identity == nil || ControlSocketSetup.needsRoot(invocation)
        var window = isEarly ? try ControlSocketSetup(invocation, files: controlFiles, logger: log.logger) : nil
        var setup = try NamespaceSetup(invocation, namespaces, becoming: identity, helpers: helpers, log.logger)
        if !isEarly { window = try ControlSocketSetup(invocation, files: controlFiles, logger: log.logger) }
        signal(SIGPIPE, SIG_IGN)
        ProcessLimits.raiseOpenFiles()
        let command = setup.command
        let watch = try Session.watch(invocation)
        let network = try setup.takeNetwork()
        var device: OwnedFileDescriptor?
        if !invocation.spliceOnly, let opener = setup.opener.take() { device = try opener.open(in: network) }
        try Session.warn(of: command, log.logger)
        do throws(SystemCallError) {
            try ProcessLimits.forbidNewPrivileges()
            try Capabilities.restrictThread(to: Capability.ofStartingEngine)
            try Capabilities.leaveToExecutedPrograms()
        } catch {
            throw Failure("cannot give up capabilities", error)
        }
        HelperProcesses.adopt()

        let loop = try EventLoop()
        let server = Server(
            loop: loop, command: command, signals: setup.signals, watch: watch, exit: channels.exit, logger: log.logger)
        // The closure is called once, so it may consume both.
        let pending = PendingReadiness(pidFile: pidFile.take(), background: background.take())
        let supervisor = Supervisor(server: server, log: log, command: command, program: program) {
            try pending.report()
            try channels.reportReady(processID: getpid())
            log.setUpIsComplete()
            try command?.release()
        }
        defer { channels.reportStopping() }
        supervisor.keep(Handover.Name.network, try network.duplicate())
        if let device = device.take() { supervisor.keep(Handover.Name.device, device) }
        if let capture = capture.take() { supervisor.keep(Handover.Name.capture, capture) }
        if let file = records.log.take() { supervisor.keep(Handover.Name.flowLog, file) }
        if let file = records.learned.take() { supervisor.keep(Handover.Name.learned, file) }
        if let file = log.destinations.fileDescriptor {
            supervisor.keep(Handover.Name.log, try OwnedFileDescriptor.duplicate(of: file))
        }
        if let window = window.take() { window.giveListeners { supervisor.keep($0, $1) } }
        for name in Handover.Name.forwards + Handover.Name.ownership + Handover.Name.egress {
            supervisor.keep(name, try StateFile.memory())
        }
        do {
            try supervisor.startEngine()
            let ending = try server.run(NoEvents())
            supervisor.stopEngine()
            command?.end()
            if let failure = supervisor.failure { throw failure }
            return ending
        } catch {
            supervisor.stopEngine()
            command?.end()
            throw error
        }
    }

    /// What is done once when the namespace is connected.
    private final class PendingReadiness {
        private var pidFile: PIDFile?
        private var background: Background?

        init(pidFile: consuming PIDFile?, background: consuming Background?) {
            self.pidFile = pidFile
            self.background = background
        }

        func report() throws {
            if let file = pidFile.take() { try file.write() }
            if let background = background.take() { try background.becomeReady() }
        }
    }
}
