// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
//     container ══ tapas in host ── eth0 ─────────── eth0 ── server
//     of an OCI    192.0.2.10/24                 192.0.2.1/24, 203.0.113.1 "beyond"
//     runtime
//
// The runtime makes the container's namespaces and starts tapas-oci-hook, which attaches tapas. The container is a
// busybox. Its runtime wants cgroup v2 alone on /sys/fs/cgroup, so it has a mount and a cgroup namespace of its own.

import Lab
import Testing

extension Scenarios {
    @Suite("containers with the OCI hook", .timeLimit(.minutes(3))) struct ContainerHooks {
        /// A container to be run.
        private struct Bundle {
            let host: Host
            let runtime: String
            let folder: String
            let identifier: String
            let runFolder: String
            /// Variables of the hook, which has no others.
            var environment: [String: String]

            /// Makes the folder with the container's configuration and its root.
            init(
                _ host: Host, _ runtime: String, _ annotations: [String: String], _ script: String,
                ownUserNamespace: Bool = false, as user: User = .namespaceRoot
            ) async throws {
                self.host = host
                self.runtime = runtime
                folder = host.lab.newPath("bundle")
                identifier = String(folder.split(separator: "/").last ?? "c")
                runFolder = "\(folder)/run"
                environment = ["XDG_RUNTIME_DIR": runFolder, "XDG_CONFIG_HOME": folder + "/config"]
                // crun hides the output of hooks unless this annotation is given.
                var annotations = annotations
                annotations["run.oci.hooks.stderr"] = "\(folder)/hook.err"
                let variables = environment.map { "\"\($0.key)=\($0.value)\"" }.joined(separator: ",")
                func hook(_ stage: String) -> String {
                    """
                    "\(stage)": [{"path": "\(hookBinary)", "args": ["tapas-oci-hook", "\(stage)"], "env": [\(variables)]}]
                    """
                }
                let texts = annotations.map { "\(quoted($0.key)): \(quoted($0.value))" }.joined(separator: ", ")
                let mappings =
                    ownUserNamespace
                    ? #""uidMappings": [{"containerID": 0, "hostID": 4242, "size": 1}],"#
                        + #" "gidMappings": [{"containerID": 0, "hostID": 4242, "size": 1}],"# : ""
                let spaces = ["pid", "network", "ipc", "uts", "mount"] + (ownUserNamespace ? ["user"] : [])
                let configuration = """
                    {"ociVersion": "1.0.2", "hostname": "c", "annotations": {\(texts)},
                     "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
                                 "args": ["/bin/sh", "-c", \(quoted(script))]},
                     "root": {"path": "rootfs"}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                     "hooks": {\(hook("createRuntime")), \(hook("poststop"))},
                     "linux": {\(mappings) "namespaces": [\(spaces.map { "{\"type\": \"\($0)\"}" }.joined(separator: ", "))]}}
                    """
                let made = try await host.run(
                    [
                        "sh", "-ec",
                        """
                        umask 022
                        mkdir -p "$1/rootfs/bin" "$1/rootfs/proc" "$1/rootfs/sys" "$1/rootfs/dev" "$1/config/tapas"
                        mkdir -m 700 "$1/run"
                        cp /bin/busybox "$1/rootfs/bin/busybox"
                        for name in sh ip nc sleep cat; do ln -s busybox "$1/rootfs/bin/$name"; done
                        printf %s "$2" > "$1/config.json"
                        """, "sh", folder, configuration,
                    ], as: user)
                guard made.status == 0 else { throw LabError("\(made)") }
            }

            /// Starts the container; the words before the runtime's change the user.
            func start(_ prefix: String = "") async throws -> Program {
                let run =
                    runtime == "crun"
                    ? "crun --root '\(runFolder)/crun' --cgroup-manager=disabled"
                    : "runc --root '\(runFolder)/runc' --rootless=true"
                return try await host.start(
                    [
                        "unshare", "--mount", "--cgroup", "sh", "-ec",
                        """
                        mount -t cgroup2 cgroup2 /sys/fs/cgroup
                        exec \(prefix) \(run) run --bundle '\(folder)' '\(identifier)'
                        """,
                    ])
            }

            /// Runs the container to its end.
            func run() async throws -> Outcome { try await start().end(within: .seconds(30)) }

            /// What the hook wrote, wherever the runtime showed it.
            func errors(_ outcome: Outcome) -> String { contents(of: "\(folder)/hook.err") + outcome.errors }
        }

        private static let runtimes = ["crun", "runc"]
        /// Shows the interface and asks the server who we are.
        private static let look = "ip address show; nc -w 5 203.0.113.1 7009 < /dev/null"

        @Test("have the network when their program starts, and leave nothing behind", arguments: runtimes)
        func haveTheNetwork(runtime: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let bundle = try await Bundle(
                    laptop.host, runtime, ["io.tapas.options": "--mtu 1400 -S 'a.example b.example'"], Self.look)
                let outcome = try await bundle.run()
                #expect(outcome.status == 0, "\(outcome)\(bundle.errors(outcome))")
                #expect(outcome.output.contains("mtu 1400") && outcome.output.contains("192.0.2.10/24"), "\(outcome)")
                #expect(outcome.lines.last?.hasPrefix("192.0.2.10 ") == true, "\(outcome)")
                #expect(try await lab.strays().filter { $0.contains("tapas") } == [])
                #expect(try await laptop.host.must(["find", bundle.runFolder, "-name", "*.pid"]) == "")
            }
        }

        @Test("publish ports of the host", arguments: runtimes)
        func publishPorts(runtime: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let bundle = try await Bundle(
                    laptop.host, runtime, ["io.tapas.publish": "8080:8000"], "echo from the container | nc -l -p 8000")
                let container = try await bundle.start()
                var heard = ""
                try await eventually("the container answers on port 8080") {
                    heard = try await laptop.server.run(["busybox", "nc", "-w", "2", "192.0.2.10", "8080"]).output
                    return !heard.isEmpty
                }
                #expect(heard == "from the container\n")
                #expect(try await container.end().status == 0)
            }
        }

        @Test("do not start when an annotation asks for the host's loopback", arguments: runtimes)
        func doNotStart(runtime: String) async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let bundle = try await Bundle(
                    host, runtime, ["io.tapas.options": "--map-host-loopback 10.0.2.2"], "echo started")
                let outcome = try await bundle.run()
                #expect(outcome.status != 0 && !outcome.output.contains("started"), "\(outcome)")
                #expect(
                    bundle.errors(outcome).contains(
                        "tapas-oci-hook: annotation io.tapas.options: --map-host-loopback is not allowed "
                            + "(allow-options in /etc/tapas/hook.conf can allow it)"), "\(bundle.errors(outcome))")
            }
        }

        @Test("are left alone where the annotation or the user's file says so", arguments: [true, false])
        func areLeftAlone(byAnnotation: Bool) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let bundle = try await Bundle(
                    laptop.host, "crun", byAnnotation ? ["io.tapas.enable": "false"] : [:], "ip -o link show")
                if !byAnnotation {
                    let file = bundle.folder + "/config/tapas/hook.conf"
                    try await laptop.host.must(["sh", "-c", "echo 'enable = false' > '\(file)'"])
                }
                let outcome = try await bundle.run()
                #expect(outcome.status == 0 && outcome.lines.count == 1, "\(outcome)\(bundle.errors(outcome))")
            }
        }

        @Test(
            "of a runtime that an ordinary user starts with a user namespace are refused with what helps",
            .enabled(if: User.areSeveral, "the run has one user id, and cannot be another user"))
        func aProcessThatIsNotDumpable() async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let bundle = try await Bundle(
                    host, "crun", [:], "echo started", ownUserNamespace: true, as: .ordinary)
                let program = try await bundle.start(
                    "setpriv --reuid=4242 --regid=4242 --clear-groups --inh-caps=-all --")
                let outcome = try await program.end(within: .seconds(30))
                #expect(outcome.status != 0 && !outcome.output.contains("started"), "\(outcome)")
                let errors = bundle.errors(outcome)
                for text in ["/ns/net: Permission denied (EACCES)", "not dumpable", "unshare -Ur", "Podman", "--netns"]
                {
                    #expect(errors.contains(text), "\(text): \(errors)\(outcome)")
                }
            }
        }

        @Test("have what is left of tapas ended by poststop, and only that")
        func poststop() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let folder = lab.newPath("run")
                try await laptop.host.must(["mkdir", "-m", "700", folder])
                func hook(_ stage: String, _ process: Int32, _ status: String) async throws -> Outcome {
                    let state = """
                        {"ociVersion": "1.0", "id": "by-hand", "pid": \(process), "status": "\(status)"}
                        """
                    return try await laptop.host.run(
                        ["sh", "-c", "printf %s \"$1\" | exec \"$2\" \"$3\"", "sh", state, hookBinary, stage],
                        environment: ["XDG_RUNTIME_DIR": folder, "XDG_CONFIG_HOME": folder])
                }
                let file = "\(folder)/tapas-oci-hook/by-hand.pid"
                let began = try await hook("createRuntime", laptop.guest.processID, "created")
                #expect(began.status == 0 && began.errors.isEmpty, "\(began)")
                let process = contents(of: file).filter(\.isNumber)
                #expect(!contents(of: "/proc/\(process)/cmdline").isEmpty)
                let ended = try await hook("poststop", 0, "stopped")
                #expect(ended.status == 0 && ended.errors.isEmpty, "\(ended)")
                #expect(contents(of: "/proc/\(process)/cmdline").isEmpty)
                #expect(try await laptop.host.run(["test", "-e", file]).status == 1)
                // A pid file whose number is another program's by now.
                let other = try await laptop.host.start(["sleep", "60"])
                try await laptop.host.must(["sh", "-c", "echo \(other.processID) > '\(file)'"])
                #expect(try await hook("poststop", 0, "stopped").status == 0)
                #expect(other.termination == nil)
            }
        }
    }
}

/// A JSON string; the texts of these tests need no other escapes.
private func quoted(_ text: String) -> String {
    "\"" + text.map { "\"\\".contains($0) ? "\\\($0)" : "\($0)" }.joined() + "\""
}
