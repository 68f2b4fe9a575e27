// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Policy
import Testing

@testable import Options

@Suite("What may leave, on the command line")
struct EgressOptionTests {
    @Test("nothing is asked for unless an option does")
    func nothing() throws {
        let found = try invocation("--config-net").egress
        #expect(!found.hasRules && !found.recordsFlows && found == EgressRequest())
    }

    @Test("rules and files keep their order")
    func order() throws {
        let found = try invocation(
            "--egress deny --allow tcp:example.org:443 --egress-file rules --deny private --allow [2001:db8::1]:53"
        ).egress
        #expect(found.defaultVerdict == .deny && found.hasRules)
        let words = found.parts.map { part in
            switch part {
            case .rule(let rule): "\(rule)"
            case .file(let path): "file \(path)"
            }
        }
        #expect(
            words == ["allow tcp:example.org:443", "file rules", "deny private", "allow [2001:db8::1]:53"])
    }

    @Test("rules by name have a relay")
    func relay() throws {
        #expect(try invocation("--allow example.org").configuration.dnsForward.v4 == address("169.254.1.1"))
        #expect(try invocation("--allow 192.0.2.1").configuration.dnsForward.v4 == nil)
        let given = try invocation("--allow example.org --dns-forward 2001:db8::53").configuration.dnsForward
        #expect(try given == .init(v4: nil, v6: address("2001:db8::53")))
        #expect(usageError("-6 --allow example.org")?.message.contains("--dns-forward") == true)
        #expect(usageError("-D none --allow example.org")?.message.contains("--dns-forward") == true)
    }

    @Test("the flow log is a file or a descriptor")
    func flowLog() throws {
        #expect(try invocation("--flow-log fd:3").egress.flowLog == .descriptor(3))
        #expect(try invocation("--flow-log a/b").egress.flowLog == .file("a/b"))
        #expect(try invocation("--learn x").egress.recordsFlows)
    }

    @Test(
        "wrong values are refused with the option and the remedy",
        arguments: [
            ("--egress maybe", "--egress 'maybe': give allow or deny"),
            ("--allow 10.0.0.1/8", "--allow '10.0.0.1/8': '10.0.0.1/8' has bits beyond its length"),
            ("--deny privat", "--deny 'privat': 'privat' is none of"),
            ("--denied-names servfail", "--denied-names 'servfail': give refused or nxdomain"),
            ("--flow-log fd:x", "--flow-log 'fd:x': give fd:N"),
            ("--max-flows 0", "--max-flows '0': give a number of flows"),
            ("--max-flow-rate 1/m", "--max-flow-rate '1/m': give a number of flows a second"),
            ("--deny-silently", "--deny-silently: nothing is denied"),
            ("-t none -u none --allow-from 10.0.0.0/8", "--allow-from: no port is forwarded"),
            ("--allow-from 10.0.0.1/8", "--allow-from '10.0.0.1/8': bits beyond the length"),
        ])
    func refused(line: String, beginning: String) {
        let message = usageError(line)?.message ?? "accepted"
        #expect(message.hasPrefix(beginning), "\(message)")
    }
}
