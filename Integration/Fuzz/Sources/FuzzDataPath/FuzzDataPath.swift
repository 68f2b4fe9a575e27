// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Takes the input for what happens to a data path: frames, time, and what the host's servers do (``DataPathSequence``).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let sequence = DataPathSequence()
    sequence.play([UInt8](UnsafeBufferPointer(start: start, count: count)))
    sequence.end()
    return 0
}
