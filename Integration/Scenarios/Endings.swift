// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// How connections begin and end, seen from both sides.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("TCP ends as it does without tapas", .timeLimit(.minutes(3))) struct Endings {
        @Test("after the namespace's FIN the server's data still comes", arguments: Laptop.beyond)
        func halfCloseByTheNamespace(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                // `upload` ends its side first; the digest comes back afterwards.
                #expect(try await laptop.guest.python("client.py", "upload", address, "1000000", "5").hasPrefix("ok"))
            }
        }

        @Test("after the server's FIN the namespace's data still goes", arguments: Laptop.beyond)
        func halfCloseByTheServer(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python(
                    "client.py", "after-their-end", address, "5000000", "6", "token-1")
                #expect(answer == "ok")
            }
        }

        @Test(
            "the server sees whether the namespace closes or resets",
            arguments: Laptop.beyond, [("close", "end of file"), ("reset", "reset")])
        func theServerSeesTheEnd(address: String, how: (word: String, seen: String)) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let seen = try await laptop.guest.python("client.py", "end", address, how.word, "t")
                #expect(seen == how.seen)
            }
        }

        @Test("the namespace sees the server's reset", arguments: Laptop.beyond)
        func theNamespaceSeesTheReset(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let seen = try await laptop.guest.python("client.py", "be-reset", address)
                #expect(seen == "reset")
            }
        }

        @Test("refused within 2 s", arguments: Laptop.near + Laptop.beyond, ["tcp", "udp"])
        func refused(address: String, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python("client.py", "outcome", kind, address, "9999")
                let (word, time) = try split(answer)
                #expect(word == "refused" && time < 2000, "\(answer)")
            }
        }

        @Test(
            "unreachable on the host is unreachable, or refused, within 2 s",
            arguments: ["198.18.0.1", "2001:db8:dead::1"], ["tcp", "udp"])
        func unreachable(address: String, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let network =
                    address.contains(":")
                    ? "-6 route add unreachable 2001:db8:dead::/48" : "route add unreachable 198.18.0.0/15"
                try await laptop.host.ip(network)
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python("client.py", "outcome", kind, address, "80")
                let (word, time) = try split(answer)
                #expect(["refused", "unreachable", "prohibited"].contains(word) && time < 2000, "\(answer)")
            }
        }

        @Test("a router's word that a network is unreachable arrives within 2 s", arguments: ["tcp", "udp"])
        func unreachableBeyondTheRouter(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.server.set("net/ipv4/ip_forward", to: "1")
                try await laptop.server.ip("route add unreachable 198.18.0.0/15")
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python("client.py", "outcome", kind, "198.18.0.1", "80")
                let (word, time) = try split(answer)
                #expect(["refused", "unreachable"].contains(word) && time < 2000, "\(answer)")
            }
        }

        @Test("no answer at all is a timeout in the namespace, not a success")
        func noAnswerAtAll() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.server.ip("route add blackhole 198.18.0.0/15")
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python("client.py", "outcome", "tcp", "198.18.0.1", "80", "1.5")
                #expect(answer.hasPrefix("timeout"), "\(answer)")
            }
        }

        @Test("connections are reset when tapas ends by a signal")
        func connectionsEndWithTapas() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.attach(laptop.guest)
                let client = try await laptop.guest.start(
                    ["python3", helperProgram("client.py"), "end-later", Laptop.beyond[0], "later"])
                try await client.wrote("holding")
                program.send(SIGTERM)
                _ = try await program.end(within: .seconds(3))
                let seen = try await laptop.server.python("client.py", "ask", "127.0.0.1", "later")
                #expect(["reset", "end of file"].contains(seen), "the server is not left waiting: \(seen)")
            }
        }

        @Test("a peer that never reads does not delay others", arguments: ["stuff", "ignore"])
        func aPeerThatNeverReads(how: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                for _ in 0..<3 {
                    let client = try await laptop.guest.start(
                        ["python3", helperProgram("client.py"), how, Laptop.beyond[0]])
                    try await client.wrote(how == "stuff" ? "stuffed" : "ignoring", within: .seconds(30))
                }
                for direction in ["upload", "download"] {
                    let answer = try await laptop.guest.python(
                        "client.py", direction, Laptop.beyond[0], "\(8 << 20)", "7", within: .seconds(20))
                    #expect(answer.hasPrefix("ok"))
                }
                #expect(try await laptop.guest.python("client.py", "udp", Laptop.beyond[0], "100") == "ok 100")
            }
        }

        /// `WORD MILLISECONDS`.
        private func split(_ answer: String) throws -> (String, Int) {
            let words = answer.split(separator: " ")
            let time = try #require(words.last.flatMap { Int($0) }, "\(answer)")
            return (words.dropLast().joined(separator: " "), time)
        }
    }
}
