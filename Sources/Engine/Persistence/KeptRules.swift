// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import JSON
internal import NetworkModel
internal import NetworkTypes

/// The rules of forwarded ports as bytes, which a process leaves to its successor.
enum KeptRules {
    /// Makes the bytes.
    static func bytes(_ rules: [PortForward]) -> [UInt8] {
        let value = JSONValue.array(
            rules.map { rule in
                [
                    "inbound": .bool(rule.direction == .inbound),
                    "transport": JSONValue(rule.transport.rawValue),
                    "address": JSONValue(rule.address.map { "\($0)" }),
                    "interface": JSONValue(rule.interface),
                    "first": JSONValue(Int(rule.first.rawValue)),
                    "last": JSONValue(Int(rule.last.rawValue)),
                    "target": JSONValue(Int(rule.targetFirst.rawValue)),
                    "target_address": JSONValue(rule.targetAddress.map { "\($0)" }),
                    "policy": JSONValue(word(rule.policy)),
                ]
            })
        return Array(value.compactText.utf8)
    }

    /// Reads the bytes; nil if they are not what ``bytes(_:)`` makes.
    static func read(_ bytes: [UInt8]) -> [PortForward]? {
        guard let values = (try? JSONValue(parsing: bytes))?.array else { return nil }
        var rules: [PortForward] = []
        for value in values {
            guard let rule = rule(value) else { return nil }
            rules.append(rule)
        }
        return rules
    }

    private static func rule(_ value: JSONValue) -> PortForward? {
        guard let isInbound = value["inbound"]?.bool,
            let transport = value["transport"]?.string.flatMap({ TransportProtocol(rawValue: $0) }),
            let first = port(value["first"]), let last = port(value["last"]), let target = port(value["target"]),
            first <= last, Int(target.rawValue) + Int(last.rawValue) - Int(first.rawValue) <= Int(UInt16.max),
            let policy = [PortForward.Policy.explicit, .bestEffort, .scanned].first(where: {
                word($0) == value["policy"]?.string
            })
        else { return nil }
        var rule = PortForward(
            direction: isInbound ? .inbound : .outbound, transport: transport, interface: value["interface"]?.string,
            first: first, last: last, targetFirst: target, policy: policy)
        if let text = value["address"]?.string {
            guard let address = IPAddress(text) else { return nil }
            rule.address = address
        }
        if let text = value["target_address"]?.string {
            guard let address = IPAddress(text) else { return nil }
            rule.targetAddress = address
        }
        return rule
    }

    private static func port(_ value: JSONValue?) -> Port? {
        value?.integer.flatMap { UInt16(exactly: $0) }.map { Port($0) }
    }

    private static func word(_ policy: PortForward.Policy) -> String {
        switch policy {
        case .explicit: "explicit"
        case .bestEffort: "best-effort"
        case .scanned: "auto"
        }
    }
}
