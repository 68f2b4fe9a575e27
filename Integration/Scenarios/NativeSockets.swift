// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// `tapas --native-sockets`: the command's TCP connections have sockets of the host, and no way out by them.
    ///
    ///     command ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("sockets of the host for a command", .timeLimit(.minutes(3))) struct NativeSockets {
        /// Runs a program of native.c below tapas.
        private static func run(
            _ what: String, _ laptop: Laptop, options: [String] = [], as user: User = .namespaceRoot,
            within limit: Duration = .seconds(20)
        ) async throws -> Outcome {
            let program = try await compiled(in: laptop.host)
            return try await laptop.host.tapas(
                ["--config-net", "--native-sockets"] + options, [program, what, Laptop.beyond[0], "7001", "8080"],
                as: user, within: limit)
        }

        private static func compiled(in host: Host) async throws -> String {
            let program = host.lab.newPath("native")
            try await host.must(["cc", "-O1", "-pthread", "-o", program, helperProgram("native.c")])
            return program
        }

        @Test(
            "a connection has a socket of the host, with the options, flags and names of its own",
            arguments: User.allCases)
        func aConnectionHasASocketOfTheHost(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let outcome = try await Self.run("carried", laptop, as: user)
                #expect(
                    outcome.output
                        == "1 1 77 100000 cloexec=0 nonblock=0 name=192.0.2.10/16 peer=203.0.113.1:7001 native=1\n",
                    "\(outcome)")
                let other = try await Self.run("carried", laptop, options: ["-a", "10.9.9.9/24", "-g", "10.9.9.1"])
                #expect(other.output.contains("name=10.9.9.9/16"), "\(other)")
            }
        }

        @Test("a switched socket is no general socket of the host")
        func aSwitchedSocketIsNoGeneralSocket() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let outcome = try await Self.run("confined", laptop)
                let words = outcome.output.split(whereSeparator: \.isWhitespace)
                #expect(words.first == "native=1", "\(outcome)")
                let allowed = words.filter { $0.hasSuffix("=OK") }
                #expect(words.count == 22 && allowed == ["dissolve=OK"], "\(outcome)")
                let shut = try await Self.run("shut-down", laptop)
                #expect(
                    shut.output
                        == "begin=EINPROGRESS native=1 again=EALREADY connect=ENETUNREACH bind=EINVAL listen=EINVAL \n",
                    "\(shut)")
            }
        }

        @Test("races of memory and of descriptors lead nowhere", arguments: ["race-memory", "race-descriptor"])
        func racesLeadNowhere(race: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.startPython("serve.py")
                let outcome = try await Self.run(race, laptop, options: ["-T", "none"], within: .seconds(60))
                #expect(outcome.output.contains("reached=0"), "\(outcome)")
                #expect(
                    race == "race-memory" || outcome.output.contains("native=1 reached=0 listening=0"), "\(outcome)")
            }
        }

        @Test("signals, epoll and UNIX sockets work as without it")
        func programsSeeTheSame() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                #expect(try await Self.run("interrupted", laptop).output == "connect=EINTR again=EALREADY \n")
                let registered = try await Self.run("registered", laptop)
                #expect(
                    registered.output == "connect=EINPROGRESS events=1 data=77 error=0 native=0 later=1 native=1\n",
                    "\(registered)")
                let local = try await Self.run("local", laptop)
                #expect(
                    local.output
                        == "bind=OK listen=OK connect=OK mine=1 bind-tcp=OK listen-tcp=OK connect-tcp=OK accept-tcp=OK native=0\n",
                    "\(local)")
            }
        }

        @Test("transfers arrive as without it, and mapped destinations go by the tap", arguments: [0, 1])
        func transfersArrive(family: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                for direction in ["upload", "download"] {
                    let outcome = try await laptop.host.tapas(
                        ["--config-net", "--native-sockets"],
                        ["python3", helperProgram("client.py"), direction, Laptop.beyond[family], "8388608", "3"])
                    #expect(outcome.output.hasPrefix("ok 8388608"), "\(outcome)")
                }
                // Refused is refused.
                let refused = try await laptop.host.tapas(
                    ["--config-net", "--native-sockets"],
                    ["python3", helperProgram("client.py"), "outcome", "tcp", Laptop.beyond[family], "9"])
                #expect(refused.output.hasPrefix("refused"), "\(refused)")
            }
        }

        @Test("a connection ends when the host loses its address")
        func aConnectionEndsWithItsAddress() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await Self.compiled(in: laptop.host)
                let running = try await laptop.host.startTapas(
                    ["--config-net", "--native-sockets", "--hold-down", "0"],
                    [program, "ending", Laptop.beyond[0], "7002", "8080"])
                try await eventually("it is connected") { running.output.contains("native=1") }
                try await laptop.host.ip("address del 192.0.2.10/24 dev eth0")
                let outcome = try await running.end(within: .seconds(10))
                // The socket is dissolved: a recv(2) that waits gets EPIPE, a later one ECONNRESET.
                #expect(
                    ["ended: ECONNRESET", "ended: EPIPE"].contains { outcome.output.contains($0) }, "\(outcome)")
            }
        }
    }
}
