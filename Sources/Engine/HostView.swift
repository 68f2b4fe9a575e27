// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import HostMonitor
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import Netlink
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import Planning
internal import PortForwarding
internal import Sandbox

/// The engine's view of the host.
///
/// It is subscribed first and read afterwards, so that no change is missed between start-up and following.
struct HostView: ~Copyable {
    /// The host as it was at start.
    let snapshot: HostSnapshot
    /// The control loop, on whose thread the host is followed; it is not served yet.
    let control: EventLoop
    private let reading: HostReading
    /// Follows the host from ``follow(_:network:flows:ports:chronicle:logger:)`` on; nil with `--no-monitor`.
    private let monitor: NetlinkMonitor?
    private let neighbours: NeighbourWatch?

    /// Subscribes and reads; forks the watcher of resolv.conf, so only from a program with one thread.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - helpers: records the watcher.
    ///   - logger: where the monitor logs problems.
    /// - Throws: If the kernel does not answer.
    init(_ invocation: Invocation, helpers: HelperProcesses, logger: Logger) throws {
        let kernel = try NetlinkHostKernel(families: invocation.configuration.families)
        var tables: HostTables = [.links, .addresses, .routes, .nextHops, .lookups]
        // Rules decide which routes are mirrored in this mode only; in others the lookups are sufficient.
        if invocation.configuration.networkMode == .transparent { tables.insert(.rules) }
        let reading = try kernel.read(tables, onto: HostSnapshot())
        var snapshot = reading.snapshot
        snapshot.resolvers = ResolverFile.configuration()
        let control = try EventLoop()
        if invocation.monitorsHost {
            let settings = MonitorCore.Settings(
                invocation.configuration, holdDownMilliseconds: invocation.holdDown.wholeMilliseconds,
                hasUsableAddress: hasUsableAddress(in:family:through:))
            let filter = try Filters.make(for: .resolverWatcher, invocation)
            let watcher = try ResolverWatcher.fork(processes: helpers) { Filters.load(filter, for: .resolverWatcher) }
            monitor = NetlinkMonitor(
                loop: control, kernel: kernel, resolverWatcher: watcher, helpers: helpers,
                resolvers: snapshot.resolvers, settings: settings, logger: logger)
            neighbours = Self.neighbours(loop: control, logger: logger)
        } else {
            monitor = nil
            neighbours = nil
        }
        self.control = control
        self.reading = reading
        self.snapshot = snapshot
    }

    /// A sandbox may refuse the subscription: then every neighbour has the gateway's hardware address.
    private static func neighbours(loop: EventLoop, logger: Logger) -> NeighbourWatch? {
        do throws(SystemCallError) {
            return try NeighbourWatch(loop: loop, logger: logger)
        } catch {
            logger.info("the host's neighbours are not followed: \(error)")
            return nil
        }
    }

    /// Returns the monitor's counters; nil with `--no-monitor`.
    var counters: @Sendable () async -> MonitorCounters? {
        let monitor = monitor
        return { await monitor?.counters.monitor }
    }

    /// Starts to follow the host on the control loop, unless `--no-monitor` is given.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - network: the namespace's network, whose interface is taken over.
    ///   - flows: the data path.
    ///   - ports: the forwarded ports, which retry after each change of the host.
    ///   - native: the supervisor of native sockets, which is told of changes.
    ///   - chronicle: records the changes.
    ///   - logger: where changes are logged.
    func follow(
        _ invocation: Invocation, network: inout Network, flows: DataPathControl,
        ports: LoopBound<ForwardedPorts>?, native: NativeSocketsControl?, chronicle: Chronicle, logger: Logger
    ) {
        guard let monitor else { return }
        var configurator: NamespaceConfigurator?
        if let thread = network.thread, let interface = network.interface.take() {
            configurator = NamespaceConfigurator(on: thread, interface: interface)
        }
        let follower = Follower(
            loop: control, configuration: invocation.configuration, families: network.families,
            start: .init(snapshot: snapshot, plan: network.plan), flows: flows, interface: configurator,
            native: native, neighbours: neighbours, chronicle: chronicle, logger: logger)
        let first = reading
        // The loop keeps both alive through the monitor's descriptors.
        control.perform {
            follower.assumeIsolated { $0.watchNeighbours() }
            monitor.assumeIsolated { monitor in
                do {
                    _ = try monitor.start(with: first) { change in
                        follower.assumeIsolated { $0.hostChanged(change) }
                        ports?.perform { $0.retryPendingForwards() }
                    }
                } catch {
                    logger.error("the host cannot be followed: \(error)")
                }
            }
        }
    }
}

extension Duration {
    /// The duration in milliseconds, rounded down.
    var wholeMilliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
