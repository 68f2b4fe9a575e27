// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Services

@Suite("DHCP server")
struct DHCPv4ServerTests {
    typealias Code = DHCPv4Message.OptionCode

    private let guest = IPv4Address(192, 0, 2, 15)
    private let otherMAC = MACAddress(2, 0, 0, 0, 0, 77)

    private func makeServer(_ edit: (inout ServiceSettings) -> Void = { _ in }) -> DHCPv4Server {
        DHCPv4Server(settings: makeSettings(edit), key: makeKey())
    }

    private func request(
        _ kind: DHCPv4Message.Kind, _ options: [DHCPv4Message.Option] = [], mac: MACAddress = namespaceMAC,
        has address: IPv4Address = .unspecified
    ) -> DHCPv4Message {
        var message = DHCPv4Message(request: kind, transactionID: 77, clientMAC: mac, options: options)
        message.clientAddress = address
        return message
    }

    /// The answer of a server that has seen nobody.
    private func ask(
        _ kind: DHCPv4Message.Kind, _ options: [DHCPv4Message.Option] = [], has address: IPv4Address = .unspecified,
        _ edit: (inout ServiceSettings) -> Void = { _ in }
    ) -> DHCPv4Message? {
        var server = makeServer(edit)
        return server.answer(to: request(kind, options, has: address), now: 0)
    }

    private func server(_ last: UInt8) -> DHCPv4Message.Option { .init(Code.serverIdentifier, [192, 0, 2, last]) }
    private func wanted(_ last: UInt8) -> DHCPv4Message.Option { .init(Code.requestedAddress, [192, 0, 2, last]) }

    @Test("answers a captured DISCOVER with an OFFER")
    func answersADiscover() throws {
        var server = makeServer()
        let frame = try answer(Capture.dhcpDiscover.frame) { server.reply(to: $0, summary: $1, now: 0, into: &$2) }
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: namespaceMAC),
            .ip(from: IPAddress("192.0.2.2"), to: IPAddress("255.255.255.255"), hopLimit: 255),
            .udp(from: 67, to: 68), .transportChecksum)
        let payload = DecodedPacket(frame).payload
        #expect(payload.count == 300)
        let offer = try DHCPv4Message(payload.span)
        #expect(offer.transactionID == 0x1234_5678)
        #expect(offer.yourAddress == guest)
        #expect(offer.serverAddress.isUnspecified)
        // The kind first, then as the client lists them (1, 3, 26), then the rest.
        #expect(
            offer.options == [
                .init(53, [2]), .init(1, [255, 255, 255, 0]), .init(3, [192, 0, 2, 2]), .init(26, [0xFF, 0xF0]),
                .init(51, [0, 0, 0, 120]), .init(54, [192, 0, 2, 2]), .init(58, [0, 0, 0, 60]),
                .init(59, [0, 0, 0, 105]),
            ])
    }

    @Test("gives udhcpc, which learns of a change only by its lease, a shorter lease")
    func leaseOfUdhcpc() throws {
        for (name, time) in [("udhcp 1.35.0", 90), ("udhcpd", 120), ("dhcpcd-9.4.1", 120)] as [(String, UInt8)] {
            var server = makeServer()
            let vendor = DHCPv4Message.Option(Code.vendorClass, Array(name.utf8))
            let granted = server.answer(to: request(.request, [vendor]), now: 0)
            let lease = try #require(granted)
            #expect(lease[Code.leaseTime] == [0, 0, 0, time], "\(name)")
            #expect(lease[Code.renewalTime] == [0, 0, 0, time / 2], "\(name)")
            // It ends when it was said to: another client may have the address then, and not before.
            for (now, isFree) in [(Int64(time) * 1000 - 1, false), (Int64(time) * 1000, true)] {
                var later = server
                #expect((later.answer(to: request(.discover, mac: otherMAC), now: now) != nil) == isFree)
            }
        }
    }

    @Test("grants a REQUEST for the address or for none", arguments: [nil, 15] as [UInt8?])
    func grantsARequest(last: UInt8?) throws {
        let reply = try #require(ask(.request, last.map { [wanted($0)] } ?? []))
        #expect(reply.kind == .acknowledgment && reply.yourAddress == guest)
    }

    @Test("refuses an address that is not ours in every state of a client (RFC 2131 §4.3.2)")
    func refusesARequest() throws {
        for message in [
            request(.request, [wanted(99), server(2)]), request(.request, [wanted(99)]),
            request(.request, has: IPv4Address(192, 0, 2, 99)),
        ] {
            var server = makeServer()
            let answer = server.answer(to: message, now: 0)
            let refusal = try #require(answer)
            #expect(refusal.kind == .negativeAcknowledgment)
            #expect(refusal.yourAddress.isUnspecified && refusal.clientAddress.isUnspecified)
            #expect(refusal.wantsBroadcast && refusal.options.map(\.code) == [53, 54])
        }
        #expect(ask(.request, has: guest)?.kind == .acknowledgment)
        // In a captured one, 192.0.2.2 had granted another address.
        var server = makeServer()
        let frame = try answer(Capture.dhcpRequest.frame) { server.reply(to: $0, summary: $1, now: 0, into: &$2) }
        expectPacket(frame, .ip(to: IPAddress("255.255.255.255")), .udp(to: 68), .transportChecksum)
    }

    @Test("leaves clients of other servers alone, but refuses those of its own former address")
    func leavesOthersAlone() {
        #expect(ask(.request, [wanted(99), server(77)]) == nil)
        var server = makeServer()
        _ = server.update(
            makeSettings {
                $0.v4.serverAddress = IPv4Address(192, 0, 2, 1)
                $0.v4.router = IPv4Address(192, 0, 2, 1)
            }, now: 0)
        let late = server.answer(to: request(.request, [wanted(15), self.server(2)]), now: 0)
        #expect(late?.kind == .negativeAcknowledgment)
    }

    @Test("grants at once to clients that allow it (RFC 4039), and to BOOTP clients")
    func grantsAtOnce() throws {
        let rapid = try #require(ask(.discover, [.init(Code.rapidCommit, [])]))
        #expect(rapid.kind == .acknowledgment)
        #expect(rapid[Code.rapidCommit] == [])
        var bootp = request(.discover)
        bootp.options = []
        var server = makeServer()
        #expect(server.answer(to: bootp, now: 0)?.yourAddress == guest)
    }

    @Test("answers INFORM with the settings, without a lease (RFC 2131 §4.3.5)")
    func tellsInform() throws {
        var server = makeServer()
        let frameRequest = request(.inform, has: guest)
        let answer = server.answer(to: frameRequest, now: 0)
        let reply = try #require(answer)
        #expect(reply.kind == .acknowledgment && reply.yourAddress.isUnspecified && reply.clientAddress == guest)
        #expect(reply[Code.leaseTime] == nil && reply[Code.renewalTime] == nil)
        #expect(reply[Code.router] == [192, 0, 2, 2])
        #expect(server.clientMAC == nil)
        #expect(ask(.inform) == nil)
    }

    @Test("is silent", arguments: [DHCPv4Message.Kind.decline, .release, .offer, .negativeAcknowledgment, .forceRenew])
    func isSilent(kind: DHCPv4Message.Kind) {
        #expect(ask(kind) == nil)
    }

    @Test("is silent when it is off, without IPv4 and without an address")
    func isSilentWhenOff() {
        #expect(ask(.discover) { $0.services.remove(.dhcpv4) } == nil)
        #expect(ask(.discover) { $0.v4.isEnabled = false } == nil)
        #expect(ask(.discover) { $0.v4.guestAddress = nil } == nil)
    }

    @Test("serves one client, and says once that others are not answered")
    func servesOneClient() {
        var server = makeServer()
        #expect(server.answer(to: request(.request, [wanted(15)]), now: 0) != nil)
        for _ in 0..<3 { #expect(server.answer(to: request(.discover, mac: otherMAC), now: 1000) == nil) }
        #expect(server.answer(to: request(.request, [wanted(99)], mac: otherMAC), now: 1000) == nil)
        let remarks = server.takeRemarks()
        #expect(remarks.count == 1 && remarks[0].contains("02:00:00:00:00:4d"))
        // The lease ends after 120 s.
        #expect(server.answer(to: request(.discover, mac: otherMAC), now: 119_999) == nil)
        #expect(server.answer(to: request(.discover, mac: otherMAC), now: 120_000) != nil)
        #expect(server.takeRemarks() == [])
    }

    @Test("knows a client by its identifier or its hardware address", arguments: [true, false])
    func knowsAClient(identified: Bool) {
        var server = makeServer()
        let identifier = DHCPv4Message.Option(Code.clientIdentifier, [0xFF, 1, 2, 3])
        #expect(server.answer(to: request(.request, [identifier]), now: 0) != nil)
        let same = identified ? request(.discover, [identifier], mac: otherMAC) : request(.discover)
        #expect(server.answer(to: same, now: 1) != nil)
    }

    @Test(
        "gives the address to another client after RELEASE or DECLINE",
        arguments: [DHCPv4Message.Kind.release, .decline])
    func givesAnew(kind: DHCPv4Message.Kind) {
        var server = makeServer()
        #expect(server.answer(to: request(.request), now: 0) != nil)
        #expect(server.answer(to: request(kind, [self.server(2), wanted(15)], has: guest), now: 1) == nil)
        #expect(server.takeRemarks().count == (kind == .decline ? 1 : 0))
        #expect(server.answer(to: request(.discover, mac: otherMAC), now: 2) != nil)
    }

    @Test("sends a route to a gateway outside the subnet (R3), and all other routes")
    func tellsRoutes() throws {
        let gateway = IPv4Address(192, 168, 0, 1)
        let routes: [ServiceSettings.StaticRoute] = [
            .init(destination: Prefix(host: .v4(gateway)), router: .unspecified),
            .init(destination: try #require(Prefix("10.0.0.0/9")), router: IPv4Address(192, 0, 2, 9)),
            .init(destination: Prefix(default: .v4), router: gateway),
        ]
        let reply = try #require(
            ask(.discover) {
                $0.v4.router = gateway
                $0.v4.routes = routes
            })
        #expect(reply[Code.subnetMask] == [255, 255, 255, 0])
        #expect(reply[Code.router] == [192, 168, 0, 1])
        #expect(
            reply[Code.classlessRoutes]
                == [32, 192, 168, 0, 1, 0, 0, 0, 0] + [9, 10, 0, 192, 0, 2, 9] + [0, 192, 168, 0, 1])
        #expect(ask(.discover)?[Code.classlessRoutes] == nil)
        #expect(ask(.discover) { $0.v4.router = nil }?[Code.router] == nil)
    }

    @Test("sends names and servers")
    func tellsNamesAndServers() throws {
        let reply = try #require(
            ask(.discover, [.init(Code.parameterRequestList, [119, 6, 53, 81])]) {
                $0.v4.dnsServers = [IPv4Address(192, 0, 2, 3), IPv4Address(9, 9, 9, 9)]
                $0.searchDomains = ["example.com", "no..name", "b"]
                $0.hostName = "box"
                $0.fullName = "box.example.com"
                $0.leaseTime = ServiceSettings.infinite
            })
        #expect(reply.options.map(\.code) == [119, 6, 53, 81, 1, 3, 12, 26, 51, 54])
        #expect(reply[Code.domainNameServer] == [192, 0, 2, 3, 9, 9, 9, 9])
        #expect(reply[Code.domainSearch] == hex("07 6578616d706c65 03 636f6d 00 01 62 00"))
        #expect(reply[Code.hostName] == Array("box".utf8))
        #expect(reply[Code.clientFQDN] == hex("04 ff ff 03 626f78 07 6578616d706c65 03 636f6d 00"))
        #expect(reply[Code.leaseTime] == [255, 255, 255, 255])
    }

    @Test("has each mask", arguments: [(8, [255, 0, 0, 0]), (31, [255, 255, 255, 254]), (32, [255, 255, 255, 255])])
    func hasEachMask(length: Int, mask: [UInt8]) {
        #expect(ask(.discover) { $0.v4.guestAddress = Prefix("192.0.2.15/\(length)") }?[Code.subnetMask] == mask)
    }

    @Test("answers to the address itself unless broadcast is wanted")
    func answersToTheAddressItself() throws {
        var server = makeServer()
        let reply = try answer(try clientFrame(request(.discover))) {
            server.reply(to: $0, summary: $1, now: 0, into: &$2)
        }
        expectPacket(reply, .ethernet(to: namespaceMAC), .ip(to: IPAddress("192.0.2.15")), .transportChecksum)
    }

    @Test("sends more options to a client that takes longer messages", arguments: [(nil, false), (1200, true)])
    func sendsMoreOptions(size: Int?, hasAll: Bool) throws {
        let domains = (1...6).map { String(repeating: "x", count: 30) + "\($0).example" }
        var server = makeServer {
            $0.searchDomains = domains
            $0.fullName = String(repeating: "y", count: 60) + ".example"
        }
        let options = size.map { [DHCPv4Message.Option(57, [UInt8($0 >> 8), UInt8($0 & 0xFF)])] } ?? []
        let reply = try answer(try clientFrame(request(.discover, options))) {
            server.reply(to: $0, summary: $1, now: 0, into: &$2)
        }
        let offer = try DHCPv4Message(DecodedPacket(reply).payload.span)
        #expect((offer[Code.domainSearch] != nil && offer[Code.clientFQDN] != nil) == hasAll)
    }

    private func clientFrame(_ message: DHCPv4Message) throws -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: 600)
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: .unspecified), destination: IPv6Address(mapping: .broadcast),
            ipProtocol: .udp)
        var span = frame.mutableSpan
        let length = UDPHeader.writeFrame(
            message.bytes.span, from: 68, to: 67, ip: ip, to: .broadcast, from: namespaceMAC, into: &span)
        return Array(frame.prefix(length))
    }

    // MARK: Changes

    @Test("refuses a renewal in the name of the server that the client knows: udhcpc ignores any other")
    func refusesByTheKnownName() throws {
        var server = makeServer()
        _ = server.answer(to: request(.request), now: 0)
        let moved = makeSettings {
            $0.v4.guestAddress = Prefix("198.51.100.5/24")
            $0.v4.serverAddress = IPv4Address(198, 51, 100, 1)
        }
        #expect(server.update(moved, now: 1).change == .lease)
        let answer = server.answer(to: request(.request, has: guest), now: 2)
        let refusal = try #require(answer)
        #expect(refusal.kind == .negativeAcknowledgment)
        #expect(refusal[Code.serverIdentifier] == [192, 0, 2, 2])
        let other = server.answer(to: request(.request, [wanted(15), self.server(2)]), now: 2)
        #expect(other?[Code.serverIdentifier] == [192, 0, 2, 2])
        // udhcpc takes no lease to be shorter than 30 s, and may come after its end.
        let late = server.answer(to: request(.request, has: guest), now: 130_000)
        #expect(late?[Code.serverIdentifier] == [192, 0, 2, 2])
        let offer = server.answer(to: request(.discover), now: 130_001)
        #expect(offer?[Code.serverIdentifier] == [198, 51, 100, 1])
    }

    @Test(
        "refuses a renewal where the client listens, and everybody else by broadcast",
        arguments: [(true, true, true), (true, false, false), (false, true, false)])
    func refusesWhereTheClientListens(isDirect: Bool, hasAddress: Bool, isHeard: Bool) throws {
        var server = makeServer()
        let former = IPv4Address(192, 0, 2, 99)
        let message = request(
            .request, hasAddress ? [] : [wanted(99)], has: hasAddress ? former : .unspecified)
        var frame = [UInt8](repeating: 0, count: 1000)
        var span = frame.mutableSpan
        let count = UDPHeader.writeFrame(
            message.bytes.span, from: 68, to: 67,
            ip: IPHeader(
                .v4, source: IPv6Address(mapping: hasAddress ? former : .unspecified),
                destination: IPv6Address(mapping: isDirect ? IPv4Address(192, 0, 2, 2) : .broadcast),
                ipProtocol: .udp),
            to: .defaultGateway, from: namespaceMAC, into: &span)
        let refusal = try answer(Array(frame[..<count])) { server.reply(to: $0, summary: $1, now: 0, into: &$2) }
        #expect(try DHCPv4Message(DecodedPacket(refusal).payload.span).kind == .negativeAcknowledgment)
        expectPacket(
            refusal, .ethernet(to: namespaceMAC),
            .ip(from: IPAddress("192.0.2.2"), to: isHeard ? .v4(former) : .v4(.broadcast)))
    }

    @Test("reports a wrong lease once, not with each change before the client has renewed")
    func tellsOnce() {
        var server = makeServer()
        _ = server.answer(to: request(.request), now: 0)
        #expect(server.update(makeSettings { $0.mtu = 1500 }, now: 1).change == .lease)
        #expect(server.update(makeSettings { $0.mtu = 1500 }, now: 2).change == .nothing)
        let resolvers = makeSettings {
            $0.mtu = 1500
            $0.v4.dnsServers = [.loopback]
        }
        #expect(server.update(resolvers, now: 3).change == .details)
    }

    @Test("says how much of a lease is no longer right")
    func saysWhatChanged() {
        var server = makeServer()
        #expect(server.update(makeSettings { $0.v4.guestAddress = Prefix("10.0.0.1/8") }, now: 0).change == .nothing)
        #expect(server.update(makeSettings(), now: 0).change == .nothing)
        #expect(server.answer(to: request(.request), now: 0) != nil)
        let changes: [(DHCPv4Server.Change, (inout ServiceSettings) -> Void)] = [
            (.nothing, { _ in }), (.nothing, { $0.leaseTime = 60 }), (.nothing, { $0.v6.guestAddress = nil }),
            (.details, { $0.v4.dnsServers = [IPv4Address(9, 9, 9, 9)] }), (.details, { $0.searchDomains = ["a"] }),
            (.lease, { $0.v4.guestAddress = Prefix("192.0.2.16/24") }),
            (.lease, { $0.v4.guestAddress = Prefix("192.0.2.15/25") }), (.lease, { $0.mtu = 1500 }),
            (.lease, { $0.v4.router = IPv4Address(192, 0, 2, 1) }),
            (.lease, { $0.v4.routes = [.init(destination: Prefix(default: .v4), router: .unspecified)] }),
        ]
        for (change, edit) in changes {
            let update = server.update(makeSettings(edit), now: 0)
            #expect(update.change == change)
            // The client did not offer to take it.
            #expect(update.message == nil)
        }
        #expect(server.update(makeSettings { $0.mtu = 1500 }, now: 120_000).change == .nothing)
    }

    @Test("sends FORCERENEW with the digest of the client's nonce, only to a client that accepts it (RFC 6704)")
    func sendsForceRenew() throws {
        var server = makeServer()
        let capable = DHCPv4Message.Option(Code.forceRenewNonceCapable, [1])
        let offered = server.answer(to: request(.discover, [capable]), now: 0)
        let offer = try #require(offered)
        #expect(offer[Code.forceRenewNonceCapable] == [1] && offer[Code.authentication] == nil)
        let acknowledged = server.answer(to: request(.request, [capable]), now: 0)
        let granted = try #require(acknowledged)
        let nonce = try #require(granted[Code.authentication])
        #expect(nonce == [3, 1, 0] + [0, 0, 0, 0, 0, 0, 0, 8] + [1] + [UInt8](repeating: 0xAB, count: 16))
        let update = server.update(makeSettings { $0.v4.guestAddress = Prefix("192.0.2.16/24") }, now: 5)
        let message = try #require(update.message)
        #expect(message.kind == .forceRenew && message.isReply && message.clientAddress == guest)
        #expect(message.transactionID == granted.transactionID)
        let signature = try #require(message[Code.authentication])
        #expect(signature.prefix(12) == [3, 1, 0] + [0, 0, 0, 0, 0, 0, 0, 9] + [2])
        // As the client checks it: over the message whose digest is zeros.
        var zeroed = message
        let index = try #require(zeroed.options.firstIndex { $0.code == Code.authentication })
        zeroed.options[index].data = signature.prefix(12) + [UInt8](repeating: 0, count: 16)
        #expect(MessageDigest.hmac(zeroed.bytes, key: Array(nonce.suffix(16))) == Array(signature.suffix(16)))
        // It goes to the address that the client still has.
        var frame = [UInt8](repeating: 0, count: 600)
        var span = frame.mutableSpan
        let length = server.write(message, to: namespaceMAC, into: &span)
        expectPacket(
            frame.prefix(length), .ethernet(to: namespaceMAC), .ip(from: IPAddress("192.0.2.2"), to: .v4(guest)),
            .udp(from: 67, to: 68))
    }
}

@Suite("Digests")
struct MessageDigestTests {
    private func text(_ bytes: [UInt8]) -> String {
        bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    @Test(
        "MD5 (RFC 1321 A.5)",
        arguments: zip(
            [
                "", "a", "message digest", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            ],
            [
                "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661",
                "f96b697d7cb7938d525a2f31aaf161d0", "d174ab98d277d9f5a5611c2c9f419d9f",
                "57edf4a22be3c955ac49da2e2107b67a",
            ]))
    func md5(message: String, digest: String) {
        #expect(text(MessageDigest.md5(Array(message.utf8))) == digest)
    }

    @Test("HMAC-MD5 (RFC 2202 §2)")
    func hmac() {
        let key = [UInt8](repeating: 0x0B, count: 16)
        #expect(text(MessageDigest.hmac(Array("Hi There".utf8), key: key)) == "9294727a3638bb1c13f48ef8158bfc9d")
        let jefe = MessageDigest.hmac(Array("what do ya want for nothing?".utf8), key: Array("Jefe".utf8))
        #expect(text(jefe) == "750c783e6ab0b503eaa86e310a5db738")
        let long = MessageDigest.hmac(
            Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
            key: [UInt8](repeating: 0xAA, count: 80))
        #expect(text(long) == "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd")
    }
}
