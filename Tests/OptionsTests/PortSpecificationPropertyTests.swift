// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import TestSupport
import Testing

@Suite("Port specifications, properties")
struct PortSpecificationPropertyTests {
    /// Checks what holds for every text: no trap, an error inside the text, or rules that are sound.
    static func check(_ text: String, _ direction: ForwardDirection, seed: UInt64) {
        do {
            let rules = try PortSpecification.parse(
                text, direction: direction, transport: .udp, ephemeralRange: ephemeral)
            var table = ForwardRuleSet()
            #expect(throws: Never.self, "seed \(seed): \(text)") { try table.add(rules) }
            for rule in rules {
                #expect(rule.first.rawValue > 0 && rule.first <= rule.last, "seed \(seed): \(text)")
                let width = rule.last.rawValue - rule.first.rawValue
                #expect(rule.targetFirst.rawValue > 0, "seed \(seed): \(text)")
                #expect(rule.targetFirst.rawValue <= UInt16.max - width, "seed \(seed): \(text)")
                #expect(
                    direction == .inbound || rule.address == nil && rule.targetAddress == nil, "seed \(seed): \(text)")
            }
        } catch {
            #expect(error.offset >= 0 && error.length >= 0, "seed \(seed): \(text)")
            #expect(error.offset + error.length <= text.utf8.count, "seed \(seed): \(text)")
            #expect(!error.reason.isEmpty && !error.description.utf8.contains(10), "seed \(seed): \(text)")
        }
    }

    @Test("no byte string traps the parser", arguments: [1, 2, 3, 0xDEAD_BEEF] as [UInt64])
    func bytes(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<2000 {
            let text = String(decoding: random.bytes(upTo: 40), as: UTF8.self)
            Self.check(text, .inbound, seed: seed)
            Self.check(text, .outbound, seed: seed)
        }
    }

    @Test("no sequence of the grammar's words traps the parser", arguments: [4, 5, 6, 7] as [UInt64])
    func words(seed: UInt64) {
        let words = [
            "none", "all", "auto", "~", ",", ":", "-", "/", "%", "[", "]", "*", "0", "1", "80", "8080", "65535",
            "65536",
            "127.0.0.1", "0.0.0.0", "192.0.2.5", "::", "::1", "2001:db8::5", "::ffff:127.0.0.1", "eth0", "lo", ".", " ",
            "224.0.0.1", "1-65535", "80-90", "32768-60999",
        ]
        var random = SplitMix64(seed: seed)
        for _ in 0..<4000 {
            let count = Int.random(in: 1...12, using: &random)
            let text = (0..<count).map { _ in words.randomElement(using: &random) ?? "" }.joined()
            Self.check(text, .inbound, seed: seed)
            Self.check(text, .outbound, seed: seed)
        }
    }

    /// What a list of ranges and exclusions forwards, port by port.
    @Test("cutting into runs agrees with counting ports", arguments: [8, 9, 10] as [UInt64])
    func oracle(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<100 {
            var expected: [UInt16: UInt16] = [:]
            var text: [String] = []
            // Ranges apart from each other, so that they cannot conflict.
            for base in stride(from: UInt16(100), to: 1000, by: 100) where Bool.random(using: &random) {
                let first = base + UInt16.random(in: 0..<50, using: &random)
                let last = first + UInt16.random(in: 0..<50, using: &random)
                let target = UInt16.random(in: 1...60000, using: &random)
                text.append("\(first)-\(last):\(target)-\(target + (last - first))")
                for port in first...last { expected[port] = target + (port - first) }
            }
            for _ in 0..<Int.random(in: 0...5, using: &random) {
                let first = UInt16.random(in: 1...1100, using: &random)
                let last = first + UInt16.random(in: 0...60, using: &random)
                text.append("~\(first)-\(last)")
                for port in first...last { expected[port] = nil }
            }
            text.shuffle(using: &random)
            guard text.contains(where: { !$0.hasPrefix("~") }) else { continue }
            let rules = try PortSpecification.parse(
                text.joined(separator: ","), direction: .inbound, transport: .tcp, ephemeralRange: ephemeral)
            var found: [UInt16: UInt16] = [:]
            for rule in rules {
                for port in rule.first.rawValue...rule.last.rawValue {
                    found[port] = rule.targetFirst.rawValue + (port - rule.first.rawValue)
                }
            }
            #expect(found == expected, "seed \(seed): \(text)")
        }
    }

    @Test("what made the fuzzer fail once does so no more")
    func fuzzRegressions() throws {
        let directories = ["Corpus", "FailCases"].map { repositoryPath("Integration/Fuzz/\($0)/PortSpecification") }
        let files = directories.flatMap(filesIn)
        #expect(files.count > 20, "the corpus is missing")
        for file in files {
            let text = String(decoding: try contents(of: file), as: UTF8.self)
            Self.check(text, .inbound, seed: 0)
            Self.check(text, .outbound, seed: 0)
        }
    }
}
