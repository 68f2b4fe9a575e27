// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import Logging
public import Netlink
public import NetworkModel
internal import SystemPackage

/// Watches the host's network and reports changes: ``MonitorCore`` on an event loop's thread.
///
/// A reading occupies the thread while the kernel dumps its tables (about 23 ms for 5,000 routes), so the loop should
/// not be the data path's. Once started, the monitor lives until it is stopped.
public actor NetlinkMonitor {
    private let loop: EventLoop
    private let core: MonitorCore
    private let kernel: any HostKernel
    /// Stored only to keep its descriptor open.
    private let clockWatch: ClockWatch?
    private let clockDescriptor: FileDescriptor?
    private let resolverWatcher: ResolverWatcher?
    private let helpers: HelperProcesses
    /// The time from which a process that watches resolv.conf may be started again.
    private var nextRestart = MonotonicTime.now
    private let log: Logger
    private var sources: [CInt: EventLoop.SourceID] = [:]
    private var timer: (id: EventLoop.TimerID, deadline: MonotonicTime)?
    private var isStopped = false

    /// The loop's thread runs the actor.
    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe loop.asUnownedSerialExecutor()
    }

    /// Makes a monitor; ``start()`` begins.
    ///
    /// - Parameters:
    ///   - loop: The loop to run on.
    ///   - kernel: The kernel to watch; subscribed already.
    ///   - resolverWatcher: Reports changes of resolv.conf; nil if it is not followed.
    ///   - helpers: Knows whether the program itself has ended the watcher.
    ///   - resolvers: The current contents of resolv.conf.
    ///   - settings: The monitor's settings.
    ///   - logger: Where problems are reported.
    public init(
        loop: EventLoop, kernel: sending any HostKernel, resolverWatcher: sending ResolverWatcher? = nil,
        helpers: HelperProcesses = HelperProcesses(), resolvers: ResolverConfiguration = .init(),
        settings: MonitorCore.Settings, logger: Logger
    ) {
        self.loop = loop
        self.kernel = kernel
        self.resolverWatcher = resolverWatcher
        self.helpers = helpers
        log = logger
        core = MonitorCore(kernel: kernel, resolvers: resolvers, settings: settings)
        do throws(SystemCallError) {
            let watch = try ClockWatch()
            clockDescriptor = watch.descriptor
            clockWatch = consume watch
        } catch {
            clockDescriptor = nil
            logger.info("sleep is noticed late: \(error)")
            clockWatch = nil
        }
    }

    // MARK: Life

    /// Makes the first reading and begins to watch.
    ///
    /// - Parameters:
    ///   - reading: A reading made since the kernel was subscribed; nil to read now.
    ///   - onChange: Called on the loop's thread with each change.
    /// - Returns: The first snapshot.
    /// - Throws: The kernel's error, or that of epoll_ctl(2).
    public func start(
        with reading: HostReading? = nil, onChange: @escaping @Sendable (HostChange) -> Void
    ) throws -> HostSnapshot {
        core.onChange = onChange
        let now = MonotonicTime.now
        core.watchSleep(now: now, sinceBoot: .sinceBoot)
        let snapshot = try core.begin(with: reading, now: now)
        if let descriptor = kernel.descriptor {
            try watch(descriptor) { $0.kernelReadable() }
        } else {
            log.notice("the kernel refuses notifications: the host is looked at every 10 s")
        }
        try watchResolver()
        if let descriptor = clockDescriptor { try watch(descriptor) { $0.clockReadable() } }
        rearm()
        return snapshot
    }

    /// Stops watching; no more changes are reported.
    public func stop() {
        isStopped = true
        for descriptor in sources.keys { unwatch(descriptor) }
        if let timer { loop.cancel(timer.id) }
        timer = nil
        core.onChange = nil
    }

    /// The state that was published last.
    public var snapshot: HostSnapshot? { core.published }

    /// The counters of the monitor and its sockets.
    public var counters: (monitor: MonitorCounters, requests: NetlinkCounters, notifications: NetlinkCounters) {
        (core.counters, kernel.counters.requests, kernel.counters.notifications)
    }

    // MARK: Events

    private func watch(
        _ descriptor: FileDescriptor, _ handler: @escaping @Sendable (isolated NetlinkMonitor) -> Void
    ) throws(SystemCallError) {
        // The loop keeps the monitor alive until it is stopped.
        let source = try loop.watch(descriptor) { _ in
            self.assumeIsolated { monitor in
                guard !monitor.isStopped else { return }
                handler(monitor)
                monitor.rearm()
            }
        }
        sources[descriptor.rawValue] = source
    }

    private func unwatch(_ descriptor: CInt) {
        if let source = sources.removeValue(forKey: descriptor) { loop.unwatch(source) }
    }

    private func kernelReadable() {
        do throws(SystemCallError) {
            try core.kernelReadable(now: .now)
        } catch {
            log.error("no more notifications of the host's network: \(error)")
            if let descriptor = kernel.descriptor { unwatch(descriptor.rawValue) }
        }
    }

    private func clockReadable() {
        do throws(SystemCallError) {
            if let clockDescriptor { try ClockWatch.acknowledge(clockDescriptor.rawValue) }
        } catch {
            log.info("sleep is noticed late from now on: \(error)")
        }
        core.clockJumped(now: .now, sinceBoot: .sinceBoot)
    }

    // MARK: The process that watches resolv.conf

    /// The shortest time between two starts of that process, in milliseconds, in case it is killed again and again.
    private static let restartInterval: Int64 = 1000

    private func watchResolver() throws(SystemCallError) {
        if let descriptor = resolverWatcher?.descriptor { try watch(descriptor) { $0.resolverReadable() } }
        if let descriptor = resolverWatcher?.reserveDescriptor { try watch(descriptor) { $0.reserveReadable() } }
    }

    private func unwatchResolver() {
        if let descriptor = resolverWatcher?.descriptor { unwatch(descriptor.rawValue) }
        if let descriptor = resolverWatcher?.reserveDescriptor { unwatch(descriptor.rawValue) }
    }

    private func resolverReadable() {
        switch resolverWatcher?.receive() {
        case .report(let report):
            core.resolversReported(report, now: .now)
        case .ended:
            if let descriptor = resolverWatcher?.descriptor { unwatch(descriptor.rawValue) }
            guard !helpers.hasEnded else { return }
            log.info("the process that watches resolv.conf has ended: starting another")
            atNextRestart { $0.restartResolver() }
        case .empty, nil:
            break
        }
    }

    private func reserveReadable() {
        guard let resolverWatcher, !resolverWatcher.receiveFromReserve() else { return }
        if let descriptor = resolverWatcher.reserveDescriptor { unwatch(descriptor.rawValue) }
        guard !helpers.hasEnded else { return }
        atNextRestart { $0.renewReserve() }
    }

    private func restartResolver() {
        if changeResolver({ $0.restart() }) == false && !helpers.hasEnded {
            log.warning("resolv.conf is not watched any more, its watchers have ended: the last resolvers are kept")
        }
    }

    private func renewReserve() {
        // If the watcher has ended, too, its own descriptor reports that.
        _ = changeResolver { $0.renewReserve() }
    }

    /// Replaces helpers that have ended, and watches the descriptors of the new ones.
    ///
    /// - Returns: The result of the change; nil if the monitor has stopped.
    private func changeResolver(_ change: (ResolverWatcher) -> Bool) -> Bool? {
        guard let resolverWatcher, !isStopped, !helpers.hasEnded else { return nil }
        unwatchResolver()
        let result = change(resolverWatcher)
        do throws(SystemCallError) {
            try watchResolver()
            return result
        } catch {
            log.warning("resolv.conf is not watched any more: \(error)")
            return nil
        }
    }

    /// Runs an action at once, or as soon as enough time has passed since the last one.
    private func atNextRestart(_ action: @escaping @Sendable (isolated NetlinkMonitor) -> Void) {
        let now = MonotonicTime.now
        let due = nextRestart
        nextRestart = max(now, due).advanced(milliseconds: Self.restartInterval)
        if due <= now { return action(self) }
        _ = loop.schedule(at: due) { _ in
            self.assumeIsolated { action($0) }
        }
    }

    // MARK: Time

    /// Sets the loop's one timer to the core's deadline.
    private func rearm() {
        let deadline = core.nextDeadline
        guard deadline != timer?.deadline else { return }
        if let timer { loop.cancel(timer.id) }
        timer = nil
        guard let deadline, !isStopped else { return }
        let id = loop.schedule(at: deadline) { now in
            self.assumeIsolated { monitor in
                monitor.timer = nil
                monitor.expire(now)
            }
        }
        timer = (id, deadline)
    }

    private func expire(_ now: MonotonicTime) {
        guard !isStopped else { return }
        let failures = core.counters.failures
        core.expire(now: now)
        if core.counters.failures > failures, let error = core.lastFailure {
            log.warning("the host's network could not be read, trying again: \(error)")
        }
        rearm()
    }
}
