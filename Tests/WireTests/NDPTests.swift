// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

/// The ICMP message of a captured frame.
private func message(_ capture: Capture) throws -> [UInt8] {
    let summary = try FrameSummary(capture.frame.span)
    return Array(capture.frame[summary.transportOffset...])
}

/// A message of its parts, its checksum zero.
private func bytes(_ parts: (header: ICMPHeader, body: [UInt8])) -> [UInt8] {
    var writer = MessageWriter()
    writer.append(parts.header.type)
    writer.append(parts.header.code)
    writer.append(UInt16(0))
    writer.append(parts.header.rest)
    writer.append(parts.body)
    return writer.bytes
}

/// A message without its checksum.
private func unsummed(_ message: [UInt8]) -> [UInt8] {
    Array(message[..<2]) + [0, 0] + message[4...]
}

@Suite("NDP (RFC 4861)")
struct NDPTests {
    @Test("writes back captured neighbour messages")
    func writesBackNeighbourMessages() throws {
        let solicitation = try message(.neighborSolicitation)
        let parsed = try NeighborSolicitation(solicitation.span)
        #expect(parsed.sourceLinkAddress == MACAddress(2, 0, 0, 0, 0, 10))
        #expect(bytes(parsed.parts) == unsummed(solicitation))
        let detection = try message(.duplicateDetection)
        #expect(try NeighborSolicitation(detection.span).sourceLinkAddress == nil)
        let advertisement = try message(.neighborAdvertisement)
        let answer = try NeighborAdvertisement(advertisement.span)
        #expect(!answer.isRouter && answer.isSolicited && answer.isOverride)
        #expect(bytes(answer.parts) == unsummed(advertisement))
        let router = try message(.routerSolicitation)
        #expect(try bytes(RouterSolicitation(router.span).parts) == unsummed(router))
    }

    @Test("reads dnsmasq's router advertisement")
    func readsDnsmasqsRouterAdvertisement() throws {
        let captured = try message(.routerAdvertisement)
        let advertisement = try RouterAdvertisement(captured.span)
        #expect(advertisement.isManaged)
        #expect(advertisement.routerLifetime == 1800)
        #expect(advertisement.mtu == 1500)
        #expect(advertisement.sourceLinkAddress == MACAddress(2, 0, 0, 0, 0, 11))
        let prefix = try #require(advertisement.prefixes.first)
        #expect(prefix.prefix == IPv6Address("2001:db8::"))
        #expect(prefix.prefixLength == 64)
        #expect(prefix.isOnLink)
        #expect(advertisement.recursiveDNS.map(\.servers) == [[try #require(IPv6Address("2001:db8::53"))]])
    }

    @Test("reads what it writes of a full router advertisement")
    func readsWhatItWrites() throws {
        let advertisement = RouterAdvertisement(
            routerLifetime: 65535, isManaged: true, sourceLinkAddress: .defaultGateway, mtu: 65520,
            prefixes: [
                .init(prefix: IPv6Address(high: 0x2001_0DB8 << 32, low: 0), validLifetime: 7200, preferredLifetime: 0)
            ],
            routes: [
                .init(prefix: .unspecified, prefixLength: 0, preference: 1, lifetime: 9),
                .init(prefix: IPv6Address(high: 0x2001_0DB8 << 32, low: 0), prefixLength: 48, lifetime: 0),
                .init(prefix: .loopback, prefixLength: 128, preference: 3, lifetime: 60),
            ],
            recursiveDNS: [
                .init(servers: [.loopback, .allNodes], lifetime: 3600), .init(servers: [.loopback], lifetime: 0),
            ],
            searchLists: [.init(domains: ["example.com", "a.b"].compactMap { DNSName($0) }, lifetime: 1)])
        let message = bytes(advertisement.parts)
        #expect(message.count % 8 == 0)
        #expect(try RouterAdvertisement(message.span) == advertisement)
    }

    @Test("refuses options whose length is zero or too long", arguments: [0, 5, 255] as [UInt8])
    func refusesBadOptions(length: UInt8) throws {
        var bytes = try message(.neighborSolicitation)
        bytes[25] = length
        #expect(throws: ParseError.badLength) { try NeighborSolicitation(bytes.span) }
    }

    @Test("refuses a group as target")
    func refusesAGroupAsTarget() throws {
        var bytes = try message(.neighborSolicitation)
        bytes[8] = 0xFF
        #expect(throws: ParseError.badValue) { try NeighborSolicitation(bytes.span) }
    }

    @Test("never traps on any truncation or single damaged byte")
    func neverTraps() throws {
        let whole = try message(.routerAdvertisement)
        for count in 0..<whole.count {
            _ = try? RouterAdvertisement(Array(whole.prefix(count)).span)
            for value in [0, 1, 2, 31, 63, 64, 127, 128, 192, 255] as [UInt8] {
                var damaged = whole
                damaged[count] = value
                _ = try? RouterAdvertisement(damaged.span)
            }
        }
        let short = Array(whole.prefix(15))
        #expect(throws: ParseError.truncated) { try RouterAdvertisement(short.span) }
    }

    @Test("leaves out search domains that do not fit an option")
    func leavesOutSearchDomains() throws {
        let names = (0..<60).compactMap { DNSName(String(repeating: "x", count: 60) + ".n\($0)") }
        let advertisement = RouterAdvertisement(routerLifetime: 1, searchLists: [.init(domains: names)])
        let message = bytes(advertisement.parts)
        let read = try RouterAdvertisement(message.span)
        #expect(read == advertisement)
        #expect((20..<60).contains(read.searchLists.first?.domains.count ?? 0))
    }
}
