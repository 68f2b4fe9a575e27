// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Forwarding
import HostMonitor
import LinuxSystem
import Logging
import NamespaceControl
import Netlink
import NetworkModel
import NetworkTypes
import Options
import PortForwarding
import Synchronization

/// What is seen of the host: subscribed first and read after, so that nothing falls between start-up and following.
struct HostView: ~Copyable {
    /// The host as it was at start.
    let snapshot: HostSnapshot
    /// Handed to the monitor, whose thread is another; a mutex is what gives a value away.
    private let kernel: Mutex<NetlinkHostKernel?>
    private let reading: HostReading
    private var resolverWatcher: ResolverWatcher?
    private let helpers: HelperProcesses

    /// Subscribes and reads; forks the watcher of resolv.conf, so only from a program with one thread.
    ///
    /// - Throws: If the kernel cannot be asked.
    init(_ invocation: Invocation, helpers: HelperProcesses) throws {
        let kernel = try NetlinkHostKernel(families: invocation.configuration.families)
        let reading = try kernel.read([.links, .addresses, .routes, .nextHops, .lookups], onto: HostSnapshot())
        var snapshot = reading.snapshot
        snapshot.resolvers = ResolverFile.configuration()
        let watcher = invocation.monitorsHost ? try ResolverWatcher.fork(processes: helpers) : nil
        self.kernel = Mutex(kernel)
        self.reading = reading
        self.snapshot = snapshot
        resolverWatcher = watcher
        self.helpers = helpers
    }

    /// Starts to follow, on the control loop.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - network: the namespace's network, whose programmer is taken over.
    ///   - control: the control loop.
    ///   - loop: the data path's loop.
    ///   - forwarder: the data path.
    ///   - ports: the forwarded ports, which retry what waits for the host to change.
    ///   - logger: where to tell.
    /// - Returns: what has to live as long as the host is followed.
    mutating func follow(
        _ invocation: Invocation, network: inout Network, control: EventLoop, loop: EventLoop,
        forwarder: Forwarder, ports: LoopBound<ForwardedPorts>?, logger: Logger
    ) -> NetlinkMonitor? {
        var configurator: NamespaceConfigurator?
        if let programmer = network.programmer.take() {
            configurator = NamespaceConfigurator(on: network.thread, programmer: programmer)
        }
        guard let handedKernel = kernel.withLock({ $0.take() }) else { return nil }
        // The data path belongs to its loop's thread, where its actor lives, too.
        nonisolated(unsafe) let handedForwarder = forwarder
        let dataPath = unsafe DataPathActor(loop: loop, forwarder: handedForwarder)
        let follower = Follower(
            loop: control, configuration: invocation.configuration, families: network.families,
            snapshot: snapshot, plan: network.plan, dataPath: dataPath,
            configurator: configurator, logger: logger)
        let settings = MonitorCore.Settings(
            invocation.configuration, holdDownMilliseconds: invocation.holdDown.wholeMilliseconds)
        // Taken out of here for good: the monitor alone has it.
        nonisolated(unsafe) let handedWatcher = resolverWatcher.take()
        let monitor = unsafe NetlinkMonitor(
            loop: control, kernel: handedKernel, resolverWatcher: handedWatcher,
            helpers: helpers, resolvers: snapshot.resolvers, settings: settings, logger: logger
        ) { change in
            follower.assumeIsolated { $0.hostChanged(change) }
            ports?.perform { $0.retryPendingForwards() }
        }
        let first = reading
        control.perform {
            monitor.assumeIsolated { monitor in
                do {
                    _ = try monitor.start(with: first)
                } catch {
                    logger.error("the host cannot be followed: \(error)")
                }
            }
        }
        return monitor
    }
}

extension Duration {
    /// The duration in milliseconds, rounded down.
    var wholeMilliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
