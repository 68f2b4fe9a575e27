// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
@testable import Policy
import TestSupport
import Testing

@Suite("verdicts of the egress policy")
struct EgressPolicyTests {
    private let around = PolicySurroundings(
        hostAddresses: [.v4(IPv4Address(198, 51, 100, 7))], resolvers: [.v4(IPv4Address(198, 51, 100, 53))])

    static let list = """
        deny tcp:192.0.2.66
        allow tcp:192.0.2.0/24:80,443
        allow [2001:db8::/32]:443
        deny metadata
        allow udp:private:123
        deny host
        allow dns
        allow icmp:203.0.113.9
        """

    @Test(
        "the first rule that matches decides",
        arguments: [
            ("tcp", "192.0.2.66", 443, 0), ("udp", "192.0.2.66", 443, nil), ("tcp", "192.0.2.1", 443, 1),
            ("tcp", "192.0.2.1", 80, 1), ("tcp", "192.0.2.1", 81, nil), ("udp", "192.0.2.1", 80, nil),
            ("tcp", "2001:db8:ffff::1", 443, 2), ("udp", "2001:db8::1", 443, 2), ("icmp", "2001:db8::1", 0, nil),
            ("tcp", "2001:db9::1", 443, nil), ("udp", "169.254.169.254", 123, 3), ("tcp", "fd00:ec2::254", 80, 3),
            ("udp", "10.255.255.255", 123, 4), ("udp", "11.0.0.0", 123, nil), ("udp", "172.31.0.1", 123, 4),
            ("udp", "172.32.0.1", 123, nil), ("udp", "100.127.0.1", 123, 4), ("udp", "fdff::1", 123, 4),
            ("udp", "febf::1", 123, 4), ("udp", "64:ff9b::10.0.0.1", 123, 4), ("udp", "64:ff9b::11.0.0.1", 123, nil),
            ("tcp", "198.51.100.7", 22, 5), ("tcp", "127.0.0.1", 22, 5), ("tcp", "::1", 22, 5),
            ("icmp", "198.51.100.7", 0, 5), ("udp", "198.51.100.53", 53, 6), ("tcp", "198.51.100.53", 853, 6),
            ("tcp", "198.51.100.53", 80, nil), ("icmp", "198.51.100.53", 0, nil), ("icmp", "203.0.113.9", 0, 7),
            ("tcp", "203.0.113.9", 1, nil), ("tcp", "::ffff:192.0.2.66", 443, 0),
        ] as [(String, String, UInt16, Int?)])
    func theFirstRuleDecides(transport: String, to: String, port: UInt16, rule: Int?) throws {
        let policy = EgressPolicy(rules: try rules(Self.list), default: .deny)
        let opening = EgressPolicy.Opening(
            try #require(PolicyTransport(rawValue: transport)), to: try address(to), port: port)
        let decision = policy.decide(opening, in: around)
        #expect(decision.rule == rule)
        #expect(decision.verdict == (rule.map { policy.rules[$0].verdict } ?? .deny))
    }

    @Test("without rules the default decides, and DNS is like everything else", arguments: Verdict.allCases)
    func withoutRules(verdict: Verdict) throws {
        let policy = EgressPolicy(rules: [], default: verdict)
        for port: UInt16 in [53, 443, 853] {
            let opening = EgressPolicy.Opening(.udp, to: try address("192.0.2.1"), port: port)
            #expect(policy.decide(opening, in: around).verdict == verdict)
        }
        #expect(policy.decide(query: try dnsName("example.org")).verdict == verdict)
    }

    @Test("with rules by name, resolvers other than the relay are denied unless a rule allows them")
    func strangeResolversAreDenied() throws {
        let named = try rules("deny bad.example\nallow 192.0.2.53:53")
        let policy = EgressPolicy(rules: named, default: .allow)
        for (to, port, verdict) in [
            ("192.0.2.1", 53, .deny), ("192.0.2.1", 853, .deny), ("192.0.2.1", 443, .allow), ("192.0.2.53", 53, .allow),
            ("192.0.2.53", 853, .deny),
        ] as [(String, UInt16, Verdict)] {
            for transport in [PolicyTransport.tcp, .udp] {
                let opening = EgressPolicy.Opening(transport, to: try address(to), port: port)
                #expect(policy.decide(opening, in: around).verdict == verdict, "\(to) \(port)")
            }
        }
    }

    @Test(
        "queries pass if a rule may allow a flow to the name",
        arguments: [
            ("allow example.org", "example.org", .allow), ("allow example.org", "EXAMPLE.ORG", .allow),
            ("allow example.org", "www.example.org", .deny), ("allow *.example.org", "a.b.example.org", .allow),
            ("allow *.example.org", "example.org", .deny), ("allow *.example.org", "badexample.org", .deny),
            ("allow tcp:example.org:443", "example.org", .allow),
            ("deny example.org\nallow *.org", "example.org", .deny),
            ("deny example.org:25\nallow *.org", "example.org", .allow), ("allow any:443", "example.org", .allow),
            ("allow dns", "example.org", .allow), ("deny dns\nallow example.org", "example.org", .deny),
            ("allow 192.0.2.0/24", "example.org", .deny), ("allow *.example.org", "a\u{0}.example.org", .deny),
            ("allow any", "a\u{0}.example.org", .allow), ("allow *.org", "example.org.", .allow),
        ] as [(String, String, Verdict)])
    func queriesPass(text: String, name: String, verdict: Verdict) throws {
        let policy = EgressPolicy(rules: try rules(text), default: .deny)
        #expect(policy.decide(query: try dnsName(name)).verdict == verdict)
    }

    // MARK: Properties

    private struct World {
        var random: SplitMix64

        func ip(_ text: String) -> IPAddress { IPAddress(text) ?? .v4(.unspecified) }

        mutating func pick<T>(_ values: [T]) -> T { values[Int.random(in: 0..<values.count, using: &random)] }

        /// Addresses that lie close together, so that prefixes contain each other.
        mutating func address() -> IPAddress {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4: return .v4(IPv4Address(192, 0, 2, UInt8.random(in: 0..<16, using: &random)))
            case 4..<7: return .v6(IPv6Address(high: 0x2001_0DB8 << 32, low: UInt64.random(in: 0..<16, using: &random)))
            case 7: return .v4(IPv4Address(rawValue: UInt32.random(in: .min ... .max, using: &random)))
            case 8:
                return .v6(
                    IPv6Address(
                        high: UInt64.random(in: .min ... .max, using: &random),
                        low: UInt64.random(in: 0..<4, using: &random)))
            default:
                return ip(
                    pick([
                        "10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "fe80::1", "0.0.0.0", "::",
                        "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::a9fe:a9fe",
                    ]))
            }
        }

        mutating func port() -> UInt16 {
            random.chance(70)
                ? pick([0, 1, 52, 53, 80, 81, 443, 853, 65534, 65535]) : UInt16.random(in: 0...2000, using: &random)
        }

        mutating func name() -> DomainName {
            let labels = (0..<Int.random(in: 2...4, using: &random)).map { _ in pick(["a", "b", "org"]) }
            guard let name = DomainName(labels.joined(separator: ".")) else { preconditionFailure("\(labels)") }
            return name
        }

        mutating func rule() -> PolicyRule {
            let destination: PolicyRule.Destination
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let address = address()
                let bits = address.family.addressBitCount
                let length =
                    random.chance(60)
                    ? bits - Int.random(in: 0...5, using: &random) : Int.random(in: 0...bits, using: &random)
                destination = .prefix((Prefix(address, length: length) ?? Prefix(host: address)).network)
            case 5, 6: destination = .name(name())
            case 7: destination = .namesBelow(name())
            default: destination = .word(pick(PolicyRule.Word.allCases))
            }
            let transport: PolicyTransport? = random.chance(50) ? nil : pick(PolicyTransport.allCases)
            var ports: [PortRange] = []
            if transport != .icmp, random.chance(50) {
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    let (a, b) = (port(), port())
                    ports.append(PortRange(min(a, b), max(a, b)) ?? .all)
                }
            }
            return PolicyRule(pick(Verdict.allCases), transport: transport, to: destination, ports: ports)
        }
    }

    @Test("equal those of a walk through the list, rule and name included", arguments: 0..<40 as Range<UInt64>)
    func equalThoseOfAWalk(seed: UInt64) throws {
        var world = World(random: SplitMix64(seed: seed))
        let count = Int(seed % 4) * 20 + 3
        let list = (0..<count).map { _ in world.rule() }
        let verdict = world.pick(Verdict.allCases)
        let policy = EgressPolicy(rules: list, default: verdict)
        let naive = NaivePolicy(rules: list, defaultVerdict: verdict)
        let around = PolicySurroundings(
            hostAddresses: [world.address(), world.address()], resolvers: [world.address(), world.address()])
        for _ in 0..<400 {
            let opening = EgressPolicy.Opening(
                world.pick(PolicyTransport.allCases), to: world.address(), port: world.port())
            let names = (0..<Int.random(in: 0...3, using: &world.random)).map { _ in world.name() }
            let entries = names.map {
                NameTable.Entry(name: $0, groups: policy.groups(of: $0), expiry: 0, uses: 0)
            }
            let decision = policy.decide(opening, names: entries, in: around)
            #expect(
                decision == naive.decide(opening, names: names, in: around), "seed \(seed): \(opening) \(names) \(list)"
            )
            #expect(around.isProtected(opening.address) == naive.isProtected(opening.address, around))
            let name = world.name()
            #expect(
                policy.decide(query: try dnsName(name.text)).verdict == naive.decide(query: name),
                "seed \(seed): \(name)")
            if policy.decide(opening, in: around).verdict == .allow, opening.port != 53, opening.port != 853 {
                #expect(policy.mayReachWithoutName(opening.address, in: around), "seed \(seed): \(opening)")
            }
        }
    }

    @Test("equal those of a walk for 10,000 rules")
    func equalThoseOfAWalkForManyRules() throws {
        var world = World(random: SplitMix64(seed: 10_000))
        var list = (0..<10_000).map { index in
            let address = IPAddress.v4(IPv4Address(rawValue: 0x0B00_0000 + UInt32(index) * 7))
            return PolicyRule(
                index % 3 == 0 ? .deny : .allow,
                to: .prefix((Prefix(address, length: 20 + index % 13) ?? .init(host: address)).network),
                ports: index % 2 == 0 ? [PortRange(443)] : [])
        }
        list.shuffle(using: &world.random)
        let policy = EgressPolicy(rules: list, default: .deny)
        let naive = NaivePolicy(rules: list, defaultVerdict: .deny)
        for _ in 0..<60 {
            let address = IPv4Address(rawValue: 0x0B00_0000 + UInt32.random(in: 0..<80_000, using: &world.random))
            let opening = EgressPolicy.Opening(.tcp, to: .v4(address), port: world.pick([80, 443]))
            #expect(policy.decide(opening, in: around) == naive.decide(opening, names: [], in: around), "\(opening)")
        }
    }
}
