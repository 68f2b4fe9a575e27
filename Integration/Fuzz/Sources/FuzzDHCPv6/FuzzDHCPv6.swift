// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import FuzzSupport
import NetworkModel
import NetworkTypes
import Services
import Wire

/// Takes the input as messages to the DHCPv6 server, each preceded by its length and the time since the last.
///
/// Each reply is a message that can be read, of the same transaction.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var rest = Array(UnsafeBufferPointer(start: start, count: count))[...]
    var server = DHCPv6Server(
        settings: Frames.settings, identifier: [0, 1, 0, 1, 1, 2, 3, 4, 2, 0, 0, 0, 0, 2],
        key: ReconfigurationKey(random: (1, 2), counter: 1))
    var now: Int64 = 0
    var reply = [UInt8](repeating: 0, count: 2048)
    while rest.count >= 2, now < 1 << 40 {
        let (length, pause) = (Int(rest.removeFirst()), rest.removeFirst())
        now += Int64(pause) << (pause & 31)
        let message = Array(rest.prefix(length))
        rest = rest.dropFirst(length)
        let frame = Frames.udpv6(message, from: 546, to: 547)
        guard let summary = try? FrameSummary(frame.span) else { preconditionFailure("no frame") }
        var room = reply.mutableSpan
        let written = server.reply(to: frame.span, summary: summary, now: now, into: &room)
        precondition((0...2048).contains(written))
        if let parsed = try? DHCPv6Message(message.span) { _ = try? parsed.identityAssociations() }
        guard written > 0 else { continue }
        guard let answered = try? FrameSummary(Array(reply[..<written]).span), answered.kind == .udp else {
            preconditionFailure("the reply is no datagram")
        }
        let payload = Array(reply[answered.payloadOffset..<answered.payloadOffset + answered.payloadLength])
        guard let parsed = try? DHCPv6Message(payload.span) else { preconditionFailure("the reply is no message") }
        precondition(Array(payload[1..<4]) == Array(message[1..<4]), "another transaction: \(parsed)")
    }
    return 0
}
