// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A set of port numbers: one bit for each, so that 65,536 of them are compared in a thousand steps.
struct PortSet: Equatable {
    private var words: [UInt64] = .init(repeating: 0, count: 1024)

    init() {}

    init(_ ports: some Sequence<UInt16>) {
        for port in ports { insert(port) }
    }

    var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    func contains(_ port: UInt16) -> Bool {
        words[Int(port >> 6)] & (1 << UInt64(port & 63)) != 0
    }

    mutating func insert(_ port: UInt16) {
        words[Int(port >> 6)] |= 1 << UInt64(port & 63)
    }

    mutating func formUnion(_ other: PortSet) {
        for index in words.indices { words[index] |= other.words[index] }
    }

    mutating func subtract(_ other: PortSet) {
        for index in words.indices { words[index] &= ~other.words[index] }
    }

    /// Calls `body` with the members of a range, in order.
    func forEach(in range: ClosedRange<UInt16>, _ body: (UInt16) -> Void) {
        for index in Int(range.lowerBound >> 6)...Int(range.upperBound >> 6) {
            var word = words[index]
            while word != 0 {
                let port = UInt16(index << 6 + word.trailingZeroBitCount)
                if range.contains(port) { body(port) }
                word &= word - 1
            }
        }
    }

    /// The members, in order.
    var ports: [UInt16] {
        var result: [UInt16] = []
        forEach(in: 0...UInt16.max) { result.append($0) }
        return result
    }

    /// Numbers in order as text, runs joined: `22, 80-90`.
    static func text(_ ports: some Sequence<UInt16>) -> String {
        var runs: [ClosedRange<UInt16>] = []
        for port in ports {
            if let last = runs.last, Int(last.upperBound) + 1 == Int(port) {
                runs[runs.count - 1] = last.lowerBound...port
            } else {
                runs.append(port...port)
            }
        }
        return runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ", ")
    }
}
