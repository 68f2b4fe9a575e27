// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Host {
    /// Runs the lab's client of upstream's protocol.
    fileprivate func pesto(_ path: String, _ arguments: String...) async throws -> Outcome {
        try await run(["python3", helperProgram("pesto.py"), path] + arguments)
    }

    /// Replaces tables of rules, and waits until the server has answered by closing.
    fileprivate func pestoSets(_ path: String, _ arguments: String...) async throws {
        let outcome = try await run(["python3", helperProgram("pesto.py"), path, "set"] + arguments)
        guard outcome.status == 0 else { throw LabError("\(outcome)") }
    }
}

extension Scenarios {
    /// Upstream's protocol for forwarding rules at the path of `--conf-path`, with a client of our own.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///     servers here                      clients here; pesto in host
    @Suite("upstream's protocol at --conf-path", .timeLimit(.minutes(3))) struct Pesto {
        @Test(
            "the rules in force are shown, and the file is the owner's alone and gone at the end",
            arguments: User.allCases)
        func theRulesAreShown(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let path = lab.newPath("conf")
                try await laptop.host.must(["chmod", "777", lab.directory])
                let tapas = try await laptop.host.startTapas(
                    [
                        "--config-net", "-t", "8080:80", "-t", "127.0.0.1/9000-9001", "-u",
                        "0.0.0.0/5000:10.7.7.7/6000", "-T", "none", "-U", "53", "-c", path,
                    ], ["sh", "-c", "echo ready; exec sleep 60"], as: user)
                try await tapas.wrote("ready")
                #expect(try await laptop.host.must(["stat", "-c", "%a %F", path]) == "600 socket\n")
                let shown = try await laptop.host.pesto(path, "show")
                #expect(
                    shown.output == """
                        HOST 0x3f
                        tcp * - 8080-8080 80 - 1
                        tcp 127.0.0.1 - 9000-9001 9000 - 0
                        udp 0.0.0.0 - 5000-5000 6000 10.7.7.7 0
                        SPLICE 0x3f
                        udp * - 53-53 53 - 1

                        """, "\(shown)")
                tapas.sendToGroup(SIGTERM)
                _ = try await tapas.end()
                #expect(try await laptop.host.run(["test", "-e", path]).status == 1)
            }
        }

        @Test("a change keeps existing connections; one that is impossible changes nothing and is logged")
        func aChangeKeepsConnections() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let path = lab.newPath("conf")
                let tapas = try await laptop.host.attach(
                    laptop.guest,
                    ["--config-net", "-t", "8080:80", "-u", "none", "-T", "none", "-U", "none", "-c", path])
                let echo = """
                    import socket, threading
                    def serve(sock):
                        while data := sock.recv(100): sock.sendall(data)
                    listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
                    print("ready", flush=True)
                    while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
                    """
                let server = try await laptop.guest.start(["python3", "-c", echo])
                try await server.wrote("ready")
                let go = lab.newPath("go")
                let clientProgram = { (address: String) in
                    """
                    import os, socket, time
                    sock = socket.create_connection(("\(address)", 8080), timeout=10)
                    for word in ["one", "two"]:
                        sock.sendall(word.encode())
                        print("back:", sock.recv(100).decode(), flush=True)
                        while not os.path.exists("\(go)"): time.sleep(0.01)
                    """
                }
                let clients = [
                    try await laptop.server.start(["python3", "-c", clientProgram(Laptop.own[0])]),
                    try await laptop.host.start(["python3", "-c", clientProgram("127.0.0.1")]),
                ]
                for client in clients { try await client.wrote("back: one") }
                // Another port in place of the first; UDP and the namespace's ports besides.
                try await laptop.host.pestoSets(
                    path, "HOST", "tcp,*,8081,8081,80,-", "udp,*,5300,5300,53,-", "SPLICE", "tcp,*,7000,7000,7000,-")
                #expect(try await laptop.server.isDeaf("tcp", Laptop.own[0], 8080))
                #expect(try await !laptop.server.isDeaf("tcp", Laptop.own[0], 8081))
                // A port that somebody has, behind one that is free.
                let taken = try await laptop.host.answer(tcp: ["::/9001"])
                try await laptop.host.pestoSets(path, "HOST", "tcp,*,9000,9000,80,-", "tcp,*,9001,9001,80,-")
                try await eventually("the log tells of the refusal") {
                    tapas.errors.contains("forwards unchanged") && tapas.errors.contains("9001")
                }
                #expect(try await laptop.server.isDeaf("tcp", Laptop.own[0], 9000))
                #expect(try await !laptop.server.isDeaf("tcp", Laptop.own[0], 8081))
                #expect(
                    try await laptop.host.pesto(path, "show").output == """
                        HOST 0x3f
                        tcp * - 8081-8081 80 - 1
                        udp * - 5300-5300 53 - 1
                        SPLICE 0x3f
                        tcp * - 7000-7000 7000 - 1

                        """)
                // Input that no client sends must change nothing.
                for bytes in ["02", "01ffffffff", "0100000001", "0100000000"] {
                    _ = try await laptop.host.pesto(path, "raw", bytes)
                }
                #expect(try await !laptop.server.isDeaf("tcp", Laptop.own[0], 8081))
                // Clear.
                try await laptop.host.pestoSets(path, "HOST", "SPLICE")
                #expect(try await laptop.server.isDeaf("tcp", Laptop.own[0], 8081))
                try await laptop.host.must(["touch", go])
                for client in clients { try await client.wrote("back: two") }
                withExtendedLifetime(taken) {}
            }
        }

        @Test("a client that is silent holds up neither traffic nor, for longer than a few seconds, other clients")
        func aSilentClient() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let path = lab.newPath("conf")
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080:80", "-c", path])
                try await laptop.guest.answer(tcp: ["::/80"])
                let silent = try await laptop.host.start(["python3", helperProgram("pesto.py"), path, "silent"])
                try await silent.wrote("ready")
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 8080)?.last == "80")
                #expect(
                    try await laptop.host.pesto(path, "show").output.hasPrefix("HOST 0x3f\ntcp * - 8080-8080 80 - 1\n"))
            }
        }
    }
}
