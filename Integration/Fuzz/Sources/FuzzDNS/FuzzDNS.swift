// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Wire

/// Takes the input as a DNS message: header, question, names anywhere in it, and an answer's records.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let message = Array(UnsafeBufferPointer(start: start, count: count))
    _ = try? DNSHeader(message.span)
    for begin in 0...min(count, 64) {
        var offset = begin
        guard let name = try? DNSName(message.span, at: &offset) else { continue }
        precondition(offset > begin && offset <= count)
        // A name without escapes reads as it is written.
        let text = "\(name)"
        if name != .root, !text.utf8.contains(UInt8(ascii: "\\")) { precondition(DNSName(text) == name, text) }
    }
    var offset = min(12, count)
    if let question = try? DNSQuestion(message.span, at: &offset) {
        precondition(offset <= count, "\(question)")
    }
    if let answer = try? DNSAnswer(message.span) {
        precondition(answer.records.count <= DNSAnswer.maximumCount)
    }
    return 0
}
