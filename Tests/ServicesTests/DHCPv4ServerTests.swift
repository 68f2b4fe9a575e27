// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import TestSupport
import Testing
import Wire

@Suite("DHCP server")
struct DHCPv4ServerTests {
    typealias Code = DHCPv4Message.OptionCode

    /// Settings of the guest 192.0.2.15/24 behind a gateway.
    private func makeSettings(gateway: String? = "192.0.2.2") throws -> DHCPv4Settings {
        DHCPv4Settings(
            guestAddress: try #require(Prefix("192.0.2.15/24")),
            ownAddress: try #require(IPv4Address(gateway ?? "192.0.2.2")),
            gateway: gateway.flatMap { IPv4Address($0) }, mtu: 65520)
    }

    private func ask(
        _ kind: DHCPv4Message.Kind, _ options: [DHCPv4Message.Option] = [], settings: DHCPv4Settings
    ) -> DHCPv4Message? {
        let request = DHCPv4Message(request: kind, transactionID: 77, clientMAC: namespaceMAC, options: options)
        return DHCPv4Server.answer(to: request, settings: settings)
    }

    @Test("answers a captured DISCOVER with an OFFER")
    func answersADiscover() throws {
        let settings = try makeSettings()
        let frame = try answer(Capture.dhcpDiscover.frame) {
            DHCPv4Server.reply(to: $0, summary: $1, settings: settings, rules: makeRules(), into: &$2)
        }
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: namespaceMAC),
            .ip(from: IPAddress("192.0.2.2"), to: IPAddress("255.255.255.255"), hopLimit: 255),
            .udp(from: 67, to: 68), .transportChecksum)
        let payload = DecodedPacket(frame).payload
        #expect(payload.count == 300)
        let offer = try DHCPv4Message(payload.span)
        #expect(offer.transactionID == 0x1234_5678)
        #expect(offer.yourAddress == IPv4Address("192.0.2.15"))
        #expect(offer.serverAddress.isUnspecified)
        // The kind first, then as the client lists them (1, 3, 26), then the rest.
        #expect(
            offer.options == [
                .init(53, [2]), .init(1, [255, 255, 255, 0]), .init(3, [192, 0, 2, 2]), .init(26, [0xFF, 0xF0]),
                .init(51, [255, 255, 255, 255]), .init(54, [192, 0, 2, 2]),
            ])
    }

    @Test("grants a REQUEST for the address or for none", arguments: [nil, [192, 0, 2, 15]] as [[UInt8]?])
    func grantsARequest(wanted: [UInt8]?) throws {
        let options = wanted.map { [DHCPv4Message.Option(Code.requestedAddress, $0)] } ?? []
        let reply = try #require(try ask(.request, options, settings: makeSettings()))
        #expect(reply.kind == .acknowledgment)
        #expect(reply.yourAddress == IPv4Address("192.0.2.15"))
    }

    @Test("refuses a REQUEST for an address that is gone")
    func refusesARequest() throws {
        let settings = try makeSettings()
        // dnsmasq had granted another address.
        let frame = try answer(Capture.dhcpRequest.frame) {
            DHCPv4Server.reply(to: $0, summary: $1, settings: settings, rules: makeRules(), into: &$2)
        }
        expectPacket(frame, .ip(to: IPAddress("255.255.255.255")), .udp(to: 68), .transportChecksum)
        let payload = DecodedPacket(frame).payload
        let refusal = try DHCPv4Message(payload.span)
        #expect(refusal.kind == .negativeAcknowledgment)
        #expect(refusal.yourAddress.isUnspecified)
        #expect(refusal.options.map(\.code) == [53, 54])
        var renewal = DHCPv4Message(request: .request, transactionID: 1, clientMAC: namespaceMAC)
        renewal.clientAddress = IPv4Address(192, 0, 2, 99)
        #expect(DHCPv4Server.answer(to: renewal, settings: settings)?.kind == .negativeAcknowledgment)
        renewal.clientAddress = IPv4Address(192, 0, 2, 15)
        #expect(DHCPv4Server.answer(to: renewal, settings: settings)?.kind == .acknowledgment)
    }

    @Test("grants at once to who allows it (RFC 4039), and to BOOTP clients")
    func grantsAtOnce() throws {
        let settings = try makeSettings()
        let rapid = try #require(ask(.discover, [.init(Code.rapidCommit, [])], settings: settings))
        #expect(rapid.kind == .acknowledgment)
        #expect(rapid[Code.rapidCommit] == [])
        var bootp = DHCPv4Message(request: .discover, transactionID: 1, clientMAC: namespaceMAC)
        bootp.options = []
        #expect(DHCPv4Server.answer(to: bootp, settings: settings)?.kind == .acknowledgment)
    }

    @Test("is silent", arguments: [DHCPv4Message.Kind.inform, .decline, .release, .offer, .negativeAcknowledgment])
    func isSilent(kind: DHCPv4Message.Kind) throws {
        #expect(try ask(kind, settings: makeSettings()) == nil)
    }

    @Test("tells a route to a gateway outside the subnet (R3)")
    func tellsARoute() throws {
        let reply = try #require(try ask(.discover, settings: makeSettings(gateway: "192.168.0.1")))
        #expect(reply[Code.subnetMask] == [255, 255, 255, 0])
        #expect(reply[Code.router] == [192, 168, 0, 1])
        #expect(reply[Code.classlessRoutes] == [32, 192, 168, 0, 1, 0, 0, 0, 0, 0, 192, 168, 0, 1])
        let inside = try #require(try ask(.discover, settings: makeSettings()))
        #expect(inside[Code.classlessRoutes] == nil)
        let none = try #require(try ask(.discover, settings: makeSettings(gateway: nil)))
        #expect(none[Code.router] == nil && none[Code.classlessRoutes] == nil)
    }

    @Test("tells names and servers")
    func tellsNamesAndServers() throws {
        var settings = try makeSettings()
        settings.dnsServers = [IPv4Address(192, 0, 2, 3), IPv4Address(9, 9, 9, 9)]
        settings.searchDomains = ["example.com", "no..name", "b"]
        settings.hostName = "box"
        settings.fullName = "box.example.com"
        settings.leaseTime = 120
        let reply = try #require(
            ask(.discover, [.init(Code.parameterRequestList, [119, 6, 53, 81])], settings: settings))
        #expect(reply.options.map(\.code) == [119, 6, 53, 81, 1, 3, 12, 26, 51, 54])
        #expect(reply[Code.domainNameServer] == [192, 0, 2, 3, 9, 9, 9, 9])
        #expect(reply[Code.domainSearch] == hex("07 6578616d706c65 03 636f6d 00 01 62 00"))
        #expect(reply[Code.hostName] == Array("box".utf8))
        #expect(reply[Code.clientFQDN] == hex("04 ff ff 03 626f78 07 6578616d706c65 03 636f6d 00"))
        #expect(reply[Code.leaseTime] == [0, 0, 0, 120])
    }

    @Test("has each mask", arguments: [(8, [255, 0, 0, 0]), (31, [255, 255, 255, 254]), (32, [255, 255, 255, 255])])
    func hasEachMask(length: Int, mask: [UInt8]) throws {
        var settings = try makeSettings()
        settings.guestAddress = try #require(Prefix("192.0.2.15/\(length)"))
        #expect(ask(.discover, settings: settings)?[Code.subnetMask] == mask)
    }

    @Test("answers to the address itself unless broadcast is wanted")
    func answersToTheAddressItself() throws {
        let settings = try makeSettings()
        let request = DHCPv4Message(request: .discover, transactionID: 3, clientMAC: namespaceMAC).bytes
        var frame = [UInt8](repeating: 0, count: 600)
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: .unspecified), destination: IPv6Address(mapping: .broadcast),
            ipProtocol: .udp)
        var span = frame.mutableSpan
        let length = UDPHeader.writeFrame(
            request.span, from: 68, to: 67, ip: ip, to: .broadcast, from: namespaceMAC, into: &span)
        let reply = try answer(Array(frame.prefix(length))) {
            DHCPv4Server.reply(to: $0, summary: $1, settings: settings, rules: makeRules(), into: &$2)
        }
        expectPacket(reply, .ethernet(to: namespaceMAC), .ip(to: IPAddress("192.0.2.15")), .transportChecksum)
    }
}
