// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// -T and -U: ports of the namespace's loopback that lead to the host's.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///     clients here   servers here
    @Suite("forwarded ports of the namespace", .timeLimit(.minutes(5))) struct PortsOutbound {
        static let addresses = ["127.0.0.1", "::1", "127.0.0.9"]

        @Test("lead to the same loopback address of the host", arguments: addresses, ["tcp", "udp"])
        func leadToTheSameLoopbackAddress(address: String, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(tcp: ["\(address)/80"], udp: ["\(address)/80"])
                try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-t", "none", "-u", "none", "-T", "8080:80", "-U", "8080:80"])
                let answer = try await laptop.guest.asks(kind, address, 8080)
                #expect(answer?.last == "80")
                #expect(answer?.first == (address.contains(":") ? "::1" : "127.0.0.1"))
            }
        }

        @Test("UDP keeps the client's port")
        func udpKeepsTheClientsPort() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(udp: ["127.0.0.1/80"])
                try await laptop.host.attach(laptop.guest, ["--config-net", "-U", "80"])
                let script = """
                    import socket
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    sock.settimeout(5)
                    sock.bind(("127.0.0.1", 4567))
                    sock.connect(("127.0.0.1", 80))
                    sock.send(b"hello")
                    print(sock.recv(100).decode())
                    """
                #expect(try await laptop.guest.must(["python3", "-c", script]).hasPrefix("127.0.0.1 4567 "))
            }
        }

        @Test("carry 64 MiB both ways, and every kind of ending", arguments: ["127.0.0.1", "::1"])
        func carryEverything(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.startPython("serve.py")
                try await laptop.host.attach(laptop.guest, ["--config-net", "-T", "7001-7010,7020", "-U", "7001"])
                for (number, direction) in ["upload", "download", "both"].enumerated() {
                    try await laptop.guest.python("client.py", direction, address, "\(64 << 20)", "\(number)")
                }
                try await laptop.guest.python("client.py", "after-their-end", address, "300000", "3", "token")
                try await laptop.guest.resets(address, at: laptop.host)
                #expect(try await laptop.guest.python("client.py", "be-reset", address) == "reset")
                #expect(try await laptop.guest.python("client.py", "many", address, "1000") == "ok 1000")
                for size in ["0", "1", "1400", "53248"] {
                    try await laptop.guest.python("client.py", "udp", address, size)
                }
            }
        }

        @Test("are not on the namespace's own addresses")
        func areNotOnTheNamespacesOwnAddresses() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(tcp: ["::/80"], udp: ["::/80"])
                try await laptop.host.attach(
                    laptop.guest, ["--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "80", "-U", "80"])
                for address in Laptop.own {
                    #expect(try await laptop.guest.asks("tcp", address, 80) == nil)
                    #expect(try await laptop.guest.isDeaf("udp", address, 80))
                }
                #expect(try await laptop.guest.asks("tcp", "127.0.0.1", 80) != nil)
            }
        }

        @Test("without them the host's loopback cannot be reached", arguments: ["127.0.0.1", "::1"])
        func withoutThem(address: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(tcp: ["::/80"], udp: ["::/80"])
                try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-t", "none", "-u", "none", "-T", "none", "-U", "none"])
                #expect(try await laptop.guest.asks("tcp", address, 80) == nil)
                #expect(try await laptop.guest.isDeaf("udp", address, 80))
            }
        }

        @Test("--splice-only: both directions, and no interface but lo")
        func spliceOnly() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.answer(tcp: ["127.0.0.1/80"], udp: ["127.0.0.1/80"])
                try await laptop.host.attach(
                    laptop.guest, ["--splice-only", "-t", "8080", "-u", "8080", "-T", "80", "-U", "80"])
                try await laptop.guest.answer(tcp: ["127.0.0.1/8080"], udp: ["127.0.0.1/8080"])
                for kind in ["tcp", "udp"] {
                    #expect(try await laptop.host.asks(kind, "127.0.0.1", 8080)?.first == "127.0.0.1")
                    #expect(try await laptop.guest.asks(kind, "127.0.0.1", 80)?.first == "127.0.0.1")
                }
                #expect(try await laptop.server.asks("tcp", Laptop.own[0], 8080) == nil)
                #expect(try await laptop.guest.must(["ip", "-br", "link"]).split(separator: "\n").count == 1)
            }
        }
    }
}
