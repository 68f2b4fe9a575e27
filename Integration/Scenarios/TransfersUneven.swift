// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// TCP whose ends are not equally willing, and very many connections at once.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("TCP between uneven ends", .timeLimit(.minutes(3))) struct UnevenTransfers {
        /// The slow end, and how it is slow.
        enum Slowness: String, CaseIterable, CustomTestStringConvertible {
            case slowReader = "slow-reader"
            case slowWriter = "slow-writer"
            case slowServerReader = "slow-server-reader"
            case slowServerWriter = "slow-server-writer"
            case pausingReader = "pausing-reader"
            case pausingServerReader = "pausing-server-reader"

            var testDescription: String { rawValue }

            /// How much is carried: for a pause it must not all fit what lies between the ends.
            var size: Int {
                switch self {
                case .pausingReader, .pausingServerReader: 24 << 20
                case .slowReader, .slowServerReader: 2_000_000
                case .slowWriter, .slowServerWriter: 1_000_000
                }
            }
        }

        @Test("slow readers and writers, and windows that shut and open again", arguments: Slowness.allCases)
        func unevenEnds(slowness: Slowness) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                for (number, address) in Laptop.beyond.enumerated() {
                    let answer = try await laptop.guest.python(
                        "client.py", slowness.rawValue, address, "\(slowness.size)", "\(number + 1)",
                        within: .seconds(30))
                    #expect(answer.hasPrefix("ok \(slowness.size)"))
                    // The slow end makes progress except in its pauses, which are not counted.
                    #expect(try longestStall(answer) < 1000, "ms without progress")
                }
            }
        }

        @Test("10,000 connections held at once: each carries its byte, and others go on beside them")
        func tenThousandConnections() async throws {
            var limit = rlimit()
            try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            // Fewer only where nobody may have so many descriptors.
            let count = min(10_000, Int(clamping: limit.rlim_max) - 500)
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.attach(laptop.guest)
                let client = try await laptop.guest.start(
                    ["python3", helperProgram("client.py"), "hold-many", Laptop.beyond[0], "\(count)"])
                try await client.wrote("ok \(count)", within: .seconds(60))
                let descriptors = try await laptop.host.must([
                    "sh", "-c", "ls /proc/\(program.processID)/fd | wc -l",
                ])
                let held = Int(descriptors.filter(\.isNumber)) ?? 0
                #expect(held >= count, "\(held) sockets: flows were given up")
                for direction in ["upload", "download"] {
                    let answer = try await laptop.guest.python(
                        "client.py", direction, Laptop.beyond[1], "\(8 << 20)", "7", within: .seconds(30))
                    #expect(try longestStall(answer) < 1000, "ms without progress beside \(count) connections")
                }
                #expect(client.termination == nil)
                client.send(SIGKILL)
                _ = try await client.end()
                try await eventually("the sockets of the \(count) are closed", within: .seconds(20)) {
                    let now = try await laptop.host.must(["sh", "-c", "ls /proc/\(program.processID)/fd | wc -l"])
                    return (Int(now.filter(\.isNumber)) ?? .max) < 1000
                }
                #expect(try await laptop.guest.python("client.py", "short", Laptop.beyond[0], "20") == "ok 20")
                #expect(program.termination == nil)
            }
        }
    }
}
