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
                sock = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
                sock.settimeout(3)
                begin = time.monotonic()
                try:
                    sock.connect((address, int(port)))
                    if kind == "read":
                        if not sock.recv(100): raise ConnectionResetError(errno.ECONNRESET, "end of file")
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
                let words = family == 0 ? "Packet filtered" : "Administratively prohibited"
                #expect(echo.output.contains(words), "\(echo)")
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
                let spliced = try await Self.connect(laptop.guest, "read", "127.0.0.1", 7009)
                #expect(
                    spliced == (word == "host" ? "ECONNRESET at once\n" : "ok at once\n") || spliced == refused,
                    "\(spliced)")
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
                    let words = ["dig", "+tries=1", "+time=2", "+noedns", "@169.254.1.1", name] + more
                    return try await laptop.guest.run(words).output
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

        @Test("the flow log, the learned rules, and rules that change while the program runs")
        func recordAndChange() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let (log, learned, rules) = (lab.newPath("log"), lab.newPath("learned"), lab.newPath("rules"))
                let socket = lab.newPath("c")
                try await laptop.host.must(["sh", "-c", "echo deny tcp:203.0.113.1:7001 > \(rules)"])
                try await laptop.host.attach(
                    laptop.guest,
                    Self.base + [
                        "--egress-file", rules, "--flow-log", log, "--learn", learned, "-c", socket,
                    ])
                func ask(_ words: String...) async throws -> Outcome {
                    try await laptop.host.run([controlBinary, "-s", socket + ".ctl"] + words)
                }
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7001) == "ECONNREFUSED at once\n")
                try await eventually("the end is recorded") { contents(of: log).contains(#""event":"close""#) }
                let lines = contents(of: log)
                for words in [
                    #""event":"open","verdict":"allow","rule":"default","protocol":"tcp""#,
                    #""remote_address":"203.0.113.1","remote_port":7009,"interface":"eth0""#,
                    #""event":"deny","verdict":"deny","rule":"deny tcp:203.0.113.1:7001""#,
                ] { #expect(lines.contains(words), "\(lines)") }
                try await eventually("rules are learned") {
                    contents(of: learned).hasSuffix("allow tcp:203.0.113.1:7009\nallow tcp:203.0.113.1:7001\n")
                }

                // A connection that is open when a rule denies it is reset; so are new ones.
                let held = try await laptop.guest.start([
                    "python3", "-c",
                    "import socket; s = socket.create_connection(('203.0.113.1', 7007)); print('open', flush=True)\n"
                        + "try: s.recv(1)\nexcept OSError as error: print(error.errno, flush=True)",
                ])
                try await held.wrote("open")
                let watch = try await laptop.host.start([controlBinary, "-s", socket + ".ctl", "watch", "--flows"])
                let before = try await ask("policy", "test", "203.0.113.1:7007")
                #expect(before.status == 0, "\(before)")
                let added = try await ask("policy", "deny", "203.0.113.0/24")
                #expect(added.status == 0, "\(added)")
                try await held.wrote("104")
                let test = try await ask("policy", "test", "203.0.113.1:7007")
                #expect(test.status == 1 && test.output == "deny: deny 203.0.113.0/24\n", "\(test)")
                try await eventually("the watch has the denial") {
                    _ = try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009)
                    return watch.output.contains("deny tcp 203.0.113.1:7009 (deny 203.0.113.0/24)")
                }
                #expect(try await ask("policy", "allow", "203.0.113.0/24").status == 0)
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")

                // Of a name that has not been asked for yet, the port counts, too.
                #expect(try await ask("policy", "deny", "tcp:named.example:443").status == 0)
                #expect(
                    try await ask("policy", "test", "tcp:named.example:443").output
                        == "deny: deny tcp:named.example:443\n")
                #expect(try await ask("policy", "test", "tcp:named.example:80").status == 0)

                // The file is read again as a whole, or not at all.
                try await laptop.host.must(["sh", "-c", "printf 'deny any\\nallow nothing here\\n' > \(rules)"])
                let wrong = try await ask("policy", "reload")
                #expect(wrong.status == 1 && wrong.errors.contains(":2:"), "\(wrong)")
                try await laptop.host.must(["sh", "-c", "echo deny 198.51.100.0/24 > \(rules)"])
                #expect(try await ask("policy", "reload").status == 0)
                let list = try await ask("policy", "list")
                #expect(list.output.contains("allow 203.0.113.0/24  (tapasctl, "), "\(list)")
                #expect(list.output.contains("deny 198.51.100.0/24  (\(rules), 0 times)"), "\(list)")

                // The log continues in another file.
                let next = lab.newPath("next")
                #expect(try await ask("flow-log", "rotate", next).status == 0)
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
                try await eventually("the other file has a line") { contents(of: next).contains(#""event":"open""#) }
            }
        }

        @Test("a reader of the flow log that does not read holds up nothing")
        func aSlowReader() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let pipe = lab.newPath("pipe")
                try await laptop.host.must(["mkfifo", pipe])
                let reader = try await laptop.host.start([
                    "python3", "-c",
                    "import sys; f = open('\(pipe)'); print('open', flush=True); sys.stdin.read()",
                ])
                try await laptop.host.attach(laptop.guest, Self.base + ["--flow-log", pipe, "--deny", "203.0.113.9"])
                try await reader.wrote("open")
                let flood = try await laptop.guest.must([
                    "python3", "-c",
                    """
                    import socket
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    for number in range(20000):
                        try: sock.sendto(b"x", ("203.0.113.9", 1 + number))
                        except OSError: pass
                    print("sent")
                    """,
                ])
                #expect(flood == "sent\n")
                #expect(try await Self.connect(laptop.guest, "tcp", Self.far[0], 7009) == "ok at once\n")
            }
        }

        @Test("nothing that is denied leaves the host at any moment of a roam")
        func nothingLeaksInARoam() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                // All frames of all interfaces to the denied address; the address that is not denied shows that they
                // are seen.
                let sniffer = try await net.host.start([
                    "python3", "-u", "-c",
                    """
                    import socket
                    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
                    print("ready")
                    seen = set()
                    while True:
                        data = sock.recv(2048)
                        if len(data) < 20 or data[0] >> 4 != 4: continue
                        target = socket.inet_ntoa(data[16:20])
                        if target in ("203.0.113.1", "192.0.2.53", "198.51.100.53") and target not in seen:
                            seen.add(target)
                            print("seen", target)
                    """,
                ])
                try await sniffer.wrote("ready")
                try await net.attach([
                    "--hold-down", "0", "-T", "none", "-U", "none", "--egress", "deny", "--allow", "192.0.2.53",
                    "--allow", "198.51.100.53",
                ])
                let tries = try await net.guest.start([
                    "python3", "-u", "-c",
                    """
                    import socket, time
                    count = 0
                    while True:
                        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                            for target in ("203.0.113.1", "192.0.2.53", "198.51.100.53"):
                                with socket.socket(socket.AF_INET, kind) as sock:
                                    sock.setblocking(False)
                                    try:
                                        sock.connect((target, 7))
                                        sock.send(b"x")
                                    except OSError:
                                        pass
                        count += 1
                        if count % 100 == 0: print("round", count)
                        time.sleep(0.001)
                    """,
                ])
                for state in [Net.wifi, Net.wifiLeft, Net.wifi] {
                    try await net.change(state)
                    let before = tries.output.count
                    try await eventually("more rounds") { tries.output.count > before + 20 }
                }
                try await sniffer.wrote("seen 192.0.2.53")
                #expect(!sniffer.output.contains("seen 203.0.113.1"), "\(sniffer.output)")
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
