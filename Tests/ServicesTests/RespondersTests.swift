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
        settings: ServiceSettings = makeSettings(),
        neighbours: NeighbourTable = .init()
    ) throws -> [UInt8] {
        let message = ARPMessage(
            operation, senderMAC: namespaceMAC, senderAddress: try #require(IPv4Address(sender)),
            targetAddress: try #require(IPv4Address(target)))
        var frame = [UInt8](repeating: 0, count: ARPMessage.frameLength)
        var span = frame.mutableSpan
        message.write(into: &span, to: .broadcast)
        return try answer(frame) {
            ARPResponder.reply(to: $0, summary: $1, settings: settings, neighbours: neighbours, into: &$2)
        }
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
        let settings = makeSettings { $0.v4.isEnabled = false }
        #expect(try reply(from: "192.0.2.15", for: "192.0.2.2", settings: settings) == [])
    }

    @Test("has the gateway's address as given with -M")
    func hasTheGatewaysAddress() throws {
        let settings = makeSettings { $0.gatewayMAC = MACAddress(0x52, 0x56, 0, 0, 0, 2) }
        expectPacket(
            try reply(from: "192.0.2.15", for: "192.0.2.2", settings: settings),
            .ethernet(from: settings.gatewayMAC), .arp(operation: 2, senderMAC: settings.gatewayMAC))
    }

    @Test("writes nothing where it does not fit")
    func writesNothing() throws {
        let frame = Capture.arpRequest.frame
        let reply = try answer(frame, room: 41) {
            ARPResponder.reply(to: $0, summary: $1, settings: makeSettings(), into: &$2)
        }
        #expect(reply == [])
    }

    @Test("asks for the guest address")
    func asksForTheGuestAddress() {
        var frame = [UInt8](repeating: 0, count: 60)
        var span = frame.mutableSpan
        let length = ARPResponder.solicitation(settings: makeSettings(), into: &span)
        expectPacket(
            frame.prefix(length), .ethernet(from: .defaultGateway, to: .broadcast),
            .arp(
                operation: 1, senderMAC: .defaultGateway, sender: IPv4Address("192.0.2.2"), targetMAC: .zero,
                target: IPv4Address("192.0.2.15")))
    }

    @Test(
        "reports real neighbours' hardware addresses, but ours for addresses that are mapped to the host")
    func tellsNeighbours() throws {
        let router = MACAddress(2, 0, 0, 0, 0, 0xF1)
        let printer = MACAddress(2, 0, 0, 0, 0, 0xF2)
        let neighbours = NeighbourTable([
            .v4(IPv4Address(192, 0, 2, 2)): router, .v4(IPv4Address(192, 0, 2, 77)): printer,
        ])
        func mac(_ target: String, _ settings: ServiceSettings) throws -> MACAddress {
            let frame = try reply(from: "192.0.2.15", for: target, settings: settings, neighbours: neighbours)
            return try ARPMessage(frame: frame.span).senderMAC
        }
        // The gateway stands for the host's loopback.
        let mapped = makeSettings()
        #expect(try mac("192.0.2.2", mapped) == .defaultGateway)
        #expect(try mac("192.0.2.77", mapped) == printer)
        #expect(try mac("192.0.2.78", mapped) == .defaultGateway)
        // It does not (--no-map-gw): it has its own address, and so has what is behind it.
        let unmapped = makeSettings { $0.v4.mappedAddresses = [IPv4Address(192, 0, 2, 4)] }
        #expect(try mac("192.0.2.2", unmapped) == router)
        #expect(try mac("192.0.2.78", unmapped) == router)
        #expect(try mac("192.0.2.4", unmapped) == .defaultGateway)
        // A probe for a real neighbour's address is a conflict and is answered; a probe for the namespace's own address
        // is not.
        #expect(try reply(from: "0.0.0.0", for: "192.0.2.77", neighbours: neighbours) != [])
        let own = NeighbourTable([.v4(IPv4Address(192, 0, 2, 15)): printer])
        #expect(try reply(from: "0.0.0.0", for: "192.0.2.15", neighbours: own) == [])
    }
}

@Suite("NDP responder")
struct NDPResponderTests {
    private func reply(
        _ frame: [UInt8], settings: ServiceSettings = makeSettings(), neighbours: NeighbourTable = .init(),
        advertisement: RouterAdvertiser.Advertisement? = nil
    ) throws -> [UInt8] {
        try answer(frame) {
            NDPResponder.reply(
                to: $0, summary: $1, settings: settings, neighbours: neighbours, advertisement: advertisement,
                into: &$2)
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
        let advertiser = RouterAdvertiser(settings: makeSettings(), random: 1, now: 0)
        let advertisement = try #require(advertiser.solicited(now: 0))
        let frame = try reply(Capture.routerSolicitation.frame, advertisement: advertisement)
        let asker = DecodedPacket(Capture.routerSolicitation.frame)
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: asker.sourceMAC),
            .ip(from: IPAddress("fe80::1"), to: asker.source, hopLimit: 255),
            .icmp(type: 134, rest: 0xFFC0_0078), .transportChecksum)
        let message = Array(frame[54...])
        #expect(try RouterAdvertisement(message.span) == advertisement.content)
    }

    @Test("answers no neighbour solicitation when it is switched off")
    func answersNothingWhenOff() throws {
        let settings = makeSettings { $0.services.remove(.neighborDiscovery) }
        #expect(try reply(solicitation(from: "2001:db8::15", for: "fe80::1"), settings: settings) == [])
    }

    @Test("reports real neighbours' hardware addresses")
    func tellsNeighbours() throws {
        let printer = MACAddress(2, 0, 0, 0, 0, 0xF2)
        let address = try #require(IPAddress("2001:db8::77"))
        let frame = try reply(
            solicitation(from: "2001:db8::15", for: "2001:db8::77"), neighbours: NeighbourTable([address: printer]))
        let message = Array(frame[54...])
        #expect(try NeighborAdvertisement(message.span).targetLinkAddress == printer)
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
            try reply(frame, advertisement: .init(source: .loopback, content: RouterAdvertisement(routerLifetime: 9))),
            .ethernet(to: MACAddress("33:33:00:00:00:01")), .ip(to: IPAddress("ff02::1")), .icmp(type: 134))
    }

    @Test("asks for the guest address")
    func asksForTheGuestAddress() {
        var frame = [UInt8](repeating: 0, count: 100)
        var span = frame.mutableSpan
        let length = NDPResponder.solicitation(settings: makeSettings(), into: &span)
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
        var services = makeServices()
        let neighbours = NeighbourTable([.v4(IPv4Address(192, 0, 2, 77)): namespaceMAC])
        services.update(neighbours: neighbours)
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
                services.reply(to: frame.span, summary: summary, now: 0, into: &span),
                services.nextFrame(now: 0, into: &span),
                EchoResponder.reply(to: frame.span, summary: summary, rules: rules, into: &span),
                DNSFailureResponder.reply(to: frame.span, summary: summary, rules: rules, into: &span),
            ]
            #expect(lengths.allSatisfy { $0 <= room }, "seed \(seed)")
            if lengths.contains(where: { $0 > 0 }) { answered += 1 }
        }
        #expect(answered > 500, "seed \(seed)")
    }
}
