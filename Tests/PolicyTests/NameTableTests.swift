// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
@testable import Policy
import TestSupport
import Testing
import Wire

@Suite("names that the relay has answered")
struct NameTableTests {
    private static let second: UInt64 = 1_000_000_000
    private let around = PolicySurroundings(hostAddresses: [.v4(IPv4Address(198, 51, 100, 7))])

    private func policy(_ text: String, _ verdict: Verdict = .deny) throws -> EgressPolicy {
        EgressPolicy(rules: try rules(text), default: verdict)
    }

    private func verdict(
        _ policy: EgressPolicy, _ table: inout NameTable, _ to: String, _ port: UInt16 = 443, now: UInt64
    ) throws -> Verdict {
        let opening = EgressPolicy.Opening(.tcp, to: try address(to), port: port)
        return policy.decide(opening, names: table.names(of: opening.address, now: now), in: around).verdict
    }

    @Test("open exactly the addresses of the answer, for its time to live")
    func openExactlyTheAddresses() throws {
        let policy = try policy("allow example.org:443")
        var table = NameTable()
        #expect(try verdict(policy, &table, "192.0.2.1", now: 0) == .deny)
        #expect(
            try table.learn("example.org", ["192.0.2.1", "2001:db8::1"], seconds: 100, policy: policy, now: 0)
                == .learned(2))
        #expect(try verdict(policy, &table, "192.0.2.1", now: 0) == .allow)
        #expect(try verdict(policy, &table, "2001:db8::1", now: 0) == .allow)
        #expect(try verdict(policy, &table, "192.0.2.1", 80, now: 0) == .deny)
        #expect(try verdict(policy, &table, "192.0.2.2", now: 0) == .deny)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 100 * Self.second - 1) == .allow)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 100 * Self.second) == .deny)
        #expect(table.count == 1)
        table.expire(now: 100 * Self.second)
        #expect(table.count == 0)
    }

    @Test(
        "count for 30 seconds to an hour",
        arguments: [(0, 30), (29, 30), (30, 30), (3600, 3600), (86400, 3600), (UInt32.max, 30)] as [(UInt32, UInt64)])
    func countForABoundedTime(seconds: UInt32, bounded: UInt64) throws {
        let policy = try policy("allow example.org")
        var table = NameTable()
        _ = try table.learn("example.org", ["192.0.2.1"], seconds: seconds, policy: policy, now: 5)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 4 + bounded * Self.second) == .allow)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 5 + bounded * Self.second) == .deny)
    }

    @Test("count while flows use them, each on its own")
    func countWhileFlowsUseThem() throws {
        let policy = try policy("allow example.org:443\nallow other.org:80")
        var table = NameTable()
        let name = try #require(DomainName("example.org"))
        for each in ["example.org", "other.org"] {
            _ = try table.learn(each, ["192.0.2.1"], seconds: 30, policy: policy, now: 0)
        }
        let to = try address("192.0.2.1")
        #expect(table.retain(name, at: to) == true)
        #expect(table.retain(name, at: to) == true)
        let other = try address("192.0.2.2")
        #expect(table.retain(name, at: other) == false)
        let late = 5000 * Self.second
        #expect(try verdict(policy, &table, "192.0.2.1", now: late) == .allow)
        #expect(try verdict(policy, &table, "192.0.2.1", 80, now: late) == .deny)
        table.release(name, at: to)
        #expect(try verdict(policy, &table, "192.0.2.1", now: late) == .allow)
        table.release(name, at: to)
        #expect(try verdict(policy, &table, "192.0.2.1", now: late) == .deny)
        table.release(name, at: to)
        #expect(table.count == 0)
    }

    @Test("of one address: one that is allowed is enough")
    func oneThatIsAllowedIsEnough() throws {
        let policy = try policy("deny bad.example:443\nallow *.example")
        var table = NameTable()
        _ = try table.learn("bad.example", ["192.0.2.1"], policy: policy, now: 0)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 1) == .deny)
        #expect(try verdict(policy, &table, "192.0.2.1", 80, now: 1) == .allow)
        _ = try table.learn("good.example", ["192.0.2.1"], policy: policy, now: 0)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 1) == .allow)
        // With the server's name it is that one which counts, and none other.
        let opening = EgressPolicy.Opening(.tcp, to: try address("192.0.2.1"), port: 443)
        let names = table.names(of: opening.address, now: 1)
        for (text, verdict) in [("bad.example", .deny), ("good.example", .allow), ("new.example", .deny)]
            as [(String, Verdict)]
        {
            let decision = policy.decide(opening, serverName: DomainName(text), names: names, in: around)
            #expect(decision.verdict == verdict, "\(text)")
        }
        #expect(policy.decide(opening, serverName: nil, names: names, in: around).verdict == .deny)
    }

    @Test("are followed over CNAME records in any order, with the shortest time; other names' records are left out")
    func areFollowedOverAliases() throws {
        let policy = try policy("allow example.org")
        let names = try ["EXAMPLE.org", "a.cdn.example", "B.cdn.example", "evil.example"].map { try dnsName($0) }
        var builder = AnswerBuilder(try dnsName("example.ORG"))
        builder.add(names[3], try address("192.0.2.66"))
        builder.add(try dnsName("b.CDN.example"), try address("192.0.2.1"), seconds: 3000)
        builder.add(names[1], alias: names[2], seconds: 60)
        builder.add(names[0], alias: names[1], seconds: 3000)
        var table = NameTable()
        #expect(table.learn(try builder.answer(), policy: policy, in: around, now: 0) == .learned(1))
        #expect(try verdict(policy, &table, "192.0.2.66", now: 0) == .deny)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 60 * Self.second - 1) == .allow)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 60 * Self.second) == .deny)
    }

    @Test("over too many CNAME records, or in a circle, lead nowhere", arguments: [2, 16, 17, 40, -3])
    func overTooManyAliases(length: Int) throws {
        let policy = try policy("allow n0.example")
        var builder = AnswerBuilder(try dnsName("n0.example"))
        let count = abs(length)
        for index in 0..<count {
            let next = length < 0 && index == count - 1 ? 0 : index + 1
            builder.add(try dnsName("n\(index).example"), alias: try dnsName("n\(next).example"))
        }
        builder.add(try dnsName("n\(count).example"), try address("192.0.2.1"))
        var table = NameTable()
        let outcome = table.learn(try builder.answer(), policy: policy, in: around, now: 0)
        #expect(outcome == ((0...16).contains(length) ? .learned(1) : .nothing))
    }

    @Test("of failed answers and of names that no rule can name open nothing")
    func ofFailedAnswers() throws {
        let policy = try policy("allow *.example")
        var table = NameTable()
        for (name, code) in [("a.example", 3), ("a\u{0}.example", 0), ("a b.example", 0)] as [(String, UInt16)] {
            var builder = AnswerBuilder(try dnsName(name), code: code)
            builder.add(try dnsName(name), try address("192.0.2.1"))
            #expect(table.learn(try builder.answer(), policy: policy, in: around, now: 0) == .nothing)
        }
        #expect(table.count == 0)
    }

    @Test(
        "that point to protected addresses are dropped unless those are allowed",
        arguments: [
            ("allow example.org", "10.0.0.1", false), ("allow example.org", "127.0.0.1", false),
            ("allow example.org", "0.0.0.0", false), ("allow example.org", "::1", false),
            ("allow example.org", "169.254.169.254", false), ("allow example.org", "fd00:ec2::254", false),
            ("allow example.org", "198.51.100.7", false), ("allow example.org", "64:ff9b::10.0.0.1", false),
            ("allow example.org", "::ffff:10.0.0.1", false), ("allow example.org\nallow 10.0.0.0/8", "10.0.0.1", true),
            ("allow example.org\nallow private", "10.0.0.1", true),
            ("allow example.org\nallow private", "127.0.0.1", false),
            ("allow example.org\nallow host", "198.51.100.7", true), ("allow any", "10.0.0.1", true),
            ("deny private\nallow any", "10.0.0.1", false), ("allow example.org", "192.0.2.1", true),
        ])
    func thatPointToProtectedAddresses(text: String, to: String, passes: Bool) throws {
        let policy = try policy(text)
        var table = NameTable()
        let outcome = try table.learn("example.org", ["192.0.2.9", to], policy: policy, in: around, now: 0)
        #expect(outcome == (passes ? .learned(2) : .rebinding(try address(to))))
        #expect(try verdict(policy, &table, to, now: 0) == (passes ? .allow : .deny))
        #expect(table.count == (passes ? 2 : 0))
    }

    @Test("never open an address that has become the host's since, nor more of a protected one than its own rule")
    func neverOpenTheHost() throws {
        let policy = try policy("allow example.org\nallow private:443")
        var table = NameTable()
        #expect(
            try table.learn("example.org", ["10.0.0.1", "203.0.113.5"], policy: policy, in: around, now: 0)
                == .learned(2))
        #expect(try verdict(policy, &table, "10.0.0.1", 443, now: 0) == .allow)
        #expect(try verdict(policy, &table, "10.0.0.1", 22, now: 0) == .deny)
        let opening = EgressPolicy.Opening(.tcp, to: try address("203.0.113.5"), port: 22)
        let names = table.names(of: opening.address, now: 0)
        #expect(policy.decide(opening, names: names, in: around).verdict == .allow)
        let roamed = PolicySurroundings(hostAddresses: [opening.address])
        #expect(policy.decide(opening, names: names, in: roamed).verdict == .deny)
    }

    @Test("of an answer with 512 addresses all count; a table has no more entries than its bound")
    func ofALargeAnswer() throws {
        let policy = try policy("allow *.example")
        var table = NameTable()
        let all = (0..<512).map { "192.0.\($0 >> 8).\($0 & 255)" }
        #expect(try table.learn("a.example", all, policy: policy, now: 0) == .learned(512))
        #expect(table.count == 512)
        for to in all { #expect(try verdict(policy, &table, to, now: 1) == .allow) }

        var small = NameTable(capacity: 64, namesPerAddress: 4)
        for round in 0..<40 {
            _ = try small.learn(
                "n\(round).example", Array(all.dropFirst(round * 8).prefix(8)), policy: policy, now: UInt64(round))
            #expect(small.count <= 64)
        }
        #expect(small.crowdedOut > 0)
        // The newest answer is there.
        #expect(try verdict(policy, &small, all[39 * 8], now: 40) == .allow)
        for round in 0..<40 { _ = try small.learn("m\(round).example", ["203.0.113.1"], policy: policy, now: 50) }
        #expect(small.names(of: try address("203.0.113.1"), now: 50).count == 4)
    }

    @Test("in use are not crowded out")
    func inUseAreNotCrowdedOut() throws {
        let policy = try policy("allow *.example")
        var table = NameTable(capacity: 8)
        _ = try table.learn("kept.example", ["192.0.2.1"], seconds: 30, policy: policy, now: 0)
        let (kept, at) = (try #require(DomainName("kept.example")), try address("192.0.2.1"))
        #expect(table.retain(kept, at: at) == true)
        for index in 0..<100 {
            _ = try table.learn("n\(index).example", ["198.51.100.\(index)"], policy: policy, now: 1)
        }
        #expect(table.count <= 8)
        #expect(try verdict(policy, &table, "192.0.2.1", now: 7200 * Self.second) == .allow)
    }

    @Test("stay when the rules change, and follow the new ones")
    func followTheNewRules() throws {
        let before = try policy("allow a.example\nallow b.example")
        var table = NameTable()
        _ = try table.learn("a.example", ["192.0.2.1"], policy: before, now: 0)
        _ = try table.learn("b.example", ["192.0.2.2"], policy: before, now: 0)
        let after = try policy("deny 203.0.113.0/24\nallow b.example")
        table.adopt(after)
        #expect(try verdict(after, &table, "192.0.2.1", now: 1) == .deny)
        #expect(try verdict(after, &table, "192.0.2.2", now: 1) == .allow)
    }

    @Test("table's count is that of its entries after any sequence", arguments: 0..<8 as Range<UInt64>)
    func countIsThatOfTheEntries(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let policy = try policy("allow *.example")
        var table = NameTable(capacity: 40, namesPerAddress: 3)
        var held: [(DomainName, IPAddress)] = []
        var now: UInt64 = 0
        for _ in 0..<1500 {
            let name = "n\(Int.random(in: 0..<30, using: &random)).example"
            let to = try address("192.0.2.\(Int.random(in: 0..<30, using: &random))")
            now += UInt64.random(in: 0..<5, using: &random) * Self.second
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1: _ = try table.learn(name, [to.description], seconds: 60, policy: policy, now: now)
            case 2:
                let domain = try #require(DomainName(name))
                if held.count < 20, table.retain(domain, at: to) { held.append((domain, to)) }
            case 3: if let (domain, at) = held.popLast() { table.release(domain, at: at) }
            default: _ = table.names(of: to, now: now)
            }
            #expect(table.count <= 40)
        }
        for (domain, at) in held {
            #expect(table.names(of: at, now: .max).contains { $0.name == domain }, "seed \(seed)")
            table.release(domain, at: at)
        }
        table.expire(now: .max)
        #expect(table.count == 0, "seed \(seed)")
    }
}
