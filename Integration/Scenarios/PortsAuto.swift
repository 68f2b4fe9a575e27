// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Ports that are forwarded while somebody listens on the other side.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("auto forwards", .timeLimit(.minutes(5))) struct PortsAuto {
        /// Ports that are listened on in a host, each once.
        static func listening(_ kind: String, in host: Host) async throws -> [Int] {
            let lines = try await host.must(["ss", "-H", "-n", "-l", kind == "tcp" ? "-t" : "-u"])
            let ports = lines.split(separator: "\n").compactMap { line in
                line.split(whereSeparator: \.isWhitespace).dropFirst(3).first?.split(separator: ":").last
            }
            return Set(ports.compactMap { Int($0) }).sorted()
        }

        @Test("a port that is there at start is forwarded at start", arguments: ["tcp", "udp"])
        func aPortThatIsThereAtStart(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8081"])
                try await laptop.host.attach(laptop.guest)
                #expect(try await Self.listening("tcp", in: laptop.host) == [8080])
                // A port number of TCP is forwarded for UDP, too.
                #expect(try await Self.listening("udp", in: laptop.host) == [8080, 8081])
                let port = kind == "tcp" ? 8080 : 8081
                #expect(try await laptop.server.asks(kind, Laptop.own[0], port)?.last == "\(port)")
            }
        }

        @Test("one that comes is forwarded within a second, one that goes is released")
        func onesThatComeAndGo() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest)
                for _ in 0..<3 {
                    let server = try await laptop.guest.answer(tcp: ["127.0.0.1/8080"], udp: ["::1/9090"])
                    let opening = try await eventually("both are listened on", within: .milliseconds(1500)) {
                        let tcp = try await Self.listening("tcp", in: laptop.host)
                        return try await Self.listening("udp", in: laptop.host) == [8080, 9090] && tcp == [8080]
                    }
                    server.sendToGroup(9)
                    let closing = try await eventually("neither is listened on", within: .milliseconds(1500)) {
                        let tcp = try await Self.listening("tcp", in: laptop.host)
                        return try await Self.listening("udp", in: laptop.host).isEmpty && tcp.isEmpty
                    }
                    print("measured: auto port opened after \(opening), released after \(closing)")
                }
            }
        }

        @Test("a connection outlives the server's listening socket")
        func aConnectionOutlivesTheListeningSocket() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest)
                let script = """
                    import socket
                    listener = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
                    socks = [listener.accept()[0] for _ in range(2)]
                    listener.close()
                    for sock in socks:
                        while data := sock.recv(100): sock.sendall(data)
                    """
                _ = try await laptop.guest.start(["python3", "-c", script])
                try await eventually("8080 is forwarded") { try await Self.listening("tcp", in: laptop.host) == [8080] }
                let go = lab.newPath("go")
                let client = """
                    import os, socket, sys, time
                    sock = socket.create_connection((sys.argv[1], 8080), timeout=10)
                    print("connected", flush=True)
                    while not os.path.exists("\(go)"): time.sleep(0.01)
                    sock.sendall(b"still there")
                    print(sock.recv(100).decode(), flush=True)
                    """
                // The server serves one after the other: in the order of its accepting.
                let far = try await laptop.server.start(["python3", "-c", client, Laptop.own[0]])
                try await far.wrote("connected")
                let near = try await laptop.host.start(["python3", "-c", client, "127.0.0.1"])
                try await near.wrote("connected")
                try await eventually("8080 is released") { try await Self.listening("tcp", in: laptop.host).isEmpty }
                try await laptop.host.must(["touch", go])
                try await far.wrote("still there")
                try await near.wrote("still there")
            }
        }

        @Test("the host's ports appear on the namespace's loopback, those of the namespace do not come back")
        func bothDirections() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let server = try await laptop.host.answer(tcp: ["127.0.0.1/8080"], udp: ["127.0.0.1/9090"])
                try await laptop.host.attach(laptop.guest)
                #expect(try await Self.listening("tcp", in: laptop.guest) == [8080])
                #expect(try await Self.listening("udp", in: laptop.guest) == [8080, 9090])
                #expect(try await laptop.guest.asks("tcp", "127.0.0.1", 8080)?.last == "8080")
                #expect(try await laptop.guest.asks("udp", "127.0.0.1", 9090)?.last == "9090")
                let other = try await laptop.guest.answer(tcp: ["0.0.0.0/7070"])
                try await eventually("7070 is forwarded") {
                    try await Self.listening("tcp", in: laptop.host) == [7070, 8080]
                }
                // Neither sees the other's listening sockets as something to forward.
                try await throughout(.seconds(3), "each side has its own") {
                    let host = try await Self.listening("tcp", in: laptop.host)
                    let guest = try await Self.listening("tcp", in: laptop.guest)
                    return host == [7070, 8080] && guest == [7070, 8080]
                }
                server.sendToGroup(9)
                other.sendToGroup(9)
                try await eventually("nothing is forwarded") {
                    let host = try await Self.listening("tcp", in: laptop.host)
                    return try await Self.listening("tcp", in: laptop.guest).isEmpty && host.isEmpty
                }
            }
        }

        @Test("a service on the namespace's loopback is reached with --host-lo-to-ns-lo")
        func aServiceOnLoopback() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(
                    laptop.guest,
                    ["--config-net", "--tcp-ports=auto", "--udp-ports=auto", "--host-lo-to-ns-lo"])
                try await laptop.guest.answer(tcp: ["127.0.0.1/8080"], udp: ["127.0.0.1/8080"])
                for kind in ["tcp", "udp"] {
                    try await eventually("the port is forwarded", within: .milliseconds(1500)) {
                        try await Self.listening(kind, in: laptop.host) == [8080]
                    }
                    #expect(try await laptop.host.asks(kind, "127.0.0.1", 8080)?.last == "8080")
                }
            }
        }

        @Test("both directions for a wrapped command, whoever runs it", arguments: User.allCases)
        func aWrappedCommand(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                // Python's web server looks for its own name, and this name server refuses at once.
                try await laptop.host.resolver("nameserver \(Laptop.near[0])")
                try await laptop.host.answer(tcp: ["127.0.0.1/9090"])
                let go = lab.newPath("go")
                let script = """
                    python3 \(helperProgram("client.py")) who tcp 127.0.0.1 9090
                    python3 -u -m http.server 8080 & until [ -e \(go) ]; do sleep 0.01; done; kill $!
                    """
                let tapas = try await laptop.host.startTapas(["--config-net"], ["sh", "-c", script], as: user)
                try await tapas.wrote("127.0.0.1 9090")
                try await eventually("8080 is forwarded") {
                    try await Self.listening("tcp", in: laptop.host) == [8080, 9090]
                }
                try await laptop.server.must([
                    "curl", "-sS", "--max-time", "10", "-o", "/dev/null", "http://\(Laptop.own[0]):8080/",
                ])
                try await laptop.host.must(["touch", go])
                #expect(try await tapas.end().termination == .exited(0))
                #expect(try await Self.listening("tcp", in: laptop.host) == [9090])
            }
        }

        @Test("a range with auto is forwarded as far as somebody listens; ephemeral ports are left alone")
        func aRangeWithAuto() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.guest.answer(tcp: ["::/8005", "::/8020", "::/45000"])
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8000-8010,auto", "-u", "none"])
                #expect(try await Self.listening("tcp", in: laptop.host) == [8005])
                #expect(try await Self.listening("udp", in: laptop.host) == [])
            }
        }

        @Test("auto on one address")
        func autoOnOneAddress() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.guest.answer(tcp: ["::/8080", "::/45000"])
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "::1/auto", "-u", "none"])
                #expect(try await Self.listening("tcp", in: laptop.host) == [8080])
                #expect(try await laptop.host.asks("tcp", "::1", 8080) != nil)
                #expect(try await laptop.host.asks("tcp", "127.0.0.1", 8080) == nil)
            }
        }

        @Test("a port that is taken is skipped, said once in one line, and forwarded when it is free")
        func aPortThatIsTaken() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let taken = try await laptop.host.answer(tcp: ["0.0.0.0/8080", "0.0.0.0/8081"])
                try await laptop.guest.answer(tcp: ["::/8080", "::/8081", "::/8090"])
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-T", "none", "-U", "none", "-u", "none"])
                #expect(try await Self.listening("tcp", in: laptop.host) == [8080, 8081, 8090])
                let lines = tapas.errors.split(separator: "\n").filter { $0.contains("not forwarded") }
                #expect(lines.count == 1, "\(tapas.errors)")
                #expect(lines.first?.contains("TCP 8080-8081 (Address already in use") == true, "\(tapas.errors)")
                taken.sendToGroup(9)
                try await eventually("8080 leads to the namespace", within: .seconds(12)) {
                    try await laptop.server.asks("tcp", Laptop.own[0], 8080) != nil
                }
            }
        }
    }
}
