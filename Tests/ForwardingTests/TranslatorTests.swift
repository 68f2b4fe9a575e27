// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Testing
import Wire

@testable import Forwarding

/// The rules of a laptop: one address of each family, gateway mapped to the host's loopback, DNS forwarded.
private let laptop: TranslationRules = {
    var rules = TranslationRules()
    rules.families.v4.isEnabled = true
    rules.families.v4.guestAddress = IPAddress("10.1.0.2")
    rules.families.v4.ownAddress = IPAddress("10.1.0.1")
    rules.families.v4.gateway = IPAddress("10.1.0.1")
    rules.families.v4.hostLoopback = IPAddress("10.1.0.1")
    rules.families.v4.mappedGuestAddress = IPAddress("10.1.0.77")
    rules.families.v4.hostAddress = IPAddress("10.1.0.2")
    rules.families.v4.dnsForward = IPAddress("10.1.0.53")
    rules.families.v6.isEnabled = true
    rules.families.v6.guestAddress = IPAddress("2001:db8::2")
    rules.families.v6.ownAddress = IPAddress("fe80::1")
    rules.families.v6.gateway = IPAddress("fe80::1")
    rules.families.v6.hostLoopback = IPAddress("fe80::1")
    rules.families.v6.mappedGuestAddress = IPAddress("2001:db8::77")
    rules.families.v6.hostAddress = IPAddress("2001:db8::2")
    rules.families.v6.dnsForward = IPAddress("2001:db8::53")
    rules.families.v6.linkLocalScope = InterfaceIndex(rawValue: 3)
    rules.dnsServers = [.init(.v4(IPv4Address(192, 0, 2, 53))), .init(.v6(.loopback))]
    return rules
}()

/// A destination and what becomes of it.
struct TranslationCase: Sendable, CustomTestStringConvertible {
    var what: String
    var destination: String
    var port: UInt16 = 80
    var transport: IPProtocol = .tcp
    var outcome: String
    var change: @Sendable (inout TranslationRules) -> Void = { _ in }

    var testDescription: String { "\(what): \(destination) port \(port)" }
}

@Suite("Translation of new flows")
struct TranslatorTests {
    /// An outcome in one line, as the tables have it.
    private static func text(_ outcome: Translator.Outcome) -> String {
        switch outcome {
        case .host(let endpoint, let source, let device):
            "\(endpoint)" + (source.map { " from \($0)" } ?? "") + (device.map { " on \($0)" } ?? "")
        case .resolver(let endpoint): "resolver \(endpoint)"
        case .noResolver: "no resolver"
        case .refused(let reason): "refused: \(reason)"
        }
    }

    private static func check(_ test: TranslationCase, sourceLocation: SourceLocation = #_sourceLocation) throws {
        var rules = laptop
        test.change(&rules)
        let address = try #require(IPAddress(test.destination), sourceLocation: sourceLocation)
        let outcome = Translator(rules: rules).outbound(
            to: address, port: test.port, transport: test.transport)
        #expect(text(outcome) == test.outcome, sourceLocation: sourceLocation)
    }

    @Test(
        "destinations become what the rules say, in their order",
        arguments: [
            TranslationCase(what: "anything else", destination: "198.51.100.9", outcome: "198.51.100.9:80"),
            TranslationCase(what: "anything else", destination: "2001:db8:1::9", outcome: "[2001:db8:1::9]:80"),
            TranslationCase(
                what: "a gateway that is the resolver", destination: "10.1.0.1", port: 53, transport: .udp,
                outcome: "10.1.0.1:53", change: { $0.families.v4.hostLoopbackIsResolver = true }),
            TranslationCase(
                what: "its other ports", destination: "10.1.0.1", port: 80, outcome: "127.0.0.1:80",
                change: { $0.families.v4.hostLoopbackIsResolver = true }),
            TranslationCase(
                what: "anything else by UDP", destination: "198.51.100.9", port: 53, transport: .udp,
                outcome: "198.51.100.9:53"),
            TranslationCase(what: "mapped to loopback", destination: "10.1.0.1", outcome: "127.0.0.1:80"),
            TranslationCase(what: "mapped to loopback", destination: "fe80::1", outcome: "[::1]:80"),
            TranslationCase(
                what: "mapped to loopback by UDP", destination: "10.1.0.1", port: 53, transport: .udp,
                outcome: "127.0.0.1:53"),
            TranslationCase(
                what: "not mapped (--no-map-gw)", destination: "10.1.0.1", outcome: "10.1.0.1:80",
                change: { $0.families.v4.hostLoopback = nil }),
            TranslationCase(
                what: "another address mapped", destination: "192.0.2.200", outcome: "127.0.0.1:80",
                change: { $0.families.v4.hostLoopback = IPAddress("192.0.2.200") }),
            TranslationCase(what: "the host's own address", destination: "10.1.0.77", outcome: "10.1.0.2:80"),
            TranslationCase(what: "the host's own address", destination: "2001:db8::77", outcome: "[2001:db8::2]:80"),
            TranslationCase(
                what: "no address on the host", destination: "10.1.0.77", outcome: "refused: noHostAddress",
                change: { $0.families.v4.hostAddress = nil }),
            TranslationCase(
                what: "both mappings on one address", destination: "10.1.0.1", outcome: "127.0.0.1:80",
                change: { $0.families.v4.mappedGuestAddress = IPAddress("10.1.0.1") }),
        ])
    func destinationsBecomeWhatTheRulesSay(_ test: TranslationCase) throws {
        try Self.check(test)
    }

    @Test(
        "only the DNS ports of the forward address go to the resolvers",
        arguments: [
            TranslationCase(
                what: "UDP", destination: "10.1.0.53", port: 53, transport: .udp, outcome: "resolver 192.0.2.53:53"),
            TranslationCase(what: "TCP", destination: "10.1.0.53", port: 53, outcome: "resolver 192.0.2.53:53"),
            TranslationCase(
                what: "over TLS", destination: "10.1.0.53", port: 853, outcome: "resolver 192.0.2.53:853"),
            TranslationCase(
                what: "IPv6 for an IPv4 resolver", destination: "2001:db8::53", port: 53, transport: .udp,
                outcome: "resolver 192.0.2.53:53"),
            TranslationCase(
                what: "an IPv6 resolver", destination: "10.1.0.53", port: 53, transport: .udp,
                outcome: "resolver [::1]:53", change: { $0.dnsServers.removeFirst() }),
            TranslationCase(
                what: "no resolver", destination: "10.1.0.53", port: 53, transport: .udp, outcome: "no resolver",
                change: { $0.dnsServers = [] }),
            TranslationCase(
                what: "no resolver", destination: "2001:db8::53", port: 853, outcome: "no resolver",
                change: { $0.dnsServers = [] }),
            TranslationCase(what: "another port", destination: "10.1.0.53", outcome: "10.1.0.53:80"),
            TranslationCase(
                what: "echo", destination: "10.1.0.53", port: 53, transport: .icmp, outcome: "10.1.0.53:53"),
            TranslationCase(
                what: "forward address that is also the mapped one", destination: "10.1.0.1", port: 53,
                transport: .udp, outcome: "resolver 192.0.2.53:53",
                change: { $0.families.v4.dnsForward = IPAddress("10.1.0.1") }),
            TranslationCase(
                what: "other ports of it", destination: "10.1.0.1", port: 80, transport: .udp,
                outcome: "127.0.0.1:80", change: { $0.families.v4.dnsForward = IPAddress("10.1.0.1") }),
            TranslationCase(
                what: "without -o", destination: "10.1.0.53", port: 53, transport: .udp,
                outcome: "resolver 192.0.2.53:53",
                change: { $0.families.v4.outboundAddress = IPAddress("10.1.0.2") }),
        ])
    func onlyTheDNSPortsGoToTheResolvers(_ test: TranslationCase) throws {
        try Self.check(test)
    }

    @Test(
        "what may not be on a link is refused",
        arguments: [
            TranslationCase(what: "loopback", destination: "127.0.0.1", outcome: "refused: martian"),
            TranslationCase(what: "loopback", destination: "127.255.255.254", outcome: "refused: martian"),
            TranslationCase(what: "loopback", destination: "::1", outcome: "refused: martian"),
            TranslationCase(
                what: "loopback by UDP", destination: "127.0.0.53", port: 53, transport: .udp,
                outcome: "refused: martian"),
            TranslationCase(
                what: "loopback by echo", destination: "::1", transport: .icmpv6, outcome: "refused: martian"),
            TranslationCase(what: "unspecified", destination: "0.0.0.0", outcome: "refused: martian"),
            TranslationCase(
                what: "unspecified", destination: "::", transport: .udp, outcome: "refused: martian"),
            TranslationCase(what: "group by TCP", destination: "224.0.0.1", outcome: "refused: martian"),
            TranslationCase(what: "group by TCP", destination: "ff02::1", outcome: "refused: martian"),
            TranslationCase(what: "broadcast by TCP", destination: "255.255.255.255", outcome: "refused: martian"),
            TranslationCase(
                what: "broadcast by UDP", destination: "255.255.255.255", port: 9, transport: .udp,
                outcome: "refused: broadcast"),
            TranslationCase(
                what: "broadcast by echo", destination: "255.255.255.255", port: 0, transport: .icmp,
                outcome: "refused: broadcast"),
            TranslationCase(
                what: "IPv4 off", destination: "198.51.100.9", outcome: "refused: familyOff",
                change: { $0.families.v4.isEnabled = false }),
            TranslationCase(
                what: "IPv6 off", destination: "2001:db8::53", port: 53, transport: .udp,
                outcome: "refused: familyOff", change: { $0.families.v6.isEnabled = false }),
        ])
    func whatMayNotBeOnALinkIsRefused(_ test: TranslationCase) throws {
        try Self.check(test)
    }

    @Test(
        "datagrams to groups go out as they are; link-local ones have the template's scope",
        arguments: [
            TranslationCase(
                what: "group", destination: "224.0.0.251", port: 5353, transport: .udp,
                outcome: "224.0.0.251:5353"),
            TranslationCase(
                what: "wide group", destination: "ff0e::101", port: 123, transport: .udp,
                outcome: "[ff0e::101]:123"),
            TranslationCase(
                what: "group of the link", destination: "ff02::fb", port: 5353, transport: .udp,
                outcome: "[ff02::fb%3]:5353"),
            TranslationCase(what: "link-local", destination: "fe80::9", outcome: "[fe80::9%3]:80"),
            TranslationCase(
                what: "link-local without a template", destination: "fe80::9", outcome: "refused: noScope",
                change: { $0.families.v6.linkLocalScope = nil }),
            TranslationCase(
                what: "mapped needs no scope", destination: "fe80::1", outcome: "[::1]:80",
                change: { $0.families.v6.linkLocalScope = nil }),
            TranslationCase(
                what: "the host's address is link-local", destination: "2001:db8::77", outcome: "[fe80::2%3]:80",
                change: { $0.families.v6.hostAddress = IPAddress("fe80::2") }),
            TranslationCase(what: "IPv4 link-local", destination: "169.254.1.1", outcome: "169.254.1.1:80"),
        ])
    func groupsGoOutAsTheyAre(_ test: TranslationCase) throws {
        try Self.check(test)
    }

    @Test(
        "-o and --outbound-if hold for what leaves the host, not for its loopback",
        arguments: [
            TranslationCase(
                what: "outwards", destination: "198.51.100.9", outcome: "198.51.100.9:80 from 10.1.0.2 on eth7"),
            TranslationCase(what: "loopback", destination: "10.1.0.1", outcome: "127.0.0.1:80"),
            TranslationCase(
                what: "the other family", destination: "2001:db8:1::9", outcome: "[2001:db8:1::9]:80"),
            TranslationCase(
                what: "datagrams", destination: "198.51.100.9", transport: .udp,
                outcome: "198.51.100.9:80 from 10.1.0.2 on eth7"),
        ])
    func outboundOptionsHoldForWhatLeavesTheHost(_ test: TranslationCase) throws {
        var test = test
        test.change = {
            $0.families.v4.outboundAddress = IPAddress("10.1.0.2")
            $0.families.v4.outboundInterface = "eth7"
        }
        try Self.check(test)
    }

    @Test("--map-guest-addr is resolved for each flow: another address of the host counts from the next one on")
    func mapGuestAddrIsResolvedForEachFlow() throws {
        var translator = Translator(rules: laptop)
        let mapped = try #require(IPAddress("10.1.0.77"))
        func target() -> String { Self.text(translator.outbound(to: mapped, port: 1, transport: .tcp)) }
        #expect(target() == "10.1.0.2:1")
        translator.rules.families.v4.hostAddress = IPAddress("192.168.7.7")
        #expect(target() == "192.168.7.7:1")
        translator.rules.families.v4.hostAddress = nil
        #expect(target() == "refused: noHostAddress")
    }
}
