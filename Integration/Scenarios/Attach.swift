// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// `tapas PID` and `tapas --netns PATH`: a namespace that is there already.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("tapas attaches to a namespace", .timeLimit(.minutes(2))) struct Attach {
        /// A process in user and network namespaces of its own, made by a user of the host.
        static func container(in host: Host, as user: User) async throws -> Program {
            let program = try await host.start(
                ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo up; exec sleep infinity"], as: user)
            try await program.wrote("up")
            return program
        }

        /// The addresses of a process' network namespace, in words.
        static func addresses(of processID: Int32, seenFrom host: Host) async throws -> String {
            try await host.must([
                "nsenter", "-t", "\(processID)", "-U", "-n", "--preserve-credentials", "ip", "-br", "address",
            ])
        }

        /// What runs the program and reads its output to the end of file, as container engines do.
        static func readingToTheEnd(_ arguments: [String]) -> [String] {
            ["sh", "-c", "{ \"$@\" 2>&1 9>&1; echo status $?; } | cat", "reader"] + arguments
        }

        @Test("a process id, in the background: ready when the launcher ends", arguments: User.allCases)
        func aProcessIDInTheBackground(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let container = try await Self.container(in: laptop.host, as: user)
                let pidFile = lab.newPath("pid")
                let outcome = try await laptop.host.run(
                    Self.readingToTheEnd([
                        binary, "--config-net", "--quiet", "--pid", pidFile, "\(container.processID)",
                    ]), as: user)
                #expect(outcome.output == "status 0\n", "\(outcome)")
                let addresses = try await Self.addresses(of: container.processID, seenFrom: laptop.host)
                #expect(addresses.contains("192.0.2.10/24") && addresses.contains("2001:db8:1::10/64"), "\(addresses)")

                let text = contents(of: pidFile)
                #expect(text.last == "\n")
                let processID = try #require(Int32(text.dropLast()))
                let status = contents(of: "/proc/\(processID)/stat").split(separator: ")").last ?? ""
                let session = status.split(separator: " ").dropFirst(3).first
                #expect(session == "\(processID)", "a session of its own: \(status)")
                // The files of a program that is not dumpable are those of its user namespace's user 0. The ordinary user
                // of a run with one user id has none there: then nobody may look.
                if user == .namespaceRoot || User.areSeveral {
                    let descriptors = try await laptop.host.must(["sh", "-c", "readlink /proc/\(processID)/fd/[012]"])
                    #expect(descriptors == "/dev/null\n/dev/null\n/dev/null\n")
                }

                container.sendToGroup(SIGKILL)
                let time = try await eventually("tapas ends with the namespace", within: .seconds(3)) {
                    contents(of: "/proc/\(processID)/cmdline").isEmpty
                }
                print("measured: end of the process to the end of tapas (\(user)): \(time)")
            }
        }

        @Test("a namespace and its user namespace by path", arguments: User.allCases)
        func aNamespaceAndItsUserNamespaceByPath(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let container = try await Self.container(in: laptop.host, as: user)
                let outcome = try await laptop.host.run(
                    Self.readingToTheEnd([
                        binary, "--config-net", "--quiet", "--netns", "/proc/\(container.processID)/ns/net", "--userns",
                        "/proc/\(container.processID)/ns/user",
                    ]), as: user)
                #expect(outcome.output == "status 0\n", "\(outcome)")
                let addresses = try await Self.addresses(of: container.processID, seenFrom: laptop.host)
                #expect(addresses.contains("192.0.2.10/24"), "\(addresses)")
            }
        }

        @Test("a process whose user namespace is tapas' own")
        func aProcessWhoseUserNamespaceIsTapasOwn() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let outcome = try await laptop.host.run(
                    Self.readingToTheEnd([binary, "--config-net", "--quiet", "\(laptop.guest.processID)"]))
                #expect(outcome.output == "status 0\n", "\(outcome)")
                #expect(try await laptop.guest.networkState().contains("addr 192.0.2.10/24"))
            }
        }

        @Test("a namespace by name, until it is deleted")
        func aNamespaceByName() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let host = laptop.host
                try await host.must(["ip", "netns", "add", "blue"])
                let program = try await host.attach(path: "blue")
                let client = ["python3", helperProgram("client.py"), "outcome", "tcp", Laptop.beyond[0], "7001"]
                let reached = try await host.must(["ip", "netns", "exec", "blue"] + client)
                #expect(reached.hasPrefix("connected"))
                try await host.must(["ip", "netns", "delete", "blue"])
                let start = ContinuousClock.now
                let outcome = try await program.end(within: .seconds(2))
                print("measured: deletion of the namespace to the end of tapas: \(ContinuousClock.now - start)")
                #expect(outcome.termination == .exited(0), "\(outcome)")
            }
        }

        @Test("--no-netns-quit: it stays when the namespace's name is gone")
        func itStaysWithNoNetnsQuit() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.must(["ip", "netns", "add", "blue"])
                let program = try await laptop.host.attach(path: "blue", ["--config-net", "--no-netns-quit"])
                try await laptop.host.must(["ip", "netns", "delete", "blue"])
                try await throughout(.milliseconds(1500), "tapas runs") { program.termination == nil }
                program.send(SIGTERM)
                #expect(try await program.end(within: .seconds(3)).termination == .exited(0))
            }
        }

        @Test("SIGTERM and SIGQUIT end it with status 0, and its interface goes", arguments: [SIGTERM, SIGQUIT])
        func aSignalEndsItWithStatus0(signal: Int32) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest)
                #expect(try await laptop.guest.networkState().contains { $0.hasPrefix("link eth0") })
                program.send(signal)
                #expect(try await program.end(within: .seconds(3)).termination == .exited(0))
                #expect(try await laptop.guest.networkState() == [])
            }
        }

        @Test("a second one for the same namespace fails with a message; the first goes on")
        func aSecondOneForTheSameNamespaceFails() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let first = try await laptop.host.attach(laptop.guest)
                let before = try await laptop.guest.networkState()
                let second = try await laptop.host.tapas([
                    "--config-net", "--foreground", "--netns", laptop.guest.networkNamespace,
                ])
                #expect(second.termination == .exited(1), "\(second)")
                #expect(second.errors.contains("eth0"), "\(second)")
                #expect(try await laptop.guest.networkState() == before)
                #expect(
                    try await laptop.guest.python("client.py", "who", "tcp", Laptop.beyond[0]).hasPrefix("192.0.2.10"))
                #expect(first.termination == nil)
            }
        }

        @Test("after one has ended, another can take the same namespace")
        func anotherCanTakeTheSameNamespace() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                for _ in 0..<3 {
                    let program = try await laptop.host.attach(laptop.guest)
                    let answer = try await laptop.guest.python("client.py", "who", "tcp", Laptop.beyond[0])
                    #expect(answer.hasPrefix("192.0.2.10"))
                    program.send(SIGTERM)
                    _ = try await program.end(within: .seconds(3))
                }
            }
        }

        @Test("it keeps no inherited descriptor")
        func itKeepsNoInheritedDescriptor() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let fifo = lab.newPath("held")
                try await laptop.host.must(["mkfifo", fifo])
                let launcher = try await laptop.host.run([
                    "bash", "-c",
                    "exec 9<> \(fifo) 30<> \(fifo); exec \(binary) --config-net -q --netns \(laptop.guest.networkNamespace)",
                ])
                #expect(launcher.termination == .exited(0), "\(launcher)")
                let reader = try await laptop.host.run(
                    ["timeout", "2", "sh", "-c", "exec 3> \(fifo) & cat \(fifo)"], within: .seconds(5))
                #expect(reader.termination == .exited(0), "somebody holds the pipe still: \(reader)")
            }
        }
    }
}
