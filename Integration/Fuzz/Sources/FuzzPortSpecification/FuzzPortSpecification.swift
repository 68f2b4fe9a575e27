// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options

/// Parses the input as a port specification in every setting; what comes out must be sound.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let text = String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    for direction: ForwardDirection in [.inbound, .outbound] {
        for families: Set<AddressFamily> in [[.v4], [.v6], [.v4, .v6]] {
            check(text, direction, families)
        }
    }
    return 0
}

private func check(_ text: String, _ direction: ForwardDirection, _ families: Set<AddressFamily>) {
    do {
        let rules = try PortSpecification.parse(
            text, direction: direction, transport: .tcp, families: families,
            ephemeralRange: Port(32768)...Port(60999))
        var table = ForwardRuleSet()
        do {
            try table.add(rules)
        } catch {
            preconditionFailure("rules of one specification conflict: \(error)")
        }
        for rule in rules {
            precondition(rule.first.rawValue > 0 && rule.first <= rule.last)
            precondition(rule.targetFirst.rawValue > 0)
            precondition(rule.targetFirst.rawValue <= UInt16.max - (rule.last.rawValue - rule.first.rawValue))
        }
    } catch {
        precondition(error.offset >= 0 && error.length >= 0 && error.offset + error.length <= text.utf8.count)
        precondition(!error.description.utf8.contains(UInt8(ascii: "\n")))
    }
}
