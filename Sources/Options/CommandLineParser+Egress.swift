// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes
internal import Policy

extension CommandLineParser {
    /// Processes an option on what may leave.
    mutating func applyEgress(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .egress:
            guard let verdict = Verdict(rawValue: value.text) else { throw value.failure("give allow or deny") }
            invocation.egress.defaultVerdict = verdict
        case .allow: try addRule(.allow, value)
        case .deny: try addRule(.deny, value)
        case .egressFile: invocation.egress.parts.append(.file(try value.path()))
        case .denySilently: invocation.egress.deniesSilently = true
        case .deniedNames:
            guard ["refused", "nxdomain"].contains(value.text) else { throw value.failure("give refused or nxdomain") }
            invocation.egress.deniesNamesAsAbsent = value.text == "nxdomain"
        case .flowLog: invocation.egress.flowLog = try logTarget(value)
        case .learn: invocation.egress.learnPath = try value.path()
        case .allowFrom:
            guard let prefix = Prefix(value.text) ?? IPAddress(value.text).map({ Prefix(host: $0) }) else {
                throw value.failure("no prefix; give ADDRESS or ADDRESS/LENGTH")
            }
            guard prefix.network == prefix else {
                throw value.failure("bits beyond the length; give \(prefix.network), or \(prefix.address) for one host")
            }
            invocation.egress.allowedSources.append(prefix)
        case .maxFlows:
            invocation.egress.maximumFlows = Int(try value.decimal(1...131_072, "a number of flows"))
        case .maxFlowRate:
            let digits = value.text.hasSuffix("/s") ? value.text.dropLast(2) : value.text[...]
            guard let number = OptionValue.decimal(digits), (1...1_000_000).contains(number) else {
                throw value.failure("give a number of flows a second, 1/s to 1000000/s")
            }
            invocation.egress.maximumFlowRate = number
        default: break
        }
    }

    private mutating func addRule(_ verdict: Verdict, _ value: OptionValue) throws(UsageError) {
        guard invocation.egress.parts.count < RuleFile.maximumCount else {
            throw value.failure("more than \(RuleFile.maximumCount) rules; use prefixes or '*.'")
        }
        do throws(PolicyError) {
            let rule = try PolicyRule(verdict, specification: value.text, place: value.option.displayName)
            invocation.egress.parts.append(.rule(rule))
        } catch {
            throw UsageError(error.description)
        }
    }

    /// Rules by name open what the relay has answered, so that there must be a relay.
    private mutating func settleRelay() throws(UsageError) {
        let configuration = invocation.configuration
        guard invocation.egress.hasNameRules, !invocation.spliceOnly,
            configuration.dnsForward == .init(v4: nil, v6: nil)
        else { return }
        guard !configuration.suppressesDNS, configuration.families.contains(.v4), let address = Self.relay else {
            throw UsageError(
                OptionDescription.of(.allow),
                "a rule by name opens what the relay of queries has answered; add --dns-forward")
        }
        invocation.configuration.dnsForward.v4 = address
    }

    /// The relay's address where rules by name need one and none is given.
    private static var relay: IPAddress? { IPAddress("169.254.1.1") }

    /// `FILE` or `fd:N`.
    private func logTarget(_ value: OptionValue) throws(UsageError) -> EgressRequest.LogTarget {
        guard value.text.hasPrefix("fd:") else { return .file(try value.path()) }
        guard let number = OptionValue.decimal(value.text.dropFirst(3)), (1...UInt64(Int32.max)).contains(number) else {
            throw value.failure("give fd:N with a descriptor that is open for writing, 1 or more")
        }
        return .descriptor(Int32(clamping: number))
    }

    /// Checks the options on what may leave together.
    mutating func settleEgress() throws(UsageError) {
        let egress = invocation.egress
        if !egress.allowedSources.isEmpty, invocation.forwards.allSatisfy({ $0.direction == .outbound }),
            invocation.defaultedForwards.isDisjoint(with: [.tcpInbound, .udpInbound])
        {
            throw UsageError(OptionDescription.of(.allowFrom), "no port is forwarded; add -t or -u")
        }
        try settleRelay()
        if egress.deniesSilently, !egress.hasRules {
            throw UsageError(OptionDescription.of(.denySilently), "nothing is denied; add --egress, --deny or --allow")
        }
        if case .descriptor(let number)? = egress.flowLog,
            number == invocation.readyDescriptor || number == invocation.exitDescriptor
        {
            throw UsageError(
                OptionDescription.of(.flowLog), "fd:\(number)", "also that of --ready-fd or --exit-fd; give another")
        }
    }
}
