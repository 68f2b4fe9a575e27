// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import ControlProtocol
import JSON

/// Takes the input as a line of the control protocol, a request and an answer.
///
/// Whatever is read is the same after it was written and read again, on one line of its own.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    do throws(ControlRequest.Refusal) {
        let request = try ControlRequest(parsing: bytes)
        let line = request.line
        precondition(line.last == 0x0A && line.firstIndex(of: 0x0A) == line.count - 1)
        guard let again = try? ControlRequest(parsing: Array(line.dropLast())) else {
            preconditionFailure("\(request)")
        }
        precondition(again == request, "\(request) became \(again)")
    } catch {
        // The refusal is an answer in turn.
        let answer = ControlAnswer(id: error.id, .error(error.error))
        guard let again = try? ControlAnswer(parsing: Array(answer.line.dropLast())) else {
            preconditionFailure("\(answer)")
        }
        precondition(again == answer, "\(answer) became \(again)")
    }
    if let answer = try? ControlAnswer(parsing: bytes) {
        guard let again = try? ControlAnswer(parsing: Array(answer.line.dropLast())) else {
            preconditionFailure("\(answer)")
        }
        precondition(again == answer, "\(answer) became \(again)")
    }
    return 0
}
