// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Takes the input for what a namespace sends one after the other (``FrameSequence``).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var sequence = FrameSequence()
    sequence.play([UInt8](UnsafeBufferPointer(start: start, count: count)))
    return 0
}
