// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("DHCP messages (RFC 2131)")
struct DHCPv4Tests {
    typealias Code = DHCPv4Message.OptionCode

    static let captures: [(Capture, DHCPv4Message.Kind)] = [
        (.dhcpDiscover, .discover), (.dhcpOffer, .offer), (.dhcpRequest, .request), (.dhcpAck, .acknowledgment),
    ]

    @Test("reads what clients and dnsmasq send, and what it writes of that", arguments: captures)
    func readsCaptures(capture: Capture, kind: DHCPv4Message.Kind) throws {
        let payload = DecodedPacket(capture.frame).payload
        let message = try DHCPv4Message(payload.span)
        #expect(message.kind == kind)
        #expect(message.isReply == (kind == .offer || kind == .acknowledgment))
        #expect(message.transactionID == 0x1234_5678)
        #expect(message.wantsBroadcast)
        #expect(message.clientMAC == MACAddress(2, 0, 0, 0, 0, 10))
        let written = message.bytes
        #expect(try DHCPv4Message(written.span) == message)
    }

    @Test("reads dnsmasq's offer")
    func readsDnsmasqsOffer() throws {
        let payload = DecodedPacket(Capture.dhcpOffer.frame).payload
        let offer = try DHCPv4Message(payload.span)
        #expect(offer.address(Code.subnetMask) == IPv4Address("255.255.255.0"))
        #expect(offer.address(Code.serverIdentifier) == IPv4Address("192.0.2.2"))
        #expect(offer.address(Code.router) == IPv4Address("192.0.2.2"))
        #expect(offer[Code.leaseTime] == [0, 0, 0x0E, 0x10])
        #expect(offer[Code.rapidCommit] == nil)
        #expect(try #require(Prefix("192.0.2.0/24")).contains(.v4(offer.yourAddress)))
    }

    @Test("joins an option that comes in parts (RFC 3396)")
    func joinsParts() throws {
        var bytes = DHCPv4Message(request: .inform, transactionID: 1, clientMAC: .broadcast).bytes
        bytes.replaceSubrange(240..., with: [119, 2, 1, 2, 0, 53, 1, 8, 119, 1, 3])
        #expect(try DHCPv4Message(bytes.span)[119] == [1, 2, 3])
    }

    @Test("pads to 300 bytes and leaves out what does not fit 548", arguments: [0, 1, 5, 40])
    func padsAndLeavesOut(count: Int) throws {
        let options = (0..<count).map { DHCPv4Message.Option(UInt8(128 + $0), [UInt8](repeating: 7, count: 30)) }
        let message = DHCPv4Message(request: .request, transactionID: 9, clientMAC: .broadcast, options: options)
        let bytes = message.bytes
        #expect((300...548).contains(bytes.count))
        #expect(try DHCPv4Message(bytes.span).options.count == min(count, 9) + 1)
    }

    @Test("refuses what is none, never trapping", arguments: captures)
    func refusesWhatIsNone(capture: Capture, kind: DHCPv4Message.Kind) {
        let payload = DecodedPacket(capture.frame).payload
        for count in 0..<payload.count {
            let cut = Array(payload.prefix(count))
            if count < 240 {
                #expect(throws: ParseError.truncated) { try DHCPv4Message(cut.span) }
            } else {
                _ = try? DHCPv4Message(cut.span)
            }
        }
        for (offset, value) in [(0, 3), (1, 6), (2, 8), (236, 0)] as [(Int, UInt8)] {
            var damaged = payload
            damaged[offset] = value
            #expect(throws: ParseError.badType) { try DHCPv4Message(damaged.span) }
        }
        let last = Array(payload.prefix(240)) + [12, 5, 1]
        #expect(throws: ParseError.badLength) { try DHCPv4Message(last.span) }
    }
}

@Suite("DHCPv6 messages (RFC 8415)")
struct DHCPv6Tests {
    static let captures: [(Capture, DHCPv6Message.Kind)] = [
        (.dhcpv6Solicit, .solicit), (.dhcpv6Advertise, .advertise), (.dhcpv6Request, .request),
        (.dhcpv6Reply, .reply),
    ]

    @Test("writes back what clients and dnsmasq send", arguments: captures)
    func writesBack(capture: Capture, kind: DHCPv6Message.Kind) throws {
        let payload = DecodedPacket(capture.frame).payload
        let message = try DHCPv6Message(payload.span)
        #expect(message.kind == kind)
        #expect(hexDump(message.bytes) == hexDump(payload))
        for option in message.options where option.code == DHCPv6Message.OptionCode.identityAssociation {
            let association = try DHCPv6Message.IdentityAssociation(option.data.span)
            #expect(association.identifier == 10)
            #expect(association.option == option)
        }
    }

    @Test("reads dnsmasq's association")
    func readsDnsmasqsAssociation() throws {
        let payload = DecodedPacket(Capture.dhcpv6Reply.frame).payload
        let association = try #require(try DHCPv6Message(payload.span).identityAssociations().first)
        let address = try #require(association.addresses.first)
        #expect(try #require(Prefix("2001:db8::/64")).contains(.v6(address.address)))
        #expect(address.preferredLifetime == 3600 && address.validLifetime == 3600)
        #expect(association.status == nil)
    }

    @Test("refuses truncations and never traps", arguments: captures)
    func refusesTruncations(capture: Capture, kind: DHCPv6Message.Kind) {
        let payload = DecodedPacket(capture.frame).payload
        var random = SplitMix64(seed: UInt64(kind.rawValue))
        for count in 0..<payload.count {
            let cut = Array(payload.prefix(count))
            if count < 4 { #expect(throws: ParseError.truncated) { try DHCPv6Message(cut.span) } }
            _ = try? DHCPv6Message(cut.span).identityAssociations()
            for _ in 0..<50 {
                var damaged = payload
                damaged[count] = UInt8(truncatingIfNeeded: random.next())
                _ = try? DHCPv6Message(damaged.span).identityAssociations()
            }
        }
        let long = Array(payload.prefix(4)) + [0, 1, 0, 9, 1]
        #expect(throws: ParseError.badLength) { try DHCPv6Message(long.span) }
    }
}
