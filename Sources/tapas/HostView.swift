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
import Synchronization

/// What is seen of the host: subscribed first and read after, so that nothing falls between start-up and following.
struct HostView: ~Copyable {
    /// The host as it was at start.
    let snapshot: HostSnapshot
    /// Handed to the monitor, whose thread is another; a mutex is what gives a value away.
    private let kernel: Mutex<NetlinkHostKernel?>
    private let reading: HostReading
    private var resolverWatcher: ResolverWatcher?

    /// Subscribes and reads; forks the watcher of resolv.conf, so only from a program with one thread.
    ///
    /// - Throws: If the kernel cannot be asked.
    init(_ invocation: Invocation) throws {
        let kernel = try NetlinkHostKernel(families: invocation.configuration.families)
        let reading = try kernel.read([.links, .addresses, .routes, .nextHops, .lookups], onto: HostSnapshot())
        var snapshot = reading.snapshot
        snapshot.resolvers = ResolverFile.configuration()
        let watcher: ResolverWatcher? = invocation.monitorsHost ? try ResolverWatcher.fork() : nil
        self.kernel = Mutex(kernel)
        self.reading = reading
        self.snapshot = snapshot
        resolverWatcher = watcher
    }

    /// Starts to follow, on a thread of its own.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - network: the namespace's network, whose programmer is taken over.
    ///   - loop: the data path's loop.
    ///   - forwarder: the data path.
    ///   - logger: where to tell.
    /// - Returns: what has to live as long as the host is followed.
    /// - Throws: If the thread cannot be started.
    mutating func follow(
        _ invocation: Invocation, network: inout Network, loop: EventLoop, forwarder: Forwarder, logger: Logger
    ) throws -> NetlinkMonitor? {
        let thread = try EventLoopThread.start()
        var configurator: NamespaceConfigurator?
        if let programmer = network.programmer.take() {
            configurator = NamespaceConfigurator(on: network.thread, programmer: programmer)
        }
        guard let handedKernel = kernel.withLock({ $0.take() }) else { return nil }
        // The data path belongs to its loop's thread, where its actor lives, too.
        nonisolated(unsafe) let handedForwarder = forwarder
        let dataPath = unsafe DataPathActor(loop: loop, forwarder: handedForwarder)
        let follower = Follower(
            loop: thread.loop, configuration: invocation.configuration, families: network.families,
            snapshot: snapshot, plan: network.plan, dataPath: dataPath,
            configurator: configurator, logger: logger)
        let settings = MonitorCore.Settings(
            invocation.configuration, holdDownMilliseconds: invocation.holdDown.wholeMilliseconds)
        let monitor = NetlinkMonitor(
            loop: thread.loop, kernel: handedKernel, resolverWatcher: resolverWatcher.take(),
            resolvers: snapshot.resolvers,
            settings: settings
        ) { change in
            follower.assumeIsolated { $0.hostChanged(change) }
        }
        let first = reading
        thread.loop.perform {
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
