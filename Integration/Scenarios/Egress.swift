// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// What may leave the namespace: `--egress`, `--allow`, `--deny`, `--egress-file`.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///              servers on 7001 and 7009, TCP and UDP; a name server on 192.0.2.1
    @Suite("what may leave", .timeLimit(.minutes(3))) struct Egress {
        static let base = ["--config-net", "-t", "none", "-u", "none"]
        static let far = Laptop.beyond
        /// The address behind the router that is not a private one.
        static let names = ["--dns-forward", "169.254.1.1"]

        /// The errno's name of a connection from the guest, or "ok" with the milliseconds that it took.
        static func connect(_ guest: Host, _ kind: String, _ address: String, _ port: Int) async throws -> String {
            let script = """
                import errno, socket, sys, time
                kind, address, port = sys.argv[1:4]
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
                sock.settimeout(3)
                begin = time.monotonic()
                try:
                    sock.connect((address, int(port)))
                    if kind == "udp":
                        sock.send(b"x")
                        sock.recv(100)
                    word = "ok"
                except OSError as error:
                    word = errno.errorcode.get(error.errno, "timeout")
                print(word, "at once" if time.monotonic() - begin < 1 else "late")
                """
            return try await guest.must(["python3", "-c", script, kind, address, "\(port)"])
        }

        @Test("a denied flow is refused at once, an allowed one passes", arguments: 0..<2)
        func refusedAtOnce(family: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let address = Self.far[family]
                let spec = family == 0 ? "\(address):7009" : "[\(address)]:7009"
                try await laptop.host.attach(
                    laptop.guest, Self.base + ["--egress", "deny", "--allow", "tcp:\(spec)"])
                #expect(try await Self.connect(laptop.guest, "tcp", address, 7009) == "ok at once\n")
                #expect(try await Self.connect(laptop.guest, "tcp", address, 7001) == "ECONNREFUSED at once\n")
                let denied = family == 0 ? "EHOSTUNREACH at once\n" : "EACCES at once\n"
                #expect(try await Self.connect(laptop.guest, "udp", address, 7009) == denied)
                let echo = try await laptop.guest.run(["ping", "-n", "-c", "1", "-W", "3", address])
                #expect(echo.status != 0)
                #expect(echo.output.contains(family == 0 ? "Packet filtered" : "Administratively prohibited"), "\(echo)")
            }
        }

        @Test("--deny-silently drops")
        func dropsInSilence() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(
                    laptop.guest, Self.base + ["--egress", "deny", "--deny-silently"])
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "timeout late\n")
                #expect(try await Self.connect(laptop.guest, "udp", Self.far[0], 7009) == "timeout late\n")
            }
        }

        @Test("the words private and host, whatever address leads to the host", arguments: ["private", "host"])
        func words(word: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.startPython("serve.py")
                try await laptop.host.attach(
                    laptop.guest,
                    Self.base + [
                        "--map-host-loopback", "10.99.99.99", "--map-guest-addr", "198.51.100.9", "--deny", word,
                    ])
                let refused = "ECONNREFUSED at once\n"
                // 10.99.99.99 is both.
                #expect(try await Self.connect(laptop.guest, "tcp", "10.99.99.99", 7009) == refused)
                let mapped = try await Self.connect(laptop.guest, "tcp", "198.51.100.9", 7009)
                #expect(mapped == (word == "host" ? refused : "ok at once\n"))
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
                // The namespace's loopback leads to the host's by -T.
                let spliced = try await Self.connect(laptop.guest, "tcp", "127.0.0.1", 7009)
                #expect(spliced == (word == "host" ? "ECONNRESET at once\n" : "ok at once\n") || spliced == refused)
            }
        }

        @Test("a name opens what the relay has answered for it, and nothing else")
        func byName() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.resolver("nameserver \(Laptop.near[0])\n")
                let zone = try await laptop.server.startPython(
                    "zone.py", Laptop.near[0], "www.example=>cdn.example", "cdn.example=203.0.113.1",
                    "other.example=203.0.113.1", "local.example=10.0.0.1")
                try await laptop.host.attach(
                    laptop.guest,
                    Self.base + Self.names + [
                        "--egress", "deny", "--allow", "www.example:7009", "--allow", "local.example",
                    ])
                func dig(_ name: String, _ more: String...) async throws -> String {
                    try await laptop.guest.run(
                        ["dig", "+tries=1", "+time=2", "+noedns", "@169.254.1.1", name] + more).output
                }
                // Nothing is open before the name was asked for.
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ECONNREFUSED at once\n")
                #expect(try await dig("www.example").contains("203.0.113.1"))
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7001) == "ECONNREFUSED at once\n")
                #expect(try await dig("other.example").contains("status: REFUSED"))
                #expect(try await dig("local.example").contains("status: REFUSED"))
                // Another resolver is no way around.
                let direct = try await laptop.guest.run([
                    "dig", "+tries=1", "+time=2", "@\(Laptop.near[0])", "other.example",
                ])
                #expect(!direct.output.contains("ANSWER: 1"), "\(direct)")
                #expect(!zone.output.contains("asked other.example"))
            }
        }

        @Test("a file of rules, and a wrong line in it")
        func file() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let path = lab.newPath("rules")
                try await laptop.host.must([
                    "sh", "-c", "printf '# rules\\nallow tcp:203.0.113.1:7009 # one\\ndeny any\\n' > \(path)",
                ])
                try await laptop.host.attach(laptop.guest, Self.base + ["--egress-file", path])
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7001) == "ECONNREFUSED at once\n")
                try await laptop.host.must(["sh", "-c", "printf 'allow any\\nallow 10.0.0.1/8\\n' > \(path)"])
                let wrong = try await laptop.host.tapas(["--egress-file", path], ["true"])
                #expect(wrong.status != 0)
                #expect(wrong.errors.contains("\(path):2: '10.0.0.1/8'"), "\(wrong)")
            }
        }
    }
}
