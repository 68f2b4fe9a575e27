// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Services

@Suite("DHCPv6 server")
struct DHCPv6ServerTests {
    typealias Code = DHCPv6Message.OptionCode
    typealias Association = DHCPv6Message.IdentityAssociation

    private let guest = IPv6Address(high: 0x2001_0DB8 << 32, low: 0x15)
    private let other = IPv6Address(high: 0x2001_0DB8 << 32, low: 0x99)
    private let source = IPv6Address(high: 0xFE80 << 48, low: 0xA)
    private let client = DHCPv6Message.Option(Code.clientIdentifier, [0, 3, 0, 1, 2, 0, 0, 0, 0, 10])
    private let identifier = DHCPv6Server.identifier(mac: .defaultGateway, secondsSince1970: 946_684_801)

    private func makeServer(_ edit: (inout ServiceSettings) -> Void = { _ in }) -> DHCPv6Server {
        DHCPv6Server(settings: makeSettings(edit), identifier: identifier, key: makeKey())
    }

    private var server: DHCPv6Message.Option { .init(Code.serverIdentifier, identifier) }

    /// An association with addresses.
    private func association(_ addresses: IPv6Address..., identifier: UInt32 = 10) -> DHCPv6Message.Option {
        Association(identifier: identifier, addresses: addresses.map { .init($0, lifetime: 100) }).option
    }

    private func send(
        _ kind: DHCPv6Message.Kind, _ options: [DHCPv6Message.Option], to server: inout DHCPv6Server,
        mac: MACAddress = namespaceMAC, now: Int64 = 0
    ) throws -> DHCPv6Message? {
        try server.answer(
            to: DHCPv6Message(kind, transactionID: 0xABCDEF, options: options), mac: mac, source: source, now: now)
    }

    /// The answer of a server that has seen nobody.
    private func ask(
        _ kind: DHCPv6Message.Kind, _ options: DHCPv6Message.Option...,
        with edit: (inout ServiceSettings) -> Void = { _ in }
    ) throws -> DHCPv6Message? {
        var server = makeServer(edit)
        return try send(kind, options, to: &server)
    }

    /// Identifier, addresses with lifetimes and status of each association as text.
    private func granted(_ message: DHCPv6Message?) throws -> [String] {
        try #require(message).identityAssociations().map { association in
            let addresses = association.addresses.map { "\($0.address) \($0.preferredLifetime) \($0.validLifetime)" }
            let status = association.status.map { " \($0)" } ?? ""
            return "\(association.identifier): \(addresses.joined(separator: ", "))\(status)"
        }
    }

    private let ours = ["10: 2001:db8::15 120 120"]

    @Test("has a DUID-LLT counted from 2000 (RFC 8415 §11.2)")
    func hasADUID() {
        #expect(identifier == hex("0001 0001 00000001 9a559a559a55"))
    }

    @Test("answers a captured SOLICIT with an ADVERTISE")
    func answersASolicit() throws {
        var server = makeServer { $0.leaseTime = ServiceSettings.infinite }
        let asked = DecodedPacket(Capture.dhcpv6Solicit.frame)
        let frame = try answer(Capture.dhcpv6Solicit.frame) { server.reply(to: $0, summary: $1, now: 0, into: &$2) }
        expectPacket(
            frame, .ethernet(from: .defaultGateway, to: asked.sourceMAC),
            .ip(from: IPAddress("fe80::1"), to: asked.source, hopLimit: 255), .udp(from: 547, to: 546),
            .transportChecksum)
        let payload = DecodedPacket(frame).payload
        let message = try DHCPv6Message(payload.span)
        #expect(message.kind == .advertise)
        #expect(message.transactionID == 0xABCDEF)
        #expect(message[Code.clientIdentifier] == client.data)
        #expect(message[Code.serverIdentifier] == identifier)
        #expect(try granted(message) == ["10: 2001:db8::15 4294967295 4294967295"])
    }

    @Test("does not answer a captured REQUEST meant for dnsmasq")
    func doesNotAnswerOthers() throws {
        var server = makeServer()
        let frame = try answer(Capture.dhcpv6Request.frame) { server.reply(to: $0, summary: $1, now: 0, into: &$2) }
        #expect(frame == [])
    }

    @Test("grants at once to clients that allow it (RFC 8415 §18.3.1)")
    func grantsAtOnce() throws {
        let reply = try #require(try ask(.solicit, client, association(), .init(Code.rapidCommit, [])))
        #expect(reply.kind == .reply && reply[Code.rapidCommit] == [])
        #expect(try granted(reply) == ours)
    }

    @Test("grants a REQUEST for its address, and says that others are not on the link")
    func grantsARequest() throws {
        #expect(try granted(ask(.request, client, server, association(guest))) == ours)
        #expect(try granted(ask(.request, client, server, association())) == ours)
        #expect(try granted(ask(.request, client, server, association(guest, other))) == ["10:  notOnLink"])
    }

    @Test("takes an address that is gone away and gives the new one", arguments: [DHCPv6Message.Kind.renew, .rebind])
    func takesAway(kind: DHCPv6Message.Kind) throws {
        let message =
            kind == .renew
            ? try ask(kind, client, server, association(other)) : try ask(kind, client, association(other))
        #expect(try granted(message) == ["10: 2001:db8::15 120 120, 2001:db8::99 0 0"])
        let first = try #require(try message?.identityAssociations().first)
        #expect(first.renewalTime == 60 && first.rebindingTime == 96)
    }

    @Test("takes addresses away and gives none when there is none")
    func hasNoAddress() throws {
        let none: (inout ServiceSettings) -> Void = { $0.v6.guestAddress = nil }
        #expect(try granted(ask(.renew, client, server, association(guest), with: none)) == ["10: 2001:db8::15 0 0"])
        #expect(try granted(ask(.rebind, client, association(guest), with: none)) == ["10: 2001:db8::15 0 0"])
        let rapid = DHCPv6Message.Option(Code.rapidCommit, [])
        let advertise = try ask(.solicit, client, association(), rapid, with: none)
        #expect(try granted(advertise) == ["10:  noAddressesAvailable"] && advertise?.kind == .advertise)
        let request = try ask(.request, client, server, association(), with: none)
        #expect(try granted(request) == ["10:  noAddressesAvailable"])
        #expect(try ask(.confirm, client, association(guest), with: none)?[Code.status] == [0, 4])
    }

    @Test("has one address for one association")
    func hasOneAddress() throws {
        #expect(
            try granted(ask(.solicit, client, association(), association(identifier: 11)))
                == ours + ["11:  noAddressesAvailable"])
    }

    @Test("confirms addresses (RFC 8415 §18.3.3)")
    func confirmsAddresses() throws {
        #expect(try ask(.confirm, client, association(guest))?[Code.status] == [0, 0])
        #expect(try ask(.confirm, client, association(other))?[Code.status] == [0, 4])
        #expect(try ask(.confirm, client, association()) == nil)
        #expect(try ask(.confirm, client, server, association(guest)) == nil)
    }

    @Test("answers RELEASE and DECLINE (RFC 8415 §18.3.7, §18.3.8)", arguments: [DHCPv6Message.Kind.release, .decline])
    func answersReleases(kind: DHCPv6Message.Kind) throws {
        var server = makeServer()
        _ = try send(.request, [client, self.server, association()], to: &server)
        let reply = try #require(try send(kind, [client, self.server, association(guest)], to: &server))
        #expect(reply.kind == .reply && reply[Code.status] == [0, 0])
        #expect(try granted(reply) == [])
        #expect(server.takeRemarks().count == (kind == .decline ? 1 : 0))
        #expect(try granted(send(kind, [client, self.server, association(other)], to: &server)) == ["10:  noBinding"])
        #expect(try send(kind, [client, association(guest)], to: &server) == nil)
        // The address is free for another client.
        let another = DHCPv6Message.Option(Code.clientIdentifier, [9, 9])
        let mac = MACAddress(2, 0, 0, 0, 0, 77)
        #expect(try send(.solicit, [another, association()], to: &server, mac: mac) != nil)
    }

    @Test("serves one client, and says once that others are not answered")
    func servesOneClient() throws {
        var server = makeServer()
        _ = try send(.request, [client, self.server, association()], to: &server)
        let another = DHCPv6Message.Option(Code.clientIdentifier, [9, 9])
        let mac = MACAddress(2, 0, 0, 0, 0, 77)
        for _ in 0..<3 { #expect(try send(.solicit, [another, association()], to: &server, mac: mac) == nil) }
        #expect(server.takeRemarks().count == 1)
        // The same machine with another identifier, and the same identifier at another card, are the same client.
        #expect(try send(.solicit, [another, association()], to: &server) != nil)
        #expect(try send(.solicit, [client, association()], to: &server, mac: mac) != nil)
        #expect(try send(.solicit, [another, association()], to: &server, mac: mac, now: 120_000) != nil)
    }

    @Test("sends settings without addresses")
    func tellsSettings() throws {
        let edit: (inout ServiceSettings) -> Void = {
            $0.v6.dnsServers = [guest, other]
            $0.searchDomains = ["b", ""]
            $0.fullName = "box.b"
        }
        let reply = try #require(try ask(.informationRequest, client, with: edit))
        #expect(reply.kind == .reply)
        #expect(reply.options.map(\.code) == [2, 1, 23, 24, 32, 39])
        #expect(reply[Code.dnsServers]?.count == 32)
        #expect(reply[Code.searchList] == [1, 98, 0])
        #expect(reply[Code.informationRefreshTime] == [0, 0, 0, 120])
        #expect(reply[Code.clientFQDN] == hex("00 03 626f78 01 62 00"))
        #expect(try ask(.informationRequest, client, association(), with: edit) == nil)
        let granted = try #require(try ask(.request, client, server, association(), with: edit))
        #expect(granted.options.map(\.code) == [2, 1, 3, 23, 24, 39])
    }

    @Test("wants a client's identifier, and its own where one is due")
    func wantsIdentifiers() throws {
        #expect(try ask(.solicit, association()) == nil)
        #expect(
            try ask(.solicit, .init(Code.clientIdentifier, [UInt8](repeating: 1, count: 131)), association()) == nil)
        #expect(try ask(.solicit, client, server, association()) == nil)
        #expect(try ask(.request, client, association()) == nil)
        #expect(try ask(.renew, client, .init(Code.serverIdentifier, [1]), association(guest)) == nil)
        #expect(try ask(.rebind, client, server, association(guest)) == nil)
        #expect(try ask(.advertise, client, server) == nil)
    }

    @Test("is silent when it is off")
    func isSilentWhenOff() throws {
        #expect(try ask(.solicit, client, association()) { $0.services.remove(.dhcpv6) } == nil)
        #expect(try ask(.solicit, client, association()) { $0.v6.isEnabled = false } == nil)
    }

    @Test("sends RECONFIGURE with the digest of the client's key, only to a client that accepts it (RFC 8415 §20.4)")
    func sendsReconfigure() throws {
        let moved = makeSettings { $0.v6.guestAddress = Prefix("2001:db8:2::15/64") }
        var deaf = makeServer()
        _ = try send(.request, [client, server, association()], to: &deaf)
        let unheard = deaf.update(moved, now: 1)
        #expect(unheard.change == .lease && unheard.message == nil)
        var server = makeServer()
        let accepts = DHCPv6Message.Option(Code.reconfigureAccept, [])
        let reply = try #require(try send(.request, [client, self.server, association(), accepts], to: &server))
        #expect(reply[Code.reconfigureAccept] == [])
        let key = try #require(reply[Code.authentication])
        #expect(key == [3, 1, 0] + [0, 0, 0, 0, 0, 0, 0, 8] + [1] + [UInt8](repeating: 0xAB, count: 16))
        #expect(server.update(makeSettings(), now: 1).change == .nothing)
        #expect(server.update(makeSettings { $0.searchDomains = ["x"] }, now: 1).change == .details)
        let update = server.update(moved, now: 1)
        let message = try #require(update.message)
        #expect(update.change == .lease && message.kind == .reconfigure && message.transactionID == 0)
        #expect(message[Code.reconfigureMessage] == [5])
        let signature = try #require(message[Code.authentication])
        var zeroed = message
        zeroed.options[3].data = signature.prefix(12) + [UInt8](repeating: 0, count: 16)
        #expect(MessageDigest.hmac(zeroed.bytes, key: Array(key.suffix(16))) == Array(signature.suffix(16)))
        var frame = [UInt8](repeating: 0, count: 600)
        var span = frame.mutableSpan
        let length = server.write(toHolder: message, into: &span)
        expectPacket(
            frame.prefix(length), .ethernet(to: namespaceMAC), .ip(from: IPAddress("fe80::1"), to: .v6(source)),
            .udp(from: 547, to: 546), .transportChecksum)
    }
}
