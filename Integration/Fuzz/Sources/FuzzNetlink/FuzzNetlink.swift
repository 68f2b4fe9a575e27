// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Takes the input as the payload of an rtnetlink message of each kind, and as a datagram of several messages.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let found = EveryNetlinkParser.parse(Array(UnsafeBufferPointer(start: start, count: count)))
    precondition(found.messages <= count / 16 + 1)
    precondition(found.attributes <= count / 4 + 1)
    return 0
}
