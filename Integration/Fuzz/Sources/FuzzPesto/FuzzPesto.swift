// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import ControlProtocol
import NetworkModel

/// Interprets the input as the bytes of a client of `--conf-path` (upstream's protocol, version 2), in pieces whose
/// length is the first byte.
///
/// The input is refused in one line or results in rules; these must be equal after they were sent and read again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard let first = bytes.first else { return 0 }
    let size = Int(first) + 1
    var request = PestoRequest(tables: PestoTable.allCases)
    do {
        var position = 1
        while position < bytes.count {
            let end = min(position + size, bytes.count)
            try request.take(bytes[position..<end])
            position = end
        }
        if let rules = try request.outcome(current: []) { check(rules) }
    } catch {
        precondition(!"\(error)".isEmpty && !"\(error)".utf8.contains { $0 < 0x20 })
    }
    return 0
}

/// Sends rules as the server does, and reads them as it reads a client's.
private func check(_ rules: [PortForward]) {
    let greeting = PestoGreeting(tables: PestoTable.allCases, capabilities: [], rules: rules).bytes
    // Magic, version and two sizes; for each table its number, name, capabilities and number of rules.
    var position = 20
    var sent: [UInt8] = []
    for table in PestoTable.allCases {
        precondition(greeting[position] == table.rawValue)
        let number = greeting[(position + 133)..<(position + 137)]
        let length = Int(number.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) * 56
        sent += [table.rawValue] + number + greeting[(position + 137)..<(position + 137 + length)]
        position += 137 + length
    }
    var request = PestoRequest(tables: PestoTable.allCases)
    do {
        try request.take(sent + [0])
        guard let again = try request.outcome(current: []) else { preconditionFailure("no rules") }
        precondition(again == rules, "\(rules) became \(again)")
    } catch {
        preconditionFailure("\(rules): \(error)")
    }
}
