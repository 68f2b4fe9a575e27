// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Policy
import Testing
import Wire

/// Reads rules, one a line as in a file.
func rules(_ text: String) throws -> [PolicyRule] {
    try RuleFile.read(Array(text.utf8), name: "rules")
}

func address(_ text: String) throws -> IPAddress {
    try #require(IPAddress(text))
}

func dnsName(_ text: String) throws -> DNSName {
    try #require(DNSName(text))
}

/// Builds the bytes of an answer: what a resolver of the host's would send.
struct AnswerBuilder {
    private var writer = MessageWriter()
    private var count: UInt16 = 0

    init(_ question: DNSName, type: UInt16 = 1, code: UInt16 = 0) {
        for value: UInt16 in [0x1234, 0x8180 | code, 1, 0, 0, 0] { writer.append(value) }
        DNSQuestion(name: question, type: type).write(to: &writer)
    }

    var bytes: [UInt8] {
        var copy = writer
        copy.patch(count, at: 6)
        return copy.bytes
    }

    func answer() throws -> DNSAnswer { try DNSAnswer(bytes.span) }

    mutating func add(_ owner: DNSName, _ type: UInt16, _ data: [UInt8], seconds: UInt32) {
        writer.append(owner.wireBytes)
        writer.append(type)
        writer.append(1 as UInt16)
        writer.append(seconds)
        writer.append(UInt16(data.count))
        writer.append(data)
        count += 1
    }

    mutating func add(_ owner: DNSName, _ address: IPAddress, seconds: UInt32 = 300) {
        var data = MessageWriter()
        switch address {
        case .v4(let v4):
            data.append(v4)
            add(owner, 1, data.bytes, seconds: seconds)
        case .v6(let v6):
            data.append(v6)
            add(owner, 28, data.bytes, seconds: seconds)
        }
    }

    mutating func add(_ owner: DNSName, alias: DNSName, seconds: UInt32 = 300) {
        add(owner, 5, alias.wireBytes, seconds: seconds)
    }
}

extension NameTable {
    /// Takes an answer that gives a name addresses.
    mutating func learn(
        _ name: String, _ addresses: [String], seconds: UInt32 = 300, policy: EgressPolicy,
        in surroundings: PolicySurroundings = .init(), now: UInt64
    ) throws -> Outcome {
        let owner = try dnsName(name)
        var builder = AnswerBuilder(owner)
        for text in addresses { builder.add(owner, try address(text), seconds: seconds) }
        return learn(try builder.answer(), policy: policy, in: surroundings, now: now)
    }
}
