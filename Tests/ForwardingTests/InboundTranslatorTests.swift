// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

@testable import Forwarding

@Suite("Translation of inbound flows") struct InboundTranslatorTests {
    static let rules: TranslationRules = {
        var rules = TranslationRules()
        rules.families.v4.isEnabled = true
        rules.families.v4.guestAddress = IPAddress("10.1.0.2")
        rules.families.v4.learnsGuestAddress = true
        rules.families.v4.ownAddress = IPAddress("10.1.0.1")
        rules.families.v4.hostLoopback = IPAddress("10.1.0.1")
        rules.families.v4.hostAddress = IPAddress("10.1.0.2")
        rules.families.v6.isEnabled = true
        rules.families.v6.guestAddress = IPAddress("2001:db8::2")
        rules.families.v6.learnsGuestAddress = true
        rules.families.v6.ownAddress = IPAddress("fe80::9")
        rules.families.v6.hostLoopback = IPAddress("2001:db8::1")
        rules.families.v6.hostAddress = IPAddress("2001:db8::2")
        return rules
    }()

    static func translator(_ change: (inout TranslationRules) -> Void = { _ in }) -> InboundTranslator {
        var rules = Self.rules
        change(&rules)
        var seen = SeenAddresses()
        seen.adopt(rules)
        return InboundTranslator(rules: rules, seen: seen)
    }

    static func text(_ address: IPv6Address?) -> String {
        address.map { "\(IPAddress(unmapping: $0))" } ?? "none"
    }

    static func address(_ text: String) throws -> IPv6Address { try #require(IPAddress(text)).asIPv6 }

    @Test(
        "the source that the namespace sees",
        arguments: [
            ("127.0.0.1", "10.1.0.1"), ("127.0.0.5", "10.1.0.1"), ("10.1.0.2", "10.1.0.1"), ("0.0.0.0", "10.1.0.1"),
            ("192.0.2.7", "192.0.2.7"), ("10.1.0.1", "10.1.0.1"), ("::1", "2001:db8::1"), ("2001:db8::2", "fe80::9"),
            ("2001:db8::77", "2001:db8::77"), ("fe80::5", "fe80::5"),
        ])
    func theSource(client: String, seen: String) throws {
        #expect(Self.text(Self.translator().source(of: try Self.address(client))) == seen)
    }

    @Test("a mapping of its own for loopback, for the host's address, and none")
    func mappings() throws {
        let own = try Self.address("10.1.0.2")
        let loopback = try Self.address("127.0.0.1")
        let mapped = Self.translator {
            $0.families.v4.hostLoopback = IPAddress("10.9.9.9")
            $0.families.v4.mappedGuestAddress = IPAddress("169.254.1.2")
        }
        #expect(Self.text(mapped.source(of: loopback)) == "10.9.9.9")
        #expect(Self.text(mapped.source(of: own)) == "169.254.1.2")
        let none = Self.translator { $0.families.v4.hostLoopback = nil }
        #expect(Self.text(none.source(of: loopback)) == "10.1.0.1")
        let noGateway = Self.translator {
            $0.families.v4.hostLoopback = nil
            $0.families.v4.ownAddress = nil
        }
        #expect(noGateway.source(of: loopback) == nil)
        #expect(Self.text(noGateway.source(of: try Self.address("192.0.2.7"))) == "192.0.2.7")
        let off = Self.translator { $0.families.v4.isEnabled = false }
        #expect(off.source(of: try Self.address("192.0.2.7")) == nil)
    }

    @Test("the target is the address that the namespace was last seen to use, of the source's kind")
    func theTarget() throws {
        var translator = Self.translator()
        let v4 = try Self.address("192.0.2.7")
        let v6 = try Self.address("2001:db8::77")
        let linkLocal = try Self.address("fe80::5")
        #expect(Self.text(translator.target(for: v4, .v4)) == "10.1.0.2")
        #expect(Self.text(translator.target(for: v6, .v6)) == "2001:db8::2")
        #expect(Self.text(translator.target(for: linkLocal, .v6)) == "2001:db8::2")
        for address in ["10.1.0.3", "fe80::aa", "2001:db8::3", "0.0.0.0", "::", "127.0.0.1", "224.0.0.1"] {
            translator.seen.observe(try Self.address(address), rules: translator.rules)
        }
        #expect(Self.text(translator.target(for: v4, .v4)) == "10.1.0.3")
        #expect(Self.text(translator.target(for: v6, .v6)) == "2001:db8::3")
        #expect(Self.text(translator.target(for: linkLocal, .v6)) == "fe80::aa")
        // What spliced connections are told of (SpliceTargets).
        #expect(Self.text(translator.seen.v4) == "10.1.0.3")
        #expect(Self.text(translator.seen.v6) == "2001:db8::3")
    }

    @Test("an address given with -a is not replaced by what is seen")
    func anAddressThatWasGiven() throws {
        var translator = Self.translator { $0.families.v4.learnsGuestAddress = false }
        translator.seen.observe(try Self.address("10.1.0.3"), rules: translator.rules)
        #expect(Self.text(translator.target(for: try Self.address("192.0.2.7"), .v4)) == "10.1.0.2")
    }

    @Test("a new plan begins with its address; an equal one changes nothing")
    func aNewPlan() throws {
        var translator = Self.translator()
        let client = try Self.address("192.0.2.7")
        translator.seen.observe(try Self.address("10.1.0.3"), rules: translator.rules)
        translator.seen.adopt(translator.rules)
        #expect(Self.text(translator.target(for: client, .v4)) == "10.1.0.3")
        translator.rules.families.v4.guestAddress = IPAddress("10.1.0.4")
        translator.seen.adopt(translator.rules)
        #expect(Self.text(translator.target(for: client, .v4)) == "10.1.0.4")
    }

    @Test("a link-local address is none that spliced connections could lead to")
    func oneFamilyOnly() {
        let translator = Self.translator { $0.families.v6.guestAddress = IPAddress("fe80::aa") }
        #expect(Self.text(translator.seen.v4) == "10.1.0.2" && translator.seen.v6 == nil)
    }
}
