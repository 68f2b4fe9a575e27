// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// Addresses that the namespace assigned itself, and addresses that it may not use (issue 12).
@Suite("Observed and foreign addresses")
struct ObservedAddressTests {
    private static let start = MonotonicTime(nanoseconds: 1_000_000_000)

    private static func rules(_ change: (inout TranslationRules) -> Void = { _ in }) -> TranslationRules {
        var rules = InboundTranslatorTests.rules
        rules.families.v4.guestAddresses = [.v4(IPv4Address(10, 1, 0, 2)), .v4(IPv4Address(192, 168, 77, 1))]
        rules.families.v4.foreignAddresses = [.v4(IPv4Address(10, 1, 0, 1)), .v4(IPv4Address(172, 16, 0, 1))]
        change(&rules)
        return rules
    }

    private static func address(_ text: String) throws -> IPv6Address { try #require(IPAddress(text)).asIPv6 }

    /// Where flows from the host lead.
    private static func v4(_ seen: SeenAddresses) -> String { InboundTranslatorTests.text(seen.v4) }

    private static func texts(_ seen: SeenAddresses) -> [String] { seen.observedAddresses.map(\.description) }

    @Test("sixteen of a family are remembered; the one silent longest goes first, and other families are left alone")
    func bounded() throws {
        let rules = Self.rules()
        var seen = SeenAddresses()
        seen.adopt(rules)
        seen.observe(try Self.address("2001:db8::77"), rules: rules, now: Self.start)
        for number in 0..<SeenAddresses.mostObserved {
            let now = Self.start.advanced(milliseconds: Int64(number))
            seen.observe(try Self.address("10.1.0.\(100 + number)"), rules: rules, now: now)
        }
        // The first speaks again: the second is the one silent longest.
        seen.observe(try Self.address("10.1.0.100"), rules: rules, now: Self.start.advanced(milliseconds: 50))
        seen.observe(try Self.address("10.1.0.200"), rules: rules, now: Self.start.advanced(milliseconds: 51))
        #expect(seen.observedAddresses.count == SeenAddresses.mostObserved + 1)
        let texts = Self.texts(seen)
        #expect(texts.contains("10.1.0.100") && texts.contains("10.1.0.200") && texts.contains("2001:db8::77"))
        #expect(!texts.contains("10.1.0.101"))
    }

    @Test("one is forgotten ten minutes after its last packet, and flows from the host lead to the plan's again")
    func forgotten() throws {
        let rules = Self.rules()
        var seen = SeenAddresses()
        seen.adopt(rules)
        #expect(seen.deadline == nil)
        let other = try Self.address("10.1.0.100")
        let last = Self.start.advanced(milliseconds: 25_000)
        seen.observe(other, rules: rules, now: Self.start)
        // What is remembered as judged is judged anew after the next deadline: the last packet counts.
        seen.expire(rules, now: Self.start.advanced(milliseconds: 20_000))
        #expect(!seen.isKnown(other))
        seen.observe(other, rules: rules, now: last)
        seen.expire(rules, now: last.advanced(milliseconds: SeenAddresses.memory))
        #expect(Self.texts(seen) == ["10.1.0.100"] && seen.v4 == other)
        seen.expire(rules, now: last.advanced(milliseconds: SeenAddresses.memory + 2 * SeenAddresses.refresh))
        #expect(Self.texts(seen).isEmpty && Self.v4(seen) == "10.1.0.2" && seen.deadline == nil)
    }

    @Test("one that a plan gives, or that the namespace has dropped, is observed no longer")
    func planned() throws {
        var rules = Self.rules()
        var seen = SeenAddresses()
        seen.adopt(rules)
        for text in ["10.1.0.100", "10.1.0.101"] { seen.observe(try Self.address(text), rules: rules, now: Self.start) }
        rules.families.v4.guestAddresses.insert(try #require(IPAddress("10.1.0.100")))
        seen.adopt(rules)
        #expect(Self.texts(seen) == ["10.1.0.101"] && Self.v4(seen) == "10.1.0.101")
        seen.forget([try #require(IPAddress("10.1.0.101"))], rules: rules)
        #expect(Self.texts(seen).isEmpty && Self.v4(seen) == "10.1.0.2")
    }

    @Test("of several planned addresses the first is the target, whichever the namespace speaks from")
    func firstIsTarget() throws {
        let rules = Self.rules()
        var seen = SeenAddresses()
        seen.adopt(rules)
        let (first, second, own) = (
            try Self.address("10.1.0.2"), try Self.address("192.168.77.1"), try Self.address("10.1.0.100")
        )
        seen.observe(second, rules: rules)
        #expect(seen.v4 == first && seen.isKnown(second))
        seen.observe(own, rules: rules)
        #expect(seen.v4 == own && !seen.isKnown(first))
        seen.observe(second, rules: rules)
        #expect(seen.v4 == own)
        seen.observe(first, rules: rules)
        #expect(seen.v4 == first && !seen.isKnown(own))
    }

    @Test(
        "the host's, the gateway's, loopback, multicast and unspecified addresses are refused, strict or not",
        arguments: [
            "10.1.0.1", "172.16.0.1", "127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "ff02::1",
        ],
        [true, false])
    func foreign(text: String, isStrict: Bool) throws {
        let rules = Self.rules { $0.acceptsOtherAddresses = !isStrict }
        var seen = SeenAddresses()
        seen.adopt(rules)
        #expect(seen.observe(try Self.address(text), rules: rules) == .spoofed)
        #expect(seen.observedAddresses.isEmpty && Self.v4(seen) == "10.1.0.2")
    }

    @Test("a former address is taken though it is the host's: connections may have it, and leases take time to end")
    func former() throws {
        var rules = Self.rules { $0.acceptsOtherAddresses = false }
        var seen = SeenAddresses()
        seen.adopt(rules)
        let old = try Self.address("10.1.0.2")
        rules.families.v4.guestAddress = IPAddress("198.51.100.5")
        rules.families.v4.guestAddresses = [try #require(IPAddress("198.51.100.5"))]
        rules.families.v4.foreignAddresses.insert(try #require(IPAddress("10.1.0.2")))
        seen.adopt(rules)
        seen.exclude([try #require(IPAddress("10.1.0.2"))], rules: rules)
        #expect(seen.observe(old, rules: rules) == .taken && Self.v4(seen) == "198.51.100.5")
        seen.exclude([], rules: rules)
        #expect(seen.observe(old, rules: rules) == .taken)
        #expect(seen.observe(try Self.address("10.1.0.1"), rules: rules) == .spoofed)
    }

    @Test("strict: others are refused; link-local ones and those of an advertised prefix are not")
    func strict() throws {
        let rules = Self.rules {
            $0.acceptsOtherAddresses = false
            $0.families.v6.guestPrefixes = Prefix("2001:db8::/64").map { [$0] } ?? []
        }
        var seen = SeenAddresses()
        seen.adopt(rules)
        #expect(seen.observe(try Self.address("10.1.0.100"), rules: rules) == .strange)
        #expect(seen.observe(try Self.address("2001:db8:1::7"), rules: rules) == .strange)
        #expect(seen.observe(try Self.address("2001:db8::aaaa"), rules: rules) == .taken)
        #expect(seen.observe(try Self.address("fe80::aaaa"), rules: rules) == .taken)
        #expect(seen.observe(try Self.address("192.168.77.1"), rules: rules) == .taken)
    }

    // MARK: In the data path

    private static func echo(from source: String) throws -> [UInt8] {
        let address = try #require(IPAddress(source))
        var path = GuestFrame.Path(address.family, to: 0)
        path.guest = address
        return GuestFrame.echo(path, identifier: 7, sequence: 1, body: [1, 2, 3])
    }

    @Test("frames from the host's address are dropped and counted, and open no flow", arguments: [true, false])
    func spoofedFrames(isStrict: Bool) throws {
        var rules = TranslationRules.lab
        rules.acceptsOtherAddresses = !isStrict
        rules.families.v4.foreignAddresses = [.v4(IPv4Address(172, 16, 0, 1))]
        let world = try World(rules: rules)
        world.send(try Self.echo(from: "172.16.0.1"))
        world.send(try Self.echo(from: "172.16.0.1"))
        try world.settle()
        #expect(world.forwarder.counters[.spoofedSource] == 2 && world.forwarder.counters.flowsOpened == 0)
        #expect(world.frames.isEmpty && world.forwarder.observedAddresses.isEmpty)
    }

    @Test("frames from an address that no source gave are taken and observed, or with --strict-addresses dropped")
    func strangeFrames() throws {
        for isStrict in [false, true] {
            var rules = TranslationRules.lab
            rules.acceptsOtherAddresses = !isStrict
            let world = try World(rules: rules)
            world.send(try Self.echo(from: "10.0.2.77"))
            try world.settle()
            #expect(world.forwarder.counters[.strangeSource] == (isStrict ? 1 : 0))
            #expect(world.forwarder.observedAddresses.map(\.description) == (isStrict ? [] : ["10.0.2.77"]))
        }
    }

    @Test("the tap has the carrier that the rules say, and a toggle does not switch one on that is to be off")
    func carrier() throws {
        var rules = TranslationRules.lab
        rules.hasCarrier = false
        let world = try World(offloads: World.allOffloads.union(.carrier), rules: rules)
        #expect(world.link.hasCarrier == false)
        rules.hasCarrier = true
        world.forwarder.publish(rules)
        #expect(world.link.hasCarrier == true)
        rules.hasCarrier = false
        world.forwarder.publish(rules)
        world.advance(milliseconds: 5000)
        #expect(world.link.hasCarrier == false)
    }
}
