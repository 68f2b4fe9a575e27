// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// What holds now and what has changed since the start, as the control socket's commands read it. The follower records
// each change here after it has carried it out; without a follower (`--no-monitor`) the state of the start stays.
//
// Who waits for a change (`watch`, `wait`) waits in a list of continuations; the last changes are kept, so that nobody
// who waits misses one between two calls. It lives on the control loop, as the follower and the server do, so that none
// of this needs a lock or another thread.

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Planning

/// What holds now and what has changed, on the control loop.
actor Chronicle {
    /// What was carried out, and what holds after it; without the tables of routes, which are changed in place and may be
    /// large.
    struct State: Sendable {
        /// The host, as far as flows depend on it (``essence(of:)``).
        var snapshot: HostSnapshot
        /// The plan, with the reasons for addresses that linger, and without routes and services.
        var plan: NamespacePlan
        /// How many routes each family has.
        var routeCounts: PerFamily<Int>
        /// How many connections keep each address that is not planned any more.
        var lingering: [IPAddress: Int]
        /// What the namespace's kernel has refused of the plan.
        var failures: [String]

        /// Takes what is told of a host and a plan.
        init(
            snapshot: HostSnapshot, plan: NamespacePlan, lingering: [IPAddress: Int] = [:], failures: [String] = []
        ) {
            self.snapshot = essence(of: snapshot)
            routeCounts = PerFamily(v4: plan.families.v4.routes.count, v6: plan.families.v6.routes.count)
            self.plan = plan
            self.plan.families.v4.routes = []
            self.plan.families.v6.routes = []
            self.plan.services = .init()
            self.lingering = lingering
            self.failures = failures
        }
    }

    /// A moment by both clocks.
    struct Moment: Sendable {
        /// For durations.
        var monotonic = MonotonicTime.now
        /// For people.
        var wall = WallTime.now
    }

    /// How many changes are kept for those who wait.
    private static let mostChanges = 256

    private let loop: EventLoop
    /// When set-up was complete.
    let started = Moment()
    /// What holds now.
    private(set) var state: State
    /// Since when mode, addresses and router of each family are what they are.
    private(set) var since: PerFamily<Moment>
    /// The last changes, the newest last.
    private(set) var changes: [FollowedChange] = []
    /// What following the host has counted.
    private(set) var figures = MetricsReport.FollowingFigures()
    /// How many there were; the number of the newest.
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

    /// Takes note of a change that was carried out; it gets its number here.
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

    /// Takes note of a state that came without a change of the host: an address that lingered is gone.
    func note(_ state: State) {
        for family in AddressFamily.allCases
        where !self.state.plan.families[family].looksLike(state.plan.families[family]) {
            since[family] = Moment()
        }
        self.state = state
    }

    /// The newest changes after a number, the oldest first.
    func changes(after number: UInt64) -> [FollowedChange] {
        Array(changes.drop { $0.number <= number })
    }

    // MARK: Waiting

    /// Waits until a change is recorded, some time has passed or the task is cancelled.
    ///
    /// - Parameter milliseconds: how long at most; nil for no end.
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
    /// Whether what a person sees of a family is the same: mode, addresses and router.
    fileprivate func looksLike(_ other: FamilyPlan) -> Bool {
        mode == other.mode && addresses == other.addresses && gateway == other.gateway
    }
}
