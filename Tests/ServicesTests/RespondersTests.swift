// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import TestSupport
import Testing
import Wire

/// The namespace's hardware address in the tests.
let namespaceMAC = MACAddress(2, 0, 0, 0, 0, 10)

/// Rules of a namespace at .15 behind a gateway at .2, both families.
func makeRules() -> TranslationRules {
    var rules = TranslationRules()
    rules.families.v4.isEnabled = true
    rules.families.v4.guestAddress = IPAddress("192.0.2.15")
    rules.families.v4.ownAddress = IPAddress("192.0.2.2")
    rules.families.v4.gateway = IPAddress("192.0.2.2")
    rules.families.v4.hostLoopback = IPAddress("192.0.2.2")
    rules.families.v4.mappedGuestAddress = IPAddress("192.0.2.4")
    rules.families.v4.dnsForward = IPAddress("192.0.2.3")
    rules.families.v6.isEnabled = true
    rules.families.v6.guestAddress = IPAddress("2001:db8::15")
    rules.families.v6.ownAddress = IPAddress("fe80::1")
    rules.families.v6.gateway = IPAddress("fe80::1")
    rules.mtu = 65520
    return rules
}

/// The answer to a frame, or nothing.
func answer(
    _ frame: [UInt8], room: Int = 2000,
    _ respond: (Span<UInt8>, FrameSummary, inout MutableSpan<UInt8>) -> Int
) throws -> [UInt8] {
    let summary = try FrameSummary(frame.span)
    var reply = [UInt8](repeating: 0xEE, count: room)
    var span = reply.mutableSpan
    let length = respond(frame.span, summary, &span)
    return Array(reply.prefix(length))
}

@Suite("ARP responder")
struct ARPResponderTests {
    /// The answer to an ARP message.
    private func reply(
        _ operation: ARPMessage.Operation = .request, from sender: String, for target: String,
        rules: TranslationRules = makeRules()
    ) throws -> [UInt8] {
        let message = ARPMessage(
            operation, senderMAC: namespaceMAC, senderAddress: try #require(IPv4Address(sender)),
            targetAddress: try #require(IPv4Address(target)))
        var frame = [UInt8](repeating: 0, count: ARPMessage.frameLength)
        var span = frame.mutableSpan
        message.write(into: &span, to: .broadcast)
        return try answer(frame) { ARPResponder.reply(to: $0, summary: $1, rules: rules, into: &$2) }
    }

    @Test(
        "answers for every address but the namespace's", arguments: ["192.0.2.2", "192.0.2.3", "192.0.2.77", "8.8.8.8"])
    func answersForEveryAddress(target: String) throws {
        expectPacket(
            try reply(from: "192.0.2.15", for: target), .ethernet(from: .defaultGateway, to: namespaceMAC),
            .arp(
                operation: 2, senderMAC: .defaultGateway, sender: IPv4Address(target), targetMAC: namespaceMAC,
                target: IPv4Address("192.0.2.15")))
    }

    @Test(
        "stays silent",
        arguments: [
            ("192.0.2.15", "192.0.2.15"), ("192.0.2.77", "192.0.2.15"), ("192.0.2.77", "192.0.2.77"),
            ("0.0.0.0", "192.0.2.15"), ("0.0.0.0", "192.0.2.77"), ("192.0.2.15", "0.0.0.0"),
            ("192.0.2.15", "224.0.0.1"), ("192.0.2.15", "255.255.255.255"),
        ])
    func staysSilent(sender: String, target: String) throws {
        #expect(try reply(from: sender, for: target) == [])
    }

    @Test("answers probes for our own addresses only", arguments: ["192.0.2.2", "192.0.2.3", "192.0.2.4"])
    func answersProbes(target: String) throws {
        expectPacket(
            try reply(from: "0.0.0.0", for: target),
            .arp(operation: 2, senderMAC: .defaultGateway, sender: IPv4Address(target), target: .unspecified))
    }

    @Test("does not answer replies, nor anything when IPv4 is off")
    func doesNotAnswerReplies() throws {
        #expect(try reply(.reply, from: "192.0.2.15", for: "192.0.2.2") == [])
        var rules = makeRules()
        rules.families.v4.isEnabled = false
        #expect(try reply(from: "192.0.2.15", for: "192.0.2.2", rules: rules) == [])
    }

    @Test("has the gateway's address as given with -M")
    func hasTheGatewaysAddress() throws {
        var rules = makeRules()
        rules.gatewayMAC = MACAddress(0x52, 0x56, 0, 0, 0, 2)
        expectPacket(
            try reply(from: "192.0.2.15", for: "192.0.2.2", rules: rules),
            .ethernet(from: rules.gatewayMAC), .arp(operation: 2, senderMAC: rules.gatewayMAC))
    }

    @Test("writes nothing where it does not fit")
    func writesNothing() throws {
        let frame = Capture.arpRequest.frame
        let reply = try answer(frame, room: 41) {
            ARPResponder.reply(to: $0, summary: $1, rules: makeRules(), into: &$2)
        }
        #expect(reply == [])
    }

    @Test("asks for the guest address")
    func asksForTheGuestAddress() {
        var frame = [UInt8](repeating: 0, count: 60)
        var span = frame.mutableSpan
        let length = ARPResponder.solicitation(rules: makeRules(), into: &span)
        expectPacket(
            frame.prefix(length), .ethernet(from: .defaultGateway, to: .broadcast),
            .arp(
                operation: 1, senderMAC: .defaultGateway, sender: IPv4Address("192.0.2.2"), targetMAC: .zero,
                target: IPv4Address("192.0.2.15")))
    }
}

@Suite("NDP responder")
struct NDPResponderTests {
    private func reply(
        _ frame: [UInt8], rules: TranslationRules = makeRules(), advertisement: RouterAdvertisement? = nil
    ) throws -> [UInt8] {
        try answer(frame) {
            NDPResponder.reply(to: $0, summary: $1, rules: rules, routerAdvertisement: advertisement, into: &$2)
        }
    }

    /// A solicitation from the namespace.
    private func solicitation(from source: String, for target: String, hopLimit: UInt8 = 255) throws -> [UInt8] {
        let target = try #require(IPv6Address(target))
        let parts = NeighborSolicitation(target: target, sourceLinkAddress: namespaceMAC).parts
        var frame = [UInt8](repeating: 0, count: 200)
        let ip = IPHeader(
            .v6, source: try #require(IPv6Address(source)), destination: target.solicitedNode, ipProtocol: .icmpv6,
            hopLimit: hopLimit)
        var span = frame.mutableSpan
        let length = parts.header.writeFrame(
            into: &span, body: parts.body.span, ip: ip, to: .multicast(for: target.solicitedNode),
            from: namespaceMAC)
        return Array(frame.prefix(length))
    }

    @Test("answers a captured solicitation")
    func answersACapturedSolicitation() throws {
        let target = try #require(IPv6Address("2001:db8::2"))
        let frame = try reply(Capture.neighborSolicitation.frame)
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: namespaceMAC),
            .ip(from: IPAddress("fe80::1"), to: IPAddress("2001:db8::1"), hopLimit: 255),
            .icmp(type: 136, rest: 0xE000_0000), .transportChecksum)
        let message = Array(frame[54...])
        let advertisement = try NeighborAdvertisement(message.span)
        #expect(advertisement == NeighborAdvertisement(target: target, targetLinkAddress: .defaultGateway))
    }

    @Test("answers for any target", arguments: ["fe80::1", "2001:db8::77", "2606:4700::1"])
    func answersForAnyTarget(target: String) throws {
        let frame = try reply(solicitation(from: "2001:db8::15", for: target))
        expectPacket(frame, .ip(to: IPAddress("2001:db8::15")), .icmp(type: 136), .transportChecksum)
        #expect(DecodedPacket.ipv6(frame, 62) == IPv6Address(target))
    }

    @Test("ignores duplicate detection, the guest address and forwarded messages")
    func ignores() throws {
        #expect(try reply(Capture.duplicateDetection.frame) == [])
        #expect(try reply(solicitation(from: "::", for: "fe80::1")) == [])
        #expect(try reply(solicitation(from: "fe80::5", for: "2001:db8::15")) == [])
        #expect(try reply(solicitation(from: "fe80::5", for: "fe80::1", hopLimit: 254)) == [])
        #expect(try reply(Capture.neighborAdvertisement.frame) == [])
        #expect(try reply(Capture.listenerReport.frame) == [])
        #expect(try reply(Capture.udp6.frame) == [])
    }

    @Test("answers router solicitations only with an advertisement")
    func answersRouterSolicitations() throws {
        #expect(try reply(Capture.routerSolicitation.frame) == [])
        let rules = makeRules()
        let advertisement = RouterAdvertisement(
            rules: rules, guestAddress: Prefix("2001:db8::15/64"), isManaged: true,
            dnsServers: [try #require(IPv6Address("2001:db8::3"))], searchDomains: ["example.com", "bad..name"])
        let frame = try reply(Capture.routerSolicitation.frame, advertisement: advertisement)
        let asker = DecodedPacket(Capture.routerSolicitation.frame)
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: asker.sourceMAC),
            .ip(from: IPAddress("fe80::1"), to: asker.source, hopLimit: 255),
            .icmp(type: 134, rest: 0xFF80_FFFF), .transportChecksum)
        let message = Array(frame[54...])
        let read = try RouterAdvertisement(message.span)
        #expect(read == advertisement)
        #expect(read.prefixes.map(\.prefix) == [IPv6Address("2001:db8::")])
        #expect(read.prefixes.first?.preferredLifetime == RouterAdvertisement.infinite)
        #expect(read.mtu == 65520)
        #expect(read.sourceLinkAddress == .defaultGateway)
        #expect(read.searchList?.domains.map(\.description) == ["example.com"])
    }

    @Test("answers a router solicitation without source to all nodes")
    func answersToAllNodes() throws {
        let parts = RouterSolicitation().parts
        var frame = [UInt8](repeating: 0, count: 62)
        let ip = IPHeader(.v6, source: .unspecified, destination: .allRouters, ipProtocol: .icmpv6)
        var span = frame.mutableSpan
        let length = parts.header.writeFrame(
            into: &span, body: parts.body.span, ip: ip, to: .multicast(for: .allRouters), from: namespaceMAC)
        #expect(length == 62)
        expectPacket(
            try reply(frame, advertisement: RouterAdvertisement(routerLifetime: 9)),
            .ethernet(to: MACAddress("33:33:00:00:00:01")), .ip(to: IPAddress("ff02::1")), .icmp(type: 134))
    }

    @Test("withdraws an old prefix and tells none of a link-local address")
    func withdrawsAnOldPrefix() {
        let old = [Prefix("2001:db8:1::5/64"), Prefix("2001:db8::9/64")].compactMap(\.self)
        let moved = RouterAdvertisement(
            rules: makeRules(), guestAddress: Prefix("2001:db8::15/64"), isManaged: false, withdrawn: old)
        #expect(moved.prefixes.map(\.prefix) == [IPv6Address("2001:db8::"), IPv6Address("2001:db8:1::")])
        #expect(moved.prefixes.map(\.preferredLifetime) == [.max, 0])
        #expect(moved.prefixes.map(\.validLifetime) == [.max, 7200])
        let local = RouterAdvertisement(rules: makeRules(), guestAddress: Prefix("fe80::15/64"), isManaged: false)
        #expect(local.prefixes.isEmpty)
    }

    @Test("asks for the guest address")
    func asksForTheGuestAddress() {
        var frame = [UInt8](repeating: 0, count: 100)
        var span = frame.mutableSpan
        let length = NDPResponder.solicitation(rules: makeRules(), into: &span)
        expectPacket(
            frame.prefix(length), .ethernet(from: .defaultGateway, to: MACAddress("33:33:ff:00:00:15")),
            .ip(from: IPAddress("fe80::1"), to: IPAddress("ff02::1:ff00:15"), hopLimit: 255), .icmp(type: 135),
            .transportChecksum)
    }
}

@Suite("Echo responder")
struct EchoResponderTests {
    private func reply(_ frame: [UInt8], room: Int = 2000) throws -> [UInt8] {
        try answer(frame, room: room) {
            EchoResponder.reply(to: $0, summary: $1, rules: makeRules(), into: &$2)
        }
    }

    @Test(
        "turns captured requests into their replies",
        arguments: [(Capture.echoRequest4, Capture.echoReply4), (.echoRequest6, .echoReply6)])
    func turnsRequestsIntoReplies(request: Capture, kernels: Capture) throws {
        let asked = DecodedPacket(request.frame)
        let frame = try reply(request.frame)
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: asked.sourceMAC),
            .ip(from: asked.destination, to: asked.source, hopLimit: 255), .transportChecksum)
        #expect(DecodedPacket(frame).transport == DecodedPacket(kernels.frame).transport)
    }

    @Test(
        "answers nothing else", arguments: [Capture.echoReply4, .echoReply6, .udp4, .portUnreachable4, .laterFragment4])
    func answersNothingElse(capture: Capture) throws {
        #expect(try reply(capture.frame) == [])
    }

    @Test("answers nothing where it does not fit")
    func answersNothingWhereItDoesNotFit() throws {
        let count = Capture.echoRequest4.frame.count
        #expect(try reply(Capture.echoRequest4.frame, room: count - 1) == [])
        #expect(try reply(Capture.echoRequest4.frame, room: count).count == count)
    }
}

@Suite("DNS failure responder")
struct DNSFailureResponderTests {
    @Test("answers dig's query with SERVFAIL")
    func answersDigsQuery() throws {
        let query = DecodedPacket(Capture.dnsQuery.frame)
        let frame = try answer(Capture.dnsQuery.frame) {
            DNSFailureResponder.reply(to: $0, summary: $1, rules: makeRules(), into: &$2)
        }
        let message = hex(
            """
            // response, recursion desired and available, code 2; one question
            8182 0001 0000 0000 0000
            07 6578616d706c65 03 636f6d 00 001c 0001  // example.com, AAAA, IN
            """)
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: query.sourceMAC),
            .ip(from: query.destination, to: query.source),
            .udp(from: 53, to: DecodedPacket.number(query.transport, 0, 2)),
            .payload(Array(query.payload[..<2]) + message), .transportChecksum)
    }

    @Test("answers no replies and nothing short")
    func answersNoReplies() {
        let reply = hex("1234 8180 0001 0000 0000 0000")
        #expect(DNSFailureResponder.serverFailure(for: reply.span) == nil)
        let short = hex("1234 0100 0001 0000 0000")
        #expect(DNSFailureResponder.serverFailure(for: short.span) == nil)
    }

    @Test("reports a query without a readable question as malformed")
    func reportsAMalformedQuery() {
        let query = hex("1234 0100 0001 0000 0000 0000 ff")
        #expect(DNSFailureResponder.serverFailure(for: query.span) == hex("1234 8181 0000 0000 0000 0000"))
    }
}

@Suite("Responders and hostile frames")
struct HostileFrameTests {
    @Test("never trap and never write beyond what they say", arguments: [21, 22] as [UInt64])
    func neverTrap(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let rules = makeRules()
        let advertisement = RouterAdvertisement(rules: rules, guestAddress: Prefix("2001:db8::15/64"), isManaged: true)
        let dhcp = DHCPv4Settings(
            guestAddress: Prefix(host: .v4(.loopback)), ownAddress: .loopback, gateway: nil)
        let dhcpv6 = DHCPv6Settings(guestAddress: .loopback, serverIdentifier: [1, 2])
        var answered = 0
        for _ in 0..<10_000 {
            var frame = Capture.all[Int.random(in: 0..<Capture.all.count, using: &random)].frame
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                frame[Int.random(in: 0..<frame.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
            }
            guard let summary = try? FrameSummary(frame.span) else { continue }
            let room = Int.random(in: 0...1500, using: &random)
            var reply = [UInt8](repeating: 0, count: room)
            var span = reply.mutableSpan
            let lengths = [
                ARPResponder.reply(to: frame.span, summary: summary, rules: rules, into: &span),
                NDPResponder.reply(
                    to: frame.span, summary: summary, rules: rules, routerAdvertisement: advertisement, into: &span),
                EchoResponder.reply(to: frame.span, summary: summary, rules: rules, into: &span),
                DNSFailureResponder.reply(to: frame.span, summary: summary, rules: rules, into: &span),
                DHCPv4Server.reply(to: frame.span, summary: summary, settings: dhcp, rules: rules, into: &span),
                DHCPv6Server.reply(to: frame.span, summary: summary, settings: dhcpv6, rules: rules, into: &span),
            ]
            #expect(lengths.allSatisfy { $0 <= room }, "seed \(seed)")
            if lengths.contains(where: { $0 > 0 }) { answered += 1 }
        }
        #expect(answered > 500, "seed \(seed)")
    }
}
