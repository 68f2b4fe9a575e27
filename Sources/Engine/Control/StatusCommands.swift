// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// `status`, `watch` and `wait`.
//
// syscalls: running(control): getpid

internal import Control
internal import Glibc
internal import JSON
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Planning

extension ControlCommands {
    /// Adds `status`.
    func addStatus(_ context: ControlContext) {
        add("status") { _, _ throws(ControlError) in await StatusReport.gather(context).json }
    }

    /// Adds `watch`: an event for each change, without end.
    func addWatch(_ context: ControlContext) {
        add("watch") { _, exchange throws(ControlError) in
            var seen = await context.chronicle.changeCount
            await exchange.send(await FollowedChange.standing(context.chronicle, seen).json)
            while !Task.isCancelled {
                for change in await context.chronicle.changes(after: seen) {
                    seen = change.number
                    await exchange.send(change.json)
                }
                guard await context.chronicle.changeCount == seen else { continue }
                await context.chronicle.waitForChange()
            }
            return .null
        }
    }

    /// Adds `wait`.
    func addWait(_ context: ControlContext) {
        let parameters: Set<String> = ["usable", "address", "mode", "forward", "timeout"]
        add("wait", parameters: parameters) { parameters, _ throws(ControlError) in
            let condition = try WaitCondition(parameters, context.methods.forwards)
            let limit = try parameters.seconds("timeout")
            let begin = MonotonicTime.now
            while true {
                let missing = await condition.missing(context)
                let waited = Double(MonotonicTime.now.nanoseconds - begin.nanoseconds) / 1e9
                guard let missing else { return ["waited": .number(waited.toMilliseconds)] }
                // The state of forwarded ports can change without a change of the host.
                var pause = condition.forward == nil ? nil : Int64(200)
                if let limit {
                    guard waited < limit else {
                        throw ControlError(.timeout, "after \(limit.seconds) s still \(missing)")
                    }
                    pause = min(pause ?? .max, Int64(((limit - waited) * 1000).rounded(.up)))
                }
                if Task.isCancelled { throw ControlError(.refused, "cancelled") }
                await context.chronicle.waitForChange(atMost: pause)
            }
        }
    }
}

/// The condition of `wait`; all given parts must be true.
struct WaitCondition: Sendable {
    /// A family that must have the host's network; with nil inside, any family.
    enum Usable: Sendable {
        case family(AddressFamily)
        case any
    }

    var usable: Usable?
    var address: IPAddress?
    var mode: (family: AddressFamily?, word: String)?
    var forward: (text: String, rules: ForwardCommands.Wanted)?

    /// Reads the parameters.
    ///
    /// - Throws: `invalid-parameters`.
    init(_ parameters: ControlParameters, _ forwards: ForwardCommands) throws(ControlError) {
        switch try parameters.string("usable") {
        case "4"?, "ipv4"?: usable = .family(.v4)
        case "6"?, "ipv6"?: usable = .family(.v6)
        case "any"?: usable = .any
        case nil: break
        default: throw ControlParameters.wrong("usable", "4, 6 or any")
        }
        if let text = try parameters.string("address") {
            guard let address = IPAddress(text) else { throw ControlParameters.wrong("address", "an IP address") }
            self.address = address
        }
        if let text = try parameters.string("mode") {
            let parts = text.split(separator: ":").map { String($0) }
            let family = parts.count == 2 ? AddressFamily.allCases.first { $0.word == parts[0] } : nil
            guard let word = parts.last,
                ["template", "local", "manual", "off", "transparent", "opaque"].contains(word),
                parts.count == 1 || family != nil
            else {
                throw ControlParameters.wrong(
                    "mode",
                    "template, local, manual, transparent, opaque or off, after ipv4: or ipv6: if one is meant")
            }
            mode = (family, word)
        }
        if let text = try parameters.string("forward") { forward = (text, try forwards.wanted(text)) }
        if usable == nil, address == nil, mode == nil, forward == nil {
            throw ControlError(.invalidParameters, "give 'usable', 'address', 'mode' or 'forward'")
        }
    }

    /// The part that is not true yet, in words that follow "still"; nil if all are true.
    func missing(in state: Chronicle.State) -> String? {
        let families = state.plan.families
        switch usable {
        case .family(let family)?:
            if !families[family].mode.isUsable { return "\(family) has no network of the host" }
        case .any?:
            if !AddressFamily.allCases.contains(where: { families[$0].mode.isUsable }) {
                return "no network of the host"
            }
        case nil: break
        }
        if let address {
            let has =
                families[address.family].addresses.contains { $0.address == address }
                || state.lingering[address] != nil
            if !has { return "no address \(address)" }
        }
        if let mode {
            let asked = mode.family.map { [$0] } ?? AddressFamily.allCases
            if !asked.contains(where: { families[$0].mode.word == mode.word }) {
                return "no mode \(mode.word)\(mode.family.map { " for \($0)" } ?? "")"
            }
        }
        return nil
    }

    /// The same, including the forwarded ports.
    func missing(_ context: ControlContext) async -> String? {
        if let missing = missing(in: await context.chronicle.state) { return missing }
        guard let forward else { return nil }
        let isListening = ForwardCommands.listens(forward.rules, await context.methods.ports?.states ?? [])
        return isListening ? nil : "no listener of the rule '\(forward.text)'"
    }
}

extension FamilyMode {
    /// Whether the family has the host's network, or a configuration from options.
    fileprivate var isUsable: Bool {
        switch self {
        case .template, .manual, .transparent, .opaque: true
        case .local, .off: false
        }
    }
}

extension Double {
    /// The number without an unnecessary fraction: "5" and not "5.0".
    fileprivate var seconds: String { self == rounded() ? String(Int64(self)) : String(self) }
}

extension FollowedChange {
    /// The first event of `watch`: the present state.
    fileprivate static func standing(_ chronicle: Chronicle, _ number: UInt64) async -> FollowedChange {
        let plan = await chronicle.state.plan
        var change = FollowedChange(number: number, time: WallTime.now.milliseconds, causes: "state")
        change.changes = AddressFamily.allCases.map {
            .mode($0, from: plan.families[$0].mode, to: plan.families[$0].mode)
        }
        return change
    }
}

extension StatusReport {
    /// Gathers the parts of a report.
    fileprivate static func gather(_ context: ControlContext) async -> StatusReport {
        let flowCount = await context.dataPath?.flowCount()
        let forwards = await context.forwards()
        let now = MonotonicTime.now
        let chronicle = context.chronicle
        let handover = context.methods.handover
        let since = await chronicle.since
        func seconds(_ moment: Chronicle.Moment) -> Double {
            Double(now.nanoseconds - moment.monotonic.nanoseconds) / 1e9
        }
        func pair(_ moment: Chronicle.Moment) -> (time: WallTime, seconds: Double) { (moment.wall, seconds(moment)) }
        return StatusReport(
            process: handover?.instance ?? getpid(), started: chronicle.started.wall,
            uptime: seconds(chronicle.started),
            invocation: context.invocation, state: await chronicle.state,
            since: PerFamily(v4: pair(since.v4), v6: pair(since.v6)), flowCount: flowCount, forwards: forwards,
            lastChange: await chronicle.changes.last, engine: getpid(), restarts: handover?.restarts ?? 0,
            landlockVersion: context.landlockVersion)
    }
}

extension ControlContext {
    /// The forwarding rules in the form of `forward.list`.
    func forwards() async -> [JSONValue] {
        await methods.listForwards()["forwards"]?.array ?? []
    }
}
