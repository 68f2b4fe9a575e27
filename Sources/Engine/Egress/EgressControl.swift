// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The rules on what may leave live here, on the control loop, with their origins; the data path and the forwarded ports
// have compiled copies, which are published to each in one call. A change is compiled first, so that the traffic never
// meets half of it.

internal import Forwarding
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import Policy
internal import PortForwarding

/// The rules on what may leave, and the record of flows, while the program runs.
actor EgressControl {
    private let loop: EventLoop
    /// The compiled rules of the start; nil without any.
    let first: EgressSettings?
    private var rules: EgressRules?
    /// The compiled rules in force; nil if there have never been any.
    private(set) var settings: EgressSettings?
    /// Keeps the rules that clients have added for the engine after this one.
    private let handover: Handover?
    private let allowedSources: [Prefix]
    /// The record of flows; nil if nobody can read one.
    nonisolated let recorder: FlowRecorder?
    private var dataPath: DataPathControl?
    private var ports: PortsControl?
    private var chronicle: Chronicle?
    private var isWaitingForReader = false
    private var isWatched: Bool
    private var waiting: [CheckedContinuation<Void, Never>] = []

    /// How long a slow reader of the record is left alone, in milliseconds.
    private static let pause: Int64 = 100

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes the control of the rules of the command line.
    ///
    /// - Parameters:
    ///   - rules: the rules; nil without any.
    ///   - request: the command line.
    ///   - loop: the control loop.
    ///   - records: the open files.
    ///   - handover: the supervisor; nil without `--persist`.
    ///   - isControlled: whether clients may watch flows.
    init(
        _ rules: EgressRules?, request: EgressRequest, loop: EventLoop, records: consuming FlowRecordFiles,
        handover: Handover?, isControlled: Bool
    ) {
        self.loop = loop
        self.handover = handover
        first = rules?.compiled()
        settings = first
        self.rules = rules
        allowedSources = request.allowedSources
        isWatched = request.recordsFlows
        let target = Weak()
        if request.recordsFlows || isControlled {
            recorder = FlowRecorder(log: records.log.take(), learned: records.learned.take()) {
                loop.perform { target.drain() }
            }
        } else {
            recorder = nil
        }
        target.control = self
    }

    /// The way from the queue back to this actor; used on the control loop only, after it was made.
    ///
    /// @unchecked: it is written once, in `init`, before anything is recorded, and read on the control loop.
    private final class Weak: @unchecked Sendable {
        weak var control: EgressControl?

        func drain() {
            control?.assumeIsolated { $0.drain() }
        }
    }

    /// Begins to publish changes.
    func start(dataPath: DataPathControl?, ports: PortsControl?, chronicle: Chronicle) {
        self.dataPath = dataPath
        self.ports = ports
        self.chronicle = chronicle
        drain()
    }

    // MARK: The rules

    /// The rules in force; nil if there have never been any.
    var present: EgressRules? { rules }

    /// Who may use the forwarded ports.
    nonisolated var portsPolicy: ForwardingPolicy { Self.policy(first, allowedSources) }

    private static func policy(_ settings: EgressSettings?, _ sources: [Prefix]) -> ForwardingPolicy {
        var policy = ForwardingPolicy()
        policy.egress = settings?.policy
        policy.allowedSources = sources
        return policy
    }

    /// Makes a change of the rules and publishes it.
    ///
    /// - Parameter body: makes the change; false refuses it.
    /// - Returns: the number of flows that were ended; nil if the change was refused.
    func change(_ body: @Sendable (inout EgressRules) -> Bool) async -> Int? {
        var next = rules ?? EgressRules()
        guard body(&next) else { return nil }
        rules = next
        let settings = next.compiled()
        self.settings = settings
        handover?.record(addedEgressRules: next.addedText)
        let ended = await dataPath?.publish(egress: settings) ?? 0
        await ports?.publish(Self.policy(settings, allowedSources))
        return ended
    }

    // MARK: The record

    private func drain() {
        guard let recorder else { return }
        // The chronicle is on the same loop.
        if let snapshot = chronicle?.assumeIsolated({ $0.state.snapshot }) {
            var interfaces: [IPAddress: String] = [:]
            for address in snapshot.addresses {
                interfaces[address.address] = snapshot.link(address.interface)?.name
            }
            recorder.publish(interfaces)
        }
        let isLeft = recorder.drain()
        wakeAll()
        guard isLeft, !isWaitingForReader else { return }
        isWaitingForReader = true
        loop.schedule(at: .now.advanced(milliseconds: Self.pause)) { [weak self] _ in
            self?.assumeIsolated { control in
                control.isWaitingForReader = false
                control.drain()
            }
        }
    }

    /// Begins to keep lines for a client that watches.
    ///
    /// - Returns: the number of the next line; nil if there is no record.
    func beginWatching() async -> UInt64? {
        guard let recorder else { return nil }
        if !isWatched {
            isWatched = true
            await dataPath?.record(in: recorder.queue)
        }
        return recorder.beginWatching()
    }

    /// Waits for lines; cancelling a client's request resumes it with the next line.
    func waitForLines() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { continuation.resume() } else { waiting.append(continuation) }
            }
        } onCancel: {
            loop.perform { [weak self] in self?.assumeIsolated { $0.wakeAll() } }
        }
    }

    private func wakeAll() {
        let all = waiting
        waiting = []
        for continuation in all { continuation.resume() }
    }
}
