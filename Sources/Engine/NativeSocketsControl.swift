// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import JSON
internal import LinuxSystem
internal import Logging
internal import NativeSockets
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import Sandbox

/// The engine's access to the supervisor of native sockets, on the control loop.
actor NativeSocketsControl {
    private let loop: EventLoop
    private let supervisor: SupervisorProcess
    private let logger: Logger
    private let helpers: HelperProcesses
    private var watch: EventLoop.SourceID?
    /// A question that the supervisor has not answered in full.
    private struct Question {
        var flows: [NativeFlow] = []
        let continuation: CheckedContinuation<(flows: [NativeFlow], count: Int), Never>
    }
    private var questions: [Int64: Question] = [:]
    private var lastQuestion: Int64 = 0

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes the access; it does nothing before ``begin()``.
    init(loop: EventLoop, supervisor: SupervisorProcess, helpers: HelperProcesses, logger: Logger) {
        self.loop = loop
        self.supervisor = supervisor
        self.helpers = helpers
        self.logger = logger
    }

    /// Publishes the settings of a plan, before the loop is served.
    nonisolated static func publish(_ plan: NamespacePlan, _ snapshot: HostSnapshot, to supervisor: SupervisorProcess) {
        let addresses = Set(snapshot.addresses.lazy.filter { !$0.flags.contains(.duplicate) }.map(\.address))
        _ = supervisor.publish(
            NativeSettings(plan.rules, interface: plan.interfaceName, hostAddresses: addresses))
    }

    /// Publishes the settings after a change of the host.
    func publish(_ plan: NamespacePlan, _ snapshot: HostSnapshot) {
        Self.publish(plan, snapshot, to: supervisor)
    }

    /// Begins to receive, once the loop is served.
    nonisolated func begin() {
        loop.perform { self.assumeIsolated { $0.start() } }
    }

    private func start() {
        do {
            watch = try loop.watch(supervisor.descriptor) { [unowned self] _ in self.assumeIsolated { $0.receive() } }
        } catch {
            logger.error("native sockets: \(error)")
        }
    }

    private func receive() {
        while true {
            switch supervisor.receive() {
            case .message(let message): take(message)
            case .empty: return
            case .ended:
                if let watch { loop.unwatch(watch) }
                watch = nil
                for question in questions.values { question.continuation.resume(returning: ([], 0)) }
                questions = [:]
                if !helpers.hasEnded {
                    logger.error("the supervisor of native sockets has ended: the command can make no new connections")
                }
                return
            }
        }
    }

    private func take(_ message: JSONValue) {
        if let line = message["log"]?.string { logger.info("native sockets: \(line)") }
        guard let number = message["question"]?.integer else { return }
        questions[number]?.flows += (message["flows"]?.array ?? []).compactMap { NativeFlow($0) }
        guard let count = message["done"]?.integer, let question = questions.removeValue(forKey: number) else { return }
        question.continuation.resume(returning: (question.flows, Int(clamping: count)))
    }

    // MARK: Asked by a control client

    /// The connections of the command by sockets of the host.
    func flows() async -> [NativeFlow] { await ask(ending: nil).flows }

    /// Ends some of them.
    ///
    /// - Returns: how many there were.
    func end(_ flows: [NativeFlow]) async -> Int {
        guard !flows.isEmpty else { return 0 }
        return await ask(ending: flows.map(\.cookie)).count
    }

    private func ask(ending cookies: [UInt64]?) async -> (flows: [NativeFlow], count: Int) {
        lastQuestion += 1
        let number = lastQuestion
        var message = JSONObject()
        message["question"] = JSONValue(number)
        message["end"] = cookies.map { JSONValue($0.map { String($0) }) }
        guard watch != nil, supervisor.send(.object(message)) else { return ([], 0) }
        return await withCheckedContinuation { questions[number] = Question(continuation: $0) }
    }
}

extension SupervisorProcess {
    /// Forks the supervisor and takes away what it does not need.
    ///
    /// - Throws: One line if the kernel lacks something, or it cannot be forked.
    static func fork(
        for invocation: Invocation, helpers: HelperProcesses
    ) throws(Failure) -> (supervisor: SupervisorProcess, command: CInt) {
        if let lack {
            throw Failure("--native-sockets: the kernel lacks \(lack.what): \(lack.errno.explanation)")
        }
        let filter = try Filters.make(for: .nativeSockets, invocation)
        do throws(SystemCallError) {
            return try fork(processes: helpers) {
                do throws(SystemCallError) {
                    try MountIsolation.makePrivate()
                    try MountIsolation.enterEmptyRoot(fallback: invocation.usesChrootFallback)
                    try ProcessLimits.forbidNewPrivileges()
                    ProcessLimits.raiseOpenFiles()
                    try Capabilities.restrictToSupervisor()
                } catch {
                    _exit(Engine.failureStatus)
                }
                Filters.load(filter, for: .nativeSockets)
            }
        } catch {
            throw Failure("--native-sockets: cannot start the supervisor", error)
        }
    }
}
