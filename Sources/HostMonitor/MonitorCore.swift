// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The inputs are notifications, reports about resolv.conf, clock jumps and timers; the output is changed snapshots, by
// `onChange`.
//
//   event -> reducer (which tables) + settling (when) -> due -> read the dirty tables -> drain once more
//     more events came, and the limit is not reached: go on gathering, publish nothing yet
//     else: hold-down (what to publish) -> different from what was published? -> next epoch, `onChange`
//
// Notifications only say that something changed; dumps say what is there. A table of thousands of routes is the
// exception, because its dump costs milliseconds: if one of its routes changes, the core applies the notifications that
// have only one possible meaning, and publishes just what they changed. It reads the tables afterwards, at a bounded rate,
// and what it finds then replaces the result (decision 0013).
//
// Nothing here waits or reads a clock other than the given one. With nothing to do there is no deadline, so an idle
// host causes no wake-ups.

public import LinuxSystem
public import Netlink
public import NetworkModel
internal import NetworkTypes

/// The monitor without the actor: decides when to read the host and what to publish.
public final class MonitorCore {
    /// How the monitor behaves.
    public struct Settings: Sendable {
        /// How long the loss of a family's last usable address is held back, in milliseconds (`--hold-down`).
        public var holdDownMilliseconds: Int64 = 2000
        /// Which addresses count as usable: the policy of `plan()`.
        public var hasUsableAddress: HasUsableAddress
        /// The only link that counts for a family's usability; nil for any.
        public var interfaces = PerFamily<String?>(v4: nil, v6: nil)
        /// The time after the last event at which the host is read, in milliseconds.
        public var quietMilliseconds: Int64 = 100
        /// The longest time after the first event, in milliseconds.
        public var limitMilliseconds: Int64 = 1000
        /// The interval at which the host is read when notifications are not available, in milliseconds.
        public var pollMilliseconds: Int64 = 10_000
        /// The number of routes from which notifications of single routes are applied without reading the tables.
        public var manyRoutes = 1000
        /// The time after which a reading confirms such notifications, in milliseconds.
        public var checkMilliseconds: Int64 = 10_000

        /// Makes the standard settings.
        public init(hasUsableAddress: @escaping HasUsableAddress) {
            self.hasUsableAddress = hasUsableAddress
        }

        /// Makes the settings for a command line.
        ///
        /// - Parameters:
        ///   - configuration: Which interfaces options name: only the loss of theirs counts.
        ///   - holdDownMilliseconds: How long a loss is held back (`--hold-down`).
        ///   - hasUsableAddress: Which addresses count as usable.
        public init(
            _ configuration: Configuration, holdDownMilliseconds: Int64, hasUsableAddress: @escaping HasUsableAddress
        ) {
            self.hasUsableAddress = hasUsableAddress
            self.holdDownMilliseconds = holdDownMilliseconds
            interfaces = configuration.namedInterfaces
        }
    }

    /// The time after a route's expiry at which it is checked, in milliseconds; the kernel counts in hundredths of a
    /// second.
    private static let expiryMarginMilliseconds: Int64 = 30
    /// The most changes of routes that are applied one by one.
    private static let mostRouteChanges = 64
    /// The wait after a failed reading, in milliseconds; it is doubled up to the limit.
    private static let retryMilliseconds: (first: Int64, limit: Int64) = (200, 30_000)

    /// The counters.
    public private(set) var counters = MonitorCounters()
    /// The state that was published last; nil before ``begin(with:now:)``.
    public private(set) var published: HostSnapshot?
    /// The last failure to read the host; nil after a success.
    public private(set) var lastFailure: NetlinkError?
    /// Called with each change.
    public var onChange: ((HostChange) -> Void)?

    private let settings: Settings
    private let kernel: any HostKernel
    private let clock: () -> MonotonicTime
    private var reducer = HostStateReducer()
    private var settling = Settling()
    private var holdDown: HoldDown
    private var resolvers: ResolverSettling
    private var sleep: SleepDetector?
    private var causes = HostChangeCauses()
    private var events: (first: MonotonicTime, last: MonotonicTime)?
    private var expiryDeadline: MonotonicTime?
    private var pollDeadline: MonotonicTime?
    private var retry: (at: MonotonicTime, wait: Int64)?
    /// The changes of routes in notifications since the tables were read; nil if the tables must be read.
    private var routeChanges: [RouteEvent]? = []
    /// When a reading must confirm the notifications that were applied.
    private var checkDeadline: MonotonicTime?
    /// The duration of the last reading of routes, in nanoseconds.
    private var readingCost: Int64 = 0
    /// Whether the published snapshot equals the state: nothing is held back or delayed.
    private var isInStep = false

    /// Makes a monitor.
    ///
    /// - Parameters:
    ///   - kernel: The kernel to read; it must be subscribed already, so that no change is missed before the first
    ///     reading.
    ///   - resolvers: The current contents of resolv.conf.
    ///   - settings: The monitor's settings.
    ///   - clock: The time, for the cost of readings.
    public init(
        kernel: any HostKernel, resolvers: ResolverConfiguration = .init(), settings: Settings,
        clock: @escaping () -> MonotonicTime = { .now }
    ) {
        self.kernel = kernel
        self.settings = settings
        self.clock = clock
        self.resolvers = ResolverSettling(resolvers)
        holdDown = HoldDown(
            milliseconds: settings.holdDownMilliseconds, interfaces: settings.interfaces,
            hasUsableAddress: settings.hasUsableAddress)
        settling.quietMilliseconds = settings.quietMilliseconds
        settling.limitMilliseconds = settings.limitMilliseconds
    }

    // MARK: Beginning

    /// Makes the first reading, or takes one that was made already, and publishes it; `onChange` is not called.
    ///
    /// - Parameters:
    ///   - reading: A reading made since the kernel was subscribed; nil to read now. Tables that it lacks are read
    ///     later, as after an event.
    ///   - now: The time.
    /// - Returns: The first snapshot, epoch 1.
    /// - Throws: The error of the kernel or of the socket.
    public func begin(with reading: HostReading? = nil, now: MonotonicTime) throws(NetlinkError) -> HostSnapshot {
        let first: HostReading
        if let reading {
            first = reading
        } else {
            first = try kernel.read(.all, onto: HostSnapshot())
            counters.readings += 1
        }
        _ = reducer.takeDirty()
        reducer.apply(first)
        noteExpiry(first, now: now)
        let missing = HostTables.all.subtracting(first.tables)
        if !missing.isEmpty { note(missing, now: now) }
        if kernel.descriptor == nil { pollDeadline = now.advanced(milliseconds: settings.pollMilliseconds) }
        var snapshot = reducer.state
        snapshot.resolvers = resolvers.configuration
        snapshot.epoch = 1
        published = snapshot
        isInStep = true
        return snapshot
    }

    // MARK: Events

    /// Reads notifications; call it when the kernel's descriptor is readable.
    ///
    /// - Throws: The error of recvmsg(2), after which there will be no more notifications.
    public func kernelReadable(now: MonotonicTime) throws(SystemCallError) {
        let found = try kernel.drain()
        take(found, now: now)
    }

    /// Processes a report about resolv.conf.
    public func resolversReported(_ report: ResolverReport, now: MonotonicTime) {
        counters.resolverReports += 1
        if resolvers.take(report, now: now) { noteResolvers(now: now) }
    }

    /// Compares the clocks after the wall clock has jumped, and schedules reading everything.
    ///
    /// - Parameters:
    ///   - now: `CLOCK_MONOTONIC`.
    ///   - sinceBoot: `CLOCK_BOOTTIME` at the same moment.
    public func clockJumped(now: MonotonicTime, sinceBoot: MonotonicTime) {
        counters.clockJumps += 1
        causes.clockJump = max(causes.clockJump ?? 0, slept(now: now, sinceBoot: sinceBoot) ?? 0)
        note(.all, now: now)
    }

    /// Begins to compare the clocks.
    public func watchSleep(now: MonotonicTime, sinceBoot: MonotonicTime) {
        sleep = SleepDetector(monotonic: now, sinceBoot: sinceBoot)
    }

    private func slept(now: MonotonicTime, sinceBoot: MonotonicTime) -> Int64? {
        guard sleep != nil else {
            watchSleep(now: now, sinceBoot: sinceBoot)
            return nil
        }
        return sleep?.slept(monotonic: now, sinceBoot: sinceBoot)
    }

    private func take(_ found: NetlinkNotifications, now: MonotonicTime) {
        counters.notifications += found.count
        if found.wereLost {
            counters.overflows += 1
            causes.overflow = true
        }
        guard !found.tables.isEmpty else { return }
        causes.tables.formUnion(found.tables)
        let saysAll = found.tables == .routes && !found.wereLost && !found.hasOtherRoutes && !found.routeChanges.isEmpty
        let changes = saysAll ? routeChanges.map { $0 + found.routeChanges } : nil
        note(found.tables, now: now)
        routeChanges = changes.flatMap { $0.count <= Self.mostRouteChanges ? $0 : nil }
    }

    private func note(_ tables: HostTables, now: MonotonicTime) {
        routeChanges = nil
        reducer.note(tables)
        eventArrived(now: now)
    }

    private func noteResolvers(now: MonotonicTime) {
        causes.resolvers = true
        eventArrived(now: now)
    }

    private func eventArrived(now: MonotonicTime) {
        settling.eventArrived(at: now)
        events = (events?.first ?? now, now)
    }

    // MARK: Time

    /// The time at which ``expire(now:)`` should be called next; nil if there is nothing to wait for.
    public var nextDeadline: MonotonicTime? {
        let settled = settling.deadline.map { deadline in retry.map { max($0.at, deadline) } ?? deadline }
        // Pending events are read before a hold-down ends, so that a return is not published as a loss and a gain.
        let held = settling.isGathering ? nil : holdDown.deadline
        return [settled, held, resolvers.deadline, expiryDeadline, pollDeadline, checkDeadline].compactMap(\.self).min()
    }

    /// Carries out what is due.
    public func expire(now: MonotonicTime) {
        if resolvers.expire(now: now) { noteResolvers(now: now) }
        if let deadline = expiryDeadline, deadline <= now {
            expiryDeadline = nil
            causes.routeExpiry = true
            note(.routes, now: now)
        }
        if let deadline = pollDeadline, deadline <= now {
            pollDeadline = now.advanced(milliseconds: settings.pollMilliseconds)
            causes.poll = true
            note(.all, now: now)
        }
        if let deadline = checkDeadline, deadline <= now {
            checkDeadline = nil
            causes.check = true
            note(.routes, now: now)
        }
        if !settling.isGathering, let deadline = holdDown.deadline, deadline <= now {
            causes.holdDownEnd = true
            publish(now: now)
        }
        if settling.isDue(at: now), retry.map({ $0.at <= now }) ?? true { settle(now: now) }
    }

    /// Reads the dirty tables, and publishes the state unless more events have arrived meanwhile.
    private func settle(now: MonotonicTime) {
        let tables = reducer.takeDirty()
        if let changes = applyNotifications(tables) {
            counters.shortcuts += 1
            checkDeadline = checkDeadline ?? now.advanced(milliseconds: checkDelay)
            settling.finish()
            publish(now: clock(), changes: changes)
            return
        }
        routeChanges = []
        var end = now
        if !tables.isEmpty {
            let start = clock()
            do throws(NetlinkError) {
                let reading = try kernel.read(tables, onto: reducer.state)
                isInStep = false
                reducer.apply(reading)
                if reading.tables.contains(.routes) { noteExpiry(reading, now: now) }
            } catch {
                failed(error, tables, now: now)
                return
            }
            end = clock()
            let cost = max(0, end.nanoseconds &- start.nanoseconds)
            counters.readings += 1
            counters.readingNanoseconds += cost
            settling.readingEnded(at: end, costNanoseconds: cost)
            if tables.contains(.routes) {
                readingCost = cost
                checkDeadline = nil
            }
            retry = nil
            lastFailure = nil
            if newsArrived(during: end), !settling.isAtLimit(at: end) {
                counters.postponed += 1
                return
            }
        }
        settling.finish()
        publish(now: end)
        // Events that arrive while the tables are read at the limit begin the next round.
        if !reducer.dirty.isEmpty { eventArrived(now: end) }
    }

    /// The wait before notifications are confirmed, in milliseconds: reading takes at most 1/200 of the time.
    private var checkDelay: Int64 { max(settings.checkMilliseconds, readingCost / 1_000_000 * 200) }

    /// Applies notifications of routes as they are, if that saves reading a large table.
    ///
    /// The kernel's lookups are read in any case, because only the kernel decides what a route changes for them.
    ///
    /// - Parameter tables: The tables that must be read otherwise.
    /// - Returns: What has changed; nil if the tables must be read.
    private func applyNotifications(_ tables: HostTables) -> [RouteEvent]? {
        guard let notified = routeChanges, !notified.isEmpty, isInStep,
            tables == HostStateReducer.affected(by: .routes), reducer.state.routes.count >= settings.manyRoutes
        else { return nil }
        do throws(NetlinkError) {
            let lookups = try kernel.read(.lookups, onto: reducer.state).snapshot.lookups
            guard lookups == reducer.state.lookups else { return nil }
        } catch {
            // The reading that follows meets the same error.
            return nil
        }
        // The published snapshot equals the state. Without its routes the table has one owner, so that changing it copies
        // nothing.
        published?.routes = []
        let changes = reducer.apply(notified)
        published?.routes = reducer.state.routes
        if changes != nil { routeChanges = [] }
        return changes
    }

    /// Whether notifications arrived while the tables were read, so that the tables may be inconsistent.
    private func newsArrived(during now: MonotonicTime) -> Bool {
        do throws(SystemCallError) {
            take(try kernel.drain(), now: now)
        } catch {
            // The caller of kernelReadable(now:) receives the same error.
        }
        return !reducer.dirty.isEmpty
    }

    private func failed(_ error: NetlinkError, _ tables: HostTables, now: MonotonicTime) {
        counters.failures += 1
        lastFailure = error
        reducer.note(tables)
        routeChanges = nil
        let wait = retry.map { min($0.wait * 2, Self.retryMilliseconds.limit) } ?? Self.retryMilliseconds.first
        retry = (clock().advanced(milliseconds: wait), wait)
    }

    private func noteExpiry(_ reading: HostReading, now: MonotonicTime) {
        expiryDeadline = reading.firstExpiryMilliseconds.map {
            now.advanced(milliseconds: $0 + Self.expiryMarginMilliseconds)
        }
    }

    /// Publishes the state, unless it was published last.
    ///
    /// - Parameters:
    ///   - now: The time.
    ///   - changes: All that has changed, if that is known: then nothing is compared.
    private func publish(now: MonotonicTime, changes: [RouteEvent]? = nil) {
        var actual = reducer.state
        actual.resolvers = resolvers.configuration
        var changes = changes
        if actual.resolvers != published?.resolvers { changes = nil }
        let heldBefore = holdDown.held
        var next = changes == nil ? holdDown.filter(actual, published: published, now: now) : actual
        counters.holdDowns += holdDown.held.filter { !heldBefore.contains($0) }.count
        isInStep = holdDown.held.isEmpty
        let causes = self.causes
        let events = self.events ?? (now, now)
        self.causes = HostChangeCauses()
        self.events = nil
        if let published, changes?.isEmpty ?? next.hasSameContent(as: published) {
            counters.unchanged += 1
            return
        }
        next.epoch = (published?.epoch ?? 0) + 1
        published = next
        counters.changes += 1
        onChange?(
            HostChange(
                snapshot: next, causes: causes, held: holdDown.held, firstEvent: events.first, lastEvent: events.last,
                published: now, routeChanges: changes))
    }
}
