// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The monitor reports a changed host. Then the follower always does the same: it plans from the new snapshot as a fresh
// start would, publishes the rules to the data path together with the effect on existing flows, and carries out the
// difference between the namespace's actual state and the plan. Changes that arrive meanwhile replace each other: only
// the newest is handled next. What the kernel refused is tried again at the next change, since each difference starts
// from the actual state.
//
// If only single routes of a large table have changed and the monitor knows them, the plan is amended instead
// (`amend`), and nothing examines the whole table. If that fails, the follower falls back to the ordinary procedure.
//
// Addresses that connections still use linger beside the new ones (see `diff()`): established TCP connections whose
// host address stays, and those to the host itself. As long as there are any, the follower asks the data path every
// second for the connections; it reads the namespace again only if the set of addresses has changed.
//
// Threads: this actor and the monitor share the control loop's thread; the configurator runs on the namespace's
// thread, the data path on its own. Values cross.

internal import HostMonitor
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import NetworkModel
internal import NetworkTypes
internal import Planning

/// Keeps the namespace in the state that a fresh start would give it.
actor Follower {
    /// The state after start-up, from which a follower continues.
    struct Start {
        /// The host at start.
        var snapshot: HostSnapshot
        /// The plan for it.
        var plan: NamespacePlan
    }

    private let loop: EventLoop
    private let configuration: Configuration
    private let families: Set<AddressFamily>
    private let flows: any FlowControl
    private let interface: (any InterfaceControl)?
    private let native: NativeSocketsControl?
    private let chronicle: Chronicle?
    private let logger: Logger
    /// How often the connections on lingering addresses are counted again, in milliseconds.
    private let lingeringCheck: Int64
    /// The host that was followed last, as far as flows depend on it.
    private var snapshot: HostSnapshot
    private var plan: NamespacePlan
    private var waiting: HostChange?
    private var waitingNeighbours: [IPAddress: MACAddress]?
    private let neighbourWatch: NeighbourWatch?
    private var needsCheck = false
    /// Whether the namespace has the planned state, as far as known.
    private var isInStep = true
    /// The number of connections of each lingering address when they were last counted.
    private var lingering: [IPAddress: Int] = [:]
    /// The addresses that the namespace's interface had when it was last read.
    private var interfaceAddresses: Set<IPAddress> = []
    /// The operations that were last carried out in the namespace.
    private var done: (operations: [NamespaceOperation], failures: [String]) = ([], [])
    private var task: Task<Void, Never>?
    private var recheck: EventLoop.TimerID?

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a follower that continues from what start-up did.
    ///
    /// - Parameters:
    ///   - loop: the loop on whose thread it works.
    ///   - configuration: the user's request.
    ///   - families: the families that the namespace's kernel has.
    ///   - start: the state after start-up.
    ///   - flows: the data path.
    ///   - interface: the namespace's interface; nil without `--config-net`.
    ///   - native: the supervisor of native sockets, on the same loop; nil without any.
    ///   - neighbours: watches the host's neighbours, on the same loop; nil if they are not followed.
    ///   - chronicle: records the changes; on the same loop.
    ///   - logger: where changes are logged.
    ///   - lingeringCheck: how often connections on lingering addresses are counted again, in milliseconds.
    init(
        loop: EventLoop, configuration: Configuration, families: Set<AddressFamily>, start: Start,
        flows: any FlowControl, interface: (any InterfaceControl)?, native: NativeSocketsControl? = nil,
        neighbours: NeighbourWatch? = nil,
        chronicle: Chronicle? = nil, logger: Logger, lingeringCheck: Int64 = 1000
    ) {
        self.loop = loop
        self.configuration = configuration
        self.families = families
        snapshot = flowRelevantPart(of: start.snapshot)
        plan = start.plan
        self.flows = flows
        self.interface = interface
        self.native = native
        neighbourWatch = neighbours
        self.chronicle = chronicle
        self.logger = logger
        self.lingeringCheck = lingeringCheck
    }

    /// Whether there is unfinished work.
    var isWorking: Bool { task != nil || waiting != nil || waitingNeighbours != nil }

    /// Receives a change of the host.
    ///
    /// Changes are handled one after the other, and only the newest of those that wait.
    func hostChanged(_ change: HostChange) {
        var change = change
        if let waiting {
            if let earlier = waiting.routeChanges, let later = change.routeChanges {
                change.routeChanges = earlier + later
            } else {
                change.routeChanges = nil
            }
        }
        waiting = change
        work()
    }

    /// Begins to follow the host's neighbours on the templates' links.
    func watchNeighbours() {
        do {
            // The watch runs on this actor's loop.
            try neighbourWatch?.assumeIsolated { watch in
                try watch.start { table in self.assumeIsolated { $0.neighboursChanged(table) } }
            }
        } catch {
            logger.info("the host's neighbours are not followed: \(error)")
        }
        followNeighbours()
    }

    private func neighboursChanged(_ table: [IPAddress: MACAddress]) {
        waitingNeighbours = table
        work()
    }

    /// The links to watch are the plan's.
    private func followNeighbours() {
        let links = plan.services.neighbourLinks
        neighbourWatch?.assumeIsolated { $0.follow(links) }
    }

    /// Begins to handle what waits, unless that is running already.
    private func work() {
        guard task == nil else { return }
        task = Task {
            while true {
                if let next = waiting {
                    waiting = nil
                    await follow(next)
                } else if let table = waitingNeighbours {
                    waitingNeighbours = nil
                    await flows.publish(neighbours: table)
                } else if needsCheck {
                    needsCheck = false
                    await checkLingering()
                } else {
                    break
                }
            }
            task = nil
        }
    }

    private func follow(_ change: HostChange) async {
        let begin = MonotonicTime.now
        if let changes = change.routeChanges, await follow(change, of: changes) { return }
        let adjustments = flowAdjustments(from: snapshot, to: change.snapshot)
        let old = plan
        var next = Planning.plan(
            change.snapshot, configuration, previous: old, namespaceFamilies: families)
        let planned = MonotonicTime.now
        logReasons(from: old, to: next)
        snapshot = flowRelevantPart(of: change.snapshot)
        next.note(lingering: lingering)
        plan = next
        followNeighbours()
        let unplanned = plannedAddresses(of: old).union(lingering.keys).subtracting(plannedAddresses(of: next))
        await native?.publish(next, change.snapshot)
        let ended = await flows.publish(next.rules, next.services, adjustments: adjustments, unplanned: unplanned)
        let published = MonotonicTime.now
        await configure()
        var report = self.report(of: change, begin, planned, published)
        report.changes = planChanges(from: old, to: next)
        report.endedFlows = ended
        report.pinned = adjustments.pinned.sorted { "\($0.key)" < "\($1.key)" }.map { ($0.key, $0.value) }
        await log(report, change)
    }

    /// Records the effects of a change, and the durations.
    private func report(
        of change: HostChange, _ begin: MonotonicTime, _ planned: MonotonicTime, _ published: MonotonicTime
    ) -> FollowedChange {
        let end = MonotonicTime.now
        var report = FollowedChange(
            number: change.snapshot.epoch, time: WallTime.now.milliseconds, causes: "\(change.causes)")
        report.held = change.held
        report.operations = FollowedChange.words(of: done.operations, on: plan.interfaceName)
        report.operationCount = done.operations.count
        report.failures = done.failures
        report.latencies = FollowedChange.Latencies(
            settled: change.published.milliseconds(after: change.firstEvent),
            planned: planned.milliseconds(after: begin),
            published: published.milliseconds(after: planned), applied: end.milliseconds(after: published),
            total: end.milliseconds(after: change.lastEvent))
        return report
    }

    /// Logs a change in one line, and records it for clients that watch.
    private func log(_ report: FollowedChange, _ change: HostChange) async {
        let report = await chronicle?.record(report, chronicleState) ?? report
        if report.isEffective {
            logger.info("\(report.line)")
        } else {
            logger.debug("host change \(change.snapshot.epoch) makes no difference (\(change.causes))")
        }
    }

    /// Follows changes of single routes of a large table without looking at all of it.
    ///
    /// - Returns: false if the ordinary procedure is needed.
    private func follow(_ change: HostChange, of changes: [RouteEvent]) async -> Bool {
        let begin = MonotonicTime.now
        let old = plan.services
        guard isInStep, lingering.isEmpty,
            let operations = amend(&plan, by: changes, snapshot: change.snapshot, configuration: configuration)
        else { return false }
        let planned = MonotonicTime.now
        // None of them affects the default route.
        let essential = snapshot.routes
        snapshot = change.snapshot
        snapshot.routes = essential
        if plan.services != old {
            _ = await flows.publish(plan.rules, plan.services, adjustments: FlowAdjustments(), unplanned: [])
        }
        let published = MonotonicTime.now
        done = ([], [])
        if let interface, !operations.isEmpty {
            do {
                let result = try await interface.apply(operations) { _ in }
                guard result.failures.isEmpty else { return false }
            } catch {
                return false
            }
            done.operations = operations
        }
        var report = self.report(of: change, begin, planned, published)
        report.changes = PlanChange.routes(of: operations)
        await log(report, change)
        return true
    }

    /// The present state, for the chronicle.
    private var chronicleState: Chronicle.State {
        Chronicle.State(snapshot: snapshot, plan: plan, lingering: lingering, failures: done.failures)
    }

    /// Brings the namespace to the planned state, as far as its kernel permits.
    ///
    /// The operations are in ``done`` afterwards.
    private func configure() async {
        done.operations = []
        guard let interface else { return }
        isInStep = false
        do {
            let state = try await interface.state()
            let planned = plannedAddresses(of: plan)
            let present = Set(state.addresses.map(\.value.address))
            let dropped = interfaceAddresses.subtracting(present)
            interfaceAddresses = present
            if !dropped.isEmpty { await flows.forgetObserved(dropped) }
            let unplanned = state.ourAddresses.subtracting(planned)
            // Flows that the change has ended are gone by now, so all remaining flows can continue.
            let kept = await flows.connectionCounts(unplanned)
            let operations = diff(applied: state, plan: plan, retaining: Set(kept.keys))
            var remaining = unplanned
            done = (operations, [])
            if !operations.isEmpty {
                let path = flows
                let result = try await interface.apply(operations) { address in
                    await path.resetFlows(of: address)
                }
                done.failures = result.failures.map(\.description)
                for failure in done.failures { logger.warning("skipped: \(failure)") }
                remaining = result.ourAddresses.subtracting(planned)
                // Flows that began at such an address between its resets and its removal cannot receive answers.
                for address in unplanned.subtracting(remaining) { await path.resetFlows(of: address) }
            }
            note(lingering: kept.filter { remaining.contains($0.key) })
            checkAgainLater(lingers: !lingering.isEmpty)
            isInStep = done.failures.isEmpty
        } catch {
            logger.error("the namespace cannot be reprogrammed: \(error)")
        }
    }

    private func plannedAddresses(of plan: NamespacePlan) -> Set<IPAddress> {
        Set(AddressFamily.allCases.flatMap { plan.families[$0].addresses.map(\.address) })
    }

    // MARK: Lingering addresses

    /// Checks whether connections still keep the same addresses; if not, an address must be removed from the namespace.
    private func checkLingering() async {
        let kept = await flows.connectionCounts(Set(lingering.keys))
        guard Set(kept.keys) == Set(lingering.keys), !kept.isEmpty else {
            await configure()
            await chronicle?.note(chronicleState)
            return
        }
        note(lingering: kept)
        await chronicle?.note(chronicleState)
        checkAgainLater(lingers: true)
    }

    /// Stores and logs which addresses linger, with the number of their connections.
    private func note(lingering kept: [IPAddress: Int]) {
        guard kept != lingering else { return }
        for line in Planning.lingeringReasons(kept) where lingering[line.address] == nil {
            logger.info("\(line.reason)")
        }
        for address in lingering.keys.sorted(by: { "\($0)" < "\($1)" }) where kept[address] == nil {
            let isPlanned = plannedAddresses(of: plan).contains(address)
            logger.info("address \(address) \(isPlanned ? "is planned again" : "is gone, with its last connection")")
        }
        lingering = kept
        plan.note(lingering: kept)
    }

    /// Lingering addresses are removed with their last connection, whose end is not announced.
    private func checkAgainLater(lingers: Bool) {
        if let recheck { loop.cancel(recheck) }
        recheck = nil
        guard lingers else { return }
        recheck = loop.schedule(at: .now.advanced(milliseconds: lingeringCheck)) { [weak self] _ in
            self?.assumeIsolated { follower in
                follower.needsCheck = true
                follower.work()
            }
        }
    }

    /// Logs the reasons; the change itself is logged in one line once it is complete.
    private func logReasons(from old: NamespacePlan, to new: NamespacePlan) {
        let said = old.summary
        for line in new.summary where !said.contains(line) { logger.debug("\(line)") }
        let known = Set(old.reasons)
        for reason in new.reasons where !known.contains(reason) { logger.debug("\(reason)") }
        for warning in new.warnings where !old.warnings.contains(warning) { logger.warning("\(warning)") }
    }
}

extension MonotonicTime {
    /// The milliseconds from another moment to this one, with fractions.
    fileprivate func milliseconds(after other: MonotonicTime) -> Double {
        Double(nanoseconds - other.nanoseconds) / 1e6
    }
}
