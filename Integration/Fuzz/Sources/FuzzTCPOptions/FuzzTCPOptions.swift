// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import FuzzSupport
import NetworkTypes
import Wire

/// Takes the input as the options of a TCP segment.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let options = Array(UnsafeBufferPointer(start: start, count: min(count, 40)))
    let frame = Frames.tcpv4(options: options)
    guard let summary = try? FrameSummary(frame.span) else { preconditionFailure("no frame") }
    _ = summary.tcpOptions(in: frame.span)
    // Alone, of any length.
    _ = TCPOptions(Array(UnsafeBufferPointer(start: start, count: count)).span)
    return 0
}
