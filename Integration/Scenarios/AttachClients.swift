// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// The command lines with which other programs start tapas.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("tapas is started as its clients do", .timeLimit(.minutes(2))) struct AttachClients {
        @Test("Podman's plain container")
        func podmansPlainContainer() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let (host, guest) = (laptop.host, laptop.guest)
                try await laptop.server.startPython("dns.py", Laptop.near[0], "198.18.7.7")
                try await host.resolver("nameserver \(Laptop.near[0])\n")
                let file = "/run/user/netns/netns-1234"
                try await host.must([
                    "sh", "-ec",
                    """
                    mkdir -p /run/user/netns /run/bin
                    ln -s \(binary) /run/bin/pasta
                    touch \(file)
                    mount --bind \(guest.networkNamespace) \(file)
                    """,
                ])
                let options =
                    "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet "
                    + "--netns \(file) --map-guest-addr 169.254.1.2"
                let launch = try await host.run([
                    "sh", "-c", "{ /run/bin/pasta \(options) 2>&1; echo status $?; } | cat",
                ])
                #expect(launch.output == "status 0\n", "\(launch)")
                print("measured: Podman's start: \(launch.duration)")

                let state = try await guest.networkState()
                #expect(state.contains("addr 192.0.2.10/24") && state.contains("addr 2001:db8:1::10/64"), "\(state)")
                let name = try await guest.must(["dig", "+short", "+tries=1", "@169.254.1.1", "web.example"])
                #expect(name == "198.18.7.7\n")
                try await host.startPython("serve.py")
                let own = try await guest.python("client.py", "outcome", "tcp", "169.254.1.2", "7001")
                #expect(own.hasPrefix("connected"), "--map-guest-addr leads to the host's own address: \(own)")

                // The engine, the watcher of resolv.conf below it, and the one in reserve below that.
                let processes = try await lab.strays().filter { $0.contains("pasta") }
                #expect((1...3).contains(processes.count), "\(processes)")
                let processIDs = processes.map { $0.prefix { $0 != " " } }
                let start = ContinuousClock.now
                try await host.must(["sh", "-c", "umount -l \(file); rm \(file)"])
                try await eventually("tapas has ended", within: .seconds(2)) {
                    processIDs.allSatisfy { contents(of: "/proc/\($0)/cmdline").isEmpty }
                }
                let time = ContinuousClock.now - start
                print("measured: unmount and unlink of the namespace's file to the end of tapas: \(time)")
            }
        }

        @Test("--ready-fd, --exit-fd and the service manager's socket")
        func readinessAndEnd() async throws {
            let script = """
                import os, socket, subprocess, sys
                manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                manager.bind(b"\\0tapas-notify")
                manager.settimeout(10)
                ready, writer = os.pipe()
                reader, end = os.pipe()
                words = "--config-net -f -q -t none -u none -T none -U none --netns".split()
                tapas = subprocess.Popen(
                    [sys.argv[1], *words, sys.argv[2], "--ready-fd", str(writer), "--exit-fd", str(reader)],
                    pass_fds=(writer, reader), env={**os.environ, "NOTIFY_SOCKET": "@tapas-notify"})
                os.close(writer)
                os.close(reader)
                print(os.read(ready, 9), os.read(ready, 9))
                print(manager.recv(99) == b"READY=1\\nMAINPID=%d" % tapas.pid)
                os.write(end, b"not an end")
                print(tapas.poll())
                os.close(end)
                print(tapas.wait(10), manager.recv(99))
                """
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let seen = try await laptop.host.must(
                    ["python3", "-c", script, binary, laptop.guest.networkNamespace])
                #expect(seen == "b'1' b''\nTrue\nNone\n0 b'STOPPING=1'\n")
            }
        }

        @Test(
            "descriptors that cannot serve are refused in one line, before anything is made",
            arguments: [
                ("--ready-fd 9", "9>&-", "--ready-fd 9: the descriptor is not open"),
                ("--ready-fd 9", "9</dev/null", "--ready-fd 9: it is open for reading only"),
                ("--exit-fd 9", "9</dev/null", "--exit-fd 9: only a pipe or a socket has another end"),
            ])
        func unfitDescriptors(option: String, redirection: String, message: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let run = try await laptop.host.run(
                    ["sh", "-c", "\(binary) --config-net \(option) -- echo ran \(redirection)"])
                #expect(run.output.isEmpty && run.errors.contains("tapas: \(message)"), "\(run)")
                #expect(run.errors.split(separator: "\n").count == 1, "\(run)")
            }
        }

        @Test("Lix: the namespaces are descriptors 0 and 1")
        func theNamespacesAreDescriptors0And1() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let container = try await Attach.container(in: laptop.host, as: .namespaceRoot)
                let pidFile = lab.newPath("pid")
                let program = try await laptop.host.start(
                    [
                        "sh", "-c",
                        """
                        exec \(binary) --quiet --foreground --config-net --gateway 169.254.1.1 --address 169.254.1.2 \
                        --netmask 16 --ns-ifname tap7 --no-netns-quit --pid \(pidFile) \
                        --netns /proc/self/fd/0 --userns /proc/self/fd/1 \
                        < /proc/\(container.processID)/ns/net 1< /proc/\(container.processID)/ns/user
                        """,
                    ], tested: true)
                try await eventually("tapas is ready") {
                    guard program.termination == nil else { throw LabError("ended: \(program.errors)") }
                    return contents(of: pidFile).hasSuffix("\n")
                }
                let addresses = try await Attach.addresses(of: container.processID, seenFrom: laptop.host)
                #expect(addresses.contains("tap7") && addresses.contains("169.254.1.2/16"), "\(addresses)")
                #expect(program.termination == nil)
            }
        }

        @Test("bubblejail: the pid file is a pipe")
        func thePidFileIsAPipe() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let fifo = lab.newPath("ready")
                try await laptop.host.must(["mkfifo", fifo])
                let reader = try await laptop.host.start(["cat", fifo])
                try await eventually("somebody opens the pipe: one without a reader is refused") {
                    // The kernel function in which it waits: open(2) of the pipe, not an earlier call.
                    contents(of: "/proc/\(reader.processID)/wchan") == "wait_for_partner"
                }
                let program = try await laptop.host.startTapas([
                    "--config-net", "--foreground", "--pid", fifo, "--netns", laptop.guest.networkNamespace,
                ])
                let read = try await reader.end(within: .seconds(5))
                #expect(read.output == "\(program.processID)\n")
                #expect(try await laptop.guest.networkState().contains("addr 192.0.2.10/24"))
            }
        }

        @Test(
            "probes for options end with status 0, unknown ones with 1",
            arguments: [
                (["--version"], 0), (["--help"], 0), (["--host-lo-to-ns-lo", "--version"], 0),
                (["--no-such-option", "--version"], 1),
            ] as [([String], Int32)])
        func probesForOptions(options: [String], status: Int32) async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let outcome = try await host.tapas(options)
                #expect(outcome.termination == .exited(status), "\(outcome)")
                #expect(outcome.output.isEmpty == (status != 0), "\(outcome)")
                if status != 0 {
                    #expect(outcome.errors.contains("unrecognized option '--no-such-option'"), "\(outcome)")
                }
            }
        }

        @Test("rootlesskit's options for a process")
        func rootlesskitsOptions() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let container = try await Attach.container(in: laptop.host, as: .ordinary)
                let outcome = try await laptop.host.run(
                    Attach.readingToTheEnd([
                        binary, "--stderr", "--ns-ifname=tap0", "--mtu=65520", "--config-net", "--address=10.0.2.100",
                        "--netmask=24", "--gateway=10.0.2.2", "--dns-forward=10.0.2.3", "--no-map-gw", "--ipv4-only",
                        "--tcp-ports=none", "--udp-ports=none", "--host-lo-to-ns-lo", "\(container.processID)",
                    ]), as: .ordinary)
                #expect(outcome.output.hasSuffix("status 0\n"), "\(outcome)")
                let addresses = try await Attach.addresses(of: container.processID, seenFrom: laptop.host)
                #expect(addresses.contains("tap0") && addresses.contains("10.0.2.100/24"), "\(addresses)")
            }
        }
    }
}
