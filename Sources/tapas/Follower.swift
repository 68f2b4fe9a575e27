// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The monitor tells of a changed host; what follows is always the same: plan from the new snapshot as a fresh start
// would, publish the rules to the data path together with the fates of existing flows, and carry out the difference
// between what holds in the namespace and the plan. Changes that come meanwhile replace each other: only the newest
// is acted on next. What the kernel refused is tried again at the next change, since each difference starts from what
// truly holds.
//
// Addresses that flows still use stay, deprecated, beside the new ones: flows whose host address stays, those to the host
// itself, and datagrams that have moved to a fresh socket. As long as there are any they are looked at again every few
// seconds, and go with their last flow.
//
// Threads: this actor and the monitor share the control loop's thread; the configurator runs on the namespace's
// thread, the data path on its own. Values cross.

import HostMonitor
import LinuxSystem
import Logging
import NamespaceControl
import NetworkModel
import NetworkTypes
import Planning

/// Keeps the namespace what a fresh start would make it.
actor Follower {
    /// How often retained addresses are looked at again, in milliseconds.
    private static let retainedCheck: Int64 = 5000

    private let loop: EventLoop
    private let configuration: Configuration
    private let families: Set<AddressFamily>
    private let dataPath: DataPathActor
    private let configurator: NamespaceConfigurator?
    private let logger: Logger
    private var snapshot: HostSnapshot
    private var plan: NamespacePlan
    private var waiting: HostChange?
    private var needsCheck = false
    private var task: Task<Void, Never>?
    private var recheck: EventLoop.TimerID?

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a follower that continues from what start-up did.
    init(
        loop: EventLoop, configuration: Configuration, families: Set<AddressFamily>, snapshot: HostSnapshot,
        plan: NamespacePlan, dataPath: DataPathActor, configurator: NamespaceConfigurator?, logger: Logger
    ) {
        self.loop = loop
        self.configuration = configuration
        self.families = families
        self.snapshot = snapshot
        self.plan = plan
        self.dataPath = dataPath
        self.configurator = configurator
        self.logger = logger
    }

    /// Takes a change of the host: the newest is acted on, one after the other.
    func hostChanged(_ change: HostChange) {
        waiting = change
        work()
    }

    /// Begins to work on what waits, unless that goes on already.
    private func work() {
        guard task == nil else { return }
        task = Task {
            while true {
                if let next = waiting {
                    waiting = nil
                    await follow(next)
                } else if needsCheck {
                    needsCheck = false
                    await configure()
                } else {
                    break
                }
            }
            task = nil
        }
    }

    private func follow(_ change: HostChange) async {
        let fates = flowFates(from: snapshot, to: change.snapshot)
        let next = Planning.plan(
            change.snapshot, configuration, previous: plan, namespaceFamilies: families)
        tell(change, from: plan, to: next)
        snapshot = change.snapshot
        plan = next
        let ended = await dataPath.publish(next.rules, fates: fates)
        if ended > 0 { logger.notice("\(ended) flows ended or moved: their host address is gone") }
        await configure()
        let milliseconds = MonotonicTime.now.milliseconds(since: change.lastEvent)
        logger.info("host change \(change.snapshot.epoch) applied \(milliseconds) ms after its last event")
    }

    /// Makes the namespace what is planned, as far as its kernel takes it.
    private func configure() async {
        guard let configurator else { return }
        do {
            // Flows that the change has ended are gone by now: all that are left can go on.
            let retained = await dataPath.addressesInUse()
            let operations = diff(applied: try await configurator.state(), plan: plan, retaining: retained)
            if !operations.isEmpty {
                let path = dataPath
                let result = try await configurator.apply(operations) { address in
                    await path.resetFlows(of: address)
                }
                for failure in result.failures { logger.warning("skipped: \(failure)") }
            }
            checkAgainLater(retains: !retained.subtracting(plannedAddresses).isEmpty)
        } catch {
            logger.error("the namespace cannot be reprogrammed: \(error)")
        }
    }

    private var plannedAddresses: Set<IPAddress> {
        Set(AddressFamily.allCases.flatMap { plan.families[$0].addresses.map(\.address) })
    }

    /// Retained addresses go with their last flow, which nobody announces.
    private func checkAgainLater(retains: Bool) {
        if let recheck { loop.cancel(recheck) }
        recheck = nil
        guard retains else { return }
        recheck = loop.schedule(at: .now.advanced(milliseconds: Self.retainedCheck)) { [weak self] _ in
            self?.assumeIsolated { follower in
                follower.needsCheck = true
                follower.work()
            }
        }
    }

    /// Says what changed and why, for people.
    private func tell(_ change: HostChange, from old: NamespacePlan, to new: NamespacePlan) {
        for family in AddressFamily.allCases where old.families[family].mode != new.families[family].mode {
            logger.notice(
                "\(family): \(old.families[family].mode) -> \(new.families[family].mode) (\(change.causes))")
        }
        if old.rules.dnsServers != new.rules.dnsServers {
            let servers = new.rules.dnsServers.map { "\($0.address)" }.joined(separator: ", ")
            logger.notice("resolvers: \(servers.isEmpty ? "none" : servers)")
        }
        let said = old.summary
        for line in new.summary where !said.contains(line) { logger.info("\(line)") }
        for reason in new.reasons where !old.reasons.contains(reason) { logger.debug("\(reason)") }
        for warning in new.warnings where !old.warnings.contains(warning) { logger.warning("\(warning)") }
    }
}
