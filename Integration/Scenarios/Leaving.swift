// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// How tapas ends: by which signal, with which line, and without leaving processes behind.
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("tapas leaves", .timeLimit(.minutes(2))) struct Leaving {
        @Test(
            "SIGINT and SIGTERM that end the command end tapas, too, as signals",
            arguments: [SIGINT, SIGTERM])
        func signalsEndTapasToo(signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.startTapas(
                    ["--config-net"], ["sh", "-c", "echo up; exec sleep 100"])
                try await program.wrote("up")
                program.send(signal)
                let outcome = try await program.end(within: .seconds(5))
                #expect(outcome.termination == .signalled(signal), "\(outcome)")
                #expect(outcome.errors == "", "\(outcome)")
                #expect(try await lab.strays() == [])
            }
        }

        @Test("one Ctrl-C on the terminal ends a shell's loop around tapas")
        func oneControlCEndsALoop() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let loop = "for round in 1 2 3; do \(binary) --config-net -- sh -c 'echo round; exec sleep 5'; done"
                let outcome = try await laptop.host.run(
                    ["python3", helperProgram("terminal.py"), "round:^C", "--", "bash", "-c", loop])
                #expect(outcome.output == "round\n^Cstatus 130\n", "\(outcome)")
            }
        }

        @Test("attached, SIGTERM is an orderly end and SIGINT an interruption", arguments: [SIGTERM, SIGINT])
        func attached(signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest)
                program.send(signal)
                let outcome = try await program.end(within: .seconds(5))
                #expect(outcome.termination == (signal == SIGTERM ? .exited(0) : .signalled(signal)), "\(outcome)")
                #expect(try await lab.strays() == [])
            }
        }

        @Test(
            "nothing is left to a process 1 that does not reap, from the first moment on",
            arguments: [
                ["--config-net"], ["--splice-only"], ["--config-net", "--no-monitor"],
                ["--config-net", "-t", "80,80:81"], ["--config-net", "--mtu", "65521", "-I", "lo"],
            ])
        func nothingIsLeftToProcess1(options: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                // Process 1 of the namespace starts tapas by a child that ends at once, and reaps that child alone.
                let script = """
                    import os, subprocess, sys
                    program = subprocess.Popen(sys.argv[1:])
                    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
                    left = []
                    for name in os.listdir("/proc"):
                        if name.isdigit() and int(name) not in (1, program.pid):
                            try:
                                left.append(open(f"/proc/{name}/stat").read().split(" (", 1)[1][:30])
                            except (FileNotFoundError, ProcessLookupError):
                                pass
                    print("left", left)
                    """
                for _ in 0..<5 {
                    let outcome = try await laptop.host.run(
                        [
                            "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--",
                            "python3", "-c", script, binary,
                        ] + options + ["--", "true"])
                    #expect(outcome.output == "left []\n", "\(outcome)")
                }
            }
        }

        @Test(
            "a tap that is deleted ends tapas with one line and status 1",
            arguments: [([], true), (["--quiet"], true)] as [([String], Bool)])
        func aTapThatIsDeleted(options: [String], says: Bool) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(
                    ["--config-net"] + options, ["sh", "-c", "ip link delete eth0; sleep 100"])
                #expect(outcome.termination == .exited(1), "\(outcome)")
                #expect(outcome.errorLines.count == 1, "\(outcome)")
                #expect(outcome.errors.contains("interface 'eth0' is gone"), "\(outcome)")
                try await eventually("the command has ended, too", within: .seconds(2)) {
                    try await lab.strays().isEmpty
                }
            }
        }

        @Test("the engine has IPC and host name namespaces of its own", arguments: User.allCases)
        func theEngineHasNamespacesOfItsOwn(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let command = ["sh", "-c", "echo up; exec sleep 100"]
                let program = try await laptop.host.startTapas(["--config-net"], command, as: user)
                try await program.wrote("up")
                let attached = try await laptop.host.attach(laptop.guest)
                for process in [program.processID, attached.processID] {
                    for kind in ["ipc", "uts", "mnt"] {
                        // Read by the lab's root, because no other user may inspect the process.
                        let own = try await laptop.host.must(["readlink", "/proc/\(process)/ns/\(kind)"])
                        let holder = laptop.host.processID
                        let hosts = try await laptop.host.must(["readlink", "/proc/\(holder)/ns/\(kind)"])
                        #expect(own.hasPrefix(kind) && own != hosts, "\(kind): \(own)")
                    }
                }
            }
        }

        @Test("a namespace file that was named by a link and is deleted ends tapas")
        func aNamespaceNamedByALink() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = try await laptop.host.nameFile(of: laptop.guest)
                try await laptop.host.must(["sh", "-ec", "mkdir /run/links; ln -s ../guests/guest /run/links/name"])
                let program = try await laptop.host.attach(path: "/run/links/name")
                try await laptop.host.must(["sh", "-ec", "umount \(file); rm \(file)"])
                let outcome = try await program.end(within: .seconds(3))
                #expect(outcome.termination == .exited(0), "\(outcome)")
            }
        }
    }
}
