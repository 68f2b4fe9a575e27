// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import FuzzSupport
import NetworkModel
import NetworkTypes
import Services
import Wire

/// Takes the input as an ICMPv6 message with a valid checksum or not, for the responders of neighbour discovery.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let message = Array(UnsafeBufferPointer(start: start, count: min(count, 2000)))
    _ = try? NeighborSolicitation(message.span)
    _ = try? NeighborAdvertisement(message.span)
    _ = try? RouterSolicitation(message.span)
    let frame = Frames.icmpv6(message)
    guard let summary = try? FrameSummary(frame.span) else { return 0 }
    var reply = [UInt8](repeating: 0, count: 2048)
    var room = reply.mutableSpan
    let advertiser = RouterAdvertiser(settings: Frames.settings, random: 1, now: 0)
    let length = NDPResponder.reply(
        to: frame.span, summary: summary, settings: Frames.settings, advertisement: advertiser.solicited(now: 0),
        into: &room)
    precondition((0...2048).contains(length))
    if length > 0 {
        let written = Array(reply[..<length])
        guard let answered = try? FrameSummary(written.span), answered.kind == .icmpv6,
            (try? answered.verifyTransportChecksum(written.span)) != nil
        else { preconditionFailure("the reply is no message with a right checksum") }
    }
    return 0
}
