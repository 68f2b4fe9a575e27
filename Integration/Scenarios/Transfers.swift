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

    /// Every MTU with both families and every congestion control.
    static let all: [Transfer] = [1280, 1500, 9000, 65520].flatMap { mtu in
        [4, 6].flatMap { version in
            ["cubic", "bbr", "reno"].map { Transfer(mtu: mtu, version: version, congestionControl: $0) }
        }
    }
}

/// The longest time without progress that the transfers in an answer of client.py report, in milliseconds.
func longestStall(_ answer: String) throws -> Int {
    let times = answer.split(separator: "\n").map { $0.split(separator: " ").last.flatMap { Int($0) } }
    return try #require(times.reduce(0) { longest, time in longest.flatMap { one in time.map { max(one, $0) } } })
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
                    #expect(try longestStall(answer) < 1000, "ms without progress, \(direction)")
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

        @Test("losses are made up for, on the host's network and in the namespace", arguments: Losses.all)
        func lossesAreMadeUpFor(losses: Losses) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, congestionControl: losses.congestionControl)
                try await laptop.host.attach(laptop.guest, ["--config-net", "-m", "\(losses.mtu)"])
                let places = losses.place == .onTheNetwork ? [laptop.host, laptop.server] : [laptop.guest]
                for place in places { try await losses.begin(in: place) }
                for direction in ["upload", "download"] {
                    let answer = try await laptop.guest.python(
                        "client.py", direction, Laptop.beyond[0], "\(losses.size)", "4", within: .seconds(60))
                    #expect(answer.hasPrefix("ok \(losses.size)"))
                }
                for place in places {
                    let rules = try await place.must(["nft", "list", "ruleset"])
                    #expect(!rules.contains("packets 0 bytes 0"), "nothing was lost: the test shows nothing\n\(rules)")
                }
            }
        }

        /// Where segments are dropped.
        enum Loss: String, CaseIterable {
            case onTheNetwork = "on the host's network"
            case intoTheNamespace = "into the namespace"
            case outOfTheNamespace = "out of the namespace"
        }

        /// How segments are lost.
        struct Losses: Sendable, CustomTestStringConvertible {
            let place: Loss
            /// Of how many segments one is lost.
            let each: Int
            let mtu: Int
            let congestionControl: String

            var testDescription: String { "1 of \(each) \(place.rawValue), MTU \(mtu), \(congestionControl)" }

            /// Enough for some to be lost; what tapas writes into the namespace are super-frames.
            var size: Int {
                switch place {
                case .onTheNetwork: each == 100 ? 8 << 20 : 16 << 20
                case .intoTheNamespace: 64 << 20
                case .outOfTheNamespace: mtu >= 9000 ? 64 << 20 : 16 << 20
                }
            }

            /// On the network all of all; in the namespace, where tapas alone is to make up for them, every value.
            static let all: [Losses] =
                [1280, 1500, 9000, 65520].flatMap { mtu in
                    ["cubic", "bbr", "reno"].flatMap { name in
                        [100, 1000].map { each in
                            Losses(place: .onTheNetwork, each: each, mtu: mtu, congestionControl: name)
                        }
                    }
                } + [
                    .init(place: .intoTheNamespace, each: 100, mtu: 1280, congestionControl: "bbr"),
                    .init(place: .intoTheNamespace, each: 100, mtu: 1500, congestionControl: "cubic"),
                    .init(place: .intoTheNamespace, each: 100, mtu: 9000, congestionControl: "reno"),
                    .init(place: .intoTheNamespace, each: 100, mtu: 65520, congestionControl: "cubic"),
                    .init(place: .outOfTheNamespace, each: 100, mtu: 1280, congestionControl: "cubic"),
                    .init(place: .outOfTheNamespace, each: 100, mtu: 1500, congestionControl: "reno"),
                    .init(place: .outOfTheNamespace, each: 1000, mtu: 9000, congestionControl: "bbr"),
                    .init(place: .outOfTheNamespace, each: 100, mtu: 65520, congestionControl: "cubic"),
                ]

            /// Begins to drop what comes to a host, or what goes from it into its tap.
            func begin(in host: Host) async throws {
                // One packet is to be one segment, or a drop would take dozens of them and be rare.
                try await host.ip("link set eth0 gso_max_segs 1")
                let hook = place == .outOfTheNamespace ? "output" : "input"
                try await host.must([
                    "nft",
                    """
                    add table inet lossy
                    add chain inet lossy drops { type filter hook \(hook) priority 0; }
                    add rule inet lossy drops meta l4proto tcp numgen random mod \(each) 0 counter drop
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
