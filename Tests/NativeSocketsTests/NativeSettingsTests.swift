// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import NetworkModel
import NetworkTypes
import Testing

@testable import NativeSockets

@Suite("settings of native sockets") struct NativeSettingsTests {
    private static func rules() -> TranslationRules {
        var rules = TranslationRules()
        for family in AddressFamily.allCases {
            rules.families[family].isEnabled = true
            rules.families[family].leavesHost = true
        }
        rules.families.v4.guestAddress = IPAddress("192.0.2.10")
        rules.families.v4.guestAddresses = [IPAddress("192.0.2.10"), IPAddress("192.0.2.11")].reduce(into: []) {
            if let address = $1 { $0.insert(address) }
        }
        rules.families.v4.gateway = IPAddress("192.0.2.1")
        rules.families.v4.hostLoopback = IPAddress("192.0.2.1")
        rules.families.v4.dnsForward = IPAddress("198.51.100.53")
        rules.families.v4.mappedGuestAddress = IPAddress("198.51.100.54")
        rules.families.v6.guestAddress = IPAddress("2001:db8::10")
        rules.families.v4.outboundInterface = "wlan0"
        rules.families.v4.outboundAddress = IPAddress("192.0.2.10")
        return rules
    }

    private static func settings(_ rules: TranslationRules = rules()) -> NativeSettings {
        NativeSettings(rules, interface: "eth0", hostAddresses: IPAddress("203.0.113.77").map { [$0] })
    }

    @Test(
        "only destinations that mean themselves are eligible",
        arguments: [
            ("203.0.113.1", true), ("2001:db8:f::1", true), ("192.0.2.99", true),
            ("127.0.0.1", false), ("127.255.0.9", false), ("::1", false), ("0.0.0.0", false), ("0.1.2.3", false),
            ("::", false), ("::7f00:1", false), ("169.254.169.254", false), ("fe80::1", false), ("224.0.0.1", false),
            ("ff02::1", false), ("255.255.255.255", false), ("192.0.2.1", false), ("192.0.2.10", false),
            ("192.0.2.11", false), ("198.51.100.53", false), ("198.51.100.54", false), ("203.0.113.77", false),
            ("2001:db8::10", false), ("::ffff:127.0.0.1", false), ("::ffff:192.0.2.1", false),
        ])
    func eligibility(text: String, isNative: Bool) throws {
        let address = try #require(IPAddress(text)).asIPv6
        #expect((Self.settings().verdict(to: address, port: 80) == .native) == isNative)
        #expect(Self.settings().verdict(to: address, port: 0) == .namespace)
        #expect(NativeSettings().verdict(to: address, port: 80) == .namespace)
    }

    @Test("nothing is eligible in local mode, or where the family is off")
    func localMode() throws {
        let address = try #require(IPAddress("203.0.113.1")).asIPv6
        var rules = Self.rules()
        rules.families.v4.leavesHost = false
        #expect(Self.settings(rules).verdict(to: address, port: 80) == .namespace)
        rules.families.v4.leavesHost = true
        rules.families.v4.isEnabled = false
        #expect(Self.settings(rules).verdict(to: address, port: 80) == .namespace)
    }

    @Test("settings survive being sent, and what is not complete is refused")
    func messages() throws {
        let settings = Self.settings()
        let text = settings.json.compactText
        #expect(NativeSettings(try JSONValue(parsing: text)) == settings)
        for text in ["{}", #"{"interface":"a"}"#, "null", #"{"interface":"a","host":[1],"IPv4":{},"IPv6":{}}"#] {
            #expect(NativeSettings(try JSONValue(parsing: text)) == nil)
        }
    }

    @Test("the namespace sees its own address, and the host's where it has the same")
    func shownAddresses() throws {
        let settings = Self.settings()
        let (own, other) = (try #require(IPAddress("192.0.2.11")), try #require(IPAddress("10.1.1.1")))
        #expect(settings.shownAddress(of: own) == own)
        #expect(settings.shownAddress(of: other) == IPAddress("192.0.2.10"))
    }
}

@Suite("the command's filter") struct CommandFilterTests {
    @Test("it fits, ends in an answer, and jumps only forward within itself")
    func isWellFormed() {
        let program = SupervisorProcess.commandFilter()
        #expect((40...250).contains(program.count))
        for (position, instruction) in program.enumerated() {
            let code = UInt16(truncatingIfNeeded: instruction)
            let (yes, no) = (Int(instruction >> 16 & 0xFF), Int(instruction >> 24 & 0xFF))
            // BPF_JMP
            if code & 7 == 5 { #expect(position + 1 + max(yes, no) < program.count, "\(position)") }
        }
        // BPF_RET
        #expect(program.last.map { $0 & 7 } == 6)
    }
}
