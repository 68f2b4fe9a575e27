// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import JSON
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import PortForwarding

/// Parses the requests of control clients about forwarding rules and makes the answers; it carries nothing out.
struct ForwardCommands: Sendable {
    /// The families in use.
    var families: Set<AddressFamily>
    /// The ports that `all` and `auto` leave out, read while the file system was in reach.
    var ephemeralRange: ClosedRange<Port>
    /// Not `--no-tcp`, not `--no-udp`.
    var transports: Set<TransportProtocol>
    /// Whether there is a namespace, into which `auto` and rules that lead out of it look.
    var hasNamespace = true

    /// Makes the value from the command line.
    init(_ invocation: Invocation, ephemeralRange: ClosedRange<Port>) {
        families = invocation.configuration.families
        self.ephemeralRange = ephemeralRange
        transports = []
        if invocation.isEnabled(.tcp) { transports.insert(.tcp) }
        if invocation.isEnabled(.udp) { transports.insert(.udp) }
        hasNamespace = invocation.virtualMachine == nil
    }

    // MARK: Requests

    /// Reads the rules of a request: `[{"option": "tcp-ports", "specification": "8080:80"}]`.
    ///
    /// - Parameter value: the parameter `rules`.
    /// - Returns: the rules, none of which conflict with each other.
    /// - Throws: The error, which names the rule.
    func rules(_ value: JSONValue?) throws(ControlError) -> [PortForward] {
        guard let entries = value?.array else {
            throw ControlError(.invalidParameters, "'rules' must be an array of objects")
        }
        var table = ForwardRuleSet()
        for entry in entries {
            guard let object = entry.object, let name = object["option"]?.string,
                let text = object["specification"]?.string, Set(object.names) == ["option", "specification"]
            else {
                throw ControlError(
                    .invalidParameters, "a rule is an object of 'option' and 'specification', both strings")
            }
            guard let option = Self.options[name] else {
                let names = Self.options.keys.sorted().joined(separator: ", ")
                throw ControlError(.invalidParameters, "'\(name)' is no option of rules; these are: \(names)")
            }
            try isEnabled(option.transport)
            do {
                try table.add(try parsed(text, option))
            } catch {
                throw ControlError(.invalidParameters, "--\(name) \(text): \(error)")
            }
        }
        for rule in table.forwards { try checkNamespace(rule) }
        return table.forwards
    }

    /// Refuses a rule that needs a namespace where a virtual machine is served.
    private func checkNamespace(_ rule: PortForward) throws(ControlError) {
        guard !hasNamespace, rule.direction == .outbound || rule.policy == .scanned else { return }
        throw ControlError(
            .refused, "\(rule): a virtual machine's ports and loopback cannot be looked into; name ports of the host")
    }

    private func parsed(
        _ text: String, _ option: Invocation.ForwardOption
    ) throws(PortSpecificationError) -> [PortForward] {
        try PortSpecification.parse(
            text, direction: option.direction, transport: option.transport, families: families,
            ephemeralRange: ephemeralRange)
    }

    private static let options: [String: Invocation.ForwardOption] = [
        "tcp-ports": .tcpInbound, "udp-ports": .udpInbound, "tcp-ns": .tcpOutbound, "udp-ns": .udpOutbound,
    ]

    /// What `wait` waits for: rules that have to listen.
    enum Wanted: Sendable {
        /// The text of a rule as ``json(_:)`` tells it.
        case text(String)
        /// All rules of one of these.
        case anyOf([[PortForward]])
    }

    /// Reads what is waited for: a rule's text, or a port specification, which may stand after its option (`-t 8080:80`);
    /// without, it may be that of any option.
    ///
    /// - Throws: `invalid-parameters`, if it is neither.
    func wanted(_ text: String) throws(ControlError) -> Wanted {
        if text.hasPart(" => ") { return .text(text) }
        let words = text.split(separator: " ").map(String.init)
        var options = Self.options
        if words.count == 2 {
            let long = ["-t": "tcp-ports", "-u": "udp-ports", "-T": "tcp-ns", "-U": "udp-ns"]
            let name = long[words[0]] ?? String(words[0].drop { $0 == "-" })
            options = options.filter { $0.key == name }
        }
        guard let specification = words.last, words.count <= 2, !options.isEmpty else {
            throw ControlParameters.wrong("forward", "a port specification, after -t, -u, -T or -U if one is meant")
        }
        var alternatives: [[PortForward]] = []
        var failure = "it names no port"
        for option in options.keys.sorted().compactMap({ options[$0] }) {
            do throws(PortSpecificationError) {
                let rules = try parsed(specification, option)
                if !rules.isEmpty { alternatives.append(rules) }
            } catch {
                failure = "\(error)"
            }
        }
        guard !alternatives.isEmpty else { throw ControlError(.invalidParameters, "'forward' \(text): \(failure)") }
        return .anyOf(alternatives)
    }

    /// Whether what is waited for listens.
    static func listens(_ wanted: Wanted, _ states: [ForwardState]) -> Bool {
        let rules = states.filter { condition(of: $0).state == "listening" }.map(\.rule)
        return switch wanted {
        case .text(let text): rules.contains { "\($0)" == text }
        case .anyOf(let alternatives):
            alternatives.contains { $0.allSatisfy { part in rules.contains { covers($0, part) } } }
        }
    }

    /// Whether a rule leads all ports of another one to the same place.
    private static func covers(_ rule: PortForward, _ part: PortForward) -> Bool {
        func offset(_ rule: PortForward) -> Int { Int(rule.targetFirst.rawValue) - Int(rule.first.rawValue) }
        return rule.direction == part.direction && rule.transport == part.transport && rule.address == part.address
            && rule.interface == part.interface && rule.targetAddress == part.targetAddress
            && rule.first <= part.first && part.last <= rule.last && offset(rule) == offset(part)
    }

    private func isEnabled(_ transport: TransportProtocol) throws(ControlError) {
        guard !transports.contains(transport) else { return }
        throw ControlError(
            .refused, "--no-\(transport == .tcp ? "tcp" : "udp") switched the protocol off when the instance started")
    }

    // MARK: Changes

    /// The rules in force together with new ones.
    static func adding(_ new: [PortForward], to current: [PortForward]) throws(PortForwardingError) -> [PortForward] {
        try checked(current + new)
    }

    /// The rules in force without some of them; each must equal one of them.
    static func removing(
        _ old: [PortForward], from current: [PortForward]
    ) throws(PortForwardingError) -> [PortForward] {
        var rest = current
        for rule in old {
            guard let index = rest.firstIndex(of: rule) else {
                let similar = current.first {
                    $0.direction == rule.direction && $0.transport == rule.transport && $0.first <= rule.last
                        && rule.first <= $0.last
                }
                let hint = similar.map { "; \($0) is" } ?? ""
                throw .refused("no such rule is in force: \(rule)\(hint)")
            }
            rest.remove(at: index)
        }
        return rest
    }

    /// Returns the rules unchanged, if they do not conflict.
    static func checked(_ rules: [PortForward]) throws(PortForwardingError) -> [PortForward] {
        var table = ForwardRuleSet()
        do {
            try table.add(rules)
        } catch {
            throw .refused("\(error)")
        }
        return table.forwards
    }

    /// Rules that a `pesto` client has sent, if this instance supports them.
    ///
    /// - Throws: The rule and why it is refused.
    func checkedForeign(_ rules: [PortForward]) throws(ControlError) -> [PortForward] {
        for rule in rules {
            try isEnabled(rule.transport)
            try checkNamespace(rule)
            if let address = rule.address, !families.contains(address.family) {
                throw ControlError(.refused, "\(rule): \(address.family) is switched off")
            }
            guard rule.direction == .outbound else { continue }
            if rule.targetAddress != nil || rule.address != nil || rule.interface.map({ $0 != "lo" }) ?? false {
                throw ControlError(
                    .refused, "\(rule): ports of the namespace lead from its loopback to the host's, without addresses")
            }
        }
        return rules
    }

    // MARK: Answers

    /// The answer of all methods of forwarding rules.
    static func answer(_ states: [ForwardState]) -> JSONValue {
        ["forwards": .array(states.map(json))]
    }

    /// A rule with its state.
    static func json(_ state: ForwardState) -> JSONValue {
        let rule = state.rule
        let policy: String =
            switch rule.policy {
            case .explicit: "explicit"
            case .bestEffort: "best-effort"
            case .scanned: "auto"
            }
        let condition = condition(of: state)
        return [
            "direction": .string(rule.direction == .inbound ? "inbound" : "outbound"),
            "protocol": .string(rule.transport == .tcp ? "tcp" : "udp"),
            "address": JSONValue(rule.address.map { "\($0)" }), "interface": JSONValue(rule.interface),
            "first": JSONValue(rule.first.rawValue), "last": JSONValue(rule.last.rawValue),
            "target_address": JSONValue(rule.targetAddress.map { "\($0)" }),
            "target_first": JSONValue(rule.targetFirst.rawValue), "policy": .string(policy),
            "state": .string(condition.state), "cause": JSONValue(condition.cause),
            "open_ports": JSONValue(state.openPorts), "text": .string("\(rule)"),
        ]
    }

    /// Whether a rule listens, and what it waits for.
    static func condition(of state: ForwardState) -> (state: String, cause: String?) {
        let rule = state.rule
        switch state.wait {
        case .interface: return ("waiting", "interface \(rule.interface ?? "")")
        case .address: return ("waiting", "address \(rule.address.map { "\($0)" } ?? "")")
        case nil: break
        }
        if rule.policy == .scanned, state.openPorts == 0 {
            return ("waiting", "a listener \(rule.direction == .inbound ? "in the namespace" : "on the host")")
        }
        let count = Int(rule.last.rawValue) - Int(rule.first.rawValue) + 1
        guard state.openPorts < count, rule.policy != .scanned else { return ("listening", nil) }
        return ("partial", "\(count - state.openPorts) of \(count) ports are not to be had")
    }
}
