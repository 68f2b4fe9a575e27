// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Broadcasts and groups: they concern the link, not the programs of the host.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("broadcasts and groups", .timeLimit(.minutes(2))) struct Groups {
        private static let port = "7400"

        /// The beginning of a program that receives on one port of every address, of both families.
        private static let everyAddress = """
            import selectors, socket
            chosen = selectors.DefaultSelector()
            for family, any in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
                sock = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((any, \(port)))
                chosen.register(sock, selectors.EVENT_READ)
            print("ready", flush=True)
            """

        /// Receives on one port of every address, of both families, and says what has come and from which family.
        private static let listener = """
            \(everyAddress)
            while True:
                for key, _ in chosen.select():
                    print(key.fileobj.recv(100).decode(), flush=True)
            """

        /// Sends a datagram that names its destination to each destination given.
        private static let sender = """
            import socket, sys
            index = socket.if_nametoindex(sys.argv[1]) if sys.argv[1] else 0
            for target in sys.argv[2:]:
                family = socket.AF_INET6 if ":" in target else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                try:
                    where = (target, \(port), 0, index) if ":" in target else (target, \(port))
                    sock.sendto(target.encode(), where)
                except OSError as error:
                    print(target, error)
            """

        @Test(
            "they reach no socket of the host, and groups reach the neighbours",
            arguments: [[], ["--no-map-gw"], ["--map-guest-addr", "192.0.2.77"]])
        func hostSeesNothing(options: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let host = try await laptop.host.start(["python3", "-c", Self.listener])
                let neighbour = try await laptop.server.start(["python3", "-c", Self.listener])
                try await host.wrote("ready")
                try await neighbour.wrote("ready")
                try await laptop.host.attach(laptop.guest, ["--config-net"] + options)

                let said = try await laptop.guest.must(
                    [
                        "python3", "-c", Self.sender, "eth0", "255.255.255.255", "192.0.2.255", "224.0.0.1", "ff02::1",
                    ])
                #expect(said == "")
                // The guest's kernel keeps this one for itself: straight onto the link.
                try await laptop.guest.python(
                    "raw.py", "datagram6", "eth0", Laptop.own[1], "ff01::1", Self.port, "ff01::1")
                try await laptop.guest.must(
                    ["python3", "-c", Self.sender, "eth0", Laptop.beyond[0], Laptop.beyond[1]])

                // What the neighbour has got was sent last, so that everything before has been dealt with.
                try await neighbour.wrote(Laptop.beyond[0])
                try await neighbour.wrote(Laptop.beyond[1])
                #expect(Set(Self.lines(neighbour)) == Set(["224.0.0.1", "ff02::1"] + Laptop.beyond))
                // The sockets do receive: what the host sends itself comes right behind.
                try await laptop.host.must(["python3", "-c", Self.sender, "", "127.0.0.1", "::1"])
                try await host.wrote("127.0.0.1")
                try await host.wrote("::1")
                #expect(Self.lines(host).sorted() == ["127.0.0.1", "::1"])
            }
        }

        /// Answers each datagram that comes to a group twice, from addresses and a port of its own.
        private static let responder = """
            \(everyAddress)
            while True:
                for key, _ in chosen.select():
                    text, client = key.fileobj.recvfrom(100)
                    for number in 1, 2:
                        answer = socket.socket(key.fileobj.family, socket.SOCK_DGRAM)
                        answer.sendto(b"%d" % number, client)
            """

        /// Asks groups, and says from which addresses the two answers to each have come.
        private static let asker = """
            import socket, sys
            index = socket.if_nametoindex(sys.argv[1])
            for target in sys.argv[2:]:
                family = socket.AF_INET6 if ":" in target else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_DGRAM)
                sock.settimeout(10)
                sock.sendto(b"who?", (target, \(port), 0, index) if ":" in target else (target, \(port)))
                heard = [sock.recvfrom(100) for _ in range(2)]
                ports = {sender[1] for _, sender in heard}
                print(sorted(text.decode() for text, _ in heard), *{sender[0] for _, sender in heard},
                      len(ports), \(port) in ports)
            """

        @Test("every answer to a datagram to a group is delivered, from any address and port")
        func answersAreHeard() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let neighbour = try await laptop.server.start(["python3", "-c", Self.responder])
                try await neighbour.wrote("ready")
                try await laptop.host.attach(laptop.guest, ["--config-net"])
                let heard = try await laptop.guest.must(
                    ["python3", "-c", Self.asker, "eth0", "224.0.0.1", "ff02::1"])
                let lines = heard.split(separator: "\n")
                #expect(lines.count == 2)
                #expect(lines.first == "['1', '2'] \(Laptop.near[0]) 2 False")
                #expect(
                    lines.last?.hasPrefix("['1', '2'] fe80::") == true && lines.last?.hasSuffix(" 2 False") == true,
                    "\(heard)")
            }
        }

        private static func lines(_ program: Program) -> [String] {
            program.output.split(separator: "\n").map(String.init).filter { $0 != "ready" }
        }
    }
}
