// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

/// What the fuzzer `DataPath` plays (Integration/Fuzz), replayed: its corpus, and what made it fail once.
@Suite("Sequences of everything that happens to a data path", .takesPortsBack)
struct DataPathSequenceTests {
    @Test("what made the fuzzer fail once does so no more")
    func failCases() throws {
        for input in try FuzzInputs.failCases.inputs(of: "DataPath") {
            let sequence = DataPathSequence()
            sequence.play(input.bytes)
            sequence.end()
        }
    }

    @Test("the fuzzer's corpus reaches established connections, backlogs and the bound of the table")
    func corpus() throws {
        var established = 0
        var flows = 0
        var chunks = 0
        // The kernel decides how much a socket takes at once, so a backlog does not come about in each round.
        for _ in 0..<20 where established < 1 || flows < 12 || chunks < 1 {
            for input in try FuzzInputs.corpus.inputs(of: "DataPath") {
                let sequence = DataPathSequence()
                sequence.play(input.bytes)
                established = max(established, sequence.mostEstablished)
                flows = max(flows, sequence.mostFlows)
                chunks = max(chunks, sequence.largestBacklog)
                sequence.end()
            }
        }
        #expect(established >= 1 && flows >= 12 && chunks >= 1, "\(established), \(flows), \(chunks)")
    }

    @Test("no sequence at all traps or leaves anything behind", arguments: 1...4 as ClosedRange<UInt64>)
    func anySequence(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var established = 0
        for _ in 0..<40 {
            var input: [UInt8] = []
            for _ in 0..<60 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0...4:
                    // A segment of a connection: SYN, then mostly what comes next.
                    let flags: UInt8 =
                        random.chance(25) ? 0x02 : random.chance(80) ? 0x10 : .random(in: 0...63, using: &random)
                    input += [1, .random(in: 0...3, using: &random), flags]
                    input += (0..<2).map { _ in random.chance(85) ? 0 : .random(in: 128...255, using: &random) }
                    input += [0x80, 0, .random(in: 0...255, using: &random) & (random.chance(50) ? 0x7F : 0), 10]
                case 5: input += [3, .random(in: 0...255, using: &random), 0, 9]
                case 6: input += [5, random.chance(80) ? 0 : 64, .random(in: 0...255, using: &random)]
                case 7: input += [6, .random(in: 0...255, using: &random)]
                default: input += (0..<8).map { _ in .random(in: 0...255, using: &random) }
                }
            }
            let sequence = DataPathSequence()
            sequence.play(input)
            established += sequence.mostEstablished
            sequence.end()
        }
        #expect(established > 3, "\(established): the test shows nothing")
    }
}
