// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Interprets the input as events of a data path: frames, time, and actions of the host's servers
/// (``DataPathSequence``).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let sequence = DataPathSequence()
    sequence.play([UInt8](UnsafeBufferPointer(start: start, count: count)))
    sequence.end()
    return 0
}
