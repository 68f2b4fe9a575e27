// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The rules are a list, and the first that matches a flow decides. A list of 10,000 cannot be walked for each flow, so
// it is compiled: rules with the same destination form a group (RuleGroups), and every group that a flow's destination
// belongs to is asked for its first rule that covers the port. The earliest of those is the first match.
//
//     destination            groups found by
//     address, prefix, word  PrefixIndex: one binary search, then outwards
//     host, dns              membership in the surroundings' sets
//     any                    one group
//     name, names below      a hash of names, asked when an answer is learned: NameTable keeps the groups' numbers
//
// Addresses have several names. Each name is a candidate with a verdict of its own, and one that is allowed is enough.
// An address that no name may lead to (`private`, `host`, `metadata`) takes nothing from rules that allow a name,
// however it came into the table: that holds against rebinding even when the host's addresses have changed since.

public import NetworkTypes
public import Wire

/// What may leave the namespace: rules in order, compiled, and a verdict for what no rule matches.
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

    /// What was decided, and by what.
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
    /// The verdict for what no rule matches (`--egress`).
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
    ///   - defaultVerdict: the verdict for what no rule matches.
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
        // The order of groups is of no account, but one run should be like another.
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

    /// Whether a rule speaks of a name, so that resolvers other than the relay would lead around it.
    public var hasNameRules: Bool { !exactNames.isEmpty || !namesBelow.isEmpty }

    // MARK: Flows

    /// Decides on a flow that opens.
    ///
    /// - Parameters:
    ///   - opening: the flow.
    ///   - names: what the relay has answered for the destination (NameTable/names(of:now:)).
    ///   - surroundings: the addresses behind `host` and `dns`.
    /// - Returns: The first rule that matches for a name that is allowed; if none is, for the first name; without names,
    ///   for the address.
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

    /// Decides again on a flow whose first bytes give a server's name (`--match-sni`).
    ///
    /// - Parameters:
    ///   - opening: the flow.
    ///   - serverName: the name; nil if what was given is not usable as one.
    ///   - names: what the relay has answered for the destination.
    ///   - surroundings: the addresses behind `host` and `dns`.
    /// - Returns: The decision for that name alone; where the relay has not answered it with this address, for the
    ///   address alone.
    public func decide(
        _ opening: Opening, serverName: DomainName?, names: [NameTable.Entry], in surroundings: PolicySurroundings
    ) -> Decision {
        decide(opening, names: names.filter { $0.name == serverName }, in: surroundings)
    }

    private func decision(_ first: Int32, _ opening: Opening, name: DomainName?) -> Decision {
        if first != RuleGroups.none {
            return Decision(verdict: rules[Int(first)].verdict, rule: Int(first), name: name)
        }
        // A resolver of the namespace's own choice would answer names that the rules forbid.
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

    /// Calls a function for every group, those of names apart, that an address belongs to.
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

    /// The groups of the rules that speak of a name.
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
    /// A query says nothing of a flow's transport and port. So a rule that denies only some of them is passed over, and one
    /// that allows any is enough: the flow is decided on when it opens. A query is itself a flow to `dns`: a rule
    /// with that word, or with `any`, decides on every name. Rules by address say nothing of names.
    ///
    /// - Parameter name: the name as the namespace asks for it.
    /// - Returns: The decision; what is denied is to be answered REFUSED (or NXDOMAIN).
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

    /// Whether any flow to an address may open without a name: what an answer with a protected address needs.
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
            // `deny dns` leaves the resolvers' other ports alone.
            best = min(best, bounds.allowing, group == resolverGroup ? RuleGroups.none : bounds.denyingAll)
        }
        return (best == RuleGroups.none ? defaultVerdict : rules[Int(best)].verdict) == .allow
    }
}
