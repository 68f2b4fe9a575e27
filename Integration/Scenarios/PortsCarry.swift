// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A way through a forwarded port: who connects, to which address, and by which path that goes.
struct PortPath: Sendable, CustomTestStringConvertible {
    let name: String
    let options: [String]
    let isLocal: Bool
    let address: String
    var testDescription: String { name }

    static let all: [PortPath] = [
        .init(name: "spliced, IPv4", options: [], isLocal: true, address: "127.0.0.1"),
        .init(name: "spliced, IPv6", options: [], isLocal: true, address: "::1"),
        .init(name: "spliced to loopback", options: ["--host-lo-to-ns-lo"], isLocal: true, address: "127.0.0.1"),
        .init(name: "by the tap from the host", options: ["--no-splice"], isLocal: true, address: "127.0.0.1"),
        .init(name: "by the tap, IPv4", options: [], isLocal: false, address: Laptop.own[0]),
        .init(name: "by the tap, IPv6", options: [], isLocal: false, address: Laptop.own[1]),
    ]
}

extension Host {
    /// Connects to port 7020, exchanges a few bytes, resets, and sees to it that the server there sees a reset.
    func resets(_ address: String, at other: Host) async throws {
        let server = """
            import socket
            listener = socket.create_server(("::", 7020), family=socket.AF_INET6, dualstack_ipv6=True)
            print("ready", flush=True)
            sock, _ = listener.accept()
            sock.sendall(sock.recv(100))
            try: print("the client's end:", sock.recv(100), flush=True)
            except ConnectionResetError: print("the client's reset", flush=True)
            """
        let program = try await other.start(["python3", "-c", server])
        try await program.wrote("ready")
        let client = """
            import socket, struct
            sock = socket.create_connection(("\(address)", 7020), timeout=5)
            sock.sendall(b"hello")
            print(sock.recv(100))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            """
        try await must(["python3", "-c", client])
        try await program.wrote("the client's reset")
    }
}

extension Scenarios {
    /// What forwarded ports carry.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///     servers here                      clients here, and in host
    @Suite("forwarded ports carry", .timeLimit(.minutes(5))) struct PortsCarry {
        static let ports = "7001-7010,8080"

        /// A laptop with the lab's servers in the guest, and who connects to them.
        static func connected(_ path: PortPath, in lab: Lab, _ options: [String] = []) async throws -> Host {
            let laptop = try await Laptop(in: lab, serving: false)
            try await laptop.host.attach(
                laptop.guest, ["--config-net", "-t", ports, "-u", ports] + path.options + options)
            try await laptop.guest.startPython("serve.py")
            return path.isLocal ? laptop.host : laptop.server
        }

        @Test("64 MiB to the namespace, from it, and both at once", arguments: PortPath.all)
        func bulkBothWays(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                for (number, direction) in ["upload", "download", "both"].enumerated() {
                    let size = direction == "both" ? "\(16 << 20)" : "\(64 << 20)"
                    let answer = try await client.python("client.py", direction, path.address, size, "\(number + 1)")
                    #expect(answer.hasPrefix("ok \(size)"))
                }
            }
        }

        @Test("every kind of ending, from either side", arguments: PortPath.all)
        func everyKindOfEnding(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                for size in ["0", "1", "65537", "3000000"] {
                    try await client.python("client.py", "upload", path.address, size, "5")
                    try await client.python("client.py", "download", path.address, size, "6")
                    try await client.python("client.py", "after-their-end", path.address, size, "7", "token-\(size)")
                }
                #expect(try await client.python("client.py", "end", path.address, "close", "a") == "end of file")
                #expect(try await client.python("client.py", "be-reset", path.address) == "reset")
            }
        }

        @Test("a client's reset reaches the server", arguments: PortPath.all)
        func aClientsReset(path: PortPath) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "7020"] + path.options)
                let client = path.isLocal ? laptop.host : laptop.server
                try await client.resets(path.address, at: laptop.guest)
            }
        }

        @Test("1,000 connections at the same time, twice", arguments: PortPath.all)
        func aThousandConnections(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                for _ in 0..<2 {
                    #expect(try await client.python("client.py", "many", path.address, "1000") == "ok 1000")
                }
            }
        }

        @Test("500 short connections, one after the other", arguments: PortPath.all)
        func shortConnections(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                #expect(try await client.python("client.py", "short", path.address, "500") == "ok 500")
            }
        }

        @Test("datagrams of every size, empty ones too", arguments: PortPath.all)
        func datagramsOfEverySize(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                let sizes = ["0", "1", "512", "1400", "8000", "53248", "0", "65000"]
                for size in sizes { try await client.python("client.py", "udp", path.address, size) }
            }
        }

        @Test("50 UDP clients at the same time, each with its own answers", arguments: PortPath.all)
        func severalClientsAtOnce(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                let script = """
                    import socket, sys
                    family = socket.AF_INET6 if ":" in "\(path.address)" else socket.AF_INET
                    clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(50)]
                    for sock in clients:
                        sock.settimeout(5)
                        sock.connect(("\(path.address)", 7001))
                    for turn in range(20):
                        for number, sock in enumerate(clients): sock.send(b"%d %d" % (number, turn))
                        for number, sock in enumerate(clients):
                            answer = sock.recv(100)
                            if answer != b"%d %d" % (number, turn): sys.exit(f"{number} {turn}: {answer!r}")
                    print("ok")
                    """
                #expect(try await client.must(["python3", "-c", script]) == "ok\n")
            }
        }

        /// What a client sends while the socket of another is being bound and connected comes to that socket first.
        @Test("new UDP clients, 50 at the same moment, 50 times: each has its own answer", arguments: PortPath.all)
        func newClientsAtOnce(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab)
                let script = """
                    import socket
                    family = socket.AF_INET6 if ":" in "\(path.address)" else socket.AF_INET
                    lost = wrong = 0
                    for turn in range(50):
                        clients = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(50)]
                        for sock in clients:
                            sock.settimeout(2)
                            sock.connect(("\(path.address)", 7001))
                        for number, sock in enumerate(clients): sock.send(b"%d %d" % (turn, number))
                        for number, sock in enumerate(clients):
                            try: wrong += sock.recv(100) != b"%d %d" % (turn, number)
                            except TimeoutError: lost += 1
                            sock.setblocking(False)
                            try: wrong += len(sock.recv(100)) > 0
                            except BlockingIOError: pass
                            sock.close()
                    print("lost", lost, "wrong", wrong)
                    """
                #expect(try await client.must(["python3", "-c", script]) == "lost 0 wrong 0\n")
            }
        }

        @Test("an answer leaves from the address that the client has used", arguments: ["192.0.2.10", "192.0.2.77"])
        func anAnswerLeavesFromTheAddressUsed(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.ip("address add 192.0.2.77/24 dev eth0")
                try await laptop.host.attach(laptop.guest, ["--config-net", "-u", "7001"])
                try await laptop.guest.startPython("serve.py")
                // A connected socket takes answers from that address only.
                try await laptop.server.python("client.py", "udp", address, "100")
            }
        }

        @Test("a service of one family is reached by the other's loopback where the namespace has one family only")
        func theOtherFamilysLoopback() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.ip("-6 address flush dev eth0")
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080"])
                try await laptop.guest.answer(tcp: ["0.0.0.0/8080"])
                #expect(try await laptop.host.asks("tcp", "::1", 8080)?.first == "192.0.2.10")
            }
        }

        @Test("a port that nobody serves resets its client", arguments: PortPath.all)
        func aPortThatNobodyServes(path: PortPath) async throws {
            try await withLab { lab in
                let client = try await Self.connected(path, in: lab, ["-t", "9999"])
                let script = """
                    import socket
                    try: print(socket.create_connection(("\(path.address)", 9999), timeout=5).recv(10))
                    except ConnectionResetError: print("reset")
                    """
                #expect(try await client.must(["python3", "-c", script]) == "reset\n")
            }
        }
    }
}
