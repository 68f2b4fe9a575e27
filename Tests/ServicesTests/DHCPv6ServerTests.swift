// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import TestSupport
import Testing
import Wire

@Suite("DHCPv6 server")
struct DHCPv6ServerTests {
    typealias Code = DHCPv6Message.OptionCode
    typealias Association = DHCPv6Message.IdentityAssociation

    private let guest = IPv6Address(high: 0x2001_0DB8 << 32, low: 0x15)
    private let other = IPv6Address(high: 0x2001_0DB8 << 32, low: 0x99)
    private let client = DHCPv6Message.Option(Code.clientIdentifier, [0, 3, 0, 1, 2, 0, 0, 0, 0, 10])

    private var settings: DHCPv6Settings {
        DHCPv6Settings(
            guestAddress: guest,
            serverIdentifier: DHCPv6Settings.serverIdentifier(mac: .defaultGateway, secondsSince1970: 946_684_801))
    }

    private var server: DHCPv6Message.Option { .init(Code.serverIdentifier, settings.serverIdentifier) }

    /// An association with addresses.
    private func association(_ addresses: IPv6Address..., identifier: UInt32 = 10) -> DHCPv6Message.Option {
        Association(identifier: identifier, addresses: addresses.map { .init($0, lifetime: 100) }).option
    }

    private func ask(
        _ kind: DHCPv6Message.Kind, _ options: DHCPv6Message.Option..., settings: DHCPv6Settings? = nil
    ) throws -> DHCPv6Message? {
        try DHCPv6Server.answer(
            to: DHCPv6Message(kind, transactionID: 0xABCDEF, options: options), settings: settings ?? self.settings)
    }

    /// Identifier, addresses with lifetimes and status of each association as text.
    private func granted(_ message: DHCPv6Message?) throws -> [String] {
        try #require(message).identityAssociations().map { association in
            let addresses = association.addresses.map { "\($0.address) \($0.preferredLifetime) \($0.validLifetime)" }
            let status = association.status.map { " \($0)" } ?? ""
            return "\(association.identifier): \(addresses.joined(separator: ", "))\(status)"
        }
    }

    @Test("has a DUID-LLT counted from 2000 (RFC 8415 §11.2)")
    func hasADUID() {
        #expect(settings.serverIdentifier == hex("0001 0001 00000001 9a559a559a55"))
    }

    @Test("answers a captured SOLICIT with an ADVERTISE")
    func answersASolicit() throws {
        let settings = self.settings
        let asked = DecodedPacket(Capture.dhcpv6Solicit.frame)
        let frame = try answer(Capture.dhcpv6Solicit.frame) {
            DHCPv6Server.reply(to: $0, summary: $1, settings: settings, rules: makeRules(), into: &$2)
        }
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: asked.sourceMAC),
            .ip(from: IPAddress("fe80::1"), to: asked.source, hopLimit: 255), .udp(from: 547, to: 546),
            .transportChecksum)
        let payload = DecodedPacket(frame).payload
        let message = try DHCPv6Message(payload.span)
        #expect(message.kind == .advertise)
        #expect(message.transactionID == 0xABCDEF)
        #expect(message[Code.clientIdentifier] == client.data)
        #expect(message[Code.serverIdentifier] == settings.serverIdentifier)
        #expect(try granted(message) == ["10: 2001:db8::15 4294967295 4294967295"])
    }

    @Test("does not answer a captured REQUEST meant for dnsmasq")
    func doesNotAnswerOthers() throws {
        let settings = self.settings
        let frame = try answer(Capture.dhcpv6Request.frame) {
            DHCPv6Server.reply(to: $0, summary: $1, settings: settings, rules: makeRules(), into: &$2)
        }
        #expect(frame == [])
    }

    @Test("grants a REQUEST for its address, and says that others are not on the link")
    func grantsARequest() throws {
        #expect(
            try granted(ask(.request, client, server, association(guest))) == ["10: 2001:db8::15 4294967295 4294967295"]
        )
        #expect(try granted(ask(.request, client, server, association())) == ["10: 2001:db8::15 4294967295 4294967295"])
        #expect(try granted(ask(.request, client, server, association(guest, other))) == ["10:  notOnLink"])
    }

    @Test("takes an address that is gone away and gives the new one", arguments: [DHCPv6Message.Kind.renew, .rebind])
    func takesAway(kind: DHCPv6Message.Kind) throws {
        var settings = self.settings
        settings.lifetime = 100
        let message =
            kind == .renew
            ? try ask(kind, client, server, association(other), settings: settings)
            : try ask(kind, client, association(other), settings: settings)
        #expect(try granted(message) == ["10: 2001:db8::15 100 100, 2001:db8::99 0 0"])
        let first = try #require(try message?.identityAssociations().first)
        #expect(first.renewalTime == 50 && first.rebindingTime == 80)
    }

    @Test("has one address for one association")
    func hasOneAddress() throws {
        #expect(
            try granted(ask(.solicit, client, association(), association(identifier: 11))) == [
                "10: 2001:db8::15 4294967295 4294967295", "11:  noAddressesAvailable",
            ])
    }

    @Test("confirms addresses (RFC 8415 §18.3.3)")
    func confirmsAddresses() throws {
        #expect(try ask(.confirm, client, association(guest))?[Code.status] == [0, 0])
        #expect(try ask(.confirm, client, association(other))?[Code.status] == [0, 4])
        #expect(try ask(.confirm, client, association()) == nil)
        #expect(try ask(.confirm, client, server, association(guest)) == nil)
    }

    @Test("tells settings without addresses")
    func tellsSettings() throws {
        var settings = self.settings
        settings.dnsServers = [guest, other]
        settings.searchDomains = ["b", ""]
        settings.fullName = "box.b"
        let reply = try #require(try ask(.informationRequest, client, settings: settings))
        #expect(reply.kind == .reply)
        #expect(reply.options.map(\.code) == [2, 1, 23, 24, 39])
        #expect(reply[Code.dnsServers]?.count == 32)
        #expect(reply[Code.searchList] == [1, 98, 0])
        #expect(reply[Code.clientFQDN] == hex("00 03 626f78 01 62 00"))
        #expect(try ask(.informationRequest, client, association(), settings: settings) == nil)
    }

    @Test("wants a client's identifier, and its own where one is due")
    func wantsIdentifiers() throws {
        #expect(try ask(.solicit, association()) == nil)
        #expect(
            try ask(.solicit, .init(Code.clientIdentifier, [UInt8](repeating: 1, count: 131)), association()) == nil)
        #expect(try ask(.solicit, client, server, association()) == nil)
        #expect(try ask(.request, client, association()) == nil)
        #expect(try ask(.renew, client, .init(Code.serverIdentifier, [1]), association(guest)) == nil)
        #expect(try ask(.release, client, server, association(guest)) == nil)
        #expect(try ask(.decline, client, server, association(guest)) == nil)
    }
}
