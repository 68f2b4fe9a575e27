// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// What a person can see of tapas at work.
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("diagnostics", .timeLimit(.minutes(2))) struct Diagnostics {
        @Test("-p: tcpdump reads the frames of both directions", arguments: ["-p", "--pcap"])
        func theCaptureIsReadable(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let file = lab.newPath("capture")
                let page = try await laptop.host.tapas(
                    ["--config-net", option, file], ["curl", "-sS", "http://\(Laptop.beyond[0]):8080/"])
                #expect(page.output == "hello from the lab\n", "\(page)")
                // tcpdump insists on becoming another user when root starts it.
                try await laptop.host.must(["chmod", "644", file])
                let frames = try await laptop.host.run(["tcpdump", "-n", "-r", file, "tcp"], as: .ordinary)
                let lines = frames.lines
                #expect(lines.contains { $0.contains("> 203.0.113.1.8080: Flags [S]") }, "\(frames)")
                #expect(lines.contains { $0.contains("203.0.113.1.8080 >") && $0.contains("Flags [S.]") }, "\(frames)")
                let whole = try await laptop.host.run(["tcpdump", "-A", "-n", "-r", file, "tcp"], as: .ordinary)
                #expect(
                    whole.output.contains("hello from the lab") && whole.output.contains("GET / HTTP/1.1"), "\(whole)")
            }
        }

        @Test("-l: the log goes to the file; its first line names the program")
        func theLogGoesToTheFile() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = lab.newPath("log")
                let program = try await laptop.host.attach(laptop.guest, ["--config-net", "-l", file])
                let log = contents(of: file)
                let first = log.split(separator: "\n").first ?? ""
                #expect(first.contains("tapas") && first.contains("\(program.processID)"), "\(log)")
                let mode = try await laptop.host.must(["stat", "-c", "%a", file])
                #expect(mode == "600\n")
            }
        }

        @Test("the summary says which interface was chosen for each family, and why")
        func theSummarySaysWhichInterface() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest)
                let lines = program.errors.split(separator: "\n")
                for (family, address) in [("IPv4", "192.0.2.10/24"), ("IPv6", "2001:db8:1::10/64")] {
                    let line = lines.filter { $0.contains("\(family): ") }
                    #expect(line.count == 1 && line[0].contains("template eth0: the kernel sends"), "\(program.errors)")
                    #expect(line.first?.contains("address \(address); 1 route, gateway ") == true, "\(program.errors)")
                }
                // A family, a family, the resolvers.
                #expect(lines.count <= 3, "\(program.errors)")
            }
        }

        @Test("the summary says what was left out, and why; what every host has is not worth a word")
        func theSummarySaysWhatWasLeftOut() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.ip(
                    "address add 198.51.100.9/24 dev eth0 scope link",
                    "-6 address flush dev eth0")
                let program = try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080"])
                let lines = program.errors.split(separator: "\n")
                for words in [
                    "IPv4: address 198.51.100.9/24 is not copied: scope link",
                    "IPv6: local, without the host's network; ", "IPv6: eth0 is not the template (",
                    "to the namespace: TCP *:8080 => 8080",
                ] {
                    #expect(lines.contains { $0.contains(words) }, "says \(words): \(program.errors)")
                }
                #expect(!program.errors.contains("fe80::/64"), "\(program.errors)")
            }
        }

        @Test("-q: nothing is said when all is well")
        func quietSaysNothing() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest, ["--config-net", "--quiet"])
                program.send(SIGTERM)
                let outcome = try await program.end(within: .seconds(3))
                #expect(outcome.errors == "" && outcome.output == "", "\(outcome)")
            }
        }

        @Test(
            "watchers of resolv.conf that are killed are reaped and replaced, without a word around a command",
            arguments: [[], ["--quiet"]])
        func killedWatchersAreReplaced(options: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.resolver("nameserver 192.0.2.99\n")
                let program = try await laptop.host.startTapas(
                    ["--config-net", "--dns-forward", "169.254.1.1"] + options,
                    ["sh", "-c", "echo up; exec sleep 100"])
                try await program.wrote("up")
                func children() async throws -> [String] {
                    try await laptop.host.run(["ps", "-o", "pid=,stat=,comm=", "--ppid", "\(program.processID)"]).lines
                }
                func watcher() async throws -> String? {
                    let line = try await children().first { $0.contains("tapas-resolver") && !$0.contains(" Z") }
                    return line?.split(separator: " ").first.map { String($0) }
                }
                for _ in 0..<3 {
                    let old = try #require(try await watcher())
                    try await laptop.host.must(["kill", "-9", old])
                    try await eventually("another watcher, and no zombie") {
                        guard let new = try await watcher() else { return false }
                        let all = try await children()
                        return new != old && !all.contains { $0.contains(" Z") }
                    }
                }
                program.send(SIGTERM)
                let outcome = try await program.end(within: .seconds(3))
                #expect(outcome.termination == .signalled(SIGTERM), "\(outcome)")
                #expect(outcome.errors == "", "\(outcome)")
            }
        }

        @Test("--quiet: a problem of the monitor is not said around a command")
        func aProblemOfTheMonitor() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                for (options, lines) in [([], 1), (["--quiet"], 0)] as [([String], Int)] {
                    let program = try await laptop.host.startTapas(
                        ["--config-net"] + options, ["sh", "-c", "echo up; exec sleep 100"])
                    try await program.wrote("up")
                    // All of them at once: nobody is left to watch resolv.conf.
                    let script = """
                        p=$(pgrep -P \(program.processID) tapas-resolver); until c=$(pgrep -P $p); do sleep 0.01; done
                        kill -STOP $p; kill -9 $c; kill -9 $p
                        """
                    try await laptop.host.must(["sh", "-c", script])
                    try await eventually("the watcher is reaped") {
                        try await laptop.host.run(["pgrep", "-P", "\(program.processID)", "tapas-resolver"]).status == 1
                    }
                    // A host change that it follows shows that the monitor has gone on, beyond what it had to say.
                    try await laptop.host.ip("address add 198.51.100.\(20 + lines)/24 dev eth0")
                    try await eventually("what it has to say is said") { program.errors.contains("\n") == (lines > 0) }
                    program.send(SIGTERM)
                    let outcome = try await program.end(within: .seconds(3))
                    #expect(outcome.errorLines.count == lines, "\(outcome)")
                    #expect(lines == 0 || outcome.errors.contains("resolv.conf is not watched any more"), "\(outcome)")
                }
            }
        }

        @Test("each thread, and each process beside the engine, has its filter of system calls; the command has none")
        func filtersAreLoaded() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.startTapas(
                    ["--config-net", "-t", "8080"],
                    ["sh", "-c", "grep Seccomp: /proc/self/status; echo up; exec sleep 100"])
                try await program.wrote("up")
                let script = """
                    for process in $(pgrep -P \(program.processID)); do
                        echo /proc/$process/status
                        for child in $(pgrep -P $process tapas); do echo /proc/$child/status; done
                    done | xargs cat /proc/\(program.processID)/task/*/status |
                        awk '$1 == "Name:" { name = $2 } $1 == "Seccomp:" { print name, $2 }' | sort
                    """
                let names = [
                    "tapas", "tapas-control", "tapas-init", "tapas-namespace", "tapas-ports", "tapas-reserve",
                    "tapas-resolver",
                ]
                var found: [String] = []
                try await eventually("filters (mode 2) in all of them") {
                    found = try await laptop.host.run(["sh", "-c", script]).lines
                    return found == names.map { "\($0) 2" }
                }
                let own = try await laptop.host.run(["grep", "Seccomp:", "/proc/self/status"]).lines
                #expect(program.output.hasPrefix(own.joined()), "\(program.output), \(own)")
                program.send(SIGTERM)
                _ = try await program.end(within: .seconds(3))
            }
        }

        @Test("a host change starts no thread: the runtime's pool of threads does not work in an empty root")
        func aHostChangeStartsNoThread() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest)
                func threads() async throws -> [String] {
                    let names = ["sh", "-c", "cat /proc/\(program.processID)/task/*/comm"]
                    return try await laptop.host.run(names).lines.sorted()
                }
                let before = try await threads()
                #expect(before.count == 4, "\(before)")
                for number in 0..<5 {
                    // A subnet each: a second address of one would be listed as a secondary one.
                    try await laptop.host.ip("address add 198.51.\(100 + number).20/24 dev eth0")
                    try await eventually("the namespace has it, too") {
                        try await laptop.guest.networkState().contains("addr 198.51.\(100 + number).20/24")
                    }
                }
                #expect(try await threads() == before)
            }
        }

        @Test("without --config-net one warning says that the command's interface is not configured")
        func anInterfaceThatIsNotConfigured() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let hint = "tapas: the interface is not configured: add --config-net, or run a DHCP client\n"
                for (options, said) in [
                    (["-g", "192.0.2.1"], hint), ([], hint), (["--quiet"], ""), (["--splice-only"], ""),
                    (["--config-net", "-g", "192.0.2.1"], ""),
                ] as [([String], String)] {
                    let outcome = try await laptop.host.tapas(options, ["true"])
                    #expect(outcome.termination == .exited(0) && outcome.errors == said, "\(outcome)")
                }
            }
        }

        @Test("control characters of paths and commands are shown escaped")
        func controlCharactersAreEscaped() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                for (options, command) in [
                    ([], ["no\u{1B}[31m\ncommand"]), (["--netns", "/no\u{1B}[31m\nfile"], []),
                    (["--pid", "/no\u{1B}[31m\nfile/pid"], ["true"]), (["-a", "\u{1B}[31m\n"], ["true"]),
                    (["--no\u{1B}[31m\n"], ["true"]),
                ] as [([String], [String])] {
                    let outcome = try await laptop.host.tapas(["--config-net"] + options, command)
                    #expect(outcome.errors.contains("\\u{1b}[31m\\n"), "\(outcome)")
                    #expect(!outcome.errors.contains("\u{1B}"), "\(outcome)")
                    #expect(outcome.errorLines.filter { !$0.contains("--help") }.count == 1, "\(outcome)")
                }
            }
        }

        @Test("-d and --trace say more than the summary")
        func debugSaysMore() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                var lengths: [Int] = []
                for options in [[], ["-d"], ["--trace"]] {
                    let program = try await laptop.host.attach(laptop.guest, ["--config-net"] + options)
                    try await laptop.guest.must(["ping", "-c", "3", "-i", "0.01", "-W", "5", Laptop.beyond[0]])
                    program.send(SIGTERM)
                    lengths.append(try await program.end(within: .seconds(3)).errors.count)
                }
                #expect(lengths[0] < lengths[1] && lengths[1] < lengths[2], "\(lengths)")
            }
        }
    }
}
