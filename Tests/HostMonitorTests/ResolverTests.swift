// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkModel
import NetworkTypes
import Testing

@testable import HostMonitor

private func parse(_ text: String) -> String {
    let parsed = ResolverConfiguration(resolvConf: text.utf8)
    let servers = parsed.servers.map { "\($0.address)" + ($0.zone.map { "%\($0)" } ?? "") }
    return servers.joined(separator: " ") + " | " + parsed.search.joined(separator: " ")
}

@Suite("resolv.conf (resolver(5))")
struct ResolverParserTests {
    @Test(
        "is read as resolver(5) says",
        arguments: [
            ("", " | "),
            ("nameserver 192.0.2.53\n", "192.0.2.53 | "),
            ("nameserver 192.0.2.53", "192.0.2.53 | "),
            ("nameserver\t192.0.2.53\t \n", "192.0.2.53 | "),
            ("nameserver   192.0.2.53   \r\n", "192.0.2.53 | "),
            ("nameserver 192.0.2.53 # office\n", "192.0.2.53 | "),
            ("nameserver 192.0.2.53;office\n", "192.0.2.53 | "),
            ("nameserver 192.0.2.53 trailing words\n", "192.0.2.53 | "),
            ("#nameserver 192.0.2.53\n;nameserver 192.0.2.54\n", " | "),
            (" nameserver 192.0.2.53\n", " | "),
            ("nameserver\n", " | "),
            ("nameserver192.0.2.53\n", " | "),
            ("Nameserver 192.0.2.53\n", " | "),
            ("nameserver not.an.address\n", " | "),
            ("nameserver 2001:db8::53\nnameserver 192.0.2.1\n", "2001:db8::53 192.0.2.1 | "),
            ("nameserver fe80::1%wlan0\n", "fe80::1%wlan0 | "),
            ("nameserver fe80::1%\n", " | "),
            ("nameserver ::ffff:192.0.2.1\n", "192.0.2.1 | "),
            ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", "192.0.2.1 | "),
            ("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a.example b\n", "127.0.0.53 | a.example b"),
            ("search a.example\nsearch b.example c.example\n", " | b.example c.example"),
            ("search a.example\ndomain b.example\n", " | b.example"),
            ("domain a.example\nsearch b.example\n", " | b.example"),
            ("domain a.example b.example\n", " | a.example"),
            ("search .\n", " | "),
            ("search a.example # comment\n", " | a.example"),
            ("sortlist 192.0.2.0/24\nunknown x\nnameserver 192.0.2.1\n", "192.0.2.1 | "),
        ])
    func table(text: String, expected: String) {
        #expect(parse(text) == expected)
    }

    @Test("is bounded")
    func bounds() {
        let servers = (0..<100).map { "nameserver 192.0.2.\($0)\n" }.joined()
        let text = servers + "search " + (0..<100).map { "d\($0) " }.joined()
        let parsed = ResolverConfiguration(resolvConf: text.utf8)
        #expect(parsed.servers.count == ResolverConfiguration.maximumServers)
        #expect(parsed.search.count == ResolverConfiguration.maximumSearchDomains)
    }

    @Test("no byte string traps", arguments: 0..<50)
    func hostile(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 1
        let alphabet = Array("nameserver search domain #;%:.\t\r\n0129af\u{FF}".utf8) + [0, 0xFF, 0x80]
        let bytes = (0..<500).map { _ -> UInt8 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return alphabet[Int(state >> 33) % alphabet.count]
        }
        let parsed = ResolverConfiguration(resolvConf: bytes)
        #expect(parsed.servers.count <= ResolverConfiguration.maximumServers)
    }
}

@Suite("accepting reports about resolv.conf")
struct ResolverSettlingTests {
    func text(_ text: String) -> ResolverReport { .text(Array(text.utf8)) }
    func servers(_ machine: ResolverSettling) -> [String] { machine.configuration.servers.map { "\($0.address)" } }
    func machine() -> ResolverSettling { ResolverSettling(text("nameserver 192.0.2.1\n").configuration) }

    @Test("a complete file is accepted at once")
    func whole() {
        var machine = machine()
        let outcome1 = machine.take(text("nameserver 192.0.2.2\n"), now: at(0))
        #expect(outcome1)
        #expect(servers(machine) == ["192.0.2.2"])
        #expect(machine.deadline == nil)
    }

    @Test(
        "an empty, half-written, absent or unreadable file is accepted after one second",
        arguments: [
            .text([]), .text(Array("nameserver 192.0.2".utf8)), .absent, .unreadable(errno: 13),
            .text(Array("# nothing\n".utf8)),
        ] as [ResolverReport])
    func doubtful(report: ResolverReport) {
        var machine = machine()
        let outcome2 = machine.take(report, now: at(0))
        #expect(!outcome2)
        #expect(servers(machine) == ["192.0.2.1"])
        #expect(machine.deadline == at(1000))
        let outcome3 = machine.expire(now: at(999))
        #expect(!outcome3)
        let outcome4 = machine.expire(now: at(1000))
        #expect(outcome4)
        #expect(servers(machine) == [])
        #expect(machine.deadline == nil)
    }

    @Test("truncated, then written: only the end is seen")
    func rewritten() {
        var machine = machine()
        let outcome5 = machine.take(text(""), now: at(0))
        #expect(!outcome5)
        let outcome6 = machine.take(text("nameserver 192.0.2."), now: at(1))
        #expect(!outcome6)
        let outcome7 = machine.take(text("nameserver 192.0.2.53\n"), now: at(2))
        #expect(outcome7)
        #expect(servers(machine) == ["192.0.2.53"])
        let outcome8 = machine.expire(now: at(5000))
        #expect(!outcome8)
    }

    @Test("doubtful reports one after another do not put off the end")
    func repeated() {
        var machine = machine()
        _ = machine.take(text(""), now: at(0))
        _ = machine.take(.absent, now: at(900))
        #expect(machine.deadline == at(1000))
    }

    @Test("a file without a newline at its end is accepted if its contents are the same")
    func same() {
        var machine = machine()
        let outcome9 = machine.take(text("nameserver 192.0.2.1"), now: at(0))
        #expect(!outcome9)
        #expect(machine.deadline == nil)
    }

    @Test("an empty file at the start is a state like any other")
    func emptyAtStart() {
        var machine = ResolverSettling(ResolverReport.absent.configuration)
        let outcome10 = machine.take(.text([]), now: at(0))
        #expect(!outcome10)
        let outcome11 = machine.take(text("nameserver 192.0.2.9\n"), now: at(1))
        #expect(outcome11)
    }

    @Test(
        "reports survive the socket",
        arguments: [
            .text(Array("nameserver 192.0.2.1\n".utf8)), .text([]), .absent, .unreadable(errno: 13),
        ] as [ResolverReport])
    func datagrams(report: ResolverReport) {
        #expect(ResolverReport(datagram: report.datagram[...]) == report)
    }
}

@Suite("the chain of resolv.conf")
struct ResolverChainTests {
    func chain(_ nodes: [String: ResolverFile.Node], _ path: String = "/etc/resolv.conf") -> ResolverFile.Chain {
        ResolverFile.chain(path) { nodes[$0] ?? .missing }
    }

    @Test("a plain file: its directory and itself")
    func plain() {
        let found = chain(["/etc": .directory, "/etc/resolv.conf": .other])
        #expect(found.directories == ["/etc": ["resolv.conf"]])
        #expect(found.file == "/etc/resolv.conf")
    }

    @Test("a relative link through parents")
    func relative() {
        let found = chain([
            "/etc": .directory, "/etc/resolv.conf": .link(target: "../run/systemd/resolve/stub-resolv.conf"),
            "/run": .directory, "/run/systemd": .directory, "/run/systemd/resolve": .directory,
            "/run/systemd/resolve/stub-resolv.conf": .other,
        ])
        #expect(
            found.directories == [
                "/etc": ["resolv.conf"], "/run/systemd/resolve": ["stub-resolv.conf"],
            ])
        #expect(found.file == "/run/systemd/resolve/stub-resolv.conf")
    }

    @Test("a link of a link, and a directory that is one")
    func nested() {
        let found = chain([
            "/etc": .directory, "/etc/resolv.conf": .link(target: "/var/run/resolv"), "/var": .directory,
            "/var/run": .link(target: "/run"), "/run": .directory, "/run/resolv": .link(target: "./real"),
            "/run/real": .other,
        ])
        #expect(found.directories == ["/etc": ["resolv.conf"], "/var": ["run"], "/run": ["resolv", "real"]])
        #expect(found.file == "/run/real")
    }

    @Test("a target whose directory is missing: the nearest that is there")
    func missing() {
        let found = chain([
            "/etc": .directory, "/etc/resolv.conf": .link(target: "/run/later/resolv.conf"), "/run": .directory,
        ])
        #expect(found.directories == ["/etc": ["resolv.conf"], "/run": ["later"]])
        #expect(found.file == nil)
    }

    @Test("a loop ends")
    func loop() {
        let found = chain(["/etc": .directory, "/etc/resolv.conf": .link(target: "resolv.conf")])
        #expect(found.file == nil)
    }
}
