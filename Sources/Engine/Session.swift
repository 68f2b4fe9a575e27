// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid rt_sigaction

internal import Forwarding
internal import Glibc
internal import HostMonitor
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import NativeSockets
internal import NetworkModel
internal import Options
internal import Policy
internal import PortForwarding
internal import Sandbox
internal import SystemPackage

/// One run of the program, from setting up the namespaces to the end.
struct Session: ~Copyable {
    private let invocation: Invocation
    private let log: Log
    private var background: Background?
    private let supervisor: SupervisorChannels?
    /// The supervisor whose engine this is, with `--persist`.
    private let handover: Handover?
    /// What takes the place of standard input, output and error when a supervised engine is ready in the background.
    private let nullDevice: NullDevice?
    private var pidFile: PIDFile?
    private var capture: FrameCapture?
    private let command: WrappedCommand?
    private let signals: SignalDescriptor?
    private var network: Network
    private let watch: NamespaceWatch?
    private var host: HostView
    private let portHolders: PortHolders
    private var window: ControlSocketSetup?
    private let controlFiles: ControlFiles
    private let helpers: HelperProcesses
    private let egress: EgressRules?
    private var records: FlowRecordFiles
    private let nativeSockets: SupervisorProcess?

    /// Sets up everything except the last restrictions.
    ///
    /// - Throws: One line on the failure.
    init(
        _ invocation: Invocation, log: Log, namespaces: consuming GivenNamespaces, supervisor: SupervisorChannels,
        background: consuming Background?, becoming identity: Identity?, helpers: HelperProcesses,
        controlFiles: ControlFiles, entrance: consuming GuestEntrance?, egress: EgressRules?,
        records: consuming FlowRecordFiles
    ) throws {
        var entrance = entrance
        // In a user namespace of our own, the owners of ports can no longer be determined.
        portHolders = PortHolders(of: invocation.forwards)
        let pidFile = try Self.openPIDFile(invocation, identity)
        let capture = try Self.openCapture(invocation, identity)
        // The sockets are made by the user that the program continues as, except if only root may write to their
        // folder.
        let isEarly = identity == nil || ControlSocketSetup.needsRoot(invocation)
        var window = isEarly ? try ControlSocketSetup(invocation, files: controlFiles, logger: log.logger) : nil
        let isListeningEarly = identity == nil || entrance?.needsRoot ?? true
        if isListeningEarly { try entrance?.listen(controlFiles, log.logger) }
        var setup = try NamespaceSetup(
            invocation, namespaces, becoming: identity, helpers: helpers, log.logger)
        if !isListeningEarly { try entrance?.listen(controlFiles, log.logger) }
        if !isEarly { window = try ControlSocketSetup(invocation, files: controlFiles, logger: log.logger) }
        // The program must not die when a reader of its output ends. The command is not affected, because its init
        // exists already.
        signal(SIGPIPE, SIG_IGN)
        // This does not affect the command either: it keeps the limit that the program was started with.
        ProcessLimits.raiseOpenFiles()
        // The init of the command works on its own steps meanwhile.
        let host = try HostView(invocation, helpers: helpers, logger: log.logger)
        try Self.isolate()
        let network =
            if var entrance = entrance.take() {
                Network(invocation, snapshot: host.snapshot, link: try entrance.link(), logger: log.logger)
            } else {
                try Network(invocation, snapshot: host.snapshot, setup: &setup, logger: log.logger)
            }
        let watch = try Self.watch(invocation)
        try Self.warn(of: setup.command, log.logger)
        self.invocation = invocation
        self.log = log
        self.background = background
        self.supervisor = supervisor
        self.pidFile = pidFile
        self.capture = capture
        self.window = window
        self.controlFiles = controlFiles
        self.helpers = helpers
        self.egress = egress
        self.records = records
        command = setup.command
        nativeSockets = setup.supervisor
        // The setup's other descriptors are closed here.
        signals = Optional(setup.signals)
        self.network = network
        self.watch = watch
        self.host = host
        handover = nil
        nullDevice = nil
    }

    /// Sets up an engine that a supervisor has started, with what that has made and what a predecessor has left.
    ///
    /// - Throws: One line on the failure.
    init(
        _ invocation: Invocation, log: Log, handover: Handover, helpers: HelperProcesses, controlFiles: ControlFiles,
        egress: EgressRules?, records: consuming FlowRecordFiles
    ) throws {
        let portHolders = PortHolders(of: handover.isRestart ? [] : invocation.forwards)
        try ProcessLimits.forbidTracing()
        signal(SIGPIPE, SIG_IGN)
        ProcessLimits.raiseOpenFiles()
        var capture: FrameCapture?
        if let file = handover.take(Handover.Name.capture) { capture = FrameCapture(continuing: file) }
        let window: ControlSocketSetup? = ControlSocketSetup(handover, files: controlFiles)
        let nullDevice = invocation.goesToBackground ? try NullDevice() : nil
        let host = try HostView(invocation, helpers: helpers, logger: log.logger)
        try Self.isolate()
        let network = try Network(invocation, snapshot: host.snapshot, handover: handover, logger: log.logger)
        self.portHolders = portHolders
        self.capture = capture
        self.window = window
        self.nullDevice = nullDevice
        self.network = network
        self.host = host
        self.invocation = invocation
        self.log = log
        self.handover = handover
        nativeSockets = nil
        self.egress = egress
        self.records = records
        self.controlFiles = controlFiles
        self.helpers = helpers
        supervisor = nil
        background = nil
        pidFile = nil
        command = nil
        signals = nil
        watch = nil
    }

    /// Drops what is no longer needed, starts the command, and serves until the end.
    ///
    /// - Returns: how the program ends.
    /// - Throws: One line on what went wrong.
    consuming func run() throws -> Ending {
        let command = command
        do {
            let ending = try serve()
            command?.end()
            return ending
        } catch {
            command?.end()
            throw error
        }
    }

    private consuming func serve() throws -> Ending {
        let loop = try EventLoop()
        let nativeSockets = nativeSockets
        let supervisor = supervisor
        let server = Server(
            loop: loop, command: command, signals: signals, watch: watch, exit: supervisor?.exit, handover: handover,
            logger: log.logger)
        let egressControl = EgressControl(
            egress, request: invocation.egress, loop: host.control, records: records.take(), handover: handover,
            isControlled: !controlFiles.isEmpty)
        let forwarder = try Self.makeForwarder(
            invocation, network.link.take(), network.plan, capture.take(), server, log, egressControl)
        forwarder?.challenge(network.lostConnections)
        defer {
            forwarder?.endRecord()
            egressControl.recorder?.drain()
        }
        let tap = forwarder.map { TapFlowBridge($0, on: loop) }
        let ports = try Ports.open(
            invocation, network.thread, tap, portHolders, log.logger, policy: egressControl.portsPolicy,
            isControlled: !controlFiles.isEmpty, handover: handover)
        // Everything that reads files comes before the empty root.
        let start = MonotonicTime.now
        let forwardCommands =
            controlFiles.isEmpty
            ? nil
            : ForwardCommands(
                invocation, ephemeralRange: Engine.ephemeralRange())
        let landlockVersion = Landlock.version
        let memory = controlFiles.isEmpty ? nil : MemoryMeter()
        do {
            try MountIsolation.enterEmptyRoot(fallback: invocation.usesChrootFallback)
        } catch {
            throw Failure("cannot take the file system away (try --chroot-fallback)", error)
        }
        try Capabilities.restrictThread(to: [.bindPrivilegedPorts])
        Self.giveUpFileSystem(except: controlFiles.folders, logger: log.logger)
        if let file = pidFile.take() { try file.write() }
        if let background = background.take() { try background.becomeReady() }
        try supervisor?.reportReady(processID: getpid())
        try nullDevice?.replaceStandard()
        defer { supervisor?.reportStopping() }
        if egressControl.first?.policy.hasNameRules == true, !invocation.hasRelay {
            log.logger.warning(
                "rules by name open nothing without a relay of queries: add --dns-forward")
        }
        if invocation.startsWithoutConfiguration {
            log.logger.notice("the interface is not configured: add --config-net, or run a DHCP client")
        }
        log.setUpIsComplete()
        if let nativeSockets { NativeSocketsControl.publish(network.plan, host.snapshot, to: nativeSockets) }
        try command?.release()
        // With a supervisor that is what releases the command.
        try handover?.reportReady()
        // What only threads of the running program have: the command has been started meanwhile.
        let filters = try Filters(invocation, command: command, helpers: helpers)
        let control = host.control
        var native: NativeSocketsControl?
        if let nativeSockets {
            native = NativeSocketsControl(
                loop: control, supervisor: nativeSockets, helpers: helpers, logger: log.logger)
        }
        native?.begin()
        _ = try EventLoopThread.start(control, name: "tapas-control", serving: LoopBound(NoEvents(), on: control)) {
            Filters.load(filters.control, for: .control)
        }
        let served = try ports?.serve(tap, filter: filters.ports)
        let logger = log.logger
        network.thread?.perform {
            Self.giveUpFileSystem(except: [], logger: logger)
            Filters.load(filters.namespace, for: .namespace)
        }
        let dataPath = forwarder.map { DataPathControl(LoopBound($0, on: loop)) }
        let servedPorts = served.map { PortsControl($0) }
        if let interval = invocation.statsInterval {
            let printer = EventPrinter(
                loop: control, interval: interval.wholeMilliseconds, dataPath: dataPath,
                ports: served.map { PortsControl($0) })
            control.perform { printer.assumeIsolated { $0.start() } }
        }
        let chronicle = Chronicle(
            loop: control, .init(snapshot: host.snapshot, plan: network.plan, failures: network.failures))
        control.perform {
            egressControl.assumeIsolated {
                $0.start(dataPath: dataPath, ports: servedPorts, chronicle: chronicle)
            }
        }
        if let window = window.take(), let forwardCommands {
            let counters = host.counters
            let follows = invocation.monitorsHost
            let methods = RunningMethods(
                dataPath: dataPath, ports: servedPorts, native: native, forwards: forwardCommands,
                log: log.destinations, memory: memory, start: start,
                handover: handover,
                monitorFigures: { (await counters(), follows ? await chronicle.figures : nil) })
            window.serve(
                ControlContext(
                    invocation: invocation, loop: control, chronicle: chronicle, dataPath: dataPath, methods: methods,
                    log: log, egress: egressControl, landlockVersion: landlockVersion),
                files: controlFiles)
        }
        guard let forwarder, let dataPath else {
            Filters.load(filters.dataPath, for: .dataPath)
            return try server.run(NoEvents())
        }
        host.follow(
            invocation, network: &network, flows: dataPath, ports: served, native: native, chronicle: chronicle,
            logger: log.logger)
        Filters.load(filters.dataPath, for: .dataPath)
        return try server.run(forwarder)
    }

    /// The first half of the isolation, which later threads inherit; with one thread.
    private static func isolate() throws(Failure) {
        do {
            try MountIsolation.makePrivate()
            try ProcessLimits.forbidNewPrivileges()
            Capabilities.emptyBoundingSet()
        } catch {
            // The program attaches without a user namespace to join and has created none, which is the likely cause.
            let remedy =
                error.errno == .notPermitted
                ? "; CAP_SYS_ADMIN is needed: name the namespace's user namespace with --userns, or give the process id"
                : ""
            throw Failure("cannot isolate the program: \(error)\(remedy)")
        }
    }

    /// What the empty root and the filters leave of the file system, where the kernel has Landlock; best effort.
    private static func giveUpFileSystem(except folders: [FileDescriptor], logger: Logger) {
        do throws(SystemCallError) {
            try Landlock.restrictThread(removingIn: folders)
        } catch {
            logger.info("the file system is not given up by Landlock: \(error)")
        }
    }

    /// Warns of what the command's namespaces lack, once they are made.
    static func warn(of command: WrappedCommand?, _ logger: Logger) throws(NamespaceError) {
        for failure in try command?.waitUntilReady() ?? [] {
            guard let consequence = failure.step.consequence else { continue }
            logger.warning("\(consequence): \(failure.errno.explanation)")
        }
    }

    static func openPIDFile(
        _ invocation: Invocation, _ identity: Identity?
    ) throws(NamespaceError) -> PIDFile? {
        guard let path = invocation.pidFile else { return nil }
        return try PIDFile(path, becoming: identity?.numbers)
    }

    static func watch(_ invocation: Invocation) throws(NamespaceError) -> NamespaceWatch? {
        guard invocation.quitsWithNamespace, let path = invocation.networkNamespacePath else { return nil }
        return try NamespaceWatch(path: path)
    }

    private static func openCapture(_ invocation: Invocation, _ identity: Identity?) throws(Failure) -> FrameCapture? {
        guard let file = try openCaptureFile(invocation, identity) else { return nil }
        return FrameCapture(continuing: file)
    }

    /// Opens the file of `--pcap`, and writes the beginning of a capture.
    static func openCaptureFile(
        _ invocation: Invocation, _ identity: Identity?
    ) throws(Failure) -> OwnedFileDescriptor? {
        guard let path = invocation.capturePath else { return nil }
        let file: OwnedFileDescriptor
        do throws(OutputFileError) {
            file = try FrameCapture.output(path).open(becoming: identity?.numbers)
        } catch {
            throw Failure("--pcap '\(path)': \(error)")
        }
        do throws(SystemCallError) {
            return try FrameCapture.begin(in: file)
        } catch {
            throw Failure("--pcap '\(path)': cannot write: \(error.errno.explanation)")
        }
    }

    private static func makeForwarder(
        _ invocation: Invocation, _ link: consuming LinkSource?, _ plan: NamespacePlan,
        _ capture: consuming FrameCapture?, _ server: Server, _ log: Log,
        _ egress: EgressControl
    ) throws -> Forwarder? {
        guard let link else { return nil }
        var options = ForwardingOptions(logger: log.logger)
        options.forwardsTCP = invocation.isEnabled(.tcp)
        options.forwardsUDP = invocation.isEnabled(.udp)
        options.forwardsICMP = invocation.isEnabled(.icmp)
        options.egress = egress.first
        if invocation.egress.recordsFlows { options.flowEvents = egress.recorder?.queue }
        server.tap = link.tap
        let forwarder = try Forwarder(
            source: link, rules: plan.rules, services: plan.services, options: options, loop: server.loop,
            capture: capture)
        let isForMachine = invocation.virtualMachine != nil
        let name = plan.interfaceName
        forwarder.linkDidEnd = { [unowned server] in
            if isForMachine { server.machineDidEnd() } else { server.tapDidEnd(name) }
        }
        forwarder.beginAnnouncing()
        return forwarder
    }
}

extension Invocation {
    /// Whether queries can go through tapas.
    fileprivate var hasRelay: Bool { configuration.dnsForward.v4 != nil || configuration.dnsForward.v6 != nil }

    /// Whether a command starts with an interface that is not configured.
    fileprivate var startsWithoutConfiguration: Bool {
        isSpawn && !spliceOnly && !configuration.configuresNamespace
    }
}
