// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The fuzzer `Frames` and the unit tests share this file (a link in Tests/ServicesTests). An input is a list of records
// and makes a sequence of frames from a namespace, which passes through all stages that need no socket: classification,
// reassembly, services, errors about them, replies to them. State is kept from frame to frame.
//
// A record begins with its kind. 0 to 127: a frame as it is, two bytes of length and the bytes. 128 to 255: a packet
// that is valid by construction except for its addresses, so that short inputs reach states that random bytes do not
// (fragments of 64 KiB, extension headers, both families with any addresses): see `ConstructedPacket`. What does not
// fit the input ends it.

import NetworkModel
import NetworkTypes
import Services
import Wire

/// Plays the frames of an input.
struct FrameSequence: ~Copyable {
    private var reassembly = Reassembly()
    private var services = GuestServices(
        settings: FrameSequence.settings(0), seed: .init(random: (1, 2, 3, 4, 5), secondsSince1970: 1_000_000_000),
        now: 0)
    private var now: Int64 = 0
    /// Counts so far, so that a test can check that its input had an effect.
    private(set) var accepted = 0
    private(set) var refused = 0
    private(set) var reassembled = 0
    private(set) var answered = 0
    /// Answers of the DHCP servers, and their unsolicited messages.
    private(set) var leased = 0
    private(set) var pushed = 0

    /// Plays all records.
    mutating func play(_ input: [UInt8]) {
        var reader = Reader(input)
        while let kind = reader.next() {
            now += Int64(kind) * 100_000_000
            if kind < 128 {
                guard let length = reader.number(), let frame = reader.take(Int(length)) else { return }
                receive(frame)
            } else {
                guard let packet = ConstructedPacket(&reader) else { return }
                receive(packet.frame)
            }
        }
    }

    private mutating func receive(_ frame: [UInt8], isReassembled: Bool = false) {
        let summary: FrameSummary
        do {
            summary = try FrameSummary(frame.span)
        } catch {
            refused += 1
            return
        }
        accepted += 1
        check(summary, frame)
        if summary.kind == .fragment {
            if !isReassembled { gather(summary, frame) }
        } else {
            answer(summary, frame)
        }
        reply(to: summary)
    }

    /// Checks the invariants of every accepted frame.
    private func check(_ summary: FrameSummary, _ frame: [UInt8]) {
        precondition(summary.payloadOffset >= 0 && summary.payloadLength >= 0)
        precondition(summary.payloadOffset + summary.payloadLength <= frame.count)
        precondition(summary.transportOffset + summary.transportLength <= frame.count)
        guard summary.kind != .arp else { return }
        // The addresses must agree with the family.
        precondition(summary.source.isIPv4Mapped == summary.family.isIPv4, "family of the source")
        precondition(summary.destination.isIPv4Mapped == summary.family.isIPv4, "family of the destination")
        let source = IPAddress(summary.family, summary.source)
        let destination = IPAddress(summary.family, summary.destination)
        precondition(!source.isLoopback && !source.isMulticast && !source.isBroadcast)
        precondition(!destination.isLoopback && !destination.isUnspecified)
    }

    private mutating func gather(_ summary: FrameSummary, _ frame: [UInt8]) {
        let end = summary.transportOffset + summary.transportLength
        let outcome = reassembly.take(
            Reassembly.Fragment(summary, in: frame.span),
            payload: frame.span.extracting(summary.transportOffset..<end),
            macs: (summary.destinationMAC, summary.sourceMAC), now: now)
        guard case .whole(let start, let count) = outcome else { return }
        reassembled += 1
        receive(Array(UnsafeRawBufferPointer(start: start, count: count)), isReassembled: true)
    }

    // MARK: Answers

    /// Settings of the services: one of two networks, or none.
    private static func settings(_ number: Int) -> ServiceSettings {
        var settings = ServiceSettings()
        settings.services = .all
        settings.leaseTime = number % 4 == 3 ? ServiceSettings.infinite : 120
        settings.searchDomains = number % 2 == 0 ? ["a.example"] : []
        settings.v4.isEnabled = true
        settings.v4.guestAddress = Prefix(number % 2 == 0 ? "192.0.2.15/24" : "198.51.100.5/24")
        settings.v4.serverAddress = IPv4Address(number % 2 == 0 ? "192.0.2.2" : "198.51.100.1")
        settings.v4.router = settings.v4.serverAddress
        settings.v4.dnsServers = [IPv4Address(9, 9, 9, 9)]
        settings.v6.isEnabled = true
        settings.v6.ownAddress = IPv6Address("fe80::1")
        settings.v6.isDefaultRouter = true
        let prefix = Prefix(number % 2 == 0 ? "2001:db8::15/64" : "2001:db8:2::15/64")
        settings.v6.guestAddress = number % 3 == 2 ? nil : prefix
        settings.v6.prefixes = [settings.v6.guestAddress?.network].compactMap(\.self).map {
            .init($0, isOnLink: true, isAutonomous: true)
        }
        return settings
    }

    private static let rules: TranslationRules = {
        var rules = TranslationRules()
        rules.families.v4.isEnabled = true
        rules.families.v4.guestAddress = IPAddress("192.0.2.15")
        rules.families.v4.ownAddress = IPAddress("192.0.2.2")
        rules.families.v4.hostLoopback = IPAddress("192.0.2.2")
        rules.families.v6.isEnabled = true
        rules.families.v6.guestAddress = IPAddress("2001:db8::15")
        rules.families.v6.ownAddress = IPAddress("fe80::1")
        return rules
    }()

    /// Calls every responder for the frame, and makes every error about it.
    private mutating func answer(_ summary: FrameSummary, _ frame: [UInt8]) {
        var memory = [UInt8](repeating: 0, count: 65_600)
        var room = memory.mutableSpan
        let milliseconds = now / 1_000_000
        let length = services.reply(to: frame.span, summary: summary, now: milliseconds, into: &room)
        note(length, room.count)
        if length > 0, summary.kind == .udp { leased += 1 }
        if accepted % 8 == 0 { _ = services.update(Self.settings(accepted / 8), now: milliseconds) }
        for _ in 0..<8 {
            let length = services.nextFrame(now: milliseconds, into: &room)
            note(length, room.count)
            guard length > 0 else { continue }
            let sent = try? FrameSummary(room.span.extracting(0..<length))
            if sent?.kind == .udp { pushed += 1 }
        }
        precondition(services.takeRemarks().count <= 16, "remarks pile up")
        note(EchoResponder.reply(to: frame.span, summary: summary, rules: Self.rules, into: &room), room.count)
        note(DNSFailureResponder.reply(to: frame.span, summary: summary, rules: Self.rules, into: &room), room.count)
        guard summary.kind != .arp, ICMPError.mayAnswer(summary) else { return }
        for error in [
            ICMPError.portUnreachable(summary.family), .packetTooBig(summary.family, mtu: 1280), .protocolUnreachable(),
        ] {
            let length = error.writeFrame(
                into: &room, about: frame.span, summary: summary, from: summary.destination, sourceMAC: .defaultGateway
            )
            note(length, ICMPError.maximumFrameLength)
            precondition(error.family == summary.family || length == 0, "an error of the other family")
        }
    }

    /// Writes the frames that the data path would send to the namespace for a flow of the frame, at every length that a
    /// socket can return.
    private mutating func reply(to summary: FrameSummary) {
        guard summary.kind != .arp else { return }
        var memory = [UInt8](repeating: 0, count: 65_600)
        var room = memory.mutableSpan
        let payload = [UInt8](repeating: 7, count: summary.payloadLength)
        let ip = IPHeader(
            summary.family, source: summary.destination, destination: summary.source, ipProtocol: .udp)
        note(
            UDPHeader.writeFrame(
                payload.span, from: 1, to: 2, ip: ip, to: summary.sourceMAC, from: .defaultGateway, into: &room),
            room.count)
        let sent = IPHeader(
            summary.family, source: summary.source, destination: summary.destination, ipProtocol: summary.ipProtocol)
        for family in AddressFamily.allCases {
            let length = ICMPError.hostUnreachable(family).writeFrame(
                into: &room, aboutDatagram: sent, sourcePort: 1, destinationPort: 2, payload: payload.span,
                payloadLength: summary.packetLength, from: summary.destination, to: summary.sourceMAC,
                from: .defaultGateway)
            note(length, ICMPError.maximumFrameLength)
            precondition(family == summary.family || length == 0, "an error of the other family")
        }
    }

    private mutating func note(_ length: Int, _ most: Int) {
        precondition((0...most).contains(length), "a reply of \(length) bytes")
        if length > 0 { answered += 1 }
    }
}

/// Bytes taken from the front of an input.
struct Reader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func next() -> UInt8? {
        guard position < bytes.count else { return nil }
        position += 1
        return bytes[position - 1]
    }

    mutating func number() -> UInt16? {
        guard let high = next(), let low = next() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    mutating func take(_ count: Int) -> [UInt8]? {
        guard count <= bytes.count - position else { return nil }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }
}

/// A packet with valid lengths and checksums between two addresses of a short list, whole or a fragment.
///
/// Twelve bytes: flags (1: IPv6, 2: a fragment, 4: more fragments, 8: an extension header before), source and destination
/// (numbers in the list of the family), identification, protocol, hop limit, offset in units of eight bytes (two), length
/// (two), how many bytes of the input follow as payload (two); the rest of the payload is zero.
struct ConstructedPacket {
    let frame: [UInt8]

    /// Addresses of all kinds, and for IPv6 those that no link carries.
    private static let v4 = [
        "192.0.2.15", "192.0.2.2", "198.51.100.1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "0.1.2.3",
    ].compactMap { IPv4Address($0) }
    private static let v6 = [
        "2001:db8::15", "fe80::1", "2001:db8:1::1", "::", "::1", "ff02::1", "ff01::1", "::ffff:198.51.100.1",
        "::198.51.100.1", "::ffff:127.0.0.1", "ff0e::1", "::ffff:0.0.0.0",
    ].compactMap { IPv6Address($0) }

    init?(_ reader: inout Reader) {
        guard let flags = reader.next(), let from = reader.next(), let to = reader.next(), let number = reader.next(),
            let ipProtocol = reader.next(), let hopLimit = reader.next(), let offset = reader.number(),
            let length = reader.number(), let given = reader.number(), let bytes = reader.take(Int(given))
        else { return nil }
        let isIPv6 = flags & 1 != 0
        let isFragment = flags & 2 != 0
        let hasMore = flags & 4 != 0
        let hasExtension = flags & 8 != 0
        var payload = Array(bytes.prefix(Int(length)))
        payload += [UInt8](repeating: 0, count: Int(length) - payload.count)
        let units = Int(offset) & 0x1FFF
        if isIPv6 {
            frame = Self.frame(
                v6: Self.v6[Int(from) % Self.v6.count], Self.v6[Int(to) % Self.v6.count], ipProtocol, hopLimit,
                fragment: isFragment ? UInt16(units << 3 | (hasMore ? 1 : 0)) : nil, number, hasExtension, payload)
        } else {
            frame = Self.frame(
                v4: Self.v4[Int(from) % Self.v4.count], Self.v4[Int(to) % Self.v4.count], ipProtocol, hopLimit,
                fragment: isFragment ? UInt16(units | (hasMore ? 0x2000 : 0)) : 0, number, payload)
        }
    }

    private static func frame(
        v6 source: IPv6Address, _ destination: IPv6Address, _ ipProtocol: UInt8, _ hopLimit: UInt8, fragment: UInt16?,
        _ number: UInt8, _ hasExtension: Bool, _ payload: [UInt8]
    ) -> [UInt8] {
        var headers: [UInt8] = []
        var next = ipProtocol
        if let fragment {
            headers = [next, 0, UInt8(fragment >> 8), UInt8(fragment & 0xFF), 0, 0, 0, number]
            next = 44
        }
        if hasExtension {
            headers = [next, 0, 1, 4, 0, 0, 0, 0] + headers
            next = 60
        }
        let body = Array((headers + payload).prefix(0xFFFF))
        var frame = [UInt8](repeating: 0, count: 54)
        var span = frame.mutableSpan
        ethernet(&span, type: 0x86DD)
        span.store(UInt32(6) << 28, at: 14)
        span.store(UInt16(truncatingIfNeeded: body.count), at: 18)
        span.store(next, at: 20)
        span.store(hopLimit, at: 21)
        span.store(source, at: 22)
        span.store(destination, at: 38)
        return frame + body
    }

    private static func frame(
        v4 source: IPv4Address, _ destination: IPv4Address, _ ipProtocol: UInt8, _ hopLimit: UInt8, fragment: UInt16,
        _ number: UInt8, _ payload: [UInt8]
    ) -> [UInt8] {
        let body = Array(payload.prefix(0xFFFF - IPv4Header.length))
        var frame = [UInt8](repeating: 0, count: 34)
        var span = frame.mutableSpan
        ethernet(&span, type: 0x0800)
        IPv4Header(
            source: source, destination: destination, ipProtocol: IPProtocol(rawValue: ipProtocol),
            totalLength: UInt16(truncatingIfNeeded: IPv4Header.length + body.count), timeToLive: hopLimit,
            identification: UInt16(number), fragment: fragment
        ).write(into: &span, at: 14)
        return frame + body
    }

    private static func ethernet(_ span: inout MutableSpan<UInt8>, type: UInt16) {
        span.store(MACAddress.defaultGateway, at: 0)
        span.store(MACAddress(2, 0, 0, 0, 0, 0x0A), at: 6)
        span.store(type, at: 12)
    }
}
