// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// What a kernel said while its network was changed step by step: written by `netlink-recorder`, replayed by tests.
///
/// The text form has one record a line: `# comment`, `step COMMAND`, `event HEX` (a notification datagram),
/// `dump TYPE FAMILY HEX` (a message of a dump made after the step), `get TYPE FAMILY HEX` (a reply to a lookup). Answers
/// that are those of the step before are not repeated.
package struct NetlinkTrace: Sendable {
    /// Names a question: the request's type and family, and whether all objects are asked for.
    package struct Question: Hashable, Sendable {
        package var type: UInt16
        package var family: UInt8
        package var isDump: Bool

        package init(type: UInt16, family: UInt8, isDump: Bool) {
            self.type = type
            self.family = family
            self.isDump = isDump
        }
    }

    /// One change and what followed.
    package struct Step: Sendable {
        package var command: String
        package var events: [[UInt8]] = []
        package var answers: [Question: [[UInt8]]] = [:]

        package init(command: String) {
            self.command = command
        }
    }

    package var comments: [String] = []
    package var steps: [Step] = []

    package init() {}

    /// Reads the text form.
    package init(text: String) {
        var fresh: Set<Question> = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("#") {
                comments.append(String(line.dropFirst().drop { $0 == " " }))
                continue
            }
            let words = line.split(separator: " ")
            guard let kind = words.first else { continue }
            if kind == "step" {
                let before = steps.last?.answers ?? [:]
                steps.append(Step(command: words.dropFirst().joined(separator: " ")))
                steps[steps.count - 1].answers = before
                fresh = []
            } else if steps.isEmpty {
                continue
            } else if kind == "event", words.count == 2 {
                steps[steps.count - 1].events.append(hexBytes(String(words[1])))
            } else if kind == "dump" || kind == "get", words.count >= 3, let type = UInt16(words[1]),
                let family = UInt8(words[2])
            {
                let question = Question(type: type, family: family, isDump: kind == "dump")
                // A line without bytes says that the answer is empty.
                let answer = words.count > 3 ? [hexBytes(String(words[3]))] : []
                if fresh.insert(question).inserted { steps[steps.count - 1].answers[question] = [] }
                steps[steps.count - 1].answers[question, default: []] += answer
            }
        }
    }

    /// The text form.
    package var text: String {
        var text = comments.map { "# \($0)\n" }.joined()
        var before: [Question: [[UInt8]]] = [:]
        for step in steps {
            defer { before = step.answers }
            text += "step \(step.command)\n"
            for event in step.events { text += "event \(hexText(event))\n" }
            let questions = step.answers.keys.sorted { ($0.type, $0.family) < ($1.type, $1.family) }
            for question in questions where before[question] != step.answers[question] {
                let prefix = "\(question.isDump ? "dump" : "get") \(question.type) \(question.family)"
                let answers = step.answers[question] ?? []
                if answers.isEmpty { text += prefix + "\n" }
                for answer in answers { text += "\(prefix) \(hexText(answer))\n" }
            }
        }
        return text
    }

    /// Reads a fixture by name from `Tests/Fixtures`.
    package static func fixture(_ name: String, file: String = #filePath) throws -> NetlinkTrace {
        let tests = FilePath(file).removingLastComponent().removingLastComponent()
        return NetlinkTrace(text: try read(tests.appending("Fixtures").appending(name).string))
    }

    private static func read(_ path: String) throws -> String {
        let descriptor = try FileDescriptor.open(path, .readOnly)
        return try descriptor.closeAfter {
            var bytes: [UInt8] = []
            var part = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = try part.withUnsafeMutableBytes { try descriptor.read(into: $0) }
                if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                bytes += part[..<count]
            }
        }
    }
}

/// Answers requests as the kernel did after a trace's step; the answers change with ``position``.
package final class TraceReplay {
    package let trace: NetlinkTrace
    /// The step whose answers hold.
    package var position = 0

    package init(_ trace: NetlinkTrace) {
        self.trace = trace
    }

    /// A kernel for requests.
    package func makeTransport() -> ScriptedNetlink {
        ScriptedNetlink { [self] request, _ in
            let family = request.payload.first ?? 0
            let question = NetlinkTrace.Question(type: request.type, family: family, isDump: request.isDump)
            guard let answers = trace.steps[position].answers[question] else {
                return [.datagram([.acknowledgement(Int32(EOPNOTSUPP), of: request)])]
            }
            let messages = answers.map { KernelMessage(captured: $0) }
            if request.isDump { return messages.map { .datagram([$0]) } + [.datagram([.done()])] }
            return messages.map { .datagram([$0]) }
        }
    }
}
