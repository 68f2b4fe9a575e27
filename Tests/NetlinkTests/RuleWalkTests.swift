// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import NetworkModel
import NetworkTypes
import Testing

@testable import Netlink

/// A rule in the words of ip-rule(8), by way of the kernel's message.
private func rule(_ text: String, _ family: AddressFamily = .v4) -> RoutingRule {
    var words = text.split(separator: " ").map(String.init)[...]
    let priority = UInt32(words.removeFirst().dropLast()) ?? 0
    var (source, destination): (Prefix?, Prefix?)
    var (tos, flags, action, table): (UInt8, UInt32, Int, UInt32) = (0, 0, Int(FR_ACT_TO_TBL), 0)
    var attributes = MessageWriter(type: 0, flags: 0)
    let start = attributes.bytes.count
    attributes.attribute(Int(FRA_PRIORITY), priority)
    func range(_ text: String) -> (UInt32, UInt32) {
        let ends = text.split(separator: "-").compactMap { UInt32($0) }
        return (ends[0], ends[ends.count - 1])
    }
    while let word = words.popFirst() {
        switch word {
        case "not": flags |= UInt32(FIB_RULE_INVERT)
        case "nop": action = Int(FR_ACT_NOP)
        case "blackhole": action = Int(FR_ACT_BLACKHOLE)
        case "unreachable": action = Int(FR_ACT_UNREACHABLE)
        case "prohibit": action = Int(FR_ACT_PROHIBIT)
        case "l3mdev": attributes.attribute(Int(FRA_L3MDEV), UInt8(1))
        case "unknown": attributes.attribute(Int(FRA_DPORT_RANGE) + 1, UInt8(1))
        default:
            guard let value = words.popFirst() else { fatalError("\(word) has no value") }
            switch word {
            case "from": source = Prefix(value)
            case "to": destination = Prefix(value)
            case "iif": attributes.attribute(Int(FRA_IIFNAME), text: value)
            case "oif": attributes.attribute(Int(FRA_OIFNAME), text: value)
            case "tos": tos = UInt8(value) ?? 0
            case "fwmark":
                let parts = value.split(separator: "/").compactMap { UInt32($0) }
                attributes.attribute(Int(FRA_FWMARK), parts[0])
                attributes.attribute(Int(FRA_FWMASK), parts.count > 1 ? parts[1] : .max)
            case "uidrange":
                let (low, high) = range(value)
                attributes.attribute(Int(FRA_UID_RANGE)) {
                    $0.append(low)
                    $0.append(high)
                }
            case "ipproto": attributes.attribute(Int(FRA_IP_PROTO), UInt8(value) ?? 0)
            case "sport", "dport":
                let (low, high) = range(value)
                attributes.attribute(Int(word == "sport" ? FRA_SPORT_RANGE : FRA_DPORT_RANGE), low | high << 16)
            case "suppress": attributes.attribute(Int(FRA_SUPPRESS_PREFIXLEN), UInt32(value) ?? 0)
            case "group": attributes.attribute(Int(FRA_SUPPRESS_IFGROUP), UInt32(value) ?? 0)
            case "goto":
                action = Int(FR_ACT_GOTO)
                attributes.attribute(Int(FRA_GOTO), UInt32(value) ?? 0)
            case "lookup": table = UInt32(value) ?? 0
            default: fatalError("unknown word \(word)")
            }
        }
    }
    if let source { attributes.attribute(Int(FRA_SRC), source.address) }
    if let destination { attributes.attribute(Int(FRA_DST), destination.address) }
    attributes.attribute(Int(FRA_TABLE), table)
    var header = MessageWriter(type: 0, flags: 0)
    header.append(family.kernelNumber)
    for byte in [destination?.length ?? 0, source?.length ?? 0, Int(tos), 0, 0, 0, action] {
        header.append(UInt8(truncatingIfNeeded: byte))
    }
    header.append(flags)
    let payload = Array(header.bytes[start...] + attributes.bytes[start...])
    guard let parsed = RuleMessage.parse(payload.span) else { fatalError("no rule: \(text)") }
    return parsed
}

/// The rules that each family has from the beginning (`ip rule`), and some before the second of them.
private func rules(_ texts: [String]) -> [RoutingRule] {
    ["0: lookup 255"].map { rule($0) } + texts.map { rule($0) }
        + ["32766: lookup 254", "32767: lookup 253"].map { rule($0) }
}

private func packet(_ source: String? = nil) -> RoutedPacket {
    RoutedPacket(
        destination: .v4(IPv4Address(203, 0, 113, 9)), source: source.flatMap { IPAddress($0) }, transport: 6,
        port: 443,
        user: 1000)
}

@Suite("which policy rule decided")
struct RuleWalkTests {
    @Test(
        "a route: the first rule that selects the packet and leads to the route's table",
        arguments: [
            ([], "254/0", "32766"),
            (["100: lookup 51820"], "51820/0", "100"),
            // wg-quick: the main table is looked up first, but for its default.
            (["5208: lookup 254 suppress 0", "5209: not fwmark 51820 lookup 51820"], "51820/0", "5209"),
            (["5208: lookup 254 suppress 0", "5209: not fwmark 51820 lookup 51820"], "254/24", "5208"),
            (["5208: lookup 254 suppress 24"], "254/24", "32766"),
            (["50: fwmark 255/255 lookup 254"], "254/0", "32766"),
            (["50: fwmark 256/255 lookup 254"], "254/0", "50"),
            (["50: from 192.0.2.0/24 lookup 254"], "254/0", "32766"),
            (["50: not from 192.0.2.0/24 lookup 254"], "254/0", "50"),
            (["50: to 203.0.113.0/24 lookup 254"], "254/0", "50"),
            (["50: to 198.51.100.0/24 lookup 254"], "254/0", "32766"),
            (["50: iif lo lookup 254"], "254/0", "50"), (["50: iif eth0 lookup 254"], "254/0", "32766"),
            (["50: oif eth0 lookup 254"], "254/0", "32766"),
            (["50: uidrange 1000-1000 lookup 254"], "254/0", "50"),
            (["50: uidrange 1001-2000 lookup 254"], "254/0", "32766"),
            (["50: ipproto 6 lookup 254"], "254/0", "50"), (["50: ipproto 17 lookup 254"], "254/0", "32766"),
            (["50: dport 400-500 lookup 254"], "254/0", "50"), (["50: dport 80 lookup 254"], "254/0", "32766"),
            (["50: sport 1-65535 lookup 254"], "254/0", "32766"), (["50: tos 16 lookup 254"], "254/0", "32766"),
            (["50: l3mdev"], "254/0", "32766"), (["50: nop", "51: lookup 254"], "254/0", "51"),
            (["50: goto 70", "60: lookup 254", "70: lookup 254"], "254/0", "70"),
            (["50: goto 71", "60: lookup 254"], "254/0", "60"),
            (["50: from 10.0.0.0/8 goto 70", "60: lookup 254", "70: lookup 254"], "254/0", "60"),
            // What cannot be seen makes what comes after it doubtful.
            (["50: unknown lookup 254"], "254/0", "32766?"), (["50: unknown lookup 7"], "254/0", "32766"),
            (["50: lookup 254 group 3"], "254/0", "32766?"), (["50: uidrange 0-65534 lookup 254"], "254/0", "32766?"),
            (["50: unknown goto 70", "60: lookup 254", "70: lookup 254"], "254/0", "60?"),
            ([], "99/0", "none"),
        ] as [([String], String, String)])
    func routes(texts: [String], answer: String, expected: String) {
        let parts = answer.split(separator: "/").compactMap { Int($0) }
        let found = RuleWalk(rules(texts), packet()).leading(
            to: RouteTable(rawValue: UInt32(parts[0])), length: parts[1])
        #expect((found.map { "\($0.rule.priority)\($0.isCertain ? "" : "?")" } ?? "none") == expected)
    }

    @Test("rules that select by the source decide once it is chosen")
    func source() {
        let all = rules(["50: from 192.0.2.0/24 lookup 7"])
        #expect(
            RuleWalk(all, packet("192.0.2.10")).leading(to: RouteTable(rawValue: 7), length: 0)?.rule.priority == 50)
        #expect(RuleWalk(all, packet("198.51.100.5")).leading(to: RouteTable(rawValue: 7), length: 0) == nil)
    }

    @Test("other families' rules, and a route whose length is not known")
    func others() {
        let mixed = [rule("10: lookup 254", .v6)] + rules(["5208: lookup 254 suppress 0"])
        #expect(RuleWalk(mixed, packet()).leading(to: .main, length: 0)?.rule.priority == 32766)
        let doubtful = RuleWalk(mixed, packet()).leading(to: .main, length: nil)
        #expect(doubtful?.rule.priority == 32766 && doubtful?.isCertain == false)
    }

    @Test(
        "a refusal: the first rule that refuses, or whose table has an error route",
        arguments: [
            ([], [], "none"), (["50: unreachable"], [], "50"), (["50: prohibit", "60: blackhole"], [], "50"),
            (["50: from 10.0.0.0/8 prohibit", "60: blackhole"], [], "60"),
            (["50: lookup 7", "60: unreachable"], ["7 unreachable 0"], "50"),
            (["50: lookup 7", "60: unreachable"], ["7 throw 0"], "60"),
            (["50: lookup 7", "60: unreachable"], [], "60"),
            (["50: lookup 7 suppress 0", "60: lookup 7"], ["7 blackhole 0"], "60"),
            (["50: lookup 7"], ["7 blackhole 0", "7 unicast 24", "254 prohibit 0"], "32766"),
            (["50: unknown unreachable", "60: prohibit"], [], "60?"),
        ] as [([String], [String], String)])
    func refusals(texts: [String], routes: [String], expected: String) {
        let found = RuleWalk(rules(texts), packet()).refusing { table -> Route? in
            let matches = routes.map { $0.split(separator: " ").map(String.init) }.filter {
                $0[0] == "\(table.rawValue)"
            }
            let types: [String: RouteType] = [
                "unreachable": .unreachable, "blackhole": .blackhole, "prohibit": .prohibit, "throw": .throw,
            ]
            guard let best = matches.max(by: { (Int($0[2]) ?? 0) < (Int($1[2]) ?? 0) }), let length = Int(best[2]),
                let prefix = Prefix(packet().destination, length: length)
            else { return nil }
            return Route(destination: prefix, table: table, type: types[best[1]] ?? .unicast)
        }
        #expect((found.map { "\($0.rule.priority)\($0.isCertain ? "" : "?")" } ?? "none") == expected)
    }

    @Test(
        "rules in the words of ip-rule(8)",
        arguments: [
            ("5209: not fwmark 51820 lookup 51820", "5209: not from all fwmark 0xca6c lookup 51820"),
            (
                "5: from 10.0.0.0/8 to 203.0.113.9/32 iif lo lookup 254",
                "5: from 10.0.0.0/8 to 203.0.113.9 iif lo lookup main"
            ),
            (
                "5: ipproto 6 dport 443 uidrange 0-999 lookup 7",
                "5: from all uidrange 0-999 ipproto tcp dport 443 lookup 7"
            ),
            ("5: ipproto 17 sport 1-5 prohibit", "5: from all ipproto udp sport 1-5 prohibit"),
            ("5: lookup 254 suppress 0", "5: from all lookup main suppress_prefixlength 0"),
            ("5: goto 9", "5: from all goto 9"), ("5: unknown nop", "5: from all (and more) nop"),
        ])
    func words(given: String, expected: String) {
        #expect(rule(given).text == expected)
    }
}
