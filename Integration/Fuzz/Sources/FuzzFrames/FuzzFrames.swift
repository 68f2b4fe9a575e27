// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Interprets the input as a sequence of frames from a namespace (``FrameSequence``).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var sequence = FrameSequence()
    sequence.play([UInt8](UnsafeBufferPointer(start: start, count: count)))
    return 0
}
