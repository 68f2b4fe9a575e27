// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import SystemPackage

/// The event loop, and the events that end it: of the command, signals, the namespace and the tap.
final class Server {
    /// The loop.
    let loop: EventLoop
    /// The tap, without ownership; nil if there is none.
    var tap: FileDescriptor?
    private let command: WrappedCommand?
    private let signals: SignalDescriptor?
    private let watch: NamespaceWatch?
    /// `--exit-fd`, without ownership.
    private let exit: FileDescriptor?
    /// The supervisor, with `--persist`.
    private let handover: Handover?
    private let logger: Logger
    private var ending = Ending.status(0)
    /// The signals that were passed on to the command.
    private var passedOn: Set<Int32> = []
    /// The signal that ended the command.
    private var killer: Int32?

    /// Makes a server, which does nothing before ``run(_:)``.
    init(
        loop: EventLoop, command: WrappedCommand?, signals: consuming SignalDescriptor?, watch: NamespaceWatch?,
        exit: FileDescriptor?, handover: Handover? = nil, logger: Logger
    ) {
        self.loop = loop
        self.command = command
        self.signals = signals
        self.watch = watch
        self.exit = exit
        self.handover = handover
        self.logger = logger
    }

    /// Serves until the end.
    ///
    /// - Returns: how the program ends.
    /// - Throws: If the kernel refuses to watch a descriptor.
    func run(_ sink: some EventSink) throws -> Ending {
        if let descriptor = signalDescriptor {
            _ = try loop.watch(descriptor) { [unowned self] _ in takeSignals() }
        }
        if let handover {
            _ = try loop.watch(handover.descriptor, for: [.readable, .peerClosed]) { [unowned self] readiness in
                if readiness.contains(.peerClosed) { return end(.status(0)) }
                if let refusal = handover.nextRefusal() { logger.error("\(refusal)") }
            }
        }
        if let command {
            _ = try loop.watch(command.descriptor) { [unowned self] _ in takeReports(of: command) }
        }
        if let watch {
            _ = try loop.watch(watch.descriptor) { [unowned self] _ in
                guard watch.isGone() else { return }
                logger.info("the namespace is gone")
                endWithNamespace(.status(0))
            }
        }
        if let exit {
            // Bytes that are written to it have no meaning. A hang-up of the other side is always reported.
            _ = try loop.watch(exit, for: .peerClosed) { [unowned self] _ in
                logger.info("--exit-fd: the other end is closed")
                end(.status(0))
            }
        }
        try loop.run(sink: sink)
        return ending
    }

    /// The tap's interface was deleted, or its namespace has ended.
    func tapDidEnd(_ name: String) {
        if let watch, watch.isGone() { return endWithNamespace(.status(0)) }
        let consequence = command == nil ? "tapas ends" : "tapas ends, and the command with it"
        logger.error("interface '\(name)' is gone from the namespace: \(consequence)")
        end(.status(Engine.failureStatus))
    }

    /// The only client of a virtual machine's link has gone, or the device that was handed over.
    func machineDidEnd() {
        logger.info("there was one guest to serve: tapas ends")
        end(.status(0))
    }

    /// Ends the program.
    func end(_ ending: Ending) {
        self.ending = ending
        loop.stop()
    }

    /// Ends after the namespace: the parent need not wait until its interface is unregistered.
    private func endWithNamespace(_ ending: Ending) {
        if let tap { DeferredClosing.afterExit(tap) }
        tap = nil
        end(ending)
    }

    private var signalDescriptor: FileDescriptor? {
        switch signals {
        case .some(let signals): signals.descriptor
        case nil: nil
        }
    }

    private func nextSignal() -> SignalDescriptor.Received? {
        switch signals {
        case .some(let signals): signals.next()
        case nil: nil
        }
    }

    private func takeSignals() {
        while let signal = nextSignal() {
            guard let command else {
                let isOrderly = SignalDescriptor.ending.contains(signal.number)
                end(isOrderly ? .status(0) : .signal(signal.number))
                continue
            }
            passedOn.insert(signal.number)
            // A terminal's signals have reached the command, too: it is in the same process group.
            if signal.isSentByProcess || signal.number == SIGCONT { command.signal(signal.number) }
        }
    }

    private func takeReports(of command: WrappedCommand) {
        while let report = command.nextReport(waits: false) {
            switch report {
            case .stopped: command.stopLikeTheCommand()
            case .killed(let signal): killer = signal
            case .ended: return endWithNamespace(ending(of: command))
            case .ready, .stepFailed: break
            }
        }
    }

    /// How the program ends when its command has ended.
    ///
    /// A shell loop continues after an exit status, but ends if this process dies of Ctrl-C. So this process dies of
    /// the signal that ended the command. If the command handles the signal and exits, this process exits with its
    /// status.
    private func ending(of command: WrappedCommand) -> Ending {
        let status = command.waitForExit()
        // Signals that arrived together with the end of the command.
        takeSignals()
        guard let killer, [SIGINT, SIGTERM].contains(killer), passedOn.contains(killer) else { return .status(status) }
        return .signal(killer)
    }
}
