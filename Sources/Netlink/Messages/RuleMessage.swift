// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import NetworkModel
package import NetworkTypes

/// `RTM_NEWRULE`, `RTM_GETRULE`: `struct fib_rule_hdr` and its attributes.
package enum RuleMessage {
    /// The length of `struct fib_rule_hdr`: family, lengths, TOS, table, reserved, action, flags.
    package static let headerByteCount = 12

    /// The rule in a message, with the whole payload as its fingerprint; nil for other families.
    package static func parse(_ payload: Span<UInt8>) -> RoutingRule? {
        guard payload.count >= headerByteCount, let family = payload.byte(at: 0).flatMap(AddressFamily.init),
            let table = payload.byte(at: 4), let action = payload.byte(at: 7)
        else { return nil }
        var rule = RoutingRule(
            family: family, priority: 0, table: RouteTable(rawValue: UInt32(table)), action: action,
            fingerprint: payload.array())
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(FRA_PRIORITY): rule.priority = value.uint32() ?? 0
            case Int(FRA_TABLE): rule.table = RouteTable(rawValue: value.uint32() ?? UInt32(table))
            default: break
            }
        }
        return rule
    }

    /// The request for all rules of a family.
    package static func dump(_ family: AddressFamily) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETRULE, flags: NLM_F_DUMP)
        writer.append(family.kernelNumber)
        for _ in 1..<headerByteCount { writer.append(UInt8(0)) }
        return writer
    }
}
