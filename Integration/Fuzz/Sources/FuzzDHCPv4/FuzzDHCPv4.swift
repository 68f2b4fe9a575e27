// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import FuzzSupport
import NetworkModel
import NetworkTypes
import Services
import Wire

/// Takes the input as messages to the DHCP server, 255 bytes of each preceded by their length and the seconds since the
/// last; each follows a fixed header that the input's first byte may change.
///
/// Each reply is a message that can be read, to the client that asked.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var rest = Array(UnsafeBufferPointer(start: start, count: count))[...]
    var server = DHCPv4Server(settings: Frames.settings, key: ReconfigurationKey(random: (1, 2), counter: 1))
    var now: Int64 = 0
    var reply = [UInt8](repeating: 0, count: 2048)
    while rest.count >= 3, now < 1 << 40 {
        let (length, pause, change) = (Int(rest.removeFirst()), rest.removeFirst(), rest.removeFirst())
        now += Int64(pause) << (pause & 31)
        var message: [UInt8] = [1, 1, 6, 0, 1, 2, 3, 4] + [UInt8](repeating: 0, count: 228) + [0x63, 0x82, 0x53, 0x63]
        message[28...33] = [2, 0, 0, 0, 0, 1]
        message[Int(change) % message.count] ^= change
        message += rest.prefix(length)
        rest = rest.dropFirst(length)
        let frame = Frames.udpv4(message, from: 68, to: 67)
        guard let summary = try? FrameSummary(frame.span) else { preconditionFailure("no frame") }
        var room = reply.mutableSpan
        let written = server.reply(to: frame.span, summary: summary, now: now, into: &room)
        precondition((0...2048).contains(written))
        guard written > 0 else { continue }
        // Behind Ethernet, IPv4 and UDP. An answer to DHCPINFORM goes to whatever address the client says it has.
        let payload = Array(reply[42..<written])
        guard let parsed = try? DHCPv4Message(payload.span) else { preconditionFailure("the reply is no message") }
        precondition(Array(payload[4..<8]) == Array(message[4..<8]), "another transaction: \(parsed)")
    }
    return 0
}
