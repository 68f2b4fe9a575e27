// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import Testing

/// A table of TCP rules from the host; throws what refused them.
private func table(_ specifications: [String]) throws -> ForwardRuleSet {
    var table = ForwardRuleSet()
    for text in specifications {
        try table.add(
            PortSpecification.parse(text, direction: .inbound, transport: .tcp, ephemeralRange: ephemeral))
    }
    return table
}

@Suite("Forwarding table")
struct ForwardRuleSetTests {
    @Test(
        "accepts rules that listen apart",
        arguments: [
            ["127.0.0.1/80", "127.0.0.2/80"], ["0.0.0.0/80", "::/80"], ["80", "81"], ["auto,~8080", "8080"],
            ["%eth0/80", "%lo/80"], ["127.0.0.1%lo/80", "127.0.0.1%eth0/80"], ["127.0.0.1/80", "::/80"],
            ["::1/80", "0.0.0.0/80"], ["40000", "all"],
        ])
    func accepts(specifications: [String]) throws {
        #expect(try table(specifications).forwards.count >= 2)
    }

    @Test(
        "refuses rules that listen on the same",
        arguments: [
            ["80", "80"], ["80", "127.0.0.1/80"], ["0.0.0.0/80", "127.0.0.1/80"], ["auto", "80"], ["::/80", "::1/80"],
            ["80-90", "90-100"], ["80", "::1/80"], ["%eth0/80", "80"], ["%eth0/80", "192.0.2.1%eth0/80"],
            ["192.0.2.1%eth0/80", "192.0.2.1/80"], ["all", "auto"],
        ])
    func refuses(specifications: [String]) {
        #expect {
            try table(specifications)
        } throws: { error in
            guard case .conflict? = error as? ForwardRuleSetError else { return false }
            return true
        }
        #expect(throws: ForwardRuleSetError.self) { try table(specifications.reversed()) }
    }

    @Test("TCP and UDP, inbound and outbound are apart")
    func apart() throws {
        var table = ForwardRuleSet()
        for direction: ForwardDirection in [.inbound, .outbound] {
            for transport: TransportProtocol in [.tcp, .udp] {
                try table.add(PortSpecification.parse("80", direction: direction, transport: transport))
            }
        }
        #expect(table.forwards.count == 4)
    }

    @Test("255 rules a direction, over both protocols; a refusal leaves the table as it was")
    func ruleLimit() throws {
        var table = ForwardRuleSet()
        let odd = (0..<200).map { String(2 * $0 + 1) }
        try table.add(
            PortSpecification.parse(odd.joined(separator: ","), direction: .inbound, transport: .tcp))
        try table.add(
            PortSpecification.parse(odd[..<55].joined(separator: ","), direction: .inbound, transport: .udp))
        let full = table
        #expect(throws: ForwardRuleSetError.tooManyRules(.inbound)) {
            try table.add(PortSpecification.parse("1001", direction: .inbound, transport: .udp))
        }
        #expect(table == full)
        try table.add(PortSpecification.parse("1001", direction: .outbound, transport: .udp))
        #expect(table.forwards.count == 256)
    }

    @Test("327,680 sockets a direction")
    func socketLimit() throws {
        var table = ForwardRuleSet()
        for host in 1...5 {
            try table.add(
                PortSpecification.parse("127.0.0.\(host)/1-65535", direction: .inbound, transport: .tcp))
        }
        try table.add(PortSpecification.parse("127.0.0.6/1-5", direction: .inbound, transport: .tcp))
        #expect(throws: ForwardRuleSetError.tooManySockets(.inbound, needed: 327_681)) {
            try table.add(PortSpecification.parse("127.0.0.7/1", direction: .inbound, transport: .tcp))
        }
    }

    @Test("the message names both rules")
    func message() {
        #expect {
            try table(["80-90", "127.0.0.1%lo/85"])
        } throws: { error in
            "\(error)".hasPrefix("TCP 127.0.0.1%lo:85 conflicts with TCP *:80-90, which is forwarded already")
        }
    }
}
