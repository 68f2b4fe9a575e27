// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// The lab itself: what the other scenarios measure tapas by must hold between two hosts on one cable.
    ///
    ///     host ── eth0 ── server        (Laptop, tapas not started)
    @Suite("the lab without tapas", .timeLimit(.minutes(2))) struct WithoutTapas {
        @Test("clients and servers agree", arguments: Laptop.beyond, ["cubic", "bbr"])
        func clientsAndServersAgree(address: String, congestionControl: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, congestionControl: congestionControl)
                let table: [([String], String)] = [
                    (["upload", address, "3000000", "1"], "ok 3000000 "),
                    (["download", address, "3000000", "1"], "ok "),
                    (["both", address, "3000000", "1"], "ok "), (["many", address, "200"], "ok 200"),
                    (["slow-reader", address, "300000", "1"], "ok 300000 "),
                    (["slow-writer", address, "300000", "1"], "ok 300000 "),
                    (["slow-server-reader", address, "300000", "1"], "ok 300000 "),
                    (["slow-server-writer", address, "300000", "1"], "ok 300000 "),
                    (["udp", address, "0", "1", "1400"], "ok 0 1 1400"),
                    (["after-their-end", address, "100000", "1", "token"], "ok"),
                    (["end", address, "close", "a"], "end of file"), (["end", address, "reset", "b"], "reset"),
                    (["be-reset", address], "reset"), (["outcome", "tcp", address, "9999"], "refused "),
                    (["outcome", "udp", address, "9999"], "refused "), (["short", address, "20"], "ok 20"),
                    (["who", "tcp", address], address.contains(":") ? "2001:db8:1::10 " : "192.0.2.10 "),
                    (["who", "udp", address], address.contains(":") ? "2001:db8:1::10 " : "192.0.2.10 "),
                ]
                for (arguments, answer) in table {
                    let outcome = try await laptop.host.run(["python3", helperProgram("client.py")] + arguments)
                    #expect(outcome.output.hasPrefix(answer), "\(outcome)")
                }
                let page = try await laptop.host.must(
                    ["curl", "-sS", "http://\(address.contains(":") ? "[\(address)]" : address):8080/"])
                #expect(page == "hello from the lab\n")
            }
        }

        @Test("a name server answers over UDP and TCP")
        func aNameServerAnswers() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.server.startPython("dns.py", Laptop.near[0], "198.18.7.7")
                for transport in ["+notcp", "+tcp"] {
                    let answer = try await laptop.host.must([
                        "dig", "+short", "+tries=1", transport, "@\(Laptop.near[0])", "web.example",
                    ])
                    #expect(answer == "198.18.7.7\n")
                }
            }
        }

        @Test("what a host holds is read back as canonical lines")
        func whatAHostHolds() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                #expect(
                    try await laptop.host.networkState() == [
                        "link eth0 mtu 1500 up", "addr 192.0.2.10/24", "addr 2001:db8:1::10/64",
                        "route default via 192.0.2.1", "route 192.0.2.0/24 scope link src 192.0.2.10",
                        "route6 2001:db8:1::/64", "route6 default via 2001:db8:1::1",
                    ])
                #expect(try await laptop.guest.networkState() == [])
            }
        }

        @Test("whatever a test leaves running is found and ended")
        func whateverIsLeftIsFound() async throws {
            let left = try await withLab { lab in
                let host = try await lab.host("host")
                try await host.must(["sh", "-c", "setsid sleep 1000 > /dev/null 2>&1 & true"])
                let strays = try await lab.strays()
                #expect(strays.count == 1 && strays.first?.hasSuffix("sleep 1000") == true, "\(strays)")
                return strays.first?.prefix { $0 != " " }
            }
            let processID = try #require(left)
            try await eventually("the process is gone", within: .seconds(2)) {
                contents(of: "/proc/\(processID)/cmdline").isEmpty
            }
        }
    }
}
