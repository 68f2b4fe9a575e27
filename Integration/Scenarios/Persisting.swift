// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// `--persist`: the namespace survives the engine.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("the engine comes back", .timeLimit(.minutes(3))) struct Persisting {
        private static let folder = "/run/persist"

        /// Attaches to the guest with a control socket, and forwards 18081 to a web server in the guest.
        private static func attach(_ laptop: Laptop) async throws -> Program {
            try await laptop.host.must(["mkdir", "-m", "0777", folder])
            let program = try await laptop.host.attach(
                laptop.guest,
                ["--config-net", "--persist", "-c", "\(folder)/c", "-l", "\(folder)/log", "-t", "18081:8080"])
            try await laptop.guest.startPython("serve.py")
            try await eventually("the guest's server answers") {
                try await fetch(laptop.server, "http://192.0.2.10:18081/") == "200"
            }
            return program
        }

        private static func fetch(_ host: Host, _ address: String) async throws -> String {
            try await host.run(
                ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "2", address]
            ).output
        }

        private static func status(_ laptop: Laptop, _ field: String) async throws -> String {
            let script = "import json, sys; print(json.load(sys.stdin)[sys.argv[1]])"
            let text = try await laptop.host.run(
                ["sh", "-c", "\(controlBinary) -s \(folder)/c.ctl --json status | python3 -c '\(script)' \(field)"])
            return text.lines.first ?? ""
        }

        private static func killEngine(_ laptop: Laptop, _ signal: Int32 = SIGKILL) async throws {
            let before = try await status(laptop, "engine")
            guard let process = Int32(before) else { throw LabError("no engine: \(before)") }
            try await laptop.host.must(["kill", "-\(signal)", "\(process)"])
            try await eventually("there is another engine") {
                let now = try await status(laptop, "engine")
                return !now.isEmpty && now != before
            }
        }

        @Test("killed ten times: configuration, forwards and process id stay, and both directions work again")
        func killed() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await Self.attach(laptop)
                let state = try await laptop.guest.networkState()
                for round in 1...10 {
                    // An engine that has served for half a second is not counted when it is killed.
                    try await laptop.host.must(["sleep", "0.6"])
                    try await Self.killEngine(laptop)
                    #expect(try await laptop.guest.networkState() == state, "round \(round)")
                    #expect(try await Self.fetch(laptop.server, "http://192.0.2.10:18081/") == "200", "round \(round)")
                    let answer = try await laptop.guest.python("client.py", "upload", "203.0.113.1", "1000", "\(round)")
                    #expect(answer.hasPrefix("ok"), "round \(round): \(answer)")
                }
                #expect(try await Self.status(laptop, "restarts") == "10")
                #expect(try await Self.status(laptop, "pid") == "\(program.processID)")
                let log = try await laptop.host.must(["cat", "\(Self.folder)/log"])
                #expect(log.contains("the engine was ended by signal 9 (Killed): started anew (restart 10)"), "\(log)")
                try await laptop.host.must(["kill", "\(program.processID)"])
                try await eventually("the files are gone") {
                    try await laptop.host.must(["ls", Self.folder]) == "log\n"
                }
            }
        }

        @Test("the record of flows goes on in the same descriptor, and added rules on what may leave stay")
        func egress() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let (log, learned, output) = (lab.newPath("log"), lab.newPath("learned"), lab.newPath("output"))
                let socket = lab.newPath("c")
                let connects =
                    "import socket, sys; socket.create_connection(('203.0.113.1', int(sys.argv[1])), 3).close()"
                // The descriptor has the number that engines have their channel at.
                let script = """
                    exec "$0" --config-net --persist -c \(socket) --flow-log fd:3 --learn \(learned) -- sh -c '
                        python3 -c "$0" 7009 && echo first; while ! [ -e \(output).killed ]; do sleep 0.05; done
                        python3 -c "$0" 7009 2>/dev/null || echo denied
                        python3 -c "$0" 7001 && echo third' "$1" 3>\(log)
                    """
                let running = try await laptop.host.start(["sh", "-c", script, binary, connects], tested: true)
                try await running.wrote("first")
                func ask(_ words: String...) async throws -> String {
                    try await laptop.host.must([controlBinary, "-s", socket + ".ctl"] + words)
                }
                _ = try await ask("policy", "deny", "tcp:203.0.113.1:7009")
                let engine = "import json, sys; print(json.load(sys.stdin)['engine'])"
                let kill = "kill -9 $(\(controlBinary) -s \(socket).ctl --json status | python3 -c \"\(engine)\")"
                try await laptop.host.must(["sh", "-c", kill])
                try await eventually("there is another engine") {
                    try await laptop.host.run([controlBinary, "-s", socket + ".ctl", "status"]).output
                        .contains("1 restart")
                }
                #expect(try await ask("policy", "list").contains("deny tcp:203.0.113.1:7009  (tapasctl, "))
                try await laptop.host.must(["touch", output + ".killed"])
                let end = try await running.end(within: .seconds(10))
                #expect(end.output == "first\ndenied\nthird\n", "\(end)")
                let lines = contents(of: log)
                for words in [
                    #""event":"open","verdict":"allow","rule":"default","protocol":"tcp""#,
                    #""event":"deny","verdict":"deny","rule":"deny tcp:203.0.113.1:7009""#, #""remote_port":7001"#,
                ] { #expect(lines.contains(words), "\(lines)") }
                #expect(contents(of: learned).contains("allow tcp:203.0.113.1:7009\n"))
            }
        }

        @Test("connections of the lost engine are reset at once; rules changed at run time stay")
        func flowsAndRules() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                _ = try await Self.attach(laptop)
                let serving = """
                    import socket, time
                    s = socket.create_server(("0.0.0.0", 7777)); print("up", flush=True)
                    c, _ = s.accept(); time.sleep(100)
                    """
                try await laptop.server.start(["python3", "-c", serving]).wrote("up")
                let waiting = """
                    import socket
                    c = socket.create_connection(("203.0.113.1", 7777)); print("connected", flush=True)
                    try: print(c.recv(1))
                    except ConnectionResetError: print("reset")
                    """
                let client = try await laptop.guest.start(["python3", "-c", waiting])
                try await client.wrote("connected")
                try await laptop.host.must(
                    [controlBinary, "-s", "\(Self.folder)/c.ctl", "forward", "add", "-t", "18082:8080"])
                try await Self.killEngine(laptop)
                let end = try await client.end(within: .seconds(2))
                #expect(end.output.hasSuffix("reset\n"), "\(end)")
                #expect(try await Self.fetch(laptop.server, "http://192.0.2.10:18082/") == "200")
            }
        }

        @Test("an upgrade refuses no connection, and is told")
        func upgrade() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                _ = try await Self.attach(laptop)
                let connecting = """
                    import socket, time
                    end = time.time() + 2; refused = made = 0; print("begins", flush=True)
                    while time.time() < end:
                        try: socket.create_connection(("192.0.2.10", 18081), 2).close(); made += 1
                        except ConnectionRefusedError: refused += 1
                        except OSError: pass
                        time.sleep(0.002)
                    print("refused", refused, "made", made > 100)
                    """
                let client = try await laptop.server.start(["python3", "-c", connecting])
                try await client.wrote("begins")
                let before = try await Self.status(laptop, "engine")
                let text = try await laptop.host.must([controlBinary, "-s", "\(Self.folder)/c.ctl", "upgrade"])
                #expect(text.contains(" -> "), "\(text)")
                #expect(try await Self.status(laptop, "engine") != before)
                let end = try await client.end(within: .seconds(10))
                #expect(end.output.hasSuffix("refused 0 made True\n"), "\(end)")
            }
        }

        @Test("an engine that crashes at once again and again is given up with one line, and the command ends")
        func givenUp() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.startTapas(
                    ["--config-net", "--persist"], ["sh", "-c", "echo up; exec sleep 100"])
                try await program.wrote("up")
                let killing = """
                    while [ -d /proc/$0 ]; do
                        for p in $(pgrep -P $0 -x tapas) $(pgrep -P $0 -x tapas-namespace); do kill -SEGV $p; done
                        sleep 0.02
                    done
                    """
                _ = try await laptop.host.run(["sh", "-c", killing, "\(program.processID)"])
                let end = try await program.end(within: .seconds(20))
                #expect(end.status == 1, "\(end)")
                let last = end.errorLines.last ?? ""
                #expect(
                    last.hasSuffix(
                        "and was started anew 5 times within a minute: tapas ends, and the command with it"), "\(end)")
            }
        }

        @Test("the command's end and status, and its signals, are as without the option")
        func command() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let seven = try await laptop.host.tapas(["--config-net", "--persist"], ["sh", "-c", "exit 7"])
                #expect(seven.status == 7, "\(seven)")
                let program = try await laptop.host.startTapas(
                    ["--persist"], ["sh", "-c", "trap 'echo got; exit 3' USR1; echo up; while :; do sleep 0.1; done"])
                try await program.wrote("up")
                program.send(SIGUSR1)
                let end = try await program.end(within: .seconds(5))
                #expect(end.status == 3 && end.output == "up\ngot\n", "\(end)")
            }
        }
    }
}
