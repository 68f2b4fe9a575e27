// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Ports that cannot be opened, addresses and devices that do not exist, and the limits.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("forwarded ports that cannot be opened", .timeLimit(.minutes(3))) struct PortsRefused {
        /// Runs tapas with a command that must not be run, and returns its one line.
        static func refusal(
            _ options: [String], in host: Host, as user: User = .namespaceRoot
        ) async throws -> String {
            let outcome = try await host.tapas(["--config-net"] + options, ["echo", "the command runs"], as: user)
            #expect(outcome.termination == .exited(1), "\(outcome)")
            #expect(outcome.output.isEmpty && outcome.errorLines.count == 1, "\(outcome)")
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
                    let text = try await Self.refusal([option, "8080"], in: laptop.host)
                    #expect(text.contains("\(kind) port 8080: Address already in use"), "\(text)")
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
                try await throughout(.milliseconds(200), "the second waits") { second.termination == nil }
                first.sendToGroup(15)
                try await eventually("the second is ready") {
                    if let ended = second.termination { throw LabError("\(ended): \(second.errors)") }
                    return contents(of: pidFile).hasSuffix("\n")
                }
                try await other.answer(tcp: ["::/8080"], udp: ["::/8080"])
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 8080) != nil)
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
