// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
public import NetworkModel
internal import NetworkTypes

/// The selectors of a policy rule, read from the kernel's message.
struct RuleSelectors {
    /// `FIB_RULE_INVERT`: the rule applies to all other packets.
    var isInverted = false
    var source: Prefix?
    var destination: Prefix?
    var inputInterface: String?
    var outputInterface: String?
    var mark: UInt32?
    var markMask: UInt32?
    var users: ClosedRange<UInt32>?
    var suppressedLength: UInt32?
    var target: UInt32?
    /// Whether it has selectors that are not parsed here: ports, protocols, tunnels.
    var hasOthers = false

    /// Reads the message that a rule was parsed from.
    init(_ rule: RoutingRule) {
        let payload = rule.fingerprint.span
        guard payload.count >= RuleMessage.headerByteCount else { return }
        // The last word of `struct fib_rule_hdr`; the machine's byte order.
        isInverted = (payload.uint32(at: 8) ?? 0) & UInt32(FIB_RULE_INVERT) != 0
        let lengths = (destination: Int(payload[1]), source: Int(payload[2]))
        hasOthers = payload[3] != 0
        var walk = AttributeWalk(after: RuleMessage.headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(FRA_DST):
                destination = value.address(rule.family).flatMap { Prefix($0, length: lengths.destination) }
            case Int(FRA_SRC): source = value.address(rule.family).flatMap { Prefix($0, length: lengths.source) }
            case Int(FRA_IIFNAME): inputInterface = value.text()
            case Int(FRA_OIFNAME): outputInterface = value.text()
            case Int(FRA_FWMARK): mark = value.uint32()
            case Int(FRA_FWMASK): markMask = value.uint32()
            case Int(FRA_GOTO): target = value.uint32()
            case Int(FRA_SUPPRESS_PREFIXLEN):
                if let length = value.uint32(), length != UInt32.max { suppressedLength = length }
            case Int(FRA_UID_RANGE):
                if let low = value.uint32(), let high = value.uint32(at: 4), low <= high { users = low...high }
            case Int(FRA_IP_PROTO), Int(FRA_SPORT_RANGE), Int(FRA_DPORT_RANGE), Int(FRA_TUN_ID): hasOthers = true
            // Every rule of a kernel with VRFs has it; 0 is none.
            case Int(FRA_L3MDEV): if value.byte(at: 0) != 0 { hasOthers = true }
            default: break
            }
        }
    }
}

extension RoutingRule {
    /// The rule in the words of `ip rule`: "5209: not from all fwmark 0xca6c lookup 51820".
    public var text: String {
        let selectors = RuleSelectors(self)
        var words: [String] = ["\(priority):"]
        if selectors.isInverted { words.append("not") }
        words.append("from \(selectors.source.map { $0.ruleText } ?? "all")")
        if let destination = selectors.destination { words.append("to \(destination.ruleText)") }
        if let mark = selectors.mark {
            let mask = selectors.markMask.map { $0 == .max ? "" : "/0x\(String($0, radix: 16))" } ?? ""
            words.append("fwmark 0x\(String(mark, radix: 16))\(mask)")
        }
        if let name = selectors.inputInterface { words.append("iif \(name)") }
        if let name = selectors.outputInterface { words.append("oif \(name)") }
        if let users = selectors.users { words.append("uidrange \(users.lowerBound)-\(users.upperBound)") }
        if selectors.hasOthers { words.append("(and more)") }
        switch Int(action) {
        case Int(FR_ACT_TO_TBL):
            words.append("lookup \(table.ruleText)")
            if let length = selectors.suppressedLength { words.append("suppress_prefixlength \(length)") }
        case Int(FR_ACT_GOTO): words.append("goto \(selectors.target.map(String.init) ?? "?")")
        case Int(FR_ACT_NOP): words.append("nop")
        case Int(FR_ACT_BLACKHOLE): words.append("blackhole")
        case Int(FR_ACT_UNREACHABLE): words.append("unreachable")
        case Int(FR_ACT_PROHIBIT): words.append("prohibit")
        default: words.append("action \(action)")
        }
        return words.joined(separator: " ")
    }

    /// Whether the rule applies to a packet of the host itself, without mark and without a source address.
    ///
    /// - Parameter destination: the packet's destination.
    /// - Returns: nil if that depends on unknown facts: the user, the protocol, the ports.
    fileprivate func selects(_ destination: IPAddress) -> Bool? {
        let selectors = RuleSelectors(self)
        var isMatch = true
        if let source = selectors.source, source.length > 0 { isMatch = false }
        if let wanted = selectors.destination, !wanted.contains(destination) { isMatch = false }
        if let name = selectors.inputInterface, name != "lo" { isMatch = false }
        if selectors.outputInterface != nil { isMatch = false }
        if let mark = selectors.mark, mark != 0 { isMatch = false }
        if isMatch, selectors.hasOthers || selectors.users.map({ $0 != UInt32.min...UInt32.max }) ?? false {
            return nil
        }
        return isMatch != selectors.isInverted
    }

    fileprivate var suppressedLength: Int {
        RuleSelectors(self).suppressedLength.map { Int(clamping: $0) } ?? -1
    }
}

extension [RoutingRule] {
    /// The rule that explains the kernel's answer to a lookup.
    ///
    /// The kernel's answer names its table but not the rule. This is the first rule that selects the packet and leads
    /// to that table, or refuses.
    ///
    /// - Parameters:
    ///   - lookup: the question and the answer.
    ///   - matchedLength: the length of the route's prefix; rules may suppress short ones.
    /// - Returns: the rule; nil if none explains the answer.
    public func deciding(_ lookup: RouteLookup, matchedLength: Int) -> RoutingRule? {
        let family = lookup.destination.family
        var maybe: RoutingRule?
        for rule in self where rule.family == family {
            let leadsThere: Bool
            switch lookup.answer {
            case .route(_, _, _, let table):
                leadsThere =
                    Int(rule.action) == Int(FR_ACT_TO_TBL) && rule.table == table
                    && rule.suppressedLength < matchedLength
            case .unreachable:
                leadsThere = [Int(FR_ACT_BLACKHOLE), Int(FR_ACT_UNREACHABLE), Int(FR_ACT_PROHIBIT)]
                    .contains(Int(rule.action))
            }
            guard leadsThere else { continue }
            switch rule.selects(lookup.destination) {
            case true?: return maybe ?? rule
            case nil: maybe = maybe ?? rule
            case false?: continue
            }
        }
        return maybe
    }
}

extension Prefix {
    fileprivate var ruleText: String { length == family.addressBitCount ? "\(address)" : description }
}

extension RouteTable {
    fileprivate var ruleText: String {
        switch rawValue {
        case 253: "default"
        case 254: "main"
        case 255: "local"
        default: String(rawValue)
        }
    }
}
