// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// `tapas --config-net -- COMMAND`: what the command finds and what its end means.
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("tapas runs a command", .timeLimit(.minutes(2))) struct Spawn {
        @Test("its exit status is the command's", arguments: [0, 1, 3, 42, 255], User.allCases)
        func itsExitStatusIsTheCommands(status: Int32, user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(["--config-net"], ["sh", "-c", "exit \(status)"], as: user)
                #expect(outcome.termination == .exited(status), "\(outcome)")
                #expect(outcome.output.isEmpty && outcome.errors.isEmpty, "\(outcome)")
            }
        }

        @Test("a command that a signal ends gives 128 and the signal", arguments: [1, 2, 3, 9, 10, 13, 15])
        func aCommandThatASignalEndsGives128AndTheSignal(signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(
                    ["--config-net"], ["sh", "-c", "kill -\(signal) $$; exit 77"])
                #expect(outcome.termination == .exited(128 + signal), "\(outcome)")
            }
        }

        @Test(
            "a command that cannot be started gives 127 or 126 with its name",
            arguments: [
                ("no-such-command-anywhere", 127), ("/no/such/folder/command", 127), ("/etc/passwd", 126),
                ("/etc", 126),
            ] as [(String, Int32)])
        func aCommandThatCannotBeStarted(command: String, status: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(["--config-net"], [command, "argument"])
                #expect(outcome.termination == .exited(status), "\(outcome)")
                #expect(outcome.errors.contains(command), "\(outcome)")
                #expect(outcome.errorLines.count == 1, "\(outcome)")
            }
        }

        @Test("without a command it runs the user's shell as a login shell")
        func withoutACommandItRunsTheUsersShell() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run([
                    "sh", "-c", "echo 'echo shell is $0; exit 5' | SHELL=/bin/sh exec \(binary) --config-net",
                ])
                #expect(outcome.termination == .exited(5), "\(outcome)")
                #expect(outcome.output.contains("shell is -/bin/sh"), "\(outcome)")
            }
        }

        @Test("standard input and output are the command's, byte for byte")
        func standardInputAndOutputAreTheCommands() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = lab.newPath("input")
                let through = try await laptop.host.must([
                    "sh", "-c",
                    """
                    head -c 3000000 /dev/urandom > \(file)
                    \(binary) --config-net -- cat < \(file) | cmp - \(file) && echo same
                    """,
                ])
                #expect(through == "same\n")
                let errors = try await laptop.host.tapas(["--config-net"], ["sh", "-c", "echo out; echo err >&2"])
                #expect(errors.output == "out\n" && errors.errors == "err\n", "\(errors)")
            }
        }

        @Test("working directory, environment and arguments are the command's", arguments: User.allCases)
        func workingDirectoryEnvironmentAndArgumentsAreTheCommands(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let script = """
                    cd \(lab.directory) && COLOUR='dark blue' exec \(binary) --config-net -- \
                    sh -c 'pwd; echo "$COLOUR"; printf "<%s>" "$0" "$@"' 'a b' '' '-t' '--' 'ü$x'
                    """
                let outcome = try await laptop.host.run(["sh", "-c", script], as: user)
                #expect(outcome.output == "\(lab.directory)\ndark blue\n<a b><><-t><--><ü$x>", "\(outcome)")
            }
        }

        @Test("only descriptors 0, 1 and 2 are handed on, with signals as they were")
        func onlyThreeDescriptorsAreHandedOn() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let host = laptop.host
                let listing = try await host.must([
                    "sh", "-c", "exec 7< /etc/passwd 8> /dev/null; exec \(binary) --config-net -- ls /proc/self/fd",
                ])
                #expect(listing == "0\n1\n2\n3\n", "3 is the listing's own")
                let masks = ["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]
                let inside = try await host.tapas(["--config-net"], masks)
                let outside = try await host.must(masks)
                #expect(inside.output == outside)
            }
        }

        @Test("the command is root in namespaces of its own", arguments: User.allCases)
        func theCommandIsRootInNamespacesOfItsOwn(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let script = """
                    id -u; id -g
                    for kind in user net mnt uts ipc pid; do readlink /proc/self/ns/$kind; done
                    """
                let inside = try await laptop.host.tapas(["--config-net"], ["sh", "-c", script], as: user)
                let outside = try await laptop.host.must(["sh", "-c", script])
                #expect(inside.lines.prefix(2) == ["0", "0"], "\(inside)")
                let shared = Set(inside.lines.dropFirst(2)).intersection(
                    outside.split(separator: "\n").map(String.init))
                #expect(inside.lines.count == 8 && shared.isEmpty, "shared with the host: \(shared)")
                let changes = try await laptop.host.tapas(
                    ["--config-net"],
                    ["sh", "-c", "ip address add 10.9.9.9/32 dev lo && hostname changed && hostname"],
                    as: user)
                #expect(changes.output == "changed\n", "\(changes)")
            }
        }

        @Test("the command is not process 1, and /proc and /sys are those of its namespaces", arguments: User.allCases)
        func theCommandIsNotProcess1(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let inside = try await laptop.host.tapas(
                    ["--config-net"],
                    [
                        "sh", "-c",
                        "echo $$; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net; ip -br link show up | wc -l",
                    ],
                    as: user)
                let lines = inside.lines
                #expect(lines.first.flatMap { Int($0) } ?? 1 > 1, "\(inside)")
                #expect(lines.dropFirst().first.flatMap { Int($0) } ?? 99 < 6, "processes: \(inside)")
                #expect(lines.dropFirst(2) == ["eth0", "lo", "2"], "\(inside)")
            }
        }

        @Test("host name and ping group range")
        func hostNameAndPingGroupRange() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let script = ["sh", "-c", "hostname; tr '\\t' ' ' < /proc/sys/net/ipv4/ping_group_range"]
                let given = try await laptop.host.tapas(["--config-net", "-H", "web.example"], script)
                #expect(given.lines == ["web.example", "0 0"], "\(given)")
                let made = try await laptop.host.tapas(["--config-net"], script)
                #expect(made.lines.first?.hasSuffix("-host") == true, "\(made)")
                #expect(try await laptop.host.must(["hostname"]) == "host\n")
            }
        }

        @Test("the command starts only when its network is up", arguments: 1...10)
        func theCommandStartsOnlyWhenItsNetworkIsUp(attempt: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                for address in [Laptop.beyond[attempt % 2]] {
                    let outcome = try await laptop.host.tapas(
                        ["--config-net"], ["python3", helperProgram("client.py"), "outcome", "tcp", address, "7001"])
                    #expect(outcome.output.hasPrefix("connected"), "\(outcome)")
                }
            }
        }
    }
}
