// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Policy
import Wire

/// Takes the input as the first bytes of a TLS or HTTP connection, whole and cut at each length: what a shorter piece has
/// decided, a longer one does not change.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: min(count, 1024)))
    var decided: ServerName?
    for length in 0...bytes.count {
        let read = ServerName.read(Array(bytes[..<length]).span)
        if let decided { precondition(read == decided, "\(length) bytes: \(read) after \(decided)") }
        if read != .needMore { decided = read }
    }
    return 0
}
