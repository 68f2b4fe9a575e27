// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import Planning
import SystemPackage
import Testing

/// What a real kernel made of random operations, written by `netlink-recorder --states`.
private struct Recording: Sendable, CustomTestStringConvertible {
    struct Step: Sendable {
        var operation: String
        var refusal: String?
        var gone: [String] = []
        var come: [String] = []
    }

    var seed: UInt64
    var steps: [Step] = []
    var testDescription: String { "seed \(seed)" }

    static let all: [Recording] = {
        do {
            return try read()
        } catch {
            fatalError("Tests/Fixtures/kernel-states.txt cannot be read: \(error)")
        }
    }()

    private static func read(file: String = #filePath) throws -> [Recording] {
        let tests = FilePath(file).removingLastComponent().removingLastComponent()
        let descriptor = try FileDescriptor.open(
            tests.appending("Fixtures").appending("kernel-states.txt"), .readOnly)
        var bytes: [UInt8] = []
        try descriptor.closeAfter {
            var part = [UInt8](repeating: 0, count: 65536)
            while case let count = try part.withUnsafeMutableBytes({ try descriptor.read(into: $0) }), count > 0 {
                bytes += part[..<count]
            }
        }
        var recordings: [Recording] = []
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            guard words.count == 2, words[0] != "#" else { continue }
            let last = recordings.count - 1
            switch words[0] {
            case "seed": recordings.append(Recording(seed: UInt64(words[1]) ?? 0))
            case "op": recordings[last].steps.append(Step(operation: words[1]))
            case "refused": recordings[last].steps[recordings[last].steps.count - 1].refusal = words[1]
            case "-": recordings[last].steps[recordings[last].steps.count - 1].gone.append(words[1])
            case "+": recordings[last].steps[recordings[last].steps.count - 1].come.append(words[1])
            default: continue
            }
        }
        return recordings
    }
}

@Suite("The simulated kernel against a recorded one (issue 10)")
struct RecordedKernelTests {
    @Test("there is something to compare with")
    func isThere() {
        #expect(Recording.all.count >= 40)
        #expect(Recording.all.allSatisfy { $0.steps.count == 30 })
    }

    @Test("each operation is refused or changes the same", arguments: Recording.all)
    private func agrees(recording: Recording) {
        var state = AppliedState()
        var operations = RandomOperations(seed: recording.seed)
        var before = Set(state.canonicalText(device: "d").split(separator: "\n").map(String.init))
        var story: [String] = []
        for step in recording.steps {
            let operation = operations.next(state)
            story.append(operation.text(device: "d"))
            #expect(operation.text(device: "d") == step.operation, "\(story.joined(separator: "\n"))")
            let refusal = simulate(operation, on: &state)
            // That something is there already, or gone already, is no failure to those who wanted it so.
            let isRefused = refusal != nil && refusal != .exists && refusal != .absent
            let after = Set(state.canonicalText(device: "d").split(separator: "\n").map(String.init))
            let change =
                before.subtracting(after).map { "- \($0)" }.sorted()
                + after.subtracting(before).map { "+ \($0)" }.sorted()
            let recorded = step.gone.map { "- \($0)" }.sorted() + step.come.map { "+ \($0)" }.sorted()
            let isAsRecorded = isRefused == (step.refusal != nil) && change == recorded
            #expect(
                isAsRecorded,
                """
                kernel: \(step.refusal ?? "done") \(recorded)
                simulation: \(refusal.map { "\($0)" } ?? "done") \(change)
                after:
                \(story.joined(separator: "\n"))
                """)
            // What follows would differ for that reason alone.
            guard isAsRecorded else { return }
            before = after
        }
    }
}
