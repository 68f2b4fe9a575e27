// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The methods of the control protocol that concern the data path, the forwarded ports and the log (docs/control.md).
// Pure values parse requests and make answers (`FlowCommands`, `ForwardCommands`, `MetricsReport`); this type carries
// out the requests. Everything runs on the control loop; other loops are reached through their actors, with a bounded
// amount of work in each call.
//
// syscalls: running(control): getpid

internal import Control
internal import Diagnostics
internal import Forwarding
internal import Glibc
internal import HostMonitor
internal import JSON
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import PortForwarding
internal import SystemPackage

/// The methods that use the data path, the forwarded ports and the log.
struct RunningMethods: Sendable {
    /// The data path; nil with `--splice-only`.
    let dataPath: DataPathControl?
    /// The forwarded ports; nil without any.
    let ports: PortsControl?
    /// The supervisor of native sockets; nil without any.
    var native: NativeSocketsControl?
    /// Parses and checks rules.
    let forwards: ForwardCommands
    /// Where messages go.
    let log: LogDestinations
    /// The process's memory.
    let memory: MemoryMeter?
    /// When the program began.
    let start: MonotonicTime
    /// The supervisor; nil without `--persist`.
    let handover: Handover?
    /// The counters of the monitor and of the follower; both nil with `--no-monitor`.
    let monitorFigures: @Sendable () async -> (monitor: MonitorCounters?, following: MetricsReport.FollowingFigures?)

    /// The number of flows in an event.
    private static let flowsPerEvent = 128

    // MARK: Flows

    /// `flows`: events with flows, then their number.
    func flows(_ parameters: JSONObject, on exchange: ControlExchange) async throws(ControlError) -> JSONValue {
        let commands = try FlowCommands(listing: parameters)
        var count = 0
        var kept: [FlowCommands.Found] = []
        var source = Source.tap(0)
        while let slice = await next(&source, commands) {
            guard commands.order == nil else {
                kept += slice
                continue
            }
            let rest = commands.limit.map { max($0 - count, 0) } ?? slice.count
            guard await send(slice.prefix(rest), on: exchange) else { return ["count": JSONValue(count)] }
            count += min(rest, slice.count)
            if count == commands.limit { break }
        }
        let sorted = commands.sorted(kept)
        var position = 0
        while position < sorted.count {
            let part = sorted[position..<min(position + Self.flowsPerEvent, sorted.count)]
            guard await send(part, on: exchange) else { break }
            position = part.endIndex
        }
        return ["count": JSONValue(count + position)]
    }

    /// The position in the search for flows.
    private enum Source {
        case tap(Int)
        case splices(Int)
        case native
        case nowhere
    }

    /// The next selected flows; nil at the end.
    private func next(_ source: inout Source, _ commands: FlowCommands) async -> [FlowCommands.Found]? {
        switch source {
        case .tap(let start):
            guard let dataPath else {
                source = .splices(0)
                return []
            }
            let slice = await dataPath.flows(from: start, matching: commands.filter)
            source = slice.next.map { .tap($0) } ?? .splices(0)
            return slice.flows.map { .tap($0) }
        case .splices(let start):
            guard let ports else {
                source = .native
                return []
            }
            let slice = await ports.splicedFlows(from: start)
            source = slice.next.map { .splices($0) } ?? .native
            return slice.flows.filter { commands.admits($0) }.map { .spliced($0) }
        case .native:
            source = .nowhere
            return await native?.flows().filter { commands.admits($0) }.map { .native($0) } ?? []
        case .nowhere: return nil
        }
    }

    /// Sends flows as an event; false if the client has disconnected.
    private func send(_ flows: ArraySlice<FlowCommands.Found>, on exchange: ControlExchange) async -> Bool {
        guard !flows.isEmpty else { return true }
        await exchange.send(["flows": .array(flows.map(\.json))])
        return await exchange.isReadByClient()
    }

    /// `flows.kill`: resets the selected flows.
    func killFlows(_ parameters: JSONObject) async throws(ControlError) -> JSONValue {
        let commands = try FlowCommands(killing: parameters)
        var count = 0
        if let dataPath {
            var next: Int? = 0
            while let start = next {
                let part = await dataPath.endFlows(from: start, matching: commands.filter)
                count += part.count
                next = part.next
            }
        }
        if let ports {
            var next: Int? = 0
            while let start = next {
                let part = await ports.endSplicedFlows(from: start) { commands.admits($0) }
                count += part.count
                next = part.next
            }
        }
        if let native { count += await native.end(native.flows().filter { commands.admits($0) }) }
        return ["killed": JSONValue(count)]
    }

    // MARK: Forwarding rules

    /// The kind of change to make with the rules of a request.
    enum ForwardChange: Sendable {
        case add, remove, replace
    }

    /// `forward.list`.
    func listForwards() async -> JSONValue {
        ForwardCommands.answer(await ports?.states ?? [])
    }

    /// `forward.add`, `forward.remove`, `forward.replace`: the whole change is made, or none of it.
    func changeForwards(_ parameters: JSONObject, _ change: ForwardChange) async throws(ControlError) -> JSONValue {
        for name in parameters.names where name != "rules" {
            throw ControlError(.invalidParameters, "there is no parameter '\(name.prefix(64))'")
        }
        let rules = try forwards.rules(parameters["rules"])
        guard let ports else {
            throw ControlError(.refused, "this instance was started without what forwards ports")
        }
        do throws(PortForwardingError) {
            return ForwardCommands.answer(
                try await ports.change { (current) throws(PortForwardingError) in
                    switch change {
                    case .add: try ForwardCommands.adding(rules, to: current)
                    case .remove: try ForwardCommands.removing(rules, from: current)
                    case .replace: rules
                    }
                })
        } catch {
            throw ControlError(
                .refused, "nothing was changed: \(error)",
                portInUse: error.portInUse.map { .init("\($0.transport)".lowercased(), $0.number) })
        }
    }

    // MARK: The program

    /// `upgrade`: asks the supervisor to replace this engine; the answer comes before that happens.
    func upgrade() throws(ControlError) -> JSONValue {
        guard let handover else { throw ControlError(.refused, "this instance was started without --persist") }
        do throws(SystemCallError) {
            try handover.requestUpgrade()
        } catch {
            throw ControlError(.refused, "the supervisor does not answer: \(error.errno.explanation)")
        }
        return ["engine": JSONValue(getpid()), "version": JSONValue(Engine.version)]
    }

    // MARK: Figures

    /// `dns`.
    func dns() async -> JSONValue {
        guard let dataPath else {
            return [
                "forwarded_at": [], "last_answer_from": nil, "queries": 0, "answers": 0, "failures": 0, "servers": [],
            ]
        }
        return Self.dns(await dataPath.rules, await dataPath.figures.dns)
    }

    /// The answer of `dns`.
    ///
    /// - Parameters:
    ///   - rules: the rules in force, with the servers of now.
    ///   - figures: what was counted.
    /// - Returns: the answer.
    static func dns(_ rules: TranslationRules, _ figures: DNSStatistics) -> JSONValue {
        let forwardedAt = AddressFamily.allCases.compactMap { rules.families[$0].dnsForward }
        let servers = rules.dnsServers.map { server -> JSONValue in
            let counted = figures.servers.first { $0.endpoint.address == server.address.asIPv6 }
            let (questions, answers) = (counted?.questions ?? 0, counted?.answers ?? 0)
            return [
                "address": .string("\(server.address)"), "zone": JSONValue(server.zone),
                "queries": JSONValue(questions),
                "answers": JSONValue(answers), "failures": JSONValue(questions > answers ? questions - answers : 0),
            ]
        }
        return [
            "forwarded_at": JSONValue(forwardedAt.map { "\($0)" }),
            "last_answer_from": JSONValue(figures.lastToAnswer.map { "\(IPAddress(unmapping: $0.address))" }),
            "queries": JSONValue(figures.queries), "answers": JSONValue(figures.answers),
            "failures": JSONValue(figures.failures), "servers": .array(servers),
        ]
    }

    /// `metrics`.
    func metrics() async -> JSONValue {
        var report = MetricsReport(
            version: Engine.version, uptime: MonotonicTime.now.nanoseconds - start.nanoseconds)
        report.dataPath = await dataPath?.figures
        report.ports = await ports?.figures
        (report.monitor, report.following) = await monitorFigures()
        report.residentMemory = memory?.residentBytes
        return report.json
    }

    // MARK: Log and captures

    /// The levels by the names of the protocol.
    private static let levels: [String: Logger.Level] = [
        "error": .error, "warning": .warning, "notice": .notice, "info": .info, "debug": .debug, "trace": .trace,
    ]

    /// Whether a request of `log.level` makes a change.
    static func changesLogLevel(_ parameters: JSONObject) -> Bool { parameters["level"] != nil }

    /// `log.level`.
    func logLevel(_ parameters: JSONObject) async throws(ControlError) -> JSONValue {
        for name in parameters.names where name != "level" {
            throw ControlError(.invalidParameters, "there is no parameter '\(name.prefix(64))'")
        }
        let previous = log.level
        guard let value = parameters["level"] else {
            return ["level": .string("\(previous)"), "previous": .string("\(previous)")]
        }
        guard let name = value.string, let level = Self.levels[name] else {
            throw ControlError(
                .invalidParameters, "'level' must be one of error, warning, notice, info, debug, trace")
        }
        log.level = level
        await dataPath?.setLogLevel(level)
        return ["level": .string(name), "previous": .string("\(previous)")]
    }

    /// `pcap.start`: records all frames in the file that came with the request.
    func startCapture(on exchange: ControlExchange) async throws(ControlError) -> JSONValue {
        guard let file = await exchange.takeDescriptor() else {
            throw ControlError(.invalidParameters, "no open file came with the request (SCM_RIGHTS)")
        }
        guard let dataPath else { throw ControlError(.refused, "with --splice-only there are no frames") }
        do throws(SystemCallError) {
            guard try await dataPath.startCapture(file) else {
                throw SystemCallError("", "", .alreadyInProcess)
            }
        } catch {
            switch error.errno {
            case .alreadyInProcess: throw ControlError(.refused, "a capture runs already; stop it first")
            case .invalidArgument:
                throw ControlError(
                    .refused, "a capture goes to a regular file: whoever reads a pipe could hold up traffic")
            default: throw ControlError(.refused, "the file cannot be written: \(error.errno.explanation)")
            }
        }
        return [:]
    }

    /// `pcap.stop`.
    func stopCapture() async throws(ControlError) -> JSONValue {
        guard let ended = await dataPath?.stopCapture() else { throw ControlError(.refused, "no capture runs") }
        return Self.captured(ended.frames, lost: ended.lost)
    }

    /// The answer of `pcap.stop`.
    static func captured(_ frames: UInt64, lost: UInt64) -> JSONValue {
        ["packets": JSONValue(frames), "lost": JSONValue(lost)]
    }
}
