// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The present state and the changes since the start, for the control socket's commands. The follower records each
// change here after carrying it out; without a follower (`--no-monitor`) the state stays that of the start.
//
// Requests that wait for a change (`watch`, `wait`) are stored as continuations. The last changes are kept, so that
// such a request misses none between two calls. The actor runs on the control loop, like the follower and the server,
// so it needs no lock and no other thread.

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Planning

/// The present state and its changes, on the control loop.
actor Chronicle {
    /// The state after a change, without the tables of routes, which are changed in place and may be large.
    struct State: Sendable {
        /// The host, as far as flows depend on it (``flowRelevantPart(of:)``).
        var snapshot: HostSnapshot
        /// The plan, with the reasons for addresses that linger, and without routes and services.
        var plan: NamespacePlan
        /// The number of routes of each family.
        var routeCounts: PerFamily<Int>
        /// The number of connections of each lingering address.
        var lingering: [IPAddress: Int]
        /// The parts of the plan that the namespace's kernel has refused.
        var failures: [String]

        /// Makes the state of a host and a plan.
        init(
            snapshot: HostSnapshot, plan: NamespacePlan, lingering: [IPAddress: Int] = [:], failures: [String] = []
        ) {
            self.snapshot = flowRelevantPart(of: snapshot)
            routeCounts = PerFamily(v4: plan.families.v4.routes.count, v6: plan.families.v6.routes.count)
            self.plan = plan
            self.plan.families.v4.routes = []
            self.plan.families.v6.routes = []
            self.plan.services = .init()
            self.lingering = lingering
            self.failures = failures
        }
    }

    /// A moment of both clocks.
    struct Moment: Sendable {
        /// For durations.
        var monotonic = MonotonicTime.now
        /// For people.
        var wall = WallTime.now
    }

    /// The number of changes that are kept for waiting requests.
    private static let mostChanges = 256

    private let loop: EventLoop
    /// When set-up was complete.
    let started = Moment()
    /// The present state.
    private(set) var state: State
    /// When mode, addresses or router of each family last changed.
    private(set) var since: PerFamily<Moment>
    /// The last changes, the newest last.
    private(set) var changes: [FollowedChange] = []
    /// The counters of the follower.
    private(set) var figures = MetricsReport.FollowingFigures()
    /// The number of changes so far, which is the number of the newest one.
    private(set) var changeCount: UInt64 = 0
    private var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    private var lastWaiter: UInt64 = 0

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Begins with the state after start-up.
    init(loop: EventLoop, _ state: State) {
        self.loop = loop
        self.state = state
        since = PerFamily(v4: started, v6: started)
    }

    // MARK: Recording

    /// Records a change that was carried out, and numbers it.
    ///
    /// - Returns: the change with its number.
    @discardableResult
    func record(_ change: FollowedChange, _ state: State) -> FollowedChange {
        var change = change
        note(state)
        figures.plans += 1
        guard change.isEffective else { return change }
        figures.latency.add(milliseconds: Int64(change.latencies.total))
        changeCount += 1
        change.number = changeCount
        changes.append(change)
        if changes.count > Self.mostChanges { changes.removeFirst(changes.count - Self.mostChanges) }
        wakeAll()
        return change
    }

    /// Records a state that has changed without a change of the host: a lingering address was removed.
    func note(_ state: State) {
        for family in AddressFamily.allCases
        where !self.state.plan.families[family].isVisiblyEqual(state.plan.families[family]) {
            since[family] = Moment()
        }
        self.state = state
    }

    /// The newest changes after a number, the oldest first.
    func changes(after number: UInt64) -> [FollowedChange] {
        Array(changes.drop { $0.number <= number })
    }

    // MARK: Waiting

    /// Waits until a change is recorded, the time has passed or the task is cancelled.
    ///
    /// - Parameter milliseconds: the longest time; nil for no limit.
    func waitForChange(atMost milliseconds: Int64? = nil) async {
        lastWaiter += 1
        let waiter = lastWaiter
        let loop = loop
        let timer = milliseconds.map { time in
            loop.schedule(at: .now.advanced(milliseconds: time)) { [weak self] _ in
                self?.assumeIsolated { $0.wake(waiter) }
            }
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { continuation.resume() } else { waiting[waiter] = continuation }
            }
        } onCancel: {
            loop.perform { [weak self] in self?.assumeIsolated { $0.wake(waiter) } }
        }
        if let timer { loop.cancel(timer) }
    }

    private func wake(_ waiter: UInt64) {
        waiting.removeValue(forKey: waiter)?.resume()
    }

    private func wakeAll() {
        let all = waiting
        waiting = [:]
        for continuation in all.values { continuation.resume() }
    }
}

extension FamilyPlan {
    /// Whether the properties that a user sees are equal: mode, addresses and router.
    fileprivate func isVisiblyEqual(_ other: FamilyPlan) -> Bool {
        mode == other.mode && addresses == other.addresses && gateway == other.gateway
    }
}
