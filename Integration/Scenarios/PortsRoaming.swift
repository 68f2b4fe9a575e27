// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Forwarded ports on a host that changes.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("forwarded ports follow the host", .timeLimit(.minutes(2))) struct PortsRoaming {
        @Test(
            "one on an address that is not there yet works once it is, and again", arguments: ["tcp", "udp"], [4, 6])
        func anAbsentAddress(kind: String, version: Int) async throws {
            let address = version == 4 ? "192.0.2.99" : "2001:db8:1::99"
            let prefix = version == 4 ? "192.0.2.99/24" : "2001:db8:1::99/64"
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", kind == "tcp" ? "-t" : "-u", "\(address)/8080"])
                let warnings = tapas.errors.split(separator: "\n").filter { $0.contains("does not have \(address)") }
                #expect(warnings.count == 1, "\(tapas.errors)")
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                for _ in 0..<2 {
                    try await laptop.host.ip("address add \(prefix) dev eth0\(version == 6 ? " nodad" : "")")
                    try await eventually("the port answers") {
                        try await laptop.server.asks(kind, address, 8080) != nil
                    }
                    try await laptop.host.ip("address del \(prefix) dev eth0")
                }
            }
        }

        @Test("one on a device that is not there yet works once it is, and again", arguments: ["tcp", "udp"])
        func anAbsentDevice(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", kind == "tcp" ? "-t" : "-u", "%eth7/8080"])
                #expect(tapas.errors.contains("there is no interface 'eth7' at present"), "\(tapas.errors)")
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                for turn in 0..<2 {
                    try await lab.link(laptop.host, "eth7", laptop.server, "eth7")
                    try await laptop.host.ip("address add 198.51.100.2/24 dev eth7")
                    try await laptop.server.ip("address add 198.51.100.1/24 dev eth7")
                    try await eventually("the port answers, turn \(turn)") {
                        try await laptop.server.asks(kind, "198.51.100.2", 8080) != nil
                    }
                    #expect(try await laptop.server.isDeaf(kind, Laptop.own[0], 8080))
                    try await laptop.host.ip("link del eth7")
                    try await eventually("its end is noticed") {
                        tapas.errors.split(separator: "\n").count { $0.contains("interface 'eth7' is gone") } == turn
                            + 1
                    }
                }
            }
        }

        @Test("those on all addresses work at each address that the host gets", arguments: ["tcp", "udp"])
        func allAddresses(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "8080", "-u", "8080"])
                try await laptop.guest.answer(tcp: ["::/8080"], udp: ["::/8080"])
                #expect(try await laptop.server.asks(kind, Laptop.own[0], 8080)?.first == Laptop.near[0])
                for last in [20, 30] {
                    try await laptop.host.ip(
                        """
                        address flush dev eth0 scope global
                        address add 192.0.2.\(last)/24 dev eth0
                        route replace default via 192.0.2.1
                        """)
                    try await eventually("the port answers at .\(last), and sees who asks") {
                        try await laptop.server.asks(kind, "192.0.2.\(last)", 8080)?.first == Laptop.near[0]
                    }
                    #expect(try await laptop.host.asks(kind, "127.0.0.1", 8080) != nil)
                }
            }
        }

        /// A client of an echo that waits between its connection and its question until a file is there.
        static func patientClient(of address: String, until go: String) -> [String] {
            [
                "python3", "-c",
                """
                import os, socket, time
                sock = socket.create_connection(("\(address)", 7001), timeout=10)
                print("connected", flush=True)
                while not os.path.exists("\(go)"): time.sleep(0.01)
                sock.sendall(b"still there")
                print(sock.recv(100).decode(), flush=True)
                """,
            ]
        }

        @Test("connections stay when the host's default moves, local ones too", arguments: [0, 1])
        func theDefaultMoves(family: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-t", "7001"])
                try await laptop.guest.startPython("serve.py")
                let go = lab.newPath("go")
                let far = try await laptop.server.start(Self.patientClient(of: Laptop.own[family], until: go))
                let near = try await laptop.host.start(Self.patientClient(of: Laptop.own[family], until: go))
                try await far.wrote("connected")
                try await near.wrote("connected")
                try await lab.link(laptop.host, "eth7", laptop.server, "eth7")
                try await laptop.server.ip(
                    """
                    address add 198.51.100.1/24 dev eth7
                    address add 2001:db8:7::1/64 dev eth7 nodad
                    """)
                try await laptop.host.ip(
                    """
                    address add 198.51.100.2/24 dev eth7
                    address add 2001:db8:7::2/64 dev eth7 nodad
                    route replace default via 198.51.100.1
                    -6 route replace default via 2001:db8:7::1
                    """)
                try await eventually("the namespace has the new address") {
                    let addresses = try await laptop.guest.must(["ip", "-br", "addr"])
                    return addresses.contains("198.51.100.2/24") && addresses.contains("2001:db8:7::2/64")
                }
                try await laptop.host.must(["touch", go])
                try await far.wrote("still there")
                try await near.wrote("still there")
            }
        }

        @Test("a spliced connection does not notice that the host has lost its network")
        func aSplicedConnection() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(
                    laptop.guest, ["--config-net", "--hold-down", "0", "-t", "7001", "--host-lo-to-ns-lo"])
                try await laptop.guest.startPython("serve.py")
                let go = lab.newPath("go")
                let program = try await laptop.host.start(Self.patientClient(of: "127.0.0.1", until: go))
                try await program.wrote("connected")
                try await laptop.host.ip("link del eth0")
                try await eventually("the namespace is in local mode") {
                    try await laptop.guest.must(["ip", "-br", "addr"]).contains("169.254.2.1")
                }
                try await laptop.host.must(["touch", go])
                try await program.wrote("still there")
            }
        }
    }
}
