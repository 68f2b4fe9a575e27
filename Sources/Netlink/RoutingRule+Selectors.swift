// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
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
    /// Whether routes by links of a group are passed over: the groups are not known here.
    var suppressesGroup = false
    var target: UInt32?
    var transport: UInt8?
    var sourcePorts: ClosedRange<UInt16>?
    var destinationPorts: ClosedRange<UInt16>?
    /// Something that packets of plain sockets do not have: a type of service, a tunnel, a VRF.
    var wantsMore = false
    /// Something that this program does not know of.
    var hasUnknown = false

    /// Reads the message that a rule was parsed from.
    init(_ rule: RoutingRule) {
        let payload = rule.fingerprint.span
        guard payload.count >= RuleMessage.headerByteCount else { return }
        // The last word of `struct fib_rule_hdr`; the machine's byte order.
        isInverted = (payload.uint32(at: 8) ?? 0) & UInt32(FIB_RULE_INVERT) != 0
        let lengths = (destination: Int(payload[1]), source: Int(payload[2]))
        wantsMore = payload[3] != 0
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
            case Int(FRA_SUPPRESS_IFGROUP): suppressesGroup = value.uint32().map { $0 != UInt32.max } ?? false
            case Int(FRA_IP_PROTO): transport = value.byte(at: 0)
            case Int(FRA_SPORT_RANGE): sourcePorts = Self.ports(value)
            case Int(FRA_DPORT_RANGE): destinationPorts = Self.ports(value)
            case Int(FRA_TUN_ID): wantsMore = true
            // Every rule of a kernel with VRFs has it; 0 is none.
            case Int(FRA_L3MDEV): if value.byte(at: 0) != 0 { wantsMore = true }
            case let type where type > Int(FRA_DPORT_RANGE): hasUnknown = true
            default: break
            }
        }
    }

    /// `struct fib_rule_port_range`, in the machine's byte order.
    private static func ports(_ value: Span<UInt8>) -> ClosedRange<UInt16>? {
        guard let both = value.uint32() else { return nil }
        let (low, high) = (UInt16(truncatingIfNeeded: both), UInt16(truncatingIfNeeded: both >> 16))
        return low <= high ? low...high : nil
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
        switch selectors.transport.map({ Int($0) }) {
        case Int(IPPROTO_TCP)?: words.append("ipproto tcp")
        case Int(IPPROTO_UDP)?: words.append("ipproto udp")
        case let number?: words.append("ipproto \(number)")
        case nil: break
        }
        if let ports = selectors.sourcePorts { words.append("sport \(ports.ruleText)") }
        if let ports = selectors.destinationPorts { words.append("dport \(ports.ruleText)") }
        if selectors.wantsMore || selectors.hasUnknown { words.append("(and more)") }
        switch Int(action) {
        case Int(FR_ACT_TO_TBL):
            words.append("lookup \(table.ruleText)")
            if let length = selectors.suppressedLength { words.append("suppress_prefixlength \(length)") }
            if selectors.suppressesGroup { words.append("suppress_ifgroup") }
        case Int(FR_ACT_GOTO): words.append("goto \(selectors.target.map(String.init) ?? "?")")
        case Int(FR_ACT_NOP): words.append("nop")
        case Int(FR_ACT_BLACKHOLE): words.append("blackhole")
        case Int(FR_ACT_UNREACHABLE): words.append("unreachable")
        case Int(FR_ACT_PROHIBIT): words.append("prohibit")
        default: words.append("action \(action)")
        }
        return words.joined(separator: " ")
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

extension ClosedRange<UInt16> {
    fileprivate var ruleText: String { lowerBound == upperBound ? "\(lowerBound)" : "\(lowerBound)-\(upperBound)" }
}
