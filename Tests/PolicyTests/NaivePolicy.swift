// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
@testable import Policy

/// The rules as the manual tells of them: walked one by one, with nothing compiled.
struct NaivePolicy {
    let rules: [PolicyRule]
    let defaultVerdict: Verdict

    private static let networks: [PolicyRule.Word: [String]] = [
        .privateNetworks: [
            "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10",
            "64:ff9b::a00:0/104", "64:ff9b::ac10:0/108", "64:ff9b::c0a8:0/112", "64:ff9b::6440:0/106",
            "64:ff9b::a9fe:0/112",
        ],
        .metadata: ["169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"],
        .host: ["127.0.0.0/8", "::1", "64:ff9b::7f00:0/104"],
        .resolvers: [], .anywhere: ["0.0.0.0/0", "::/0"],
    ]

    private static func contains(_ word: PolicyRule.Word, _ address: IPAddress) -> Bool {
        (networks[word] ?? []).contains { Prefix($0)?.contains(address) == true }
    }

    func isProtected(_ address: IPAddress, _ around: PolicySurroundings) -> Bool {
        address.isUnspecified || around.hostAddresses.contains(address)
            || ([.privateNetworks, .host, .metadata] as [PolicyRule.Word]).contains { Self.contains($0, address) }
    }

    private func covers(_ rule: PolicyRule, _ opening: EgressPolicy.Opening) -> Bool {
        if let transport = rule.transport, transport != opening.transport { return false }
        if opening.transport == .icmp {
            return rule.ports.isEmpty && (rule.transport != nil || rule.destination != .word(.resolvers))
        }
        if rule.ports.isEmpty, rule.destination == .word(.resolvers) { return [53, 853].contains(opening.port) }
        return rule.ports.isEmpty || rule.ports.contains { $0.first <= opening.port && opening.port <= $0.last }
    }

    private func leads(
        _ rule: PolicyRule, _ address: IPAddress, _ name: DomainName?, _ around: PolicySurroundings
    ) -> Bool {
        switch rule.destination {
        case .prefix(let prefix): prefix.contains(address)
        case .name(let wanted): name == wanted && !(rule.verdict == .allow && isProtected(address, around))
        case .namesBelow(let above):
            name?.text.hasSuffix("." + above.text) == true && !(rule.verdict == .allow && isProtected(address, around))
        case .word(let word):
            Self.contains(word, address) || word == .host && around.hostAddresses.contains(address)
                || word == .resolvers && around.resolvers.contains(address)
        }
    }

    func decide(
        _ opening: EgressPolicy.Opening, names: [DomainName], in around: PolicySurroundings
    ) -> EgressPolicy.Decision {
        let candidates: [DomainName?] = names.isEmpty ? [nil] : names
        let decisions: [EgressPolicy.Decision] = candidates.map { name in
            let first = rules.firstIndex { covers($0, opening) && leads($0, opening.address, name, around) }
            var verdict = first.map { rules[$0].verdict } ?? defaultVerdict
            let namesRuled = rules.contains {
                switch $0.destination {
                case .name, .namesBelow: true
                case .prefix, .word: false
                }
            }
            if first == nil, opening.transport != .icmp, [53, 853].contains(opening.port), namesRuled {
                verdict = .deny
            }
            return EgressPolicy.Decision(verdict: verdict, rule: first, name: name)
        }
        return decisions.first { $0.verdict == .allow } ?? decisions[0]
    }

    func decide(query name: DomainName) -> Verdict {
        for rule in rules {
            let speaks =
                switch rule.destination {
                case .name(let wanted): wanted == name
                case .namesBelow(let above): name.text.hasSuffix("." + above.text)
                case .word(let word): word == .resolvers || word == .anywhere
                case .prefix: false
                }
            guard speaks else { continue }
            if rule.verdict == .allow { return .allow }
            if rule.transport == nil, rule.ports.isEmpty { return .deny }
        }
        return defaultVerdict
    }
}
