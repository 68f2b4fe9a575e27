// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import FuzzSupport
import NetworkModel
import NetworkTypes
import Services
import Wire

/// Interprets the input as a frame from the namespace: classifies it, calls every responder for it, and parses its
/// payload as each message that tapas reads.
///
/// Nothing may trap, and everything that was accepted must be inside the frame.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let frame = [UInt8](UnsafeBufferPointer(start: start, count: count))
    // Messages, independent of the frame that would carry them.
    parse(frame.span)
    guard let summary = try? FrameSummary(frame.span) else { return 0 }
    let end = summary.payloadOffset + summary.payloadLength
    precondition(summary.payloadOffset >= 0 && summary.payloadLength >= 0 && end <= frame.count)
    parse(frame.span.extracting(summary.payloadOffset..<end))
    if summary.kind == .tcp { _ = summary.tcpOptions(in: frame.span) }
    try? summary.verifyTransportChecksum(frame.span)
    answer(frame.span, summary)
    return 0
}

private let rules: TranslationRules = {
    var rules = TranslationRules()
    rules.families.v4.isEnabled = true
    rules.families.v4.guestAddress = IPAddress("192.0.2.15")
    rules.families.v4.ownAddress = IPAddress("192.0.2.2")
    rules.families.v4.gateway = IPAddress("192.0.2.2")
    rules.families.v4.hostLoopback = IPAddress("192.0.2.2")
    rules.families.v4.dnsForward = IPAddress("192.0.2.3")
    rules.families.v6.isEnabled = true
    rules.families.v6.guestAddress = IPAddress("2001:db8::15")
    rules.families.v6.ownAddress = IPAddress("fe80::1")
    rules.families.v6.gateway = IPAddress("fe80::1")
    rules.mtu = 65520
    return rules
}()

private let settings = Frames.settings

private func answer(_ frame: Span<UInt8>, _ summary: FrameSummary) {
    var reply = [UInt8](repeating: 0, count: 2048)
    var room = reply.mutableSpan
    var length = 0
    switch summary.kind {
    case .arp: length = ARPResponder.reply(to: frame, summary: summary, settings: settings, into: &room)
    case .icmpv4, .icmpv6:
        let advertiser = RouterAdvertiser(settings: settings, random: 1, now: 0)
        length = NDPResponder.reply(
            to: frame, summary: summary, settings: settings, advertisement: advertiser.solicited(now: 0), into: &room)
        precondition((0...2048).contains(length))
        length = EchoResponder.reply(to: frame, summary: summary, rules: rules, into: &room)
    case .udp:
        var dhcpv4 = DHCPv4Server(settings: settings, key: ReconfigurationKey(random: (1, 2), counter: 1))
        length = dhcpv4.reply(to: frame, summary: summary, now: 0, into: &room)
        precondition((0...2048).contains(length))
        var dhcpv6 = DHCPv6Server(
            settings: settings, identifier: [1, 2], key: ReconfigurationKey(random: (1, 2), counter: 1))
        length = dhcpv6.reply(to: frame, summary: summary, now: 0, into: &room)
        precondition((0...2048).contains(length))
        length = DNSFailureResponder.reply(to: frame, summary: summary, rules: rules, into: &room)
    default: break
    }
    precondition((0...2048).contains(length))
}

private func parse(_ message: Span<UInt8>) {
    _ = try? ARPMessage(frame: message)
    _ = try? DHCPv4Message(message)
    _ = try? DHCPv6Message(message)
    _ = try? NeighborSolicitation(message)
    _ = try? NeighborAdvertisement(message)
    _ = try? DNSHeader(message)
    for start in [0, 12] where start <= message.count {
        var offset = start
        _ = try? DNSQuestion(message, at: &offset)
        precondition(offset <= message.count)
    }
}
