// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// One way to carry bytes: the parameters of a transfer, which also name its test.
struct Transfer: Sendable, CustomTestStringConvertible {
    let mtu: Int
    let version: Int
    let congestionControl: String

    var testDescription: String { "MTU \(mtu), IPv\(version), \(congestionControl)" }

    /// The server's address behind the router.
    var address: String { Laptop.beyond[version == 4 ? 0 : 1] }

    /// Every MTU with both families; both congestion controls where they have differed.
    static let all: [Transfer] = [1280, 1500, 65520].flatMap { mtu in
        [4, 6].flatMap { version in
            ["cubic", "bbr"].map { Transfer(mtu: mtu, version: version, congestionControl: $0) }
        }
    }
}

extension Scenarios {
    /// TCP with every byte checked.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("TCP carries every byte", .timeLimit(.minutes(5))) struct Transfers {
        static let size = "\(64 << 20)"

        @Test("64 MiB out, in, and both at once", arguments: Transfer.all)
        func bulkBothWays(transfer: Transfer) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, congestionControl: transfer.congestionControl)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-m", "\(transfer.mtu)"])
                for (number, direction) in ["upload", "download", "both"].enumerated() {
                    let size = direction == "both" ? "\(16 << 20)" : Self.size
                    let answer = try await laptop.guest.python(
                        "client.py", direction, transfer.address, size, "\(number + 1)", within: .seconds(60))
                    #expect(answer.hasPrefix("ok \(size)"))
                }
            }
        }

        @Test("sizes around the borders of segments and buffers", arguments: [1280, 1500, 65520])
        func sizesAroundBorders(mtu: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-m", "\(mtu)"])
                for size in [0, 1, mtu - 41, mtu - 40, mtu - 39, 65535, 65536, 65537, 262_144] {
                    for direction in ["upload", "download"] {
                        try await laptop.guest.python("client.py", direction, Laptop.beyond[0], "\(size)", "3")
                    }
                }
            }
        }

        @Test(
            "losses are made up for, on the host's network and in the namespace", arguments: [1500, 65520],
            Loss.allCases)
        func lossesAreMadeUpFor(mtu: Int, loss: Loss) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-m", "\(mtu)"])
                try await loss.begin(in: loss == .onTheNetwork ? laptop.server : laptop.guest)
                for direction in ["upload", "download"] {
                    let answer = try await laptop.guest.python(
                        "client.py", direction, Laptop.beyond[0], "\(4 << 20)", "4", within: .seconds(60))
                    #expect(answer.hasPrefix("ok"))
                }
            }
        }

        /// Where one segment in a hundred is dropped.
        enum Loss: String, CaseIterable, CustomTestStringConvertible {
            case onTheNetwork = "on the host's network"
            case intoTheNamespace = "into the namespace"
            case outOfTheNamespace = "out of the namespace"

            var testDescription: String { rawValue }

            func begin(in host: Host) async throws {
                let hook = self == .outOfTheNamespace ? "output" : "input"
                try await host.must([
                    "nft",
                    """
                    add table inet lossy
                    add chain inet lossy drops { type filter hook \(hook) priority 0; }
                    add rule inet lossy drops meta l4proto tcp numgen random mod 100 0 drop
                    """,
                ])
            }
        }

        @Test("1,000 connections at the same time", arguments: [4, 6])
        func aThousandConnections(version: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let answer = try await laptop.guest.python(
                    "client.py", "many", Laptop.beyond[version == 4 ? 0 : 1], "1000")
                #expect(answer == "ok 1000")
                let again = try await laptop.guest.python(
                    "client.py", "many", Laptop.beyond[version == 4 ? 0 : 1], "1000")
                #expect(again == "ok 1000", "the flows of the first thousand do not stand in the way")
            }
        }

        @Test("500 short connections one after the other")
        func shortConnections() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                #expect(try await laptop.guest.python("client.py", "short", Laptop.beyond[0], "500") == "ok 500")
            }
        }

        @Test("curl, socat and iperf3 from a wrapped command", arguments: User.allCases)
        func realPrograms(user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let iperf = try await laptop.server.start(["iperf3", "--server", "--forceflush"])
                try await iperf.wrote("Server listening")
                for address in [Laptop.beyond[0], "[\(Laptop.beyond[1])]"] {
                    let page = try await laptop.host.tapas(
                        ["--config-net"], ["curl", "-sS", "--max-time", "10", "http://\(address):8080/"], as: user)
                    #expect(page.output == "hello from the lab\n", "\(page)")
                    let echo = try await laptop.host.tapas(
                        ["--config-net"], ["sh", "-c", "echo there and back | socat -t5 - TCP:\(address):7001"],
                        as: user)
                    #expect(echo.output == "there and back\n", "\(echo)")
                }
                for direction in [[], ["--reverse"]] {
                    let outcome = try await laptop.host.tapas(
                        ["--config-net"], ["iperf3", "-c", Laptop.beyond[0], "-n", "20M", "-J"] + direction, as: user)
                    #expect(outcome.termination == .exited(0), "\(outcome)")
                }
            }
        }
    }
}
