// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// What can be seen of tapas at work without asking it (issue 13).
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("visible without asking", .timeLimit(.minutes(2))) struct Visible {
        /// A command that waits.
        private static let waits = ["sh", "-c", "echo up; exec sleep 100"]

        /// Whether a line of a log begins with the time (RFC 3339).
        private static func isTimed(_ line: Substring) -> Bool {
            let shape = line.prefix(24).map { $0.isNumber ? "9" : $0 }
            return String(shape) == "9999-99-99T99:99:99.999Z"
        }

        @Test(
            "each change is a line of the log file, with the time; on the terminal of a command with -v only",
            arguments: [[], ["-v"]])
        func changes(options: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = lab.newPath("log")
                let program = try await laptop.host.startTapas(["--config-net", "-l", file] + options, Self.waits)
                try await program.wrote("up")
                try await laptop.host.ip("address add 198.51.100.7/24 dev eth0")
                try await eventually("the log has the change") { contents(of: file).contains("host change 1 applied ") }
                let lines = contents(of: file).split(separator: "\n")
                // The first one names the program.
                #expect(lines.dropFirst().allSatisfy(Self.isTimed), "\(lines)")
                let line = try #require(lines.first { $0.contains("host change 1") })
                // What changed on the host, what in the namespace, what was done.
                for words in [" info: ", " ms after its last event: addresses", "+ 198.51.100.7/24", " operation"] {
                    #expect(line.contains(words), "\(words): \(line)")
                }
                if options.isEmpty {
                    #expect(program.errors == "")
                } else {
                    try await eventually("the terminal has it, too") {
                        program.errors.contains("host change 1 applied ")
                    }
                }
                program.send(SIGTERM)
                let outcome = try await program.end(within: .seconds(3))
                #expect(options.isEmpty == (outcome.errors == ""), "\(outcome)")
            }
        }

        @Test(
            "with -f the lines have the time, and flows are there with --trace only", arguments: ["--debug", "--trace"])
        func flows(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.attach(laptop.guest, ["--config-net", option])
                try await laptop.guest.must(["curl", "-sS", "http://\(Laptop.beyond[0]):8080/"])
                // A change shows that what was said before has arrived.
                try await laptop.host.ip("address add 198.51.100.7/24 dev eth0")
                try await eventually("the change is told of") { program.errors.contains("host change 1 applied ") }
                let lines = program.errors.split(separator: "\n")
                #expect(lines.allSatisfy(Self.isTimed), "\(lines.filter { !Self.isTimed($0) })")
                #expect(
                    lines.contains { $0.contains("203.0.113.1") && $0.contains(" trace: ") } == (option == "--trace"))
            }
        }

        @Test("a ping that the host does not let out is explained once, at the default level")
        func ping() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.set("net/ipv4/ping_group_range", to: "1 0")
                let outcome = try await laptop.host.tapas(
                    ["--config-net"], ["ping", "-c", "3", "-i", "0.2", "-W", "1", Laptop.beyond[0]])
                #expect(outcome.status == 1, "\(outcome)")
                #expect(
                    outcome.errors.ranges(of: "net.ipv4.ping_group_range does not include").count == 1, "\(outcome)")
                #expect(outcome.errorLines.count == 1, "\(outcome)")
            }
        }
    }
}
