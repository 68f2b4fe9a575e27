// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// Signals, terminals and processes that are left behind.
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("tapas and the processes below it", .timeLimit(.minutes(2))) struct SpawnSignals {
        /// Prints `up`, then waits for a signal of that name and says so.
        static func trap(_ name: String) -> [String] {
            ["sh", "-c", "trap 'echo got \(name); exit 9' \(name); echo up; while :; do sleep 0.05; done"]
        }

        @Test(
            "a signal sent to tapas is passed on",
            arguments: [("TERM", SIGTERM), ("INT", SIGINT), ("HUP", SIGHUP), ("QUIT", SIGQUIT)])
        func aSignalSentToTapasIsPassedOn(name: String, signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.startTapas(["--config-net"], Self.trap(name))
                try await program.wrote("up")
                program.send(signal)
                let outcome = try await program.end(within: .seconds(5))
                #expect(outcome.output == "up\ngot \(name)\n", "\(outcome)")
                #expect(outcome.termination == .exited(9), "\(outcome)")
            }
        }

        @Test("a signal passed on that the command does not handle ends it: 128 and the signal", arguments: [SIGHUP])
        func aSignalPassedOnEndsACommandThatDoesNotHandleIt(signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.startTapas(
                    ["--config-net"], ["sh", "-c", "echo up; exec sleep 100"])
                try await program.wrote("up")
                program.send(signal)
                let outcome = try await program.end(within: .seconds(5))
                #expect(outcome.termination == .exited(128 + signal), "\(outcome)")
            }
        }

        @Test("orphans are reaped")
        func orphansAreReaped() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let script = """
                    import glob, os, time
                    for _ in range(20):
                        if os.fork() == 0:
                            if os.fork() == 0:
                                os._exit(0)
                            os._exit(0)
                        os.wait()
                    deadline = time.monotonic() + 5
                    def zombies():
                        count = 0
                        for path in glob.glob("/proc/[0-9]*/stat"):
                            try:
                                count += open(path).read().rsplit(")", 1)[1].split()[0] == "Z"
                            except (FileNotFoundError, ProcessLookupError):
                                pass  # reaped meanwhile
                        return count
                    while zombies() and time.monotonic() < deadline:
                        time.sleep(0.002)
                    print("zombies", zombies())
                    """
                let outcome = try await laptop.host.tapas(["--config-net"], ["python3", "-c", script])
                #expect(outcome.output == "zombies 0\n", "\(outcome)")
            }
        }

        @Test("nothing stays behind: no process, no mount, no interface", arguments: User.allCases)
        func nothingStaysBehind(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let look = ["sh", "-c", "cut -d' ' -f4- /proc/self/mountinfo; ls -A /run /dev/shm; ip -br link"]
                let before = try await laptop.host.must(look)
                let outcome = try await laptop.host.tapas(
                    ["--config-net"], ["sh", "-c", "sleep 1000 & (setsid sleep 1000 &); exit 4"], as: user)
                #expect(outcome.termination == .exited(4), "\(outcome)")
                try await eventually("no process is left: those of the command went with it", within: .seconds(2)) {
                    try await lab.strays().isEmpty
                }
                #expect(try await laptop.host.must(look) == before)
            }
        }

        @Test("tapas that is killed takes its command along")
        func tapasThatIsKilledTakesItsCommandAlong() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.startTapas(
                    ["--config-net"], ["sh", "-c", "echo up; exec sleep 1000"])
                try await program.wrote("up")
                program.send(SIGKILL)
                _ = try await program.end(within: .seconds(5))
                try await eventually("no process is left", within: .seconds(2)) { try await lab.strays().isEmpty }
            }
        }

        @Test("Ctrl-C on the terminal reaches the command")
        func controlCReachesTheCommand() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run(
                    ["python3", helperProgram("terminal.py"), "up:^C", "--", binary, "--config-net", "--"]
                        + Self.trap("INT"))
                #expect(outcome.output.contains("got INT"), "\(outcome)")
                #expect(outcome.output.hasSuffix("status 9\n"), "\(outcome)")
            }
        }

        @Test("an interactive shell has job control", arguments: User.allCases)
        func anInteractiveShellHasJobControl(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let shell = ["bash", "--norc", "--noprofile", "-i"]
                // A job that starts no process: a shell that stops in vfork(2) would never be seen to have stopped.
                let outcome = try await laptop.host.run(
                    [
                        "python3", helperProgram("terminal.py"),
                        "P> :sleep 77 &\\n",
                        "P> :jobs\\n",
                        "Running:sh -c 'trap \"echo ba''ck\" CONT; echo star''ted; while :; do read x; done'\\n",
                        "started:^Z",
                        "Stopped:fg\\n",
                        // The shell gives the terminal away before it continues the job.
                        "\nback:^C",
                        "P> :kill %1; exit 6\\n",
                        "--", "env", "PS1=P> ", "TERM=dumb", binary, "--config-net", "--",
                    ] + shell, as: user, within: .seconds(30))
                #expect(outcome.output.hasSuffix("status 6\n"), "\(outcome)")
                #expect(!outcome.output.contains("job control"), "\(outcome)")
                #expect(!outcome.output.contains("terminal process group"), "\(outcome)")
            }
        }
    }
}
