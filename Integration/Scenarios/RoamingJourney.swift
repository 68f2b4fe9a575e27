// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A generator of numbers that a seed determines (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// What may happen to a host within an hour, at random: links, addresses, routes, rules, nexthops, resolvers.
///
/// What the kernel refuses, because a network is not there at the moment, is left out as if it had not been tried.
private struct RandomHost {
    /// One event; most are commands for the host.
    enum Event: CustomStringConvertible {
        case host(String)
        case internet(String)
        case resolvers([String])

        var description: String {
            switch self {
            case .host(let line): "host: \(line)"
            case .internet(let line): "internet: \(line)"
            case .resolvers(let servers): "resolvers: \(servers)"
            }
        }
    }

    /// A network by its interface.
    struct Network {
        let interface: String
        let v4: String
        let v6: String
        let metric: Int
    }

    static let networks = [
        Network(interface: "wlan0", v4: "192.0.2", v6: "2001:db8:1:", metric: 600),
        Network(interface: "wlan0", v4: "198.18.7", v6: "2001:db8:7:", metric: 600),
        Network(interface: "eth0", v4: "198.51.100", v6: "2001:db8:2:", metric: 100),
        Network(interface: "usb0", v4: "192.168.44", v6: "2001:db8:4:", metric: 700),
        Network(interface: "tun0", v4: "10.8.0", v6: "2001:db8:8:", metric: 50),
    ]

    var generator: SeededGenerator

    mutating func events() -> [Event] {
        (0..<Int.random(in: 1...4, using: &generator)).flatMap { _ in event() }
    }

    private mutating func pick<Element>(_ elements: [Element]) -> Element {
        elements[Int.random(in: 0..<elements.count, using: &generator)]
    }

    private mutating func event() -> [Event] {
        let network = pick(Self.networks)
        let device = network.interface
        let host = pick([5, 7, 10, 20])
        switch Int.random(in: 0..<24, using: &generator) {
        case 0: return [.host("link set \(device) up")]
        case 1: return [.host("link set \(device) down")]
        case 2: return [.internet("link set \(device) down")]
        case 3, 4: return [.internet("link set \(device) up")]
        case 5, 6: return join(network, host)
        case 7: return [.host("address add \(network.v4).\(host)/24 dev \(device)")]
        case 8: return [.host("address delete \(network.v4).\(host)/24 dev \(device)")]
        case 9: return [.host("address add \(network.v6):\(host)/64 dev \(device) nodad")]
        case 10: return [.host("address delete \(network.v6):\(host)/64 dev \(device)")]
        case 11:
            let lifetime = pick(["preferred_lft 0", "preferred_lft forever", "preferred_lft 900 valid_lft 1800"])
            return [.host("address change \(network.v6):\(host)/64 dev \(device) \(lifetime)")]
        case 12: return [.host("route add default via \(network.v4).1 dev \(device) metric \(network.metric)")]
        case 13: return [.host("route delete default via \(network.v4).1 dev \(device)")]
        case 14: return [.host("route add default via \(network.v6):1 dev \(device) metric \(network.metric)")]
        case 15: return [.host("route delete default via \(network.v6):1 dev \(device)")]
        case 16:
            let other = pick([1, 254])
            return [.host("route replace default via \(network.v4).\(other) dev \(device) metric \(network.metric)")]
        case 17: return [.host("route add 10.\(host).0.0/16 via \(network.v4).1 dev \(device)")]
        case 18: return [.host("route delete 10.\(host).0.0/16")]
        case 19: return pick([vpn(isUp: true), vpn(isUp: false)])
        case 20: return [.host("address flush dev \(device) scope global")]
        case 21:
            let servers = ["192.0.2.53", "198.51.100.53", "192.168.44.53", "10.8.0.53", "2001:db8:2::53", "192.0.2.99"]
            let count = Int.random(in: 0...3, using: &generator)
            return [.resolvers((0..<count).map { _ in pick(servers) })]
        case 22: return pick([nextHops(isThere: true), nextHops(isThere: false)])
        default: return [.host("link set \(device) mtu \(pick([1280, 1400, 1500]))")]
        }
    }

    /// All that a DHCP client and a router give.
    private func join(_ network: Network, _ host: Int) -> [Event] {
        [
            .internet("link set \(network.interface) up"),
            .host("link set \(network.interface) up"),
            .host("address add \(network.v4).\(host)/24 dev \(network.interface)"),
            .host("route replace default via \(network.v4).1 dev \(network.interface) metric \(network.metric)"),
            .host("address add \(network.v6):\(host)/64 dev \(network.interface) nodad"),
            .host("route replace default via \(network.v6):1 dev \(network.interface) metric \(network.metric)"),
        ]
    }

    private func vpn(isUp: Bool) -> [Event] {
        isUp
            ? [
                .host("link set tun0 up"), .host("address add 10.8.0.7/24 dev tun0"),
                .host("route add default dev tun0 table 51820"),
                .host("rule add not fwmark 51820 table 51820 priority 32765"),
                .host("rule add table main suppress_prefixlength 0 priority 32764"),
            ]
            : [
                .host("rule delete priority 32764"), .host("rule delete priority 32765"),
                .host("route flush table 51820"),
            ]
    }

    private func nextHops(isThere: Bool) -> [Event] {
        isThere
            ? [
                .host("nexthop add id 7 via 198.51.100.1 dev eth0"), .host("route add default nhid 7 metric 20"),
            ] : [.host("nexthop delete id 7")]
    }
}

extension Scenarios {
    /// A day on the road in a few minutes.
    @Suite("a long journey", .timeLimit(.minutes(45))) struct RoamingJourney {
        private static let options = [
            "--quiet", "--hold-down", "0", "--dns-forward", RoamingRun.nameServer, "-t", "8080", "-u", "8080", "-T",
            "none",
            "-U", "none",
        ]
        private static let freshOptions = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
        /// TAPAS_ROAMING_SEED repeats a run.
        private static let seed = environmentVariable("TAPAS_ROAMING_SEED").flatMap { UInt64($0) } ?? 20_261_121
        private static let count =
            environmentVariable("TAPAS_ROAMING_TRANSITIONS").flatMap { Int($0) } ?? (RoamingReport.isFull ? 500 : 40)

        @Test("after each of many random transitions the namespace is what a fresh start would make it")
        func manyTransitions() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                // A host that is no router prefers IPv6 routers that answer to those of a lower metric, and announces to
                // nobody when one of them stops answering: what a fresh start sees then, no event has told of.
                try await net.host.set("net/ipv6/conf/all/forwarding", to: "1")
                try await net.change(Net.wifi)
                let engine = try await net.attach(Self.options)
                let name = "wlan0"
                try await Self.follows(net, name, "at the start")
                let before = try await Self.rest(net, engine)
                try await net.change(Net.wifi)
                try await Self.follows(net, name, "at the start")
                try await net.inGuest.ask("traffic", "begin", Roaming.beyond[0], Roaming.beyond[1])
                var host = RandomHost(generator: SeededGenerator(state: Self.seed))
                var reached = 0
                for number in 1...Self.count {
                    let events = host.events()
                    try await Self.carryOut(events, net)
                    let place = "seed \(Self.seed), transition \(number): \(events)"
                    try await Self.follows(net, name, place)
                    if try await Self.reachesWhatTheHostReaches(net, place) { reached += 1 }
                    if let ending = engine.program.termination { throw LabError("\(place): tapas: \(ending)") }
                }
                let answers = try await net.inGuest.ask("traffic", "end")
                #expect(Int(answers) ?? 0 > Self.count, "traffic was running: \(answers) answers")
                try await Self.goHome(net)
                try await Self.follows(net, name, "at home")
                for kind in ["tcp", "udp"] {
                    for address in Roaming.beyond {
                        let answer = try await net.inGuest.ask("try", kind, address, "3").words
                        #expect(answer.count == 2 || answer.count == 3, "\(kind) \(address): \(answer)")
                    }
                }
                let after = try await Self.rest(net, engine, downTo: before.descriptors)
                // Tables and arenas grow to what traffic needs, once.
                #expect(after.kibibytes < before.kibibytes + 16 * 1024)
                RoamingReport.note("random transitions, each as a fresh start", Double(Self.count), "")
                RoamingReport.note("transitions after which the world was reached", Double(reached), "")
                RoamingReport.note("answers meanwhile", Double(answers) ?? 0, "")
                RoamingReport.note("descriptors before", Double(before.descriptors), "")
                RoamingReport.note("descriptors after", Double(after.descriptors), "")
                RoamingReport.note("resident memory before", Double(before.kibibytes), "KiB")
                RoamingReport.note("resident memory after", Double(after.kibibytes), "KiB")
                RoamingReport.note("processor time", engine.processorSeconds, "s")
            }
        }

        /// Takes the network away, which ends every flow; what is open then stays open for good.
        ///
        /// - Parameters:
        ///   - net: The hosts.
        ///   - engine: tapas.
        ///   - count: How many descriptors there are to be: questions about names have no address of the host, and go in
        ///     their own time.
        /// - Returns: Descriptors and resident memory.
        /// - Throws: `LabError` when there are more for good.
        private static func rest(
            _ net: Roaming, _ engine: Engine, downTo count: Int = .max
        ) async throws -> (descriptors: Int, kibibytes: Int) {
            try await net.inHost.ask("try-ip", Net.wifiLeft.oneLine)
            try await follows(net, "wlan0", "without a network")
            do {
                let time = try await eventually("no more than \(count) descriptors", within: .seconds(150)) {
                    engine.descriptorCount <= count
                }
                if count != .max { print("measured: descriptors as at the start after \(time)") }
            } catch {
                throw LabError("\(error); there are\n\(engine.descriptors)")
            }
            return (engine.descriptorCount, engine.residentKibibytes)
        }

        private static func carryOut(_ events: [RandomHost.Event], _ net: Roaming) async throws {
            for event in events {
                switch event {
                case .host(let line): try await net.inHost.ask("try-ip", line)
                case .internet(let line): try await net.inInternet.ask("try-ip", line)
                case .resolvers(let servers):
                    let text = servers.map { "nameserver \($0)\\n" }.joined()
                    try await net.host.must(["sh", "-c", "printf '\(text)' > /etc/new; mv /etc/new /etc/resolv.conf"])
                }
            }
        }

        private static func goHome(_ net: Roaming) async throws {
            for interface in ["wlan0", "eth0", "usb0", "tun0"] {
                try await net.inInternet.ask("try-ip", "link set \(interface) up")
                try await net.inHost.ask(
                    "try-ip",
                    "address flush dev \(interface) scope global;route flush dev \(interface);link set \(interface) down"
                )
            }
            try await net.inHost.ask(
                "try-ip", "rule delete priority 32764;rule delete priority 32765;nexthop flush;route flush table 51820")
            try await net.change("link set wlan0 mtu 1500\n" + Net.wifi)
        }

        private static func follows(_ net: Roaming, _ name: String, _ place: String) async throws {
            var got: [String] = []
            var wanted: [String] = []
            // The kernel itself takes up to a second until a carrier's change is announced: a fresh start may have come
            // before that.
            for _ in 0..<5 {
                let fresh = try await net.fresh(freshOptions).map { line in
                    line.hasPrefix("link ") ? (["link", name] + line.words.dropFirst(2)).joined(separator: " ") : line
                }
                let end = ContinuousClock.now + .milliseconds(1500)
                repeat {
                    (got, wanted) = RoamingState.lasting(try await net.inGuest.ask("state").lines, fresh)
                    if got == wanted { return }
                } while ContinuousClock.now < end
            }
            throw LabError(
                """
                \(place): not what a fresh start gives
                \(difference(got, wanted))
                it has:
                \(got.joined(separator: "\n"))
                """)
        }

        /// Where the host's own programs get, the namespace's get, too.
        ///
        /// - Returns: Whether the host gets anywhere.
        private static func reachesWhatTheHostReaches(_ net: Roaming, _ place: String) async throws -> Bool {
            var reaches = false
            for address in Roaming.beyond {
                var failures: [String] = []
                // Twice: a carrier's change may be announced in between.
                for _ in 0..<2 {
                    let own = try await net.inHost.ask("try", "tcp", address, "0.3").lines
                    guard own[0].words.count == 2 else { break }
                    reaches = true
                    let answer = try await net.inGuest.ask("try", "tcp", address, "3").lines
                    // The host's sources are chosen alike.
                    if answer[0].words.count == 2, answer[0].words[0] == own[0].words[0] {
                        failures = []
                        break
                    }
                    failures.append("the host reaches \(address) as \(own[0]), the namespace: \(answer)")
                }
                guard failures.count < 2 else {
                    let state = try await (
                        net.inGuest.ask("state"), net.host.must(["sh", "-c", "ip address; ip route; ip -6 route"])
                    )
                    throw LabError("\(place): \(failures)\nthe namespace:\n\(state.0)\nthe host:\n\(state.1)")
                }
            }
            return reaches
        }
    }
}

extension String {
    /// Lines of a batch as the agent takes them.
    fileprivate var oneLine: String { lines.joined(separator: ";") }
}
