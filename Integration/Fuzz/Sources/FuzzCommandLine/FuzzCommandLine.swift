// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Options

/// Takes the input as a command line: words that end with zero bytes, behind the name that the first byte chooses.
///
/// The result is what to do, or one line.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    let names = ["tapas", "pasta", "passt", "/usr/bin/pasta.avx2"]
    let words = bytes.dropFirst().split(separator: 0, omittingEmptySubsequences: false)
        .map { String(decoding: $0, as: UTF8.self) }
    do throws(UsageError) {
        _ = try parse(arguments: [names[Int(first) % names.count]] + words)
    } catch {
        precondition(!"\(error)".isEmpty && !"\(error)".utf8.contains { $0 < 0x20 }, "\(error)")
    }
    return 0
}
