// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

/// What the fuzzer `Frames` plays (Integration/Fuzz), replayed: its corpus, and what made it fail once.
@Suite("Sequences of frames")
struct FrameSequenceTests {
    @Test("what made the fuzzer fail once does so no more")
    func failCases() throws {
        let inputs = try FuzzInputs.failCases.inputs(of: "Frames")
        #expect(inputs.count >= 2)
        for input in inputs {
            var sequence = FrameSequence()
            sequence.play(input.bytes)
            let total = sequence.accepted + sequence.refused
            #expect(total > 0, "\(input.name) plays nothing")
        }
    }

    @Test("fragments between an IPv6 host and an IPv4-mapped or -compatible address are refused one by one")
    func embeddedAddresses() throws {
        for input in try FuzzInputs.failCases.inputs(of: "Frames") where input.name.hasSuffix("-65528") {
            var sequence = FrameSequence()
            sequence.play(input.bytes)
            #expect(sequence.refused == 2 && sequence.accepted == 0, "\(input.name)")
        }
    }

    @Test("the fuzzer's corpus reaches reassembly and answers")
    func corpus() throws {
        var reassembled = 0
        var answered = 0
        for input in try FuzzInputs.corpus.inputs(of: "Frames") {
            var sequence = FrameSequence()
            sequence.play(input.bytes)
            reassembled += sequence.reassembled
            answered += sequence.answered
        }
        #expect(reassembled >= 4)
        #expect(answered >= 4)
    }

    @Test(
        "the fuzzer's corpus goes through leases of both families and a change of the host",
        arguments: [("lease4", 5), ("lease6", 9)])
    func leases(name: String, answers: Int) throws {
        let input = try #require(try FuzzInputs.corpus.inputs(of: "Frames").first { $0.name == name })
        var sequence = FrameSequence()
        sequence.play(input.bytes)
        #expect(sequence.leased == answers)
        // FORCERENEW, RECONFIGURE.
        #expect(sequence.pushed == 1)
    }

    @Test("no sequence at all traps", arguments: 1...4 as ClosedRange<UInt64>)
    func anySequence(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var reassembled = 0
        for _ in 0..<400 {
            var input: [UInt8] = []
            // Few addresses, numbers and cuts, so that fragments meet.
            let cut = UInt16.random(in: 1...8, using: &random)
            let family = UInt8.random(in: 0...1, using: &random)
            for _ in 0..<8 {
                let end = UInt16.random(in: 0...65_535, using: &random)
                let isFirst = random.chance(50)
                let flags = (random.chance(90) ? family : 1 - family) | 2 | (isFirst ? 4 : 0)
                let offset = isFirst ? 0 : cut * 1000
                let length = isFirst ? cut * 8000 : end
                input += [128, flags, UInt8.random(in: 0...11, using: &random) % (random.chance(75) ? 1 : 12)]
                input += [UInt8.random(in: 0...11, using: &random) % (random.chance(75) ? 3 : 12)]
                input += [1, random.chance(90) ? 17 : UInt8.random(in: 0...255, using: &random), 64]
                for number in [offset, length, 0] { input += [UInt8(number >> 8), UInt8(number & 0xFF)] }
            }
            var sequence = FrameSequence()
            sequence.play(input)
            reassembled += sequence.reassembled
        }
        #expect(reassembled > 10, "\(reassembled): the test shows nothing")
    }
}
