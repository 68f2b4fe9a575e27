// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// `policy.list`, `policy.test`, `policy.allow`, `policy.deny`, `policy.reload`, `flow-log.rotate` and `watch.flows`.
//
// syscalls: running(control): fstat newfstatat read

internal import Control
internal import Forwarding
internal import Glibc
internal import JSON
internal import LinuxSystem
internal import NetworkTypes
internal import Policy
internal import SystemPackage
internal import Wire

extension ControlCommands {
    /// Adds the methods about what may leave.
    func addEgress(_ context: ControlContext) {
        let egress = context.egress
        add("policy.list") { _, _ throws(ControlError) in
            EgressReport.list(await egress.present ?? EgressRules(), await context.dataPath?.egressState)
        }
        add("policy.test", parameters: ["destination"]) { parameters, _ throws(ControlError) in
            let text = try Self.required("destination", parameters)
            return try await EgressReport.test(text, egress, context.dataPath)
        }
        for (name, verdict) in [("policy.allow", Verdict.allow), ("policy.deny", .deny)] {
            add(name, parameters: ["specification"], changes: true) { parameters, _ throws(ControlError) in
                let text = try Self.required("specification", parameters)
                let rule: PolicyRule
                do throws(PolicyError) {
                    rule = try PolicyRule(verdict, specification: text, place: verdict.rawValue)
                } catch {
                    throw ControlError(.invalidParameters, "\(error)")
                }
                guard let ended = await egress.change({ $0.add(rule) }) else {
                    throw ControlError(
                        .refused, "more than \(EgressRules.mostChanges) rules were added; put them into a file")
                }
                return ["rule": .string("\(rule)"), "ended": JSONValue(ended)]
            }
        }
        add("policy.reload", parameters: ["file"], changes: true) { parameters, exchange throws(ControlError) in
            let path = try parameters.string("file")
            guard let file = await exchange.takeDescriptor() else {
                throw ControlError(.invalidParameters, "no open file came with the request (SCM_RIGHTS)")
            }
            let rules = try Self.rules(in: file, named: path ?? "the file")
            guard let ended = await egress.change({ $0.replace(path, with: rules) }) else {
                let known = (await egress.present)?.files ?? []
                let words = known.isEmpty ? "none was given (--egress-file)" : known.joined(separator: ", ")
                throw ControlError(.refused, "not a file of this instance's rules: \(words)")
            }
            return ["rules": JSONValue(rules.count), "ended": JSONValue(ended)]
        }
        add("flow-log.rotate", changes: true) { _, exchange throws(ControlError) in
            guard let file = await exchange.takeDescriptor() else {
                throw ControlError(.invalidParameters, "no open file came with the request (SCM_RIGHTS)")
            }
            guard let recorder = egress.recorder, recorder.rotate(to: file) else {
                throw ControlError(.refused, "this instance writes no flow log (--flow-log)")
            }
            return [:]
        }
        add("watch.flows") { _, exchange throws(ControlError) in
            guard var next = await egress.beginWatching() else { return .null }
            await exchange.send(["watching": true])
            while !Task.isCancelled {
                let part = egress.recorder?.lines(from: next) ?? (lines: [], next: next)
                next = part.next
                for line in part.lines { await exchange.send(line) }
                guard part.lines.isEmpty else { continue }
                await egress.waitForLines()
            }
            return .null
        }
    }

    private static func required(
        _ name: String, _ parameters: ControlParameters
    ) throws(ControlError) -> String {
        guard let text = try parameters.string(name) else { throw ControlParameters.wrong(name, "given") }
        return text
    }

    /// Reads the rules of a file that a client has opened.
    private static func rules(
        in file: borrowing OwnedFileDescriptor, named name: String
    ) throws(ControlError) -> [PolicyRule] {
        let content: [UInt8]
        do throws(SystemCallError) {
            var status = stat()
            // Another file could make the control loop wait.
            guard unsafe fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                throw SystemCallError("fstat", name, .invalidArgument)
            }
            content = try SmallFile.contents(of: file.descriptor, named: name, limit: RuleFile.maximumLength + 1)
        } catch {
            let words =
                error.errno == .invalidArgument ? "it is not a regular file" : "cannot read: \(error.errno.explanation)"
            throw ControlError(.refused, "\(name): \(words)")
        }
        do throws(PolicyError) {
            return try RuleFile.read(content, name: name)
        } catch {
            throw ControlError(.invalidParameters, "\(error)")
        }
    }
}

/// The answers of `policy.list` and `policy.test`.
enum EgressReport {
    /// The rules with what they have decided.
    static func list(_ rules: EgressRules, _ state: EgressState?) -> JSONValue {
        let entries = rules.entries
        let hits = state?.hits.count == entries.count ? state?.hits ?? [] : []
        let list = entries.enumerated().map { position, entry -> JSONValue in
            [
                "number": JSONValue(position + 1), "verdict": .string(entry.rule.verdict.rawValue),
                "specification": .string(entry.rule.specification), "origin": .string(entry.origin),
                "hits": JSONValue(position < hits.count ? hits[position] : 0),
            ]
        }
        let names = (state?.names ?? []).map { name -> JSONValue in
            [
                "name": .string(name.name.text), "address": .string("\(name.address)"),
                "expires_in": JSONValue(name.remaining / 1_000_000_000), "flows": JSONValue(name.uses),
            ]
        }
        return [
            "default": .string(rules.defaultVerdict.rawValue), "default_hits": JSONValue(state?.defaultHits ?? 0),
            "rules": .array(list), "files": .array(rules.files.map { .string($0) }), "names": .array(names),
        ]
    }

    /// Decides on a destination as on a flow that opens now; a name is decided as a query, and with each address that is
    /// known for it.
    static func test(
        _ text: String, _ egress: EgressControl, _ dataPath: DataPathControl?
    ) async throws(ControlError) -> JSONValue {
        let wanted: PolicyRule
        do throws(PolicyError) {
            wanted = try PolicyRule(.allow, specification: text, place: "destination")
        } catch {
            throw ControlError(.invalidParameters, "\(error)")
        }
        let policy = (await egress.settings ?? .allowingAll).policy
        let transport = wanted.transport ?? .tcp
        let port = transport == .icmp ? 0 : wanted.ports.first?.first ?? 443
        var answer: JSONObject = JSONObject()
        answer["destination"] = .string(text)
        var addresses: [IPAddress] = []
        switch wanted.destination {
        case .prefix(let prefix):
            guard prefix.length == prefix.family.addressBitCount else {
                throw ControlError(.invalidParameters, "'\(text)': give an address or a name, not a prefix")
            }
            addresses = [prefix.address]
        case .name(let name):
            guard let question = DNSName(name.text) else {
                throw ControlError(.invalidParameters, "'\(text)': no name that can be asked for")
            }
            let decision = policy.decide(query: question)
            answer["query"] = json(decision, policy)
            let known = await dataPath?.egressState?.names ?? []
            addresses = known.filter { $0.name == name }.map(\.address)
            if addresses.isEmpty {
                let flow = decision.verdict == .deny ? decision : policy.decide(transport, port: port, name: name)
                answer["verdict"] = .string(flow.verdict.rawValue)
                answer["rule"] = .string(words(flow, policy))
            }
        case .namesBelow, .word:
            throw ControlError(.invalidParameters, "'\(text)': give an address or a name")
        }
        let openings = addresses.map { EgressPolicy.Opening(transport, to: $0, port: port) }
        let decisions =
            await dataPath?.decide(openings) ?? openings.map { policy.decide($0, in: PolicySurroundings()) }
        answer["protocol"] = .string(transport.rawValue)
        if transport != .icmp { answer["port"] = JSONValue(port) }
        answer["addresses"] = .array(
            zip(addresses, decisions).map { address, decision in
                var object = JSONObject()
                object["address"] = .string("\(address)")
                object["verdict"] = .string(decision.verdict.rawValue)
                object["rule"] = .string(words(decision, policy))
                object["name"] = decision.name.map { .string($0.text) }
                return .object(object)
            })
        if let first = decisions.first(where: { $0.verdict == .allow }) ?? decisions.first {
            answer["verdict"] = .string(first.verdict.rawValue)
            answer["rule"] = .string(words(first, policy))
            answer["name"] = first.name.map { .string($0.text) }
        }
        return .object(answer)
    }

    private static func json(_ decision: EgressPolicy.Decision, _ policy: EgressPolicy) -> JSONValue {
        ["verdict": .string(decision.verdict.rawValue), "rule": .string(words(decision, policy))]
    }

    private static func words(_ decision: EgressPolicy.Decision, _ policy: EgressPolicy) -> String {
        guard let rule = decision.rule, policy.rules.indices.contains(rule) else { return "default" }
        return "\(policy.rules[rule])"
    }
}
