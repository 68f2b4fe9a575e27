// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import JSON
internal import Netlink
internal import NetworkModel
internal import NetworkTypes

/// The answer of `explain`: the reasons for the namespace's configuration.
struct ExplainReport {
    /// The present state.
    var state: Chronicle.State
    /// The host kernel's present answers for the destinations that the monitor asks for.
    var traces: [RouteTrace?] = []
    /// The requested families.
    var families: [AddressFamily] = AddressFamily.allCases

    /// The answer (docs/control.md, "explain").
    var json: JSONValue {
        var object = JSONObject()
        for family in families { object[family.word] = self.family(family) }
        let general = state.plan.reasons.filter { $0.family == nil }
        return ["families": .object(object), "general": .array(general.map(\.json))]
    }

    private func family(_ family: AddressFamily) -> JSONValue {
        let mode = state.plan.families[family].mode
        let reasons = state.plan.reasons.filter { $0.family == family }
        return [
            "mode": JSONValue(mode.word),
            "interface": JSONValue(mode.interface),
            "lookup": lookup(family),
            "candidates": .array(reasons.compactMap { $0.candidateJSON(state.snapshot) }),
            "reasons": .array(reasons.map { $0.json }),
        ]
    }

    /// The kernel's answer for a destination that only default routes match.
    private func lookup(_ family: AddressFamily) -> JSONValue {
        let probe = HostSnapshot.probe(family)
        guard let lookup = state.snapshot.lookups.first(where: { $0.destination == probe }) else { return .null }
        // The rule is known of what the kernel says now; where that is something else by now, the plan follows soon.
        let now = traces.lazy.compactMap(\.self).first { $0.lookup == lookup }
        return state.snapshot.json(of: now ?? RouteTrace(lookup: lookup, rule: nil))
    }
}

extension HostSnapshot {
    /// A lookup with its answer and the rule that led to it.
    func json(of trace: RouteTrace) -> JSONValue {
        var object = JSONObject()
        object["destination"] = JSONValue("\(trace.lookup.destination)")
        switch trace.lookup.answer {
        case .route(let interface, let gateway, let source, let table):
            object["interface"] = JSONValue(link(interface)?.name ?? "\(interface)")
            object["gateway"] = JSONValue(gateway?.description)
            object["source"] = JSONValue(source?.description)
            object["table"] = JSONValue(table.rawValue)
        case .unreachable(let errno): object["errno"] = JSONValue(errno)
        }
        object["rule"] =
            trace.rule.map {
                [
                    "priority": JSONValue($0.priority), "text": JSONValue($0.text),
                    "certain": .bool(trace.isCertain),
                ]
            } ?? .null
        return .object(object)
    }
}

extension Reason {
    /// The reason as a candidate's row; nil if it is not about a candidate.
    fileprivate func candidateJSON(_ snapshot: HostSnapshot) -> JSONValue? {
        var object = JSONObject()
        switch cause {
        case .candidate(let candidate):
            object["interface"] = JSONValue(candidate.name)
            object["rank"] = JSONValue(candidate.rank.word)
            object["metric"] = candidate.rank.metric.map { JSONValue($0) } ?? .null
            object["verdict"] = JSONValue(candidate.outcome.word)
        case .mirrors(let name, let fitness):
            object["interface"] = JSONValue(name)
            object["rank"] = "option"
            object["option"] = "--mode"
            object["metric"] = .null
            object["verdict"] = JSONValue(fitness.word)
        case .namedInterface(let name, let option, let fitness):
            object["interface"] = JSONValue(name)
            object["rank"] = "option"
            object["option"] = JSONValue(option)
            object["metric"] = .null
            object["verdict"] = JSONValue(fitness.word)
        default: return nil
        }
        object["text"] = JSONValue(text)
        return .object(object)
    }
}

/// The answer of `explain DESTINATION`: the path of a packet from the namespace.
struct DestinationReport {
    /// The destination as the namespace sees it.
    var destination: IPAddress
    /// Its port, if it has one.
    var port: UInt16
    /// The protocol; nil for ICMP echo.
    var transport: TransportProtocol?
    /// What holds.
    var state: Chronicle.State

    /// The address that the host's socket would be bound to; nil for the kernel's choice.
    var source: IPAddress? {
        if case .host(_, let source, _) = preview { source } else { nil }
    }

    /// The result of the translation.
    var preview: TranslationPreview {
        TranslationPreview(state.plan.rules, to: destination, port: port, transport: transport)
    }

    /// The address to look up in the host's kernel; nil if there is none.
    var asked: IPAddress? {
        guard !isOwn else { return nil }
        switch preview {
        case .host(let target, _, _), .resolver(let target): return target.isMulticast ? nil : target
        case .loopback, .noResolver, .refused: return nil
        }
    }

    private var isOwn: Bool {
        state.plan.families[destination.family].addresses.contains { $0.address == destination }
            || state.lingering[destination] != nil || destination.isLoopback
    }

    /// The answer (docs/control.md, "explain").
    ///
    /// - Parameter trace: the host kernel's answer for ``asked``.
    /// - Returns: the answer.
    func json(_ trace: RouteTrace?) -> JSONValue {
        var object = JSONObject()
        object["destination"] = JSONValue("\(destination)")
        object["port"] = port == 0 ? .null : JSONValue(port)
        object["protocol"] = JSONValue(transport.map { $0 == .tcp ? "tcp" : "udp" } ?? "icmp")
        let words: String
        (object["outcome"], words) = outcome(&object, trace)
        object["text"] = JSONValue("\(destination): \(words)")
        return .object(object)
    }

    private func outcome(_ object: inout JSONObject, _ trace: RouteTrace?) -> (JSONValue, String) {
        for name in ["mapped_to", "interface", "gateway", "source", "table", "rule", "errno", "policy"] {
            object[name] = .null
        }
        if isOwn { return ("namespace", "the namespace's own; the packet never leaves it") }
        switch preview {
        case .refused(let reason):
            object["policy"] = JSONValue(reason.rule)
            return ("refused", "tapas drops it: \(reason.explanation)")
        case .noResolver:
            object["policy"] = "no-resolver"
            return ("answered", "a query for the host's resolvers, of which there is none: it fails at once (SERVFAIL)")
        case .loopback:
            let loopback: IPAddress = destination.family == .v4 ? .v4(.loopback) : .v6(.loopback)
            object["mapped_to"] = JSONValue("\(loopback)")
            object["interface"] = "lo"
            return ("loopback", "stands for the host's loopback (--map-host-loopback); goes to \(loopback) there")
        case .host(let target, let source, let device):
            object["mapped_to"] = JSONValue("\(target)")
            let mapped = target == destination ? "" : "stands for the host's own address (--map-guest-addr); "
            return way(&object, trace, "host", mapped, source, device)
        case .resolver(let target):
            object["mapped_to"] = JSONValue("\(target)")
            return way(&object, trace, "resolver", "queries go to the host's resolver \(target); ", nil, nil)
        }
    }

    /// The path of a packet on the host, according to the kernel's answer.
    private func way(
        _ object: inout JSONObject, _ trace: RouteTrace?, _ outcome: JSONValue, _ words: String,
        _ source: IPAddress?, _ device: String?
    ) -> (JSONValue, String) {
        if let device {
            object["interface"] = JSONValue(device)
            object["source"] = JSONValue(source?.description)
            return (outcome, "\(words)leaves the host by \(device), as --outbound-if says")
        }
        guard let trace else { return (outcome, "\(words)leaves the host") }
        let json = state.snapshot.json(of: trace)
        for name in ["interface", "gateway", "source", "table", "rule", "errno"] {
            if let value = json[name] { object[name] = value }
        }
        if let source { object["source"] = JSONValue("\(source)") }
        let rule = json["rule"]?["text"]?.string.map { " (\(trace.isCertain ? "" : "maybe ")rule \($0))" } ?? ""
        if case .unreachable(let errno) = trace.lookup.answer {
            let rule = trace.rule == nil ? " (no rule leads to a route)" : rule
            return ("unreachable", "\(words)the host's kernel refuses it, errno \(errno)\(rule)")
        }
        let interface = json["interface"]?.string ?? "?"
        let gateway = json["gateway"]?.string.map { " via \($0)" } ?? ""
        let from = object["source"]?.string.map { " from \($0)" } ?? ""
        return (outcome, "\(words)leaves the host by \(interface)\(gateway)\(from)\(rule)")
    }
}

extension FlowDropReason {
    /// The protocol's word for the rule that refuses the flow.
    fileprivate var rule: String {
        switch self {
        case .familyOff: "family-off"
        case .martian: "not-routable"
        case .broadcast: "broadcast"
        case .noHostAddress: "no-host-address"
        case .noScope: "no-interface-for-link-local"
        case .protocolOff: "protocol-off"
        default: "\(self)"
        }
    }

    /// The same for people.
    fileprivate var explanation: String {
        switch self {
        case .familyOff: "the family is not in use"
        case .martian: "no flow may have such a destination"
        case .broadcast: "broadcasts do not leave the namespace"
        case .noHostAddress: "the host has no address that it could stand for (--map-guest-addr)"
        case .noScope: "a link-local address, and no interface of the host that it could belong to"
        case .protocolOff: "the protocol is switched off"
        default: "\(self)"
        }
    }
}
