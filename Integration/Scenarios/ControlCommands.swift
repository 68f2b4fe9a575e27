// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// Commands of `tapasctl` that change a running instance, and what asking costs the others (issue 13).
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("changing a running instance", .timeLimit(.minutes(4))) struct ControlCommands {
        /// A connection to a port that echoes a byte from time to time until it is reset.
        private static let kept = """
            import socket, sys, time
            sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
            number = 0
            try:
                while True:
                    sock.sendall(b"x")
                    if sock.recv(1) != b"x": raise ConnectionError("end of file")
                    number += 1
                    if number == 3: print("kept", flush=True)
                    time.sleep(0.02)
            except ConnectionResetError:
                print("reset", flush=True)
            """

        @Test("forwards are added, replaced and removed as a whole or not at all; established connections stay")
        func forwards() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let socket = lab.newPath("control")
                _ = try await laptop.host.attach(laptop.guest, ["--config-net", "-c", socket, "-t", "none"])
                try await laptop.guest.startPython("serve.py")
                func ask(_ words: String...) async throws -> Outcome {
                    try await laptop.host.run([controlBinary, "-s", socket + ".ctl"] + words)
                }
                func answers(_ port: Int) async throws -> Bool {
                    try await laptop.server.run(
                        ["python3", helperProgram("client.py"), "who", "tcp", Laptop.own[0], "\(port)"]
                    ).status == 0
                }
                #expect(try await !answers(6001))
                #expect(try await ask("forward", "add", "-t", "6001:7001,6009:7009").status == 0)
                // It is in force when the command returns.
                #expect(try await answers(6009))
                #expect(try await ask("wait", "--forward", "6001:7001", "--timeout", "0").status == 0)
                let listed = try await ask("forward", "list").output
                #expect(listed.contains("6001") && listed.contains("6009"), "\(listed)")
                let kept = try await laptop.server.start(["python3", "-c", Self.kept, Laptop.own[0], "6001"])
                try await kept.wrote("kept")
                // One of two cannot be had: nothing changes, and the message names the rule and the process.
                let holder = try await laptop.host.start(
                    [
                        "python3", "-c",
                        "import socket, time; s = socket.create_server(('', 6010)); print('held', flush=True); time.sleep(60)",
                    ])
                try await holder.wrote("held")
                let refused = try await ask("forward", "add", "-t", "6011:7009", "-t", "6010:7009")
                #expect(refused.status == 1 && refused.errors.contains("6010"), "\(refused)")
                #expect(
                    refused.errors.contains("it belongs to python3, process \(holder.processID)\n"),
                    "the process that has it: \(refused)")
                #expect(try await !answers(6011))
                #expect(try await ask("forward", "list").output == listed)
                #expect(try await ask("forward", "replace", "-t", "6012:7009").status == 0)
                #expect(try await answers(6012))
                #expect(try await !answers(6009))
                let missing = try await ask("forward", "remove", "-t", "6009:7009")
                #expect(missing.status == 1 && missing.errors.contains("6009"), "\(missing)")
                #expect(try await ask("forward", "remove", "-t", "6012:7009").status == 0)
                #expect(try await !answers(6012))
                // The connection outlived the rule that opened it, and ends when it is told to.
                let flows = try await ask("--json", "flows", "--tcp").output
                #expect(flows.contains(#""state": "established""#), "\(flows)")
                #expect(kept.termination == nil)
                let killed = try await ask("flows", "kill", "tcp")
                #expect(killed.status == 0 && killed.output.contains("1 flow reset"), "\(killed)")
                try await kept.wrote("reset")
                #expect(try await ask("flows", "--tcp", "--json").output.contains("[]"))
            }
        }

        @Test("dns, metrics to a file, the log's level, and a capture whose file the client opens")
        func figures() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let socket = lab.newPath("control")
                let log = lab.newPath("log")
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-c", socket, "-l", log, "--log-size", "1000000"])
                func ask(_ words: String...) async throws -> Outcome {
                    try await laptop.host.run([controlBinary, "-s", socket + ".ctl"] + words)
                }
                let file = lab.newPath("figures.prom")
                #expect(try await ask("metrics", "--output", file).status == 0)
                let text = contents(of: file)
                #expect(text.hasSuffix("# EOF\n") && text.contains("# TYPE tapas_"), "\(text)")
                #expect(try await ask("log", "level", "trace").output == "trace\n")
                let capture = lab.newPath("capture.pcap")
                let started = try await ask("pcap", "start", capture)
                #expect(started.status == 0 && started.output == "", "\(started)")
                let twice = try await ask("pcap", "start", lab.newPath("other.pcap"))
                #expect(twice.status == 1 && twice.errors.split(separator: "\n").count == 1, "\(twice)")
                try await laptop.guest.python("client.py", "who", "tcp", Laptop.beyond[0])
                let stopped = try await ask("pcap", "stop")
                #expect(stopped.status == 0, "\(stopped)")
                let packets = try #require(stopped.output.split(separator: " ").first.flatMap { Int($0) }, "\(stopped)")
                #expect(packets >= 6)
                let read = try await laptop.host.must(
                    ["tcpdump", "-n", "-r", capture, "tcp and host \(Laptop.beyond[0])"])
                #expect(read.contains("Flags [S]"), "\(read)")
                // The flow's lines came with the level.
                #expect(contents(of: log).contains("trace: "))
                #expect(try await ask("pcap", "stop").errors.contains("no capture runs"))
                #expect(try await ask("dns").status == 0)
                #expect(tapas.termination == nil)
            }
        }

        @Test("200 instances answer --all")
        func manyInstances() async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let folder = "/run/user-test"
                try await host.must(["mkdir", "-m", "0700", folder])
                let environment = ["XDG_RUNTIME_DIR": folder]
                var programs: [Program] = []
                for _ in 0..<200 {
                    programs.append(
                        try await host.startTapas(
                            ["--quiet", "-t", "none", "-u", "none", "-T", "none", "-U", "none"],
                            ["sh", "-c", "echo ready; exec sleep 120"], environment: environment))
                }
                for program in programs { try await program.wrote("ready") }
                let before = ContinuousClock.now
                let all = try await host.run([controlBinary, "--all", "--json", "status"], environment: environment)
                print("measured: status of 200 instances by --all: \(ContinuousClock.now - before)")
                #expect(all.status == 0, "\(all.errors)")
                #expect(all.output.ranges(of: #""version""#).count == 200)
                let one = try await host.run([controlBinary, "status"], environment: environment)
                #expect(one.status == 1 && one.errors.contains("200 instances run"), "\(one)")
                // One that cannot answer is named, and holds up the others for a bounded time.
                programs[7].send(SIGSTOP)
                let rest = try await host.run(
                    [controlBinary, "--all", "--json", "status"], environment: environment, within: .seconds(40))
                #expect(rest.status == 1 && rest.output.ranges(of: #""version""#).count == 199, "\(rest.errors)")
                #expect(rest.output.contains("no answer within 10 s"))
                programs[7].send(SIGCONT)
            }
        }

        /// Echo by UDP for some seconds, and how long the longest took, in microseconds.
        private static let echo = """
            import socket, sys, time
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.connect((sys.argv[1], 7001))
            end = time.monotonic() + float(sys.argv[2])
            times = []
            while time.monotonic() < end:
                start = time.monotonic()
                sock.send(b"x"); sock.recv(1)
                times.append(time.monotonic() - start)
            times.sort()
            print(int(times[len(times) // 2] * 1e6), int(times[-1] * 1e6), len(times))
            """

        /// So many flows as the machine gives descriptors for, 100,000 at most (`ulimit -n` before the lab).
        private static let manyFlows: Int = {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            return min(100_000, Int(clamping: limit.rlim_max) - 2_000)
        }()

        @Test("listing as many flows as there can be does not stall the traffic")
        func manyFlows() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let socket = lab.newPath("control")
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", "--quiet", "-c", socket, "-u", "none", "-t", "none"])
                // To a host that is silent: they stay.
                try await laptop.server.must(
                    [
                        "nft",
                        "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; "
                            + "add rule inet lab in udp dport != 7001 drop",
                    ])
                try await laptop.guest.must(
                    [
                        "python3", helperProgram("flood.py"), "udp", "eth0", "15000", "\(Self.manyFlows)",
                        Laptop.own[0],
                        Laptop.beyond[0],
                    ], within: .seconds(60))
                func list() async throws -> Int {
                    try await laptop.host.must(
                        ["sh", "-c", "\(controlBinary) -s \(socket).ctl --json flows | grep -c '\"protocol\"'"],
                        within: .seconds(30)
                    ).split(separator: "\n").first.flatMap { Int($0) } ?? 0
                }
                try await eventually("the flows are there") { try await list() > Self.manyFlows * 9 / 10 }
                let quiet = try await laptop.guest.must(["python3", "-c", Self.echo, Laptop.beyond[0], "2"])
                let echo = try await laptop.guest.start(["python3", "-c", Self.echo, Laptop.beyond[0], "4"])
                var (listed, lists) = (0, 0)
                while echo.termination == nil, lists < 20 {
                    listed = try await list()
                    lists += 1
                }
                let busy = try await echo.end().output
                print(
                    "measured: echo beside \(listed) flows (median us, longest us, count): \(quiet.dropLast()); ",
                    "while they are listed \(lists) times: \(busy.dropLast())")
                let figures = busy.split { $0.isWhitespace }.compactMap { Int($0) }
                try #require(figures.count == 3, "\(busy)")
                #expect(figures[1] < 100_000, "us for one echo while flows are listed")
                #expect(tapas.termination == nil)
            }
        }
    }
}
