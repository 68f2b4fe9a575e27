// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink

/// Takes the input as the payload of an rtnetlink message of each kind, and as a datagram of several messages.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
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
    precondition(messages <= count / 16 + 1)
    var attributes = AttributeWalk()
    var found = 0
    while attributes.next(in: bytes.span) != nil { found += 1 }
    precondition(found <= count / 4 + 1)
    return 0
}
