// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Policy
import Wire

/// Takes the input as a file of egress rules, and behind a zero byte as openings of 19 bytes that the rules decide on.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    let split = bytes.firstIndex(of: 0) ?? bytes.endIndex
    var rest = bytes[min(split + 1, bytes.endIndex)...]
    do throws(PolicyError) {
        let rules = try RuleFile.read(Array(bytes[..<split]), name: "rules")
        let policy = EgressPolicy(rules: rules, default: .deny)
        let surroundings = PolicySurroundings()
        while rest.count >= 19 {
            let (kind, port) = (rest.removeFirst(), UInt16(rest.removeFirst()) << 8 | UInt16(rest.removeFirst()))
            func half(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
            let address = IPv6Address(high: half(rest.prefix(8)), low: half(rest.dropFirst(8).prefix(8)))
            rest = rest.dropFirst(16)
            let opening = EgressPolicy.Opening(
                [.tcp, .udp, .icmp][Int(kind) % 3], to: IPAddress(unmapping: address), port: port)
            let decision = policy.decide(opening, in: surroundings)
            if let rule = decision.rule { precondition(rule < rules.count) }
        }
    } catch {
        precondition(!"\(error)".isEmpty && !"\(error)".utf8.contains { $0 < 0x20 }, "\(error)")
    }
    return 0
}
