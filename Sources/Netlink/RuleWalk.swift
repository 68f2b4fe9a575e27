// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The kernel says which table routes a packet, but not which policy rule selected that table. So this file walks the
// rules as the kernel does (net/core/fib_rules.c): in their order, with the packet's selectors; it follows `goto`, and
// skips the routes that a rule suppresses (`suppress_prefixlength`). The walk ends at the rule that leads to the kernel's
// own answer. The answer itself is always the kernel's. If no rule explains it, no rule is named.

internal import CLinux
internal import Glibc
public import NetworkModel
public import NetworkTypes
internal import SystemPackage

/// A packet of the host itself, with the properties that policy rules select by (ip-rule(8)).
///
/// It has no mark, and its socket is not bound to an interface.
public struct RoutedPacket: Hashable, Sendable {
    /// Its destination.
    public var destination: IPAddress
    /// Its source; nil if the kernel has not chosen it yet.
    public var source: IPAddress?
    /// The IP protocol.
    public var transport: UInt8
    /// The destination port; 0 for protocols without ports.
    public var port: UInt16
    /// The user whose socket sends it, as this program's user namespace numbers users.
    public var user: UInt32

    /// Makes a packet.
    public init(
        destination: IPAddress, source: IPAddress? = nil, transport: UInt8, port: UInt16 = 0, user: UInt32
    ) {
        self.destination = destination
        self.source = source
        self.transport = transport
        self.port = port
        self.user = user
    }
}

/// How the kernel routes a packet, and the rule by which it does.
public struct RouteTrace: Hashable, Sendable {
    /// The kernel's answer.
    public var lookup: RouteLookup
    /// The rule that leads to the answer; nil if no rule leads to a route, or none explains the answer.
    public var rule: RoutingRule?
    /// Whether the rule is certain; false if an earlier rule selects by something that this program cannot see.
    public var isCertain: Bool

    /// Makes a trace.
    public init(lookup: RouteLookup, rule: RoutingRule?, isCertain: Bool = true) {
        self.lookup = lookup
        self.rule = rule
        self.isCertain = isCertain
    }
}

/// The policy rules of a family, applied to one packet.
struct RuleWalk {
    /// The effect of a rule that selects the packet.
    enum Outcome {
        /// The rule decides.
        case decides
        /// The walk continues with the next rule.
        case goesOn
        /// One of these two; this program cannot see which.
        case unknown
    }

    /// The rules in the kernel's order.
    let rules: [RoutingRule]
    /// The packet.
    let packet: RoutedPacket

    /// Takes the rules of the packet's family.
    init(_ rules: [RoutingRule], _ packet: RoutedPacket) {
        self.rules = rules.filter { $0.family == packet.destination.family }
        self.packet = packet
    }

    /// The first rule that decides.
    ///
    /// - Parameter outcome: the effect of a rule that selects the packet, and that looks up a table or refuses.
    /// - Returns: the rule, and whether it is certain; nil if none decides.
    /// - Throws: What `outcome` throws.
    func decision<E: Error>(
        _ outcome: (RoutingRule, RuleSelectors) throws(E) -> Outcome
    ) throws(E) -> (rule: RoutingRule, isCertain: Bool)? {
        var doubtful: RoutingRule?
        var index = 0
        while index < rules.count {
            let rule = rules[index]
            index += 1
            let selectors = RuleSelectors(rule)
            let isSelected = selects(selectors)
            guard isSelected != false else { continue }
            switch Int(rule.action) {
            case Int(FR_ACT_NOP): continue
            case Int(FR_ACT_GOTO):
                // A jump always goes forward; the kernel ignores one without a target (fib_rules_lookup). If it is
                // uncertain whether the rule selects the packet, the walk does not jump, and its result is uncertain.
                guard isSelected == true else {
                    doubtful = doubtful ?? rule
                    continue
                }
                let target = rules[index...].firstIndex { $0.priority == selectors.target }
                index = target ?? index
            default:
                switch (isSelected, try outcome(rule, selectors)) {
                case (_, .goesOn): continue
                case (true?, .decides): return (rule, doubtful == nil)
                default: doubtful = doubtful ?? rule
                }
            }
        }
        return nil
    }

    /// Whether a rule selects the packet; nil if that depends on something unknown.
    func selects(_ selectors: RuleSelectors) -> Bool? {
        var isMatch = !selectors.wantsMore
        if let source = selectors.source, source.length > 0 {
            isMatch = isMatch && packet.source.map { source.contains($0) } ?? false
        }
        if let wanted = selectors.destination, !wanted.contains(packet.destination) { isMatch = false }
        if let name = selectors.inputInterface, name != "lo" { isMatch = false }
        if selectors.outputInterface != nil || selectors.sourcePorts != nil { isMatch = false }
        if let mark = selectors.mark, mark & (selectors.markMask ?? .max) != 0 { isMatch = false }
        if let transport = selectors.transport, transport != packet.transport { isMatch = false }
        if let ports = selectors.destinationPorts, !ports.contains(packet.port) { isMatch = false }
        if let users = selectors.users {
            // The kernel shows all users that the user namespace does not map as this one (user_namespaces(7)).
            let overflow: UInt32 = 65534
            if isMatch, users.lowerBound == overflow || users.upperBound == overflow { return nil }
            if !users.contains(packet.user) { isMatch = false }
        }
        if isMatch, selectors.hasUnknown { return nil }
        return isMatch != selectors.isInverted
    }

    /// The rule that leads to a route.
    ///
    /// - Parameters:
    ///   - table: the route's table.
    ///   - length: the length of its prefix; nil if the kernel does not report it.
    /// - Returns: the first rule that leads to it.
    func leading(to table: RouteTable, length: Int?) -> (rule: RoutingRule, isCertain: Bool)? {
        decision { rule, selectors in
            guard Int(rule.action) == Int(FR_ACT_TO_TBL), rule.table == table else { return .goesOn }
            if let shortest = selectors.suppressedLength {
                guard let length else { return .unknown }
                if length <= Int(shortest) { return .goesOn }
            }
            return selectors.suppressesGroup ? .unknown : .decides
        }
    }

    /// The rule by which the kernel refuses the packet: one that refuses itself, or one whose table has an error route.
    ///
    /// - Parameter longest: the route of a table that matches the packet best; nil if there is none.
    /// - Returns: the rule; nil if none leads to any route.
    /// - Throws: What `longest` throws.
    func refusing<E: Error>(
        _ longest: (RouteTable) throws(E) -> Route?
    ) throws(E) -> (rule: RoutingRule, isCertain: Bool)? {
        try decision { (rule, selectors) throws(E) in
            guard Int(rule.action) == Int(FR_ACT_TO_TBL) else { return .decides }
            guard let route = try longest(rule.table) else { return .goesOn }
            if let shortest = selectors.suppressedLength, route.destination.length <= Int(shortest) { return .goesOn }
            switch route.type {
            case .throw: return .goesOn
            case .blackhole, .unreachable, .prohibit: return .decides
            // The kernel ignores this route, because its interface is down.
            default: return .goesOn
            }
        }
    }
}

extension NetlinkSocket {
    /// How the kernel routes a packet, and by which policy rule.
    ///
    /// - Parameters:
    ///   - packet: the packet.
    ///   - rules: the rules of its family, in the kernel's order.
    ///   - isSent: whether the packet is sent; otherwise this is the question by which a source is chosen.
    /// - Returns: the kernel's answer and the rule.
    /// - Throws: The error of the socket; the kernel's refusal is an answer.
    public mutating func trace(
        _ packet: RoutedPacket, _ rules: [RoutingRule], isSent: Bool = true
    ) throws(NetlinkError) -> RouteTrace {
        var packet = packet
        var lookup = try lookup(packet)
        // A socket's packets are routed again once the source is chosen, which rules may select by (ip_route_connect).
        if isSent, packet.source == nil, packet.destination.family == .v4,
            case .route(_, _, let source?, _) = lookup.answer
        {
            packet.source = source
            lookup = try self.lookup(packet)
        }
        let walk = RuleWalk(rules, packet)
        let decision: (rule: RoutingRule, isCertain: Bool)?
        switch lookup.answer {
        case .route(_, _, _, let table): decision = walk.leading(to: table, length: try matchedLength(packet))
        case .unreachable:
            var tables: [RouteTable: [Route]] = [:]
            decision = try walk.refusing { (table) throws(NetlinkError) in
                if tables[table] == nil { tables[table] = try routes(packet.destination.family, table: table).routes }
                // Equal ones are in the order of their metrics. What packets of plain sockets do not have is not matched.
                let matches = (tables[table] ?? []).filter {
                    $0.destination.contains(packet.destination) && $0.source == nil && $0.typeOfService == 0
                }
                let length = matches.map(\.destination.length).max()
                return matches.filter { $0.destination.length == length }.min { $0.metric < $1.metric }
            }
        }
        return RouteTrace(lookup: lookup, rule: decision?.rule, isCertain: decision?.isCertain ?? true)
    }

    private mutating func lookup(_ packet: RoutedPacket) throws(NetlinkError) -> RouteLookup {
        do throws(NetlinkError) {
            var answer = try answer(to: packet, wantsMatch: false).map(RouteLookup.Answer.init)
            // The kernel does not repeat a source that it was given (rt_fill_info).
            if case .route(let interface, let gateway, nil, let table)? = answer {
                answer = .route(interface: interface, gateway: gateway, source: packet.source, table: table)
            }
            return RouteLookup(destination: packet.destination, answer: answer ?? .unreachable(errno: ENETUNREACH))
        } catch  where error.kind == .refused {
            return RouteLookup(destination: packet.destination, answer: .unreachable(errno: error.errno.rawValue))
        }
    }

    /// The length of the prefix of the route that the kernel uses; nil if it does not report it.
    private mutating func matchedLength(_ packet: RoutedPacket) throws(NetlinkError) -> Int? {
        do throws(NetlinkError) {
            return try answer(to: packet, wantsMatch: true)?.route.destination.length
        } catch  where error.kind == .refused {
            return nil
        }
    }

    private mutating func answer(
        to packet: RoutedPacket, wantsMatch: Bool
    ) throws(NetlinkError) -> ParsedRoute? {
        try get("route get \(packet.destination)", RouteMessage.lookup(packet, wantsMatch: wantsMatch)) {
            type, payload in type == UInt16(RTM_NEWROUTE) ? RouteMessage.parse(payload) : nil
        }
    }
}
