// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Ports that cannot be opened, addresses and devices that do not exist, and the limits.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("forwarded ports that cannot be opened", .timeLimit(.minutes(3))) struct PortsRefused {
        /// Runs tapas with a command that must not be run, and returns its one line, or that and a warning before it.
        static func refusal(
            _ options: [String], in host: Host, as user: User = .namespaceRoot, lines: Int = 1
        ) async throws -> String {
            let outcome = try await host.tapas(["--config-net"] + options, ["echo", "the command runs"], as: user)
            #expect(outcome.termination == .exited(1), "\(outcome)")
            #expect(outcome.output.isEmpty && outcome.errorLines.count == lines, "\(outcome)")
            return outcome.errors
        }

        @Test(
            "a port that is taken: the message names it and its owner",
            arguments: [
                ("-t", "8080", "TCP port 8080"), ("-t", "127.0.0.1/8080", "TCP port 127.0.0.1:8080"),
                ("-t", "8070-8090:70-90", "TCP port 8080"), ("-t", "::1/8080", "TCP port [::1]:8080"),
                ("-u", "8080", "UDP port 8080"), ("-u", "*%eth0/8080", "UDP port *%eth0:8080"),
            ])
        func aPortThatIsTaken(option: String, specification: String, name: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let holder = try await laptop.host.answer(tcp: ["::/8080"], udp: ["::/8080"])
                let text = try await Self.refusal([option, specification], in: laptop.host)
                #expect(text.contains("\(name): Address already in use (EADDRINUSE)"), "\(text)")
                #expect(text.contains("it belongs to python3, process \(holder.processID)"), "\(text)")
            }
        }

        @Test("a port that tapas has: the second one fails, and the first goes on")
        func aPortThatTapasHas() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080", "-u", "8080"])
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                for (option, kind) in [("-t", "TCP"), ("-u", "UDP")] {
                    let text = try await Self.refusal([option, "8080"], in: laptop.host, lines: 2)
                    #expect(text.contains("\(kind) port 8080 still belongs to another process (tapas, "), "\(text)")
                    #expect(text.contains("\(kind) port 8080: Address already in use"), "\(text)")
                    #expect(text.contains("it did not become free within 2 s"), "\(text)")
                }
                for kind in ["tcp", "udp"] {
                    #expect(try await laptop.server.asks(kind, Laptop.own[0], 8080) != nil)
                }
            }
        }

        @Test("a predecessor that is about to end is waited for")
        func aPredecessor() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let first = try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080", "-u", "8080"])
                let other = try await lab.host("other")
                let pidFile = lab.newPath("pid")
                let path = try await laptop.host.nameFile(of: other)
                let second = try await laptop.host.startTapas([
                    "--config-net", "-t", "8080", "-u", "8080", "--foreground", "--pid", pidFile, "--netns", path,
                ])
                try await throughout(.milliseconds(1400), "the second waits") { second.termination == nil }
                #expect(
                    second.errors.contains(
                        "TCP port 8080 still belongs to another process (tapas, process \(first.processID)): waiting for it"
                    ),
                    "\(second.errors)")
                first.sendToGroup(15)
                try await eventually("the second is ready") {
                    if let ended = second.termination { throw LabError("\(ended): \(second.errors)") }
                    return contents(of: pidFile).hasSuffix("\n")
                }
                try await other.answer(tcp: ["::/8080"], udp: ["::/8080"])
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 8080) != nil)
            }
        }

        @Test("an address or an interface that the host lacks: warnings, also with -q; errors with --no-monitor")
        func whatTheHostLacks() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let lacks = ["-t", "192.0.2.99/8080", "-u", "%eth7/5300"]
                for quiet in [[], ["-q"]] {
                    let outcome = try await laptop.host.tapas(["--config-net"] + quiet + lacks, ["true"])
                    #expect(outcome.termination == .exited(0) && outcome.errorLines.count == 2, "\(outcome)")
                    #expect(outcome.errors.contains("the host does not have 192.0.2.99 at present"), "\(outcome)")
                    #expect(outcome.errors.contains("there is no interface 'eth7' at present"), "\(outcome)")
                }
                let meant = try await laptop.host.tapas(
                    ["--config-net", "--freebind", "--no-monitor"] + lacks.prefix(2), ["true"])
                #expect(meant.termination == .exited(0) && meant.errors.isEmpty, "\(meant)")
                for lack in [Array(lacks.prefix(2)), Array(lacks.suffix(2))] {
                    let text = try await Self.refusal(["--no-monitor"] + lack, in: laptop.host)
                    #expect(text.contains("--no-monitor does not wait for it"), "\(text)")
                }
            }
        }

        @Test(
            "-o with an address that the host lacks: a warning, and the kernel's choice until it has it",
            arguments: [4, 6])
        func anAbsentSource(version: Int) async throws {
            let (address, prefix) =
                version == 4 ? ("192.0.2.99", "192.0.2.99/24") : ("2001:db8:1::99", "2001:db8:1::99/64 nodad")
            let server = Laptop.beyond[version == 4 ? 0 : 1]
            let own = Laptop.own[version == 4 ? 0 : 1]
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let tapas = try await laptop.host.attach(laptop.guest, ["--config-net", "-q", "-o", address])
                let warning = "the host does not have \(address) (-o) now"
                #expect(tapas.errors.split(separator: "\n").count { $0.contains(warning) } == 1, "\(tapas.errors)")
                for kind in ["tcp", "udp"] {
                    let source = try await laptop.guest.python("client.py", "who", kind, server)
                    #expect(source.hasPrefix("\(own) "), "\(kind): \(source)")
                }
                try await laptop.host.ip("address add \(prefix) dev eth0")
                for kind in ["tcp", "udp"] {
                    let source = try await laptop.guest.python("client.py", "who", kind, server)
                    #expect(source.hasPrefix("\(address) "), "\(kind): \(source)")
                }
            }
        }

        /// Ends a namespace, and measures how long the process of tapas is there afterwards, in milliseconds.
        private static let ending = """
            import os, select, subprocess, sys, time
            tapas = os.pidfd_open(int(sys.argv[1]))
            if sys.argv[2] == "file":
                subprocess.check_call(["umount", sys.argv[3]])
                begin = time.monotonic()
                os.unlink(sys.argv[3])
            else:
                begin = time.monotonic()
                os.kill(int(sys.argv[3]), 9)
            gone = select.select([tapas], [], [], 10)[0]
            print(round((time.monotonic() - begin) * 1000, 1) if gone else "never")
            """

        @Test("the end of the namespace is the end of tapas within 50 ms", arguments: ["file", "process"])
        func theEndOfTheNamespace(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                var times: [Double] = []
                for _ in 0..<5 {
                    let guest = try await laptop.host.start(["unshare", "--net", "sh", "-c", "echo made; sleep 1000"])
                    try await guest.wrote("made")
                    var path = "/proc/\(guest.processID)/ns/net"
                    if kind == "file" {
                        path = "/run/ending"
                        try await laptop.host.must([
                            "sh", "-ec", "touch \(path); mount --bind /proc/\(guest.processID)/ns/net \(path)",
                        ])
                    }
                    // The port is the next one's at once.
                    let tapas = try await laptop.host.attach(path: path, ["--config-net", "-t", "8080", "-u", "8080"])
                    let time = try await laptop.host.must([
                        "python3", "-c", Self.ending, "\(tapas.processID)", kind,
                        kind == "file" ? path : "\(guest.processID)",
                    ])
                    times.append(Double(time.split(separator: "\n").first ?? "") ?? .infinity)
                    #expect(try await tapas.end(within: .seconds(3)).termination == .exited(0))
                    guest.sendToGroup(9)
                }
                print("measured: end of the namespace (\(kind)) to the end of tapas: \(times) ms")
                #expect(times.sorted()[2] < 50, "\(times)")
            }
        }

        @Test("a port below 1024 without the right to it: the message names the sysctl", arguments: ["-t", "-u"])
        func aPortBelow1024(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let text = try await Self.refusal([option, "80"], in: laptop.host, as: .ordinary)
                #expect(text.contains("port 80: Permission denied (EACCES)"), "\(text)")
                #expect(text.contains("net.ipv4.ip_unprivileged_port_start (now 1024)"), "\(text)")
            }
        }

        @Test("ports of best effort are skipped and said in one line")
        func bestEffort() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(tcp: ["::/1100", "::/1102", "::/1103"])
                let pidFile = lab.newPath("pid")
                let path = try await laptop.host.nameFile(of: laptop.guest)
                let tapas = try await laptop.host.startTapas([
                    "--config-net", "-t", "all,~1200-65535", "-T", "none", "-u", "none", "-U", "none", "--foreground",
                    "--pid", pidFile, "--netns", path,
                ])
                try await eventually("tapas is ready") { contents(of: pidFile).hasSuffix("\n") }
                let lines = tapas.errors.split(separator: "\n").filter { $0.contains("not forwarded") }
                #expect(lines.count == 1, "\(tapas.errors)")
                let line = lines.first ?? ""
                #expect(line.contains("TCP 1100, 1102-1103 (Address already in use)"), "\(line)")
                try await laptop.guest.answer(tcp: ["::/1101"])
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 1101) != nil)
            }
        }

        @Test("such a port is forwarded once it is free: when the host changes, and within seconds")
        func bestEffortLater() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let first = try await laptop.host.answer(tcp: ["::/1100"])
                let second = try await laptop.host.answer(tcp: ["::/1102", "::/1103"], udp: ["::/1104"])
                try await laptop.guest.answer(tcp: ["::/1100", "::/1102", "::/1103"], udp: ["::/1104"])
                let tapas = try await laptop.host.attach(
                    laptop.guest,
                    ["--config-net", "-t", "all,~1200-65535", "-u", "all,~1200-65535", "-T", "none", "-U", "none"])
                func isSaid(_ text: String) -> Bool {
                    tapas.errors.split(separator: "\n").contains { $0.hasSuffix("now that they are free: \(text)") }
                }
                first.sendToGroup(9)
                _ = try await first.end()
                try await laptop.host.ip("address add 192.0.2.20/24 dev eth0")
                try await eventually("1100 is forwarded", within: .seconds(8)) { isSaid("TCP 1100") }
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 1100) != nil)
                second.sendToGroup(9)
                _ = try await second.end()
                let time = try await eventually("the others are forwarded", within: .seconds(8)) {
                    isSaid("TCP 1102-1103; UDP 1104")
                }
                print("measured: ports of best effort forwarded \(time) after they are free")
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 1103) != nil)
                #expect(try await laptop.server.asks("udp", Laptop.own[0], 1104) != nil)
            }
        }

        @Test("too few descriptors are said before anything is bound, with the limit")
        func tooFewDescriptors() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run([
                    "sh", "-c", "ulimit -n 1000; exec \(binary) --config-net -t 2000-4999 -- true",
                ])
                #expect(outcome.termination == .exited(1), "\(outcome)")
                #expect(outcome.errors.contains("3000 descriptors are needed"), "\(outcome)")
                #expect(outcome.errorLines.count == 1, "\(outcome)")
            }
        }

        @Test("all ports: too few descriptors are said; without some of them both ends are forwarded")
        func allPorts() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run([
                    "sh", "-c", "ulimit -n 2000; exec \(binary) --config-net -t all -- true",
                ])
                #expect(outcome.termination == .exited(1), "\(outcome)")
                // All but 32768-60999.
                #expect(outcome.errors.contains("37303 descriptors are needed"), "\(outcome)")
                #expect(outcome.errors.contains("the limit of 2000 "), "\(outcome)")
                #expect(outcome.errors.contains("ulimit -Hn"), "\(outcome)")
                let clock = ContinuousClock()
                let start = clock.now
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-t", "all,~5001-60999", "-u", "none", "-T", "none", "-U", "none"])
                print("measured: start with -t all,~5001-60999 (9,536 ports): \(clock.now - start)")
                #expect(!tapas.errors.contains("not forwarded"), "\(tapas.errors)")
                try await laptop.guest.answer(tcp: ["::/1", "::/65535"])
                for port in [1, 65535] { #expect(try await laptop.server.asks("tcp", Laptop.own[0], port) != nil) }
            }
        }

        @Test("10,000 ports: how long the start takes, and what they cost")
        func tenThousandPorts() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                var times: [Duration] = []
                for options in [[], ["-t", "10000-19999"], ["-u", "10000-19999"], ["-T", "10000-19999"]] {
                    let none = ["-t", "-u", "-T", "-U"].filter { $0 != options.first }.flatMap { [$0, "none"] }
                    var best = Duration.seconds(10)
                    for _ in 0..<3 {
                        let outcome = try await laptop.host.tapas(["--config-net"] + none + options, ["true"])
                        #expect(outcome.termination == .exited(0), "\(outcome)")
                        best = min(best, outcome.duration)
                    }
                    times.append(best)
                    print("measured: start with \(options): \(best), \(best - times[0]) beyond none")
                }
                let tapas = try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "10000-19999"])
                let memory = contents(of: "/proc/\(tapas.processID)/status").split(separator: "\n")
                    .filter { $0.hasPrefix("VmRSS") || $0.hasPrefix("RssAnon") }
                print("measured: with 10,000 TCP ports: \(memory)")
                try await laptop.guest.answer(tcp: ["::/10000", "::/19999"])
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 10000) != nil)
                #expect(try await laptop.host.asks("tcp", "127.0.0.1", 19999) != nil)
            }
        }
    }
}
