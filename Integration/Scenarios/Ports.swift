// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A client of a forwarded port, and the expected result.
struct PortProbe: Sendable {
    /// The client's host.
    enum From: String, Sendable {
        case host, server
    }
    let from: From
    let address: String
    let port: Int
    /// The port in the namespace that answers; nil if no port may answer.
    let reaches: Int?

    static func host(_ address: String, _ port: Int, _ reaches: Int?) -> PortProbe {
        PortProbe(from: .host, address: address, port: port, reaches: reaches)
    }

    static func server(_ address: String, _ port: Int, _ reaches: Int?) -> PortProbe {
        PortProbe(from: .server, address: address, port: port, reaches: reaches)
    }
}

/// A specification of -t or -u with what it forwards: a row of tapas(1), "Port specifications".
struct PortCase: Sendable, CustomTestStringConvertible {
    let specifications: [String]
    let probes: [PortProbe]
    var families: [String] = []
    var testDescription: String { (specifications + families).joined(separator: " ") }

    init(_ specifications: String..., families: [String] = [], probes: [PortProbe]) {
        self.specifications = specifications
        self.probes = probes
        self.families = families
    }

    /// All clients reach a port, at every address of the host.
    static func everywhere(_ port: Int, _ reaches: Int?) -> [PortProbe] {
        [
            .server(Laptop.own[0], port, reaches), .server(Laptop.own[1], port, reaches),
            .host("127.0.0.1", port, reaches), .host("::1", port, reaches), .host(Laptop.own[0], port, reaches),
        ]
    }

    static let all: [PortCase] = [
        .init("8080", probes: everywhere(8080, 8080) + [.server(Laptop.own[0], 8081, nil)]),
        .init("8080:80", probes: everywhere(8080, 80) + everywhere(80, nil)),
        .init("8080,8081", probes: [.server(Laptop.own[0], 8080, 8080), .host("127.0.0.1", 8081, 8081)]),
        .init("8080", "8081:80", probes: [.server(Laptop.own[0], 8080, 8080), .host("127.0.0.1", 8081, 80)]),
        .init(
            "2000-2010:3000-3010",
            probes: [
                .server(Laptop.own[0], 2000, 3000), .server(Laptop.own[0], 2010, 3010),
                .server(Laptop.own[0], 2011, nil), .host("127.0.0.1", 2005, 3005), .host("::1", 1999, nil),
            ]),
        .init(
            "2000-3000,~2500-2600",
            probes: [
                .server(Laptop.own[0], 2499, 2499), .host("127.0.0.1", 2500, nil), .host("127.0.0.1", 2600, nil),
                .host("127.0.0.1", 2601, 2601),
            ]),
        .init(
            "2000-3000:4000-5000,~2500-2600",
            probes: [
                .server(Laptop.own[0], 2499, 4499), .server(Laptop.own[0], 2550, nil),
                .server(Laptop.own[0], 2601, 4601),
            ]),
        .init("127.0.0.1/8080", probes: loopbackOnly),
        .init("[127.0.0.1]/8080", probes: loopbackOnly),
        .init("::ffff:127.0.0.1/8080", probes: loopbackOnly),
        .init(
            "::1/8080",
            probes: [.host("::1", 8080, 8080), .host("127.0.0.1", 8080, nil), .server(Laptop.own[1], 8080, nil)]),
        .init("[::1]/8080", probes: [.host("::1", 8080, 8080), .host("127.0.0.1", 8080, nil)]),
        .init(
            "192.0.2.10%eth0/8080",
            probes: [
                .server(Laptop.own[0], 8080, 8080), .server(Laptop.own[1], 8080, nil), .host("127.0.0.1", 8080, nil),
            ]),
        .init("%eth0/8080", probes: onTheCable),
        .init("*%eth0/8080", probes: onTheCable),
        .init("*/8080", probes: everywhere(8080, 8080)),
        .init("/8080", probes: everywhere(8080, 8080)),
        .init("0.0.0.0/8080", probes: [.server(Laptop.own[0], 8080, 8080), .server(Laptop.own[1], 8080, nil)]),
        .init("::/8080", probes: [.server(Laptop.own[0], 8080, nil), .server(Laptop.own[1], 8080, 8080)]),
        .init(
            "0.0.0.0/5000:10.7.7.7/6000",
            probes: [.server(Laptop.own[0], 5000, 6000), .host("127.0.0.1", 5000, 6000)]),
        .init("0.0.0.0/5000:10.7.7.7", probes: [.server(Laptop.own[0], 5000, 5000)]),
        .init(
            "::/5000:2001:db8:7::7/6000",
            probes: [.server(Laptop.own[1], 5000, 6000), .host("::1", 5000, 6000)]),
        .init("[::]/5000:[2001:db8:7::7]/6000", probes: [.server(Laptop.own[1], 5000, 6000)]),
        .init(
            "127.0.0.6/all:10.7.7.7,~1-5999,~6010-65535",
            probes: [.host("127.0.0.6", 6000, 6000), .host("127.0.0.1", 6000, nil)]),
        .init("all,~1-60000", probes: [.server(Laptop.own[0], 61000, 61000), .server(Laptop.own[0], 60999, nil)]),
        .init("40000", probes: [.server(Laptop.own[0], 40000, 40000)]),
        .init("65535", probes: [.host("127.0.0.1", 65535, 65535)]),
        .init("80-90,~80-90", probes: [.server(Laptop.own[0], 80, nil)]),
        .init(
            "127.0.0.1/8080", "127.0.0.2/8080:8081",
            probes: [.host("127.0.0.1", 8080, 8080), .host("127.0.0.2", 8080, 8081)]),
        .init(
            "0.0.0.0/8080", "::/8080:8081",
            probes: [.server(Laptop.own[0], 8080, 8080), .server(Laptop.own[1], 8080, 8081)]),
        // The forms that Podman gives.
        .init("5000-5000:80-80", probes: everywhere(5000, 80)),
        .init("5000-5002:80-82", probes: [.server(Laptop.own[0], 5002, 82), .host("127.0.0.1", 5001, 81)]),
        .init("::1/5000-5000:80-80", probes: [.host("::1", 5000, 80), .host("127.0.0.1", 5000, nil)]),
        .init("2001:db8:1::10/5000-5000:80-80", probes: [.server(Laptop.own[1], 5000, 80), .host("::1", 5000, nil)]),
        .init("192.0.2.10%eth0/5000-5000:80-80", probes: [.server(Laptop.own[0], 5000, 80)]),
        .init(
            "8080", families: ["-4"],
            probes: [.server(Laptop.own[0], 8080, 8080), .server(Laptop.own[1], 8080, nil)]),
        .init(
            "8080", families: ["-6"],
            probes: [.server(Laptop.own[0], 8080, nil), .server(Laptop.own[1], 8080, 8080)]),
    ]

    private static let loopbackOnly: [PortProbe] = [
        .host("127.0.0.1", 8080, 8080), .host("127.0.0.2", 8080, nil), .host("::1", 8080, nil),
        .server(Laptop.own[0], 8080, nil),
    ]
    private static let onTheCable: [PortProbe] = [
        .server(Laptop.own[0], 8080, 8080), .server(Laptop.own[1], 8080, 8080), .host("127.0.0.1", 8080, nil),
    ]
}

extension Host {
    /// Starts a program that listens on TCP and UDP ports and answers "PEER PORT OWN-ADDRESS OWN-PORT".
    @discardableResult
    func answer(tcp: [String] = [], udp: [String] = []) async throws -> Program {
        let script = """
            import selectors, socket, struct, sys
            select = selectors.DefaultSelector()
            def plain(address): return address[0].removeprefix("::ffff:")
            for kind, place in (argument.split(",") for argument in sys.argv[1:]):
                address, port = place.rsplit("/", 1)
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                if kind == "tcp": sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, int(port)))
                if kind == "tcp": sock.listen(1000)
                select.register(sock, selectors.EVENT_READ, (kind, port))
            print("ready", flush=True)
            while True:
                for key, _ in select.select():
                    kind, port = key.data
                    if kind == "tcp":
                        sock, peer = key.fileobj.accept()
                        own = sock.getsockname()
                        sock.sendall(f"{plain(peer)} {peer[1]} {plain(own)} {own[1]}\\n".encode())
                        sock.close()
                    else:
                        data, asked, _, peer = key.fileobj.recvmsg(65535, 256)
                        asked = [(a, b, c[:16] + bytes(4)) for a, b, c in asked]
                        # An answer to link-local needs the interface.
                        scope = [(a, b, c[:16] + struct.pack("I", peer[3])) for a, b, c in asked] if peer[3:] and peer[3] else asked
                        key.fileobj.sendmsg([f"{plain(peer)} {peer[1]} {port} {port}".encode()], scope, 0, peer)
            """
        let arguments = tcp.map { "tcp,\($0)" } + udp.map { "udp,\($0)" }
        let program = try await start(["python3", "-c", script] + arguments)
        try await program.wrote("ready")
        return program
    }

    /// What the answerer on a port says; nil if nobody answers.
    func asks(_ kind: String, _ address: String, _ port: Int) async throws -> [String]? {
        let outcome = try await run(["python3", helperProgram("client.py"), "who", kind, address, "\(port)"])
        guard outcome.status == 0 else { return nil }
        let words = outcome.output.split(whereSeparator: \.isWhitespace).map(String.init)
        return words.isEmpty ? nil : words
    }

    /// Whether nobody answers on a port, within a short time.
    func isDeaf(_ kind: String, _ address: String, _ port: Int) async throws -> Bool {
        let outcome = try await run([
            "python3", helperProgram("client.py"), "outcome", kind, address, "\(port)", "0.3",
        ])
        return !outcome.output.hasPrefix("connected") && !outcome.output.hasPrefix("answered")
    }
}

extension Scenarios {
    /// Forwarded ports.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///     servers here                      clients here, and in host
    @Suite("forwarded ports", .timeLimit(.minutes(5))) struct Ports {
        @Test("every form of a specification", arguments: PortCase.all, ["tcp", "udp"])
        func everyFormOfASpecification(ports: PortCase, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.guest.ip(
                    """
                    address add 10.7.7.7/32 dev lo
                    address add 2001:db8:7::7/128 dev lo nodad
                    """)
                let option = kind == "tcp" ? "-t" : "-u"
                let options = ports.specifications.flatMap { [option, $0] } + ports.families
                try await laptop.host.attach(laptop.guest, ["--config-net"] + options)
                let places = Set(ports.probes.compactMap(\.reaches)).sorted().map { "::/\($0)" }
                try await laptop.guest.answer(tcp: kind == "tcp" ? places : [], udp: kind == "udp" ? places : [])
                for probe in ports.probes {
                    let client = probe.from == .host ? laptop.host : laptop.server
                    if let reaches = probe.reaches {
                        let answer = try await client.asks(kind, probe.address, probe.port)
                        #expect(answer?.last == "\(reaches)", "\(probe): \(answer ?? [])")
                    } else {
                        #expect(try await client.isDeaf(kind, probe.address, probe.port), "\(probe)")
                    }
                }
            }
        }

        /// The client's address as the namespace sees it, and its own: tapas(1), "Addresses".
        static let sources: [(options: [String], address: String, seen: [String])] = [
            ([], "127.0.0.1", ["192.0.2.10", "192.0.2.10"]),
            ([], "127.0.0.5", ["192.0.2.10", "192.0.2.10"]),
            ([], "::1", ["2001:db8:1::10", "2001:db8:1::10"]),
            ([], "192.0.2.10", ["192.0.2.1", "192.0.2.10"]),
            (["--no-splice"], "127.0.0.1", ["192.0.2.1", "192.0.2.10"]),
            (["--no-splice"], "127.0.0.5", ["192.0.2.1", "192.0.2.10"]),
            (["--no-splice"], "::1", ["2001:db8:1::1", "2001:db8:1::10"]),
            (["--no-splice", "--map-host-loopback", "10.9.9.9"], "127.0.0.1", ["10.9.9.9", "192.0.2.10"]),
            (["--map-guest-addr", "169.254.1.2"], "192.0.2.10", ["169.254.1.2", "192.0.2.10"]),
            (["--host-lo-to-ns-lo"], "127.0.0.1", ["127.0.0.1", "127.0.0.1"]),
            (["--host-lo-to-ns-lo"], "127.0.0.5", ["127.0.0.1", "127.0.0.5"]),
            (["--host-lo-to-ns-lo"], "::1", ["::1", "::1"]),
            (["--host-lo-to-ns-lo"], "192.0.2.10", ["192.0.2.1", "192.0.2.10"]),
        ]

        @Test("a client on the host is seen as the rules say", arguments: sources)
        func aClientOnTheHost(options: [String], address: String, seen: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080", "-u", "8080"] + options)
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                let answer = try #require(try await laptop.host.asks("tcp", address, 8080))
                #expect([answer[0], answer[2]] == seen)
                #expect(try await laptop.host.asks("udp", address, 8080)?.first == seen[0])
            }
        }

        @Test("a client elsewhere keeps its address and port", arguments: [0, 1], ["tcp", "udp"])
        func aClientElsewhereKeepsItsAddressAndPort(family: Int, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080:80", "-u", "8080:80"])
                try await laptop.guest.answer(tcp: ["::/80"], udp: ["::/80"])
                let type = kind == "tcp" ? "SOCK_STREAM" : "SOCK_DGRAM"
                let client = """
                    import socket
                    sock = socket.socket(socket.\(family == 0 ? "AF_INET" : "AF_INET6"), socket.\(type))
                    sock.settimeout(5)
                    sock.bind(("\(Laptop.near[family])", 4567))
                    sock.connect(("\(Laptop.own[family])", 8080))
                    if "\(kind)" == "udp": sock.send(b"hello")
                    print(sock.recv(200).decode())
                    """
                let answer = try await laptop.server.must(["python3", "-c", client])
                #expect(answer.hasPrefix("\(Laptop.near[family]) 4567 "), "\(answer)")
            }
        }

        @Test("a web server in a wrapped command logs the address of who asks", arguments: [0, 1], User.allCases)
        func aWebServer(family: Int, user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                // Python's web server looks for its own name, and this name server refuses at once.
                try await laptop.host.resolver("nameserver \(Laptop.near[0])")
                let tapas = try await laptop.host.startTapas(
                    ["--config-net", "-t", "8080:80"],
                    ["python3", "-u", "-m", "http.server", "--bind", "::", "80"], as: user)
                try await tapas.wrote("Serving HTTP")
                let address = family == 0 ? Laptop.own[0] : "[\(Laptop.own[1])]"
                try await laptop.server.must([
                    "curl", "-sS", "--max-time", "10", "-o", "/dev/null", "http://\(address):8080/",
                ])
                try await eventually("the log names the client") {
                    tapas.errors.contains("\(Laptop.near[family]) - - ")
                        && tapas.errors.contains("\"GET / HTTP/1.1\" 200")
                }
            }
        }

        @Test("a link-local client reaches the namespace's link-local address", arguments: ["tcp", "udp"])
        func aLinkLocalClient(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080", "-u", "8080"])
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                let own = try await Self.linkLocal(of: laptop.host)
                let client = try await Self.linkLocal(of: laptop.server)
                let script = """
                    import socket
                    for family, kind, _, _, place in socket.getaddrinfo("\(own)%eth0", 8080, 0, socket.\(
                        kind == "tcp" ? "SOCK_STREAM" : "SOCK_DGRAM")):
                        sock = socket.socket(family, kind)
                        sock.settimeout(1)
                        sock.connect(place)
                        if kind == socket.SOCK_DGRAM: sock.send(b"hello")
                        print(sock.recv(200).decode())
                    """
                try await eventually("the namespace has spoken from its link-local address") {
                    try await laptop.server.run(["python3", "-c", script]).output.hasPrefix(client)
                }
            }
        }

        private static func linkLocal(of host: Host) async throws -> String {
            var address = ""
            try await eventually("\(host.name) has a link-local address") {
                let words = try await host.must(["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"])
                    .split(whereSeparator: \.isWhitespace)
                guard let position = words.firstIndex(of: "inet6"), position + 1 < words.count else { return false }
                address = String(words[position + 1].split(separator: "/")[0])
                return true
            }
            return address
        }
    }
}
