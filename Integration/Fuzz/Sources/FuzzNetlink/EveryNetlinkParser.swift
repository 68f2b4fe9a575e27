// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink

/// Every parser of rtnetlink messages; what they return is of no interest, only that they do.
enum EveryNetlinkParser {
    /// Feeds bytes to each parser, as a payload and as a datagram.
    ///
    /// - Returns: the numbers of messages and of attributes that the walks found.
    static func parse(_ bytes: [UInt8]) -> (messages: Int, attributes: Int) {
        _ = LinkMessage.parse(bytes.span)
        _ = AddressMessage.parse(bytes.span)
        _ = RouteMessage.parse(bytes.span)
        _ = RuleMessage.parse(bytes.span)
        _ = NextHopMessage.parse(bytes.span)
        _ = NeighbourMessage.parse(bytes.span)
        for flags: UInt16 in [0, 0x100, 0x200, 0x300] {
            for type: UInt16 in [2, 3] {
                let header = MessageHeader(length: 0, type: type, flags: flags, sequence: 0, portID: 0)
                _ = Acknowledgement(header, bytes.span)
            }
        }
        var walk = MessageWalk()
        var messages = 0
        while walk.next(in: bytes.span) != nil { messages += 1 }
        var attributes = AttributeWalk()
        var count = 0
        while attributes.next(in: bytes.span) != nil { count += 1 }
        return (messages, count)
    }
}
