// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The rules are a list, and the first that matches a flow decides. A list of 10,000 rules is too long to search for
// each flow, so it is compiled: rules with the same destination form a group (RuleGroups). For a flow, each group that
// contains its destination returns its first rule that covers the port, and the earliest of these is the first match.
//
//     destination            groups found by
//     address, prefix, word  PrefixIndex: one binary search, then outwards
//     host, dns              membership in the surroundings' sets
//     any                    one group
//     name, names below      a hash of names, asked when an answer is learned: NameTable keeps the groups' numbers
//
// An address may have several names. Each name has a verdict of its own, and one allowed name is sufficient. Rules that
// allow a name do not apply to a protected address (`private`, `host`, `metadata`), even if the table contains it under
// that name. This prevents DNS rebinding even if the host's addresses have changed since.

public import NetworkTypes
public import Wire

/// The egress policy: compiled rules in order, and a verdict for flows that no rule matches.
public struct EgressPolicy: Sendable {
    /// A flow that opens.
    public struct Opening: Hashable, Sendable {
        /// The transport.
        public var transport: PolicyTransport
        /// The destination as the namespace sees it.
        public var address: IPAddress
        /// The destination's port; 0 for ICMP.
        public var port: UInt16

        /// Makes the description of a flow; an IPv4-mapped address counts as the IPv4 address.
        ///
        /// - Parameters:
        ///   - transport: the transport.
        ///   - address: the destination as the namespace sees it.
        ///   - port: the destination's port; 0 for ICMP.
        public init(_ transport: PolicyTransport, to address: IPAddress, port: UInt16 = 0) {
            self.transport = transport
            self.address = IPAddress(unmapping: address.asIPv6)
            self.port = port
        }
    }

    /// The verdict and what has determined it.
    public struct Decision: Hashable, Sendable {
        /// The verdict.
        public var verdict: Verdict
        /// The number of the rule in the list; nil if none matched.
        public var rule: Int?
        /// The name that led to the address; nil if there is none.
        public var name: DomainName?
    }

    /// The rules, in order.
    public let rules: [PolicyRule]
    /// The verdict if no rule matches (`--egress`).
    public let defaultVerdict: Verdict

    private var groups = RuleGroups()
    private var byAddress: PerFamilyIndex
    private var hostGroup: Int32?
    private var resolverGroup: Int32?
    private var anywhereGroup: Int32?
    /// The group of a name; the number after it is that of its denying rules alone.
    private var exactNames: [String: Int32] = [:]
    private var namesBelow: [String: Int32] = [:]

    private struct PerFamilyIndex: Sendable {
        var v4: PrefixIndex
        var v6: PrefixIndex
    }

    /// Compiles rules.
    ///
    /// - Parameters:
    ///   - rules: the rules; the first that matches decides.
    ///   - defaultVerdict: the verdict if no rule matches.
    /// - Complexity: O(n log n).
    public init(rules: [PolicyRule], default defaultVerdict: Verdict) {
        self.rules = rules
        self.defaultVerdict = defaultVerdict
        typealias Numbered = [(number: Int32, rule: PolicyRule)]
        var prefixes: [Prefix: Numbered] = [:]
        var exact: [String: Numbered] = [:]
        var below: [String: Numbered] = [:]
        var words: [PolicyRule.Word: Numbered] = [:]
        for (position, rule) in rules.enumerated() {
            let entry = (number: Int32(clamping: position), rule: rule)
            switch rule.destination {
            case .prefix(let prefix): prefixes[prefix.network, default: []].append(entry)
            case .name(let name): exact[name.text, default: []].append(entry)
            case .namesBelow(let name): below[name.text, default: []].append(entry)
            case .word(let word):
                words[word, default: []].append(entry)
                for prefix in word.prefixes { prefixes[prefix, default: []].append(entry) }
            }
        }
        var groups = RuleGroups()
        // The order of groups does not matter, but is sorted so that each run has the same one.
        var v4: [(prefix: Prefix, group: Int32)] = []
        var v6: [(prefix: Prefix, group: Int32)] = []
        for (prefix, numbered) in prefixes.sorted(by: { $0.key < $1.key }) {
            let group = groups.add(numbered)
            if prefix.family == .v4 { v4.append((prefix, group)) } else { v6.append((prefix, group)) }
        }
        hostGroup = words[.host].map { groups.add($0) }
        resolverGroup = words[.resolvers].map { groups.add($0) }
        anywhereGroup = words[.anywhere].map { groups.add($0) }
        for (name, numbered) in exact {
            exactNames[name] = groups.add(numbered)
            _ = groups.add(numbered.filter { $0.rule.verdict == .deny })
        }
        for (name, numbered) in below {
            namesBelow[name] = groups.add(numbered)
            _ = groups.add(numbered.filter { $0.rule.verdict == .deny })
        }
        byAddress = PerFamilyIndex(
            v4: PrefixIndex(v4, lowest: groups.lowest), v6: PrefixIndex(v6, lowest: groups.lowest))
        self.groups = groups
    }

    /// Whether a rule contains a name, which resolvers other than the relay would bypass.
    public var hasNameRules: Bool { !exactNames.isEmpty || !namesBelow.isEmpty }

    // MARK: Flows

    /// Decides on a flow that opens.
    ///
    /// - Parameters:
    ///   - opening: the flow.
    ///   - names: the names of the destination in the relay's answers (NameTable/names(of:now:)).
    ///   - surroundings: the addresses behind `host` and `dns`.
    /// - Returns: The first matching rule of a name that is allowed; if none is allowed, of the first name; without
    ///   names, of the address.
    public func decide(
        _ opening: Opening, names: [NameTable.Entry] = [], in surroundings: PolicySurroundings
    ) -> Decision {
        let byAddress = firstRule(for: opening, in: surroundings)
        var denied: Decision?
        if !names.isEmpty {
            let offset: Int32 = hasNameRules && surroundings.isProtected(opening.address) ? 1 : 0
            for entry in names {
                var first = byAddress
                for group in entry.groups where groups.lowest[Int(group + offset)] < first {
                    first = min(first, groups.first(group + offset, opening.transport, port: opening.port))
                }
                let decision = decision(first, opening, name: entry.name)
                if decision.verdict == .allow { return decision }
                denied = denied ?? decision
            }
        }
        return denied ?? decision(byAddress, opening, name: nil)
    }

    /// Decides again on a flow whose first bytes give a server's name (no option uses it yet).
    ///
    /// - Parameters:
    ///   - opening: the flow.
    ///   - serverName: the name; nil if the first bytes have no usable name.
    ///   - names: the names of the destination in the relay's answers.
    ///   - surroundings: the addresses behind `host` and `dns`.
    /// - Returns: The decision for that name alone; for the address alone if the relay has not answered the name with
    ///   this address.
    public func decide(
        _ opening: Opening, serverName: DomainName?, names: [NameTable.Entry], in surroundings: PolicySurroundings
    ) -> Decision {
        decide(opening, names: names.filter { $0.name == serverName }, in: surroundings)
    }

    /// Decides on a flow to a public address that has one name only.
    ///
    /// - Parameters:
    ///   - transport: its protocol.
    ///   - port: the port.
    ///   - name: the name.
    /// - Returns: the decision.
    public func decide(_ transport: PolicyTransport, port: UInt16, name: DomainName) -> Decision {
        var first = RuleGroups.none
        for group in groups(of: name) + [anywhereGroup].compactMap(\.self) {
            first = min(first, groups.first(group, transport, port: port))
        }
        return decision(first, Opening(transport, to: .v4(.unspecified), port: port), name: name)
    }

    private func decision(_ first: Int32, _ opening: Opening, name: DomainName?) -> Decision {
        if first != RuleGroups.none {
            return Decision(verdict: rules[Int(first)].verdict, rule: Int(first), name: name)
        }
        // Other resolvers would answer queries for names that the rules forbid.
        let asksResolver = opening.transport != .icmp && (opening.port == 53 || opening.port == 853)
        return Decision(verdict: asksResolver && hasNameRules ? .deny : defaultVerdict, rule: nil, name: name)
    }

    private func firstRule(for opening: Opening, in surroundings: PolicySurroundings) -> Int32 {
        var best = RuleGroups.none
        walk(opening.address, in: surroundings, best: &best) { group, best in
            best = min(best, groups.first(group, opening.transport, port: opening.port))
        }
        return best
    }

    /// Calls a function for each group that contains an address, except groups of names.
    private func walk(
        _ address: IPAddress, in surroundings: PolicySurroundings, best: inout Int32,
        _ visit: (Int32, inout Int32) -> Void
    ) {
        if let anywhereGroup { visit(anywhereGroup, &best) }
        if let hostGroup, surroundings.hostAddresses.contains(address) { visit(hostGroup, &best) }
        if let resolverGroup, surroundings.resolvers.contains(address) { visit(resolverGroup, &best) }
        switch address {
        case .v4: byAddress.v4.walk(address, best: &best, visit)
        case .v6: byAddress.v6.walk(address, best: &best, visit)
        }
    }

    // MARK: Names

    /// The groups of the rules that contain a name.
    func groups(of name: DomainName) -> [Int32] {
        guard hasNameRules else { return [] }
        var found: [Int32] = []
        if let group = exactNames[name.text] { found.append(group) }
        if namesBelow.isEmpty { return found }
        for parent in name.parents {
            if let group = namesBelow[parent] { found.append(group) }
        }
        return found
    }

    /// Decides whether the relay may ask for a name.
    ///
    /// A query does not contain the transport and port of the later flow. So a rule that denies only some of them is
    /// skipped, and a rule that allows any of them is sufficient; the flow is decided when it opens. A query is itself
    /// a flow to `dns`, so a rule with that word, or with `any`, decides every name. Rules with addresses do not apply
    /// to names.
    ///
    /// - Parameter name: the name as the namespace asks for it.
    /// - Returns: The decision; a denied query must be answered with REFUSED (or NXDOMAIN).
    public func decide(query name: DNSName) -> Decision {
        let domain = DomainName(name)
        var asked = domain.map { groups(of: $0) } ?? []
        if let resolverGroup { asked.append(resolverGroup) }
        if let anywhereGroup { asked.append(anywhereGroup) }
        var best = RuleGroups.none
        for group in asked {
            let bounds = groups.bounds(group)
            best = min(best, bounds.allowing, bounds.denyingAll)
        }
        guard best != RuleGroups.none else { return Decision(verdict: defaultVerdict, rule: nil, name: domain) }
        return Decision(verdict: rules[Int(best)].verdict, rule: Int(best), name: domain)
    }

    /// Whether any flow to an address may open without a name, which an answer with a protected address requires.
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - surroundings: the addresses behind `host` and `dns`.
    /// - Returns: Whether some transport and port may be allowed.
    public func mayReachWithoutName(_ address: IPAddress, in surroundings: PolicySurroundings) -> Bool {
        let plain = IPAddress(unmapping: address.asIPv6)
        var best = RuleGroups.none
        walk(plain, in: surroundings, best: &best) { group, best in
            let bounds = groups.bounds(group)
            // `deny dns` does not affect the resolvers' other ports.
            best = min(best, bounds.allowing, group == resolverGroup ? RuleGroups.none : bounds.denyingAll)
        }
        return (best == RuleGroups.none ? defaultVerdict : rules[Int(best)].verdict) == .allow
    }
}
