// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import NamespaceControl
import SystemPackage

/// The event loop with what may end it: the command, signals, the namespace, the tap.
final class Server {
    /// The loop.
    let loop: EventLoop
    /// The tap, lent; nil with `--splice-only`.
    var tap: FileDescriptor?
    private let command: WrappedCommand?
    private let signals: SignalDescriptor
    private let watch: NamespaceWatch?
    private let logger: Logger
    private var status: Int32 = 0

    /// Makes a server, which does nothing before ``run(_:)``.
    init(
        loop: EventLoop, command: WrappedCommand?, signals: consuming SignalDescriptor, watch: NamespaceWatch?,
        logger: Logger
    ) {
        self.loop = loop
        self.command = command
        self.signals = signals
        self.watch = watch
        self.logger = logger
    }

    /// Serves until the end.
    ///
    /// - Returns: the exit status.
    /// - Throws: If the kernel refuses to watch a descriptor.
    func run(_ sink: some EventSink) throws -> Int32 {
        _ = try loop.watch(signals.descriptor) { [unowned self] _ in takeSignals() }
        if let command {
            _ = try loop.watch(command.descriptor) { [unowned self] _ in takeReports(of: command) }
        }
        if let watch {
            _ = try loop.watch(watch.descriptor) { [unowned self] _ in
                guard watch.isGone() else { return }
                logger.info("the namespace is gone")
                endWithNamespace(0)
            }
        }
        try loop.run(sink: sink)
        return status
    }

    /// The tap's interface was deleted, or its namespace has ended.
    func tapDidEnd(_ name: String) {
        if let watch, watch.isGone() { return endWithNamespace(0) }
        logger.error("interface '\(name)' is gone from the namespace")
        end(with: Program.failureStatus)
    }

    private func end(with status: Int32) {
        self.status = status
        loop.stop()
    }

    /// Ends after the namespace has: nobody needs to wait until its interface is gone.
    private func endWithNamespace(_ status: Int32) {
        if let tap { LateClosing.afterExit(tap) }
        tap = nil
        end(with: status)
    }

    private func takeSignals() {
        while let signal = signals.next() {
            guard let command else {
                end(with: 0)
                continue
            }
            // A terminal's signals have reached the command, too: it is in the same process group.
            if signal.isSentByProcess || signal.number == SIGCONT { command.signal(signal.number) }
        }
    }

    private func takeReports(of command: WrappedCommand) {
        while let report = command.nextReport(waits: false) {
            switch report {
            case .stopped: command.stopLikeTheCommand()
            case .ended: return endWithNamespace(command.waitForExit())
            case .ready, .stepFailed: break
            }
        }
    }
}
