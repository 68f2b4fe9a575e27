// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// UDP and ICMP.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("UDP and ICMP", .timeLimit(.minutes(2))) struct Datagrams {
        @Test(
            "UDP datagrams of every size come back whole, empty ones too",
            arguments: Laptop.beyond, [1280, 1500, 65520])
        func datagramsOfEverySize(address: String, mtu: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, mtu: 9500)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-m", "\(mtu)"])
                // What is larger than the MTU comes in fragments, out of the namespace and on the cable.
                let sizes = [
                    0, 1, 2, 7, 512, 1000, 1232, 1233, 1400, 1452, 1453, 1472, 1473, 2000, 4096, 8192, 9000, 40_000,
                    65_507,
                ].map { "\($0)" }
                let outcome = try await laptop.guest.run(
                    ["python3", helperProgram("client.py"), "udp", address] + sizes)
                #expect(outcome.output == "ok \(sizes.joined(separator: " "))\n", "\(outcome)")
            }
        }

        @Test("300 UDP flows at the same time")
        func manyFlows() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let script = """
                    import socket
                    socks = []
                    # While a neighbour is looked for, the kernel keeps some 270 such datagrams for it, not 300.
                    first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    first.settimeout(5)
                    first.sendto(b"first", ("\(Laptop.beyond[0])", 7001))
                    assert first.recv(100) == b"first"
                    for number in range(300):
                        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        sock.settimeout(5)
                        sock.connect(("\(Laptop.beyond[0])", 7001))
                        sock.send(b"flow %d" % number)
                        socks.append(sock)
                    print(sum(sock.recv(100) == b"flow %d" % number for number, sock in enumerate(socks)))
                    """
                #expect(try await laptop.guest.must(["python3", "-c", script]) == "300\n")
            }
        }

        @Test("socat and dig speak UDP from a wrapped command")
        func realPrograms() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.server.startPython("dns.py", Laptop.beyond[0], "198.18.1.2")
                for transport in ["+notcp", "+tcp"] {
                    let answer = try await laptop.host.tapas(
                        ["--config-net"], ["dig", "+short", "+tries=1", transport, "@\(Laptop.beyond[0])", "a.example"])
                    #expect(answer.output == "198.18.1.2\n", "\(answer)")
                }
                let echo = try await laptop.host.tapas(
                    ["--config-net"], ["sh", "-c", "echo ping | socat -t2 - UDP:\(Laptop.beyond[0]):7001"])
                #expect(echo.output == "ping\n", "\(echo)")
            }
        }

        @Test("ping reaches the router and what is beyond", arguments: Laptop.near + Laptop.beyond, User.allCases)
        func ping(address: String, user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(
                    ["--config-net", "--no-map-gw"], ["ping", "-c", "3", "-i", "0.01", "-W", "5", address], as: user)
                #expect(outcome.output.contains("3 packets transmitted, 3 received"), "\(outcome)")
            }
        }

        @Test("pings of several processes and sizes at the same time")
        func severalPings() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest)
                var programs: [Program] = []
                for (number, size) in [0, 8, 56, 1000, 1400].enumerated() {
                    let address = Laptop.beyond[number % 2]
                    programs.append(
                        try await laptop.guest.start([
                            "ping", "-c", "5", "-i", "0.01", "-W", "5", "-s", "\(size)", address,
                        ]))
                }
                for program in programs {
                    let outcome = try await program.end()
                    #expect(outcome.output.contains("5 packets transmitted, 5 received"), "\(outcome)")
                }
            }
        }

        /// A longer way, so that there are hops to show.
        ///
        ///     guest ══ tapas in host ── eth0 ── router ── eth1 ── eth0 ── server
        ///              192.0.2.10/24    192.0.2.1   198.51.100.1   198.51.100.2
        ///              2001:db8:1::10   2001:db8:1::1  2001:db8:2::1  2001:db8:2::2
        @Test("traceroute by UDP shows the hops", arguments: [4, 6])
        func traceroute(version: Int) async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let router = try await lab.host("router")
                let server = try await lab.host("server")
                let guest = try await lab.host("guest")
                try await lab.link(host, "eth0", router, "eth0")
                try await lab.link(router, "eth1", server, "eth0")
                try await router.set("net/ipv4/ip_forward", to: "1")
                try await router.set("net/ipv6/conf/all/forwarding", to: "1")
                // The kernel sends at most one such error a second to one peer; a traceroute wants more.
                try await router.set("net/ipv4/icmp_ratelimit", to: "0")
                try await router.set("net/ipv6/icmp/ratelimit", to: "0")
                try await server.set("net/ipv4/icmp_ratelimit", to: "0")
                try await server.set("net/ipv6/icmp/ratelimit", to: "0")
                try await host.ip(
                    "address add 192.0.2.10/24 dev eth0", "address add 2001:db8:1::10/64 dev eth0 nodad",
                    "route add default via 192.0.2.1", "-6 route add default via 2001:db8:1::1")
                try await router.ip(
                    "address add 192.0.2.1/24 dev eth0", "address add 2001:db8:1::1/64 dev eth0 nodad",
                    "address add 198.51.100.1/24 dev eth1", "address add 2001:db8:2::1/64 dev eth1 nodad")
                try await server.ip(
                    "address add 198.51.100.2/24 dev eth0", "address add 2001:db8:2::2/64 dev eth0 nodad",
                    "route add default via 198.51.100.1", "-6 route add default via 2001:db8:2::1")
                try await host.attach(guest)
                let hops = version == 4 ? ["192.0.2.1", "198.51.100.2"] : ["2001:db8:1::1", "2001:db8:2::2"]
                let trace = try await guest.must([
                    "traceroute", "-\(version)", "-n", "-q", "1", "-N", "1", "-w", "2", "-m", "5", hops[1],
                ])
                let shown = trace.split(separator: "\n").dropFirst().map { line in
                    line.split(separator: " ").dropFirst().first.map(String.init) ?? ""
                }
                #expect(shown == hops, "\(trace)")
            }
        }
    }
}
