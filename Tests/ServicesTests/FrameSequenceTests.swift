// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

/// What the fuzzer `Frames` plays (Integration/Fuzz), replayed: its corpus, and what made it fail once.
@Suite("Sequences of frames")
struct FrameSequenceTests {
    private static let folder =
        #filePath.dropLast("Tests/ServicesTests/FrameSequenceTests.swift".utf8.count) + "Integration/Fuzz/"

    /// The contents of the files in one of the fuzzer's folders, by name.
    private static func inputs(_ name: String) throws -> [(name: String, bytes: [UInt8])] {
        let path = "\(folder)\(name)/Frames"
        let directory = try #require(opendir(path), "\(path)")
        defer { closedir(directory) }
        var inputs: [(name: String, bytes: [UInt8])] = []
        while let entry = readdir(directory) {
            let file = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !file.hasPrefix("."), let handle = fopen("\(path)/\(file)", "r") else { continue }
            defer { fclose(handle) }
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            bytes.removeLast(bytes.count - fread(&bytes, 1, bytes.count, handle))
            inputs.append((file, bytes))
        }
        return inputs
    }

    @Test("what made the fuzzer fail once does so no more")
    func failCases() throws {
        let inputs = try Self.inputs("FailCases")
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
        for input in try Self.inputs("FailCases") where input.name.hasSuffix("-65528") {
            var sequence = FrameSequence()
            sequence.play(input.bytes)
            #expect(sequence.refused == 2 && sequence.accepted == 0, "\(input.name)")
        }
    }

    @Test("the fuzzer's corpus reaches reassembly and answers")
    func corpus() throws {
        var reassembled = 0
        var answered = 0
        for input in try Self.inputs("Corpus") {
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
        let input = try #require(try Self.inputs("Corpus").first { $0.name == name })
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
