// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink

/// Takes the input as a datagram of sock_diag(7) that lists sockets.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    var sockets: [ListedSocket] = []
    for sequence: UInt32 in [0, 1, 7] {
        sockets.removeAll()
        _ = SocketListMessage.parse(bytes.span, sequence: sequence, into: &sockets)
        // Each has a message of its own: a header of 16 bytes and 72 of content.
        precondition(sockets.count <= count / 88)
    }
    return 0
}
