// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Control
import Forwarding
import JSON
import LinuxSystem
import NetworkModel
import NetworkTypes
import Options
import PortForwarding
import Testing

@testable import Engine

@Suite("What control clients ask of flows and forwarding rules") struct CommandTests {
    private static let commands = ForwardCommands(
        Invocation(), ephemeralRange: EphemeralRange.fallback)

    private static func object(_ text: String) throws -> JSONObject {
        try #require(try JSONValue(parsing: text).object)
    }

    private static func rules(_ specification: String, _ option: String = "tcp-ports") throws -> [PortForward] {
        try commands.rules([["option": .string(option), "specification": .string(specification)]])
    }

    // MARK: Rules

    @Test("rules are read as on the command line, of all four options")
    func rulesAreRead() throws {
        let rules = try Self.commands.rules(
            try JSONValue(
                parsing: """
                    [{"option": "tcp-ports", "specification": "8080:80"},
                     {"option": "udp-ports", "specification": "0.0.0.0/53:10.89.0.2"},
                     {"option": "tcp-ns", "specification": "5432"}, {"option": "udp-ns", "specification": "none"}]
                    """))
        #expect(
            rules.map { "\($0.direction == .inbound ? "in" : "out") \($0)" }
                == ["in TCP *:8080 => 80", "in UDP 0.0.0.0:53 => 10.89.0.2:53", "out TCP *:5432 => 5432"])
    }

    @Test(
        "what is no rule is refused with its place",
        arguments: [
            (#"{}"#, "'rules' must be an array"), (#"[5]"#, "a rule is an object"),
            (#"[{"option": "tcp-ports"}]"#, "a rule is an object"),
            (#"[{"option": "tcp", "specification": "80"}]"#, "'tcp' is no option of rules"),
            (#"[{"option": "tcp-ports", "specification": "80-70"}]"#, "--tcp-ports 80-70: "),
            (
                #"[{"option": "tcp-ports", "specification": "80"}, {"option": "tcp-ports", "specification": "80"}]"#,
                "conflicts with"
            ),
            (#"[{"option": "tcp-ports", "specification": "80", "x": 1}]"#, "a rule is an object"),
        ])
    func whatIsNoRule(text: String, words: String) throws {
        let value = try JSONValue(parsing: text)
        #expect { try Self.commands.rules(value) } throws: { "\($0)".contains(words) }
    }

    @Test("a protocol that the command line has switched off is refused")
    func aProtocolThatIsOff() throws {
        var invocation = Invocation()
        invocation.disabledFeatures.insert(.udp)
        let commands = ForwardCommands(invocation, ephemeralRange: EphemeralRange.fallback)
        #expect { try commands.rules([["option": "udp-ports", "specification": "53"]]) } throws: {
            "\($0)".contains("--no-udp")
        }
    }

    @Test("adding refuses conflicts; removing needs a rule that is in force exactly as it is")
    func addingAndRemoving() throws {
        let first = try Self.rules("8080:80")
        let both = try ForwardCommands.adding(try Self.rules("8081"), to: first)
        #expect(both.count == 2)
        #expect { try ForwardCommands.adding(try Self.rules("127.0.0.1/8080"), to: both) } throws: {
            "\($0)".contains("TCP 127.0.0.1:8080 conflicts with TCP *:8080")
        }
        #expect(try ForwardCommands.removing(first, from: both) == Self.rules("8081"))
        #expect { try ForwardCommands.removing(try Self.rules("8080"), from: both) } throws: {
            "\($0)" == "no such rule is in force: TCP *:8080 => 8080; TCP *:8080 => 80 is"
        }
        #expect(throws: PortForwardingError.self) { try ForwardCommands.removing(first + first, from: both) }
    }

    @Test("a foreign client's rules of the namespace have no addresses")
    func foreignRules() throws {
        var rule = try #require(try Self.rules("5432", "tcp-ns").first)
        #expect(try Self.commands.checkedForeign([rule]) == [rule])
        rule.targetAddress = IPAddress("192.0.2.1")
        #expect { try Self.commands.checkedForeign([rule]) } throws: { "\($0)".contains("without addresses") }
    }

    @Test("with a virtual machine, rules that look into the guest are refused to every kind of client")
    func rulesOfVirtualMachines() throws {
        var invocation = Invocation()
        invocation.mode = .virtualMachine(VirtualMachineLink())
        let commands = ForwardCommands(invocation, ephemeralRange: EphemeralRange.fallback)
        func rules(_ specification: String, _ option: String) throws -> [PortForward] {
            try commands.rules([["option": .string(option), "specification": .string(specification)]])
        }
        #expect(try rules("8080:80", "tcp-ports").count == 1)
        for (specification, option) in [("auto", "tcp-ports"), ("5432", "tcp-ns"), ("53", "udp-ns")] {
            #expect { try rules(specification, option) } throws: { "\($0)".contains("virtual machine") }
            let foreign = try Self.rules(specification, option)
            #expect { try commands.checkedForeign(foreign) } throws: { "\($0)".contains("virtual machine") }
        }
    }

    @Test("what a rule is at is one of three words, with the cause")
    func whatARuleIsAt() throws {
        func condition(_ rule: PortForward, _ open: Int, _ wait: ForwardState.Wait?) -> String {
            let state = ForwardState(rule: rule, openPorts: open, takenPorts: 0, wait: wait)
            let condition = ForwardCommands.condition(of: state)
            return "\(condition.state) \(condition.cause ?? "-")"
        }
        let plain = try #require(try Self.rules("80-82").first)
        #expect(condition(plain, 3, nil) == "listening -")
        #expect(condition(plain, 1, nil) == "partial 2 of 3 ports are not to be had")
        let named = try #require(try Self.rules("192.0.2.1%eth7/80").first)
        #expect(condition(named, 0, .interface) == "waiting interface eth7")
        #expect(condition(named, 1, .address) == "waiting address 192.0.2.1")
        let scanned = try #require(try Self.rules("80-82,auto").first)
        #expect(condition(scanned, 0, nil) == "waiting a listener in the namespace")
        #expect(condition(scanned, 1, nil) == "listening -")
    }

    @Test(
        "what is waited for listens when all its ports do, in rules of one option",
        arguments: [
            ("8080:80", true), ("-t 8080:80", true), ("--tcp-ports 8080:80", true), ("-u 8080:80", false),
            ("8080", false), ("8081", false), ("TCP *:8080 => 80", true), ("TCP *:8080 => 81", false),
            ("9005-9006", true), ("9005:9006", false), ("9000-9010", true), ("9000-9011", false),
            ("127.0.0.1/9005", false), ("5300,5301", true), ("5300,8080:80", false), ("7000", false),
            ("6000-6001", false),
        ])
    func whatIsWaitedFor(text: String, expected: Bool) throws {
        func states(_ specification: String, _ option: String = "tcp-ports", missing: Int = 0) throws -> [ForwardState]
        {
            try Self.rules(specification, option).map { rule in
                let count = Int(rule.last.rawValue - rule.first.rawValue) + 1
                return ForwardState(rule: rule, openPorts: count - missing, takenPorts: 0, wait: nil)
            }
        }
        var all = try states("8080:80") + states("9000-9010") + states("5300-5301", "udp-ns")
        all += try states("6000-6001", missing: 1)
        all += try Self.rules("192.0.2.9/7000").map {
            ForwardState(rule: $0, openPorts: 1, takenPorts: 0, wait: .address)
        }
        #expect(ForwardCommands.listens(try Self.commands.wanted(text), all) == expected)
    }

    // MARK: Flows

    @Test("a filter is read, and what is none is refused")
    func aFilterIsRead() throws {
        let commands = try FlowCommands(
            listing: Self.object(
                """
                {"protocol": "tcp", "guest": "192.0.2.10", "guest_port": 40112, "remote": "2001:db8::1", "remote_port": 443,
                 "host": "192.0.2.10", "host_port": 51200, "interface": "wlan0", "state": "established", "sort": "bytes",
                 "limit": 10}
                """))
        var expected = FlowFilter()
        expected.transports = [.tcp]
        expected.states = [.established]
        expected.guestAddress = IPAddress("192.0.2.10")
        expected.guestPort = 40112
        expected.remoteAddress = IPAddress("2001:db8::1")
        expected.remotePort = 443
        expected.hostAddress = IPAddress("192.0.2.10")
        expected.hostPort = 51200
        expected.hostInterface = "wlan0"
        #expect(commands.filter == expected && commands.order == .bytes && commands.limit == 10)
        for text in [
            #"{"protocol": "sctp"}"#, #"{"guest": "x"}"#, #"{"guest_port": 65536}"#, #"{"state": "open"}"#,
            #"{"sort": "name"}"#, #"{"limit": -1}"#, #"{"all": true}"#, #"{"interface": 5}"#,
        ] {
            #expect(throws: ControlError.self) { try FlowCommands(listing: Self.object(text)) }
        }
    }

    @Test("killing needs to be told which flows, or all explicitly")
    func killingNeedsToBeTold() throws {
        #expect(throws: ControlError.self) { try FlowCommands(killing: JSONObject()) }
        #expect(throws: ControlError.self) { try FlowCommands(killing: Self.object(#"{"all": false}"#)) }
        #expect(throws: ControlError.self) {
            try FlowCommands(killing: Self.object(#"{"all": true, "protocol": "tcp"}"#))
        }
        #expect(try FlowCommands(killing: Self.object(#"{"all": true}"#)).filter.isEmpty)
        #expect(try FlowCommands(killing: Self.object(#"{"protocol": "udp"}"#)).filter.transports == [.udp])
    }
}
