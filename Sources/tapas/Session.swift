// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close openat

import Forwarding
import HostMonitor
import LinuxSystem
import Logging
import NamespaceControl
import NetworkModel
import Options
import PortForwarding
import Sandbox
import SystemPackage

/// One run of the program from the namespaces to the end.
struct Session: ~Copyable {
    private let invocation: Invocation
    private let log: Log
    private var background: Background?
    private var pidFile: PIDFile?
    private var capture: FrameCapture?
    private let command: WrappedCommand?
    private let signals: SignalDescriptor
    private var network: Network
    private let watch: NamespaceWatch?
    private var host: HostView
    private let portHolders: PortHolders

    /// Sets everything up but the last restrictions.
    ///
    /// - Throws: One line on what went wrong.
    init(
        _ invocation: Invocation, log: Log, namespaces: consuming GivenNamespaces, background: consuming Background?
    ) throws {
        // In a user namespace of our own nobody's name can be found out any more.
        portHolders = PortHolders(of: invocation.forwards)
        let pidFile = try Self.openPIDFile(invocation)
        let capture = try Self.openCapture(invocation)
        var entrance = try Entrance(invocation, namespaces, log.logger)
        // The init of the command works on its own steps meanwhile.
        let host = try HostView(invocation)
        try Self.isolate()
        let network = try Network(invocation, snapshot: host.snapshot, entrance: &entrance, logger: log.logger)
        let watch = try Self.watch(invocation)
        for failure in try entrance.command?.waitUntilReady() ?? [] {
            guard let consequence = failure.step.consequence else { continue }
            log.logger.warning("\(consequence): \(failure.errno.explanation)")
        }
        self.invocation = invocation
        self.log = log
        self.background = background
        self.pidFile = pidFile
        self.capture = capture
        command = entrance.command
        // What else the entrance holds open is closed here.
        signals = entrance.signals
        self.network = network
        self.watch = watch
        self.host = host
    }

    /// Drops what is not needed any more, lets the command go, and serves until the end.
    ///
    /// - Returns: the exit status.
    /// - Throws: One line on what went wrong.
    consuming func run() throws -> Int32 {
        let loop = try EventLoop()
        let server = Server(
            loop: loop, command: command, signals: signals, watch: watch, logger: log.logger)
        let forwarder = try Self.makeForwarder(
            invocation, network.tap.take(), network.plan.rules, capture.take(), server, log)
        let tap = forwarder.map { TapLink($0, on: loop) }
        let ports = try Ports.open(invocation, network.thread, tap, portHolders, log.logger)
        do {
            try MountIsolation.enterEmptyRoot(fallback: invocation.usesChrootFallback)
        } catch {
            throw Failure("cannot take the file system away (try --chroot-fallback)", error)
        }
        try Capabilities.restrictThread(to: [.bindPrivilegedPorts])
        if let file = pidFile.take() { try file.write() }
        if let background = background.take() { try background.becomeReady() }
        log.setUpIsComplete()
        try command?.release()
        let control = try EventLoopThread.start()
        let served = try ports?.serve(tap)
        guard let forwarder else { return try server.run(NoEvents()) }
        var monitor: NetlinkMonitor?
        if invocation.monitorsHost {
            monitor = host.follow(
                invocation, network: &network, control: control.loop, loop: loop, forwarder: forwarder, ports: served,
                logger: log.logger)
        }
        defer { withExtendedLifetime(monitor) {} }
        return try server.run(forwarder)
    }

    /// The first half of the isolation, with one thread: what later threads inherit.
    private static func isolate() throws(Failure) {
        do {
            try MountIsolation.makePrivate()
            try ProcessLimits.forbidNewPrivileges()
            Capabilities.emptyBoundingSet()
        } catch {
            // Attached without a user namespace to join, and none of ours: that is what is missing.
            let remedy =
                error.errno == .notPermitted
                ? "; CAP_SYS_ADMIN is needed: name the namespace's user namespace with --userns, or give the process id"
                : ""
            throw Failure("cannot isolate the program: \(error)\(remedy)")
        }
    }

    private static func openPIDFile(_ invocation: Invocation) throws(NamespaceError) -> PIDFile? {
        guard let path = invocation.pidFile else { return nil }
        return try PIDFile(path)
    }

    private static func watch(_ invocation: Invocation) throws(NamespaceError) -> NamespaceWatch? {
        guard invocation.quitsWithNamespace, let path = invocation.networkNamespacePath else { return nil }
        return try NamespaceWatch(path: path)
    }

    private static func openCapture(_ invocation: Invocation) throws(Failure) -> FrameCapture? {
        guard let path = invocation.capturePath else { return nil }
        do {
            let file = try OwnedFileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
            return try FrameCapture(file: file)
        } catch {
            throw Failure("--pcap '\(path)': cannot open: \(error.errno.explanation)")
        }
    }

    private static func makeForwarder(
        _ invocation: Invocation, _ tap: consuming TapDevice?, _ rules: TranslationRules,
        _ capture: consuming FrameCapture?, _ server: Server, _ log: Log
    ) throws -> Forwarder? {
        guard let tap else { return nil }
        var options = ForwardingOptions()
        options.forwardsTCP = invocation.isEnabled(.tcp)
        options.forwardsUDP = invocation.isEnabled(.udp)
        options.forwardsICMP = invocation.isEnabled(.icmp)
        options.answersNeighborDiscovery = invocation.isEnabled(.ndp)
        options.advertisesRouter = invocation.isEnabled(.routerAdvertisements)
        options.logger = log.logger
        let name = tap.name
        server.tap = tap.descriptor
        let forwarder = try Forwarder(
            tap: tap, rules: rules, options: options, loop: server.loop, capture: capture)
        forwarder.tapDidEnd = { [unowned server] in server.tapDidEnd(name) }
        return forwarder
    }
}
