// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// `tapasctl explain DESTINATION` on hosts whose policy rules decide: the rule that it names is the one that the
    /// kernel came to (issue 13).
    ///
    ///     command ══ tapas in host, which has w0 (the Wi-Fi), e0 (a cable), t0 (a tunnel)
    ///
    /// The kernel's side is found by `deciding_rule.py`, which tries it.
    @Suite("the rule that decided", .timeLimit(.minutes(2))) struct ExplainRules {
        /// A host of the scenario table, as what it has beyond the Wi-Fi.
        struct Case: Sendable {
            /// The row of the field notes' table.
            var row: String
            /// What it has: each line is undone afterwards.
            var commands: [String]
            var destination = "203.0.113.9"
            /// The priority of the rule that is meant; "none" if no rule leads to a route.
            var priority: String
            /// What becomes of the packet.
            var outcome = "host"
            /// Whether tapas can see all that the rules before it ask for.
            var isCertain = true
        }

        private static let base = [
            "address add 192.0.2.10/24 dev w0", "address add 2001:db8:1::10/64 dev w0 nodad",
            "address add 198.51.100.5/24 dev e0", "address add 10.8.0.2/24 dev t0",
            "address add 2001:db8:8::2/64 dev t0 nodad", "route add default via 192.0.2.1 dev w0 metric 600",
            "-6 route add default via 2001:db8:1::1 dev w0 metric 600",
        ]

        static let all: [Case] = [
            Case(row: "1: Wi-Fi", commands: [], priority: "32766"),
            Case(
                row: "4: no default", commands: ["route del default via 192.0.2.1 dev w0 metric 600"],
                priority: "none", outcome: "unreachable"),
            Case(row: "6: the LAN", commands: [], destination: "192.0.2.77", priority: "32766"),
            Case(
                row: "13: docked", commands: ["route add default via 198.51.100.1 dev e0 metric 100"], priority: "32766"
            ),
            Case(
                row: "31: OpenVPN",
                commands: ["route add 0.0.0.0/1 via 10.8.0.1 dev t0", "route add 128.0.0.0/1 via 10.8.0.1 dev t0"],
                priority: "32766"),
            Case(
                row: "32: wg-quick",
                commands: [
                    "route add default dev t0 table 51820", "rule add not fwmark 51820 lookup 51820 pref 5210",
                    "rule add lookup main suppress_prefixlength 0 pref 5208",
                ], priority: "5210"),
            Case(
                row: "32: wg-quick, the LAN",
                commands: [
                    "route add default dev t0 table 51820", "rule add not fwmark 51820 lookup 51820 pref 5210",
                    "rule add lookup main suppress_prefixlength 0 pref 5208",
                ], destination: "192.0.2.77", priority: "5208"),
            Case(
                row: "33: split tunnel", commands: ["route add 10.0.0.0/8 via 10.8.0.1 dev t0"],
                destination: "10.1.1.1", priority: "32766"),
            Case(
                row: "34: the kill switch is a route", commands: ["route add unreachable default metric 1"],
                priority: "32766", outcome: "unreachable"),
            Case(
                row: "34: the kill switch is a rule",
                commands: ["rule add to 192.0.2.0/24 lookup main pref 5200", "rule add unreachable pref 5300"],
                priority: "5300", outcome: "unreachable"),
            Case(
                row: "34: a forbidden network", commands: ["rule add to 203.0.113.0/24 prohibit pref 170"],
                priority: "170", outcome: "unreachable"),
            Case(
                row: "36: Tailscale's exit node",
                commands: [
                    "route add default dev t0 table 52", "rule add fwmark 0x80000/0xff0000 lookup main pref 5210",
                    "rule add fwmark 0x80000/0xff0000 lookup default pref 5230",
                    "rule add fwmark 0x80000/0xff0000 unreachable pref 5250", "rule add lookup 52 pref 5270",
                ], priority: "5270"),
            Case(
                row: "36: Tailscale without an exit node",
                commands: ["route add 100.64.0.0/10 dev t0 table 52", "rule add lookup 52 pref 5270"],
                priority: "32766"),
            Case(
                row: "36: Tailscale's throw routes",
                commands: [
                    "route add default dev t0 table 52", "route add throw 203.0.113.0/24 table 52",
                    "rule add lookup 52 pref 5270",
                ], priority: "32766"),
            Case(
                row: "13: two providers, by source",
                commands: [
                    "route add default via 198.51.100.1 dev e0 metric 100",
                    "route add default via 198.51.100.1 dev e0 table 200",
                    "rule add from 198.51.100.0/24 lookup 200 pref 100",
                    "rule add from 192.0.2.0/24 lookup 201 pref 102",
                ], priority: "100"),
            Case(
                row: "31: a VPN for some ports",
                commands: [
                    "route add default dev t0 table 202", "rule add ipproto udp lookup 202 pref 150",
                    "rule add ipproto tcp dport 80 lookup 202 pref 152",
                    "rule add ipproto tcp dport 400-500 lookup 202 pref 154",
                ], priority: "154"),
            Case(
                row: "31: a VPN for one user",
                commands: [
                    "route add default dev t0 table 203", "rule add not uidrange 0-0 lookup 203 pref 150",
                    "rule add uidrange 0-0 lookup 203 pref 152",
                ], priority: "152"),
            Case(
                row: "31: a VPN for one user, and users that tapas's user namespace does not have",
                commands: [
                    "route add default dev t0 table 203", "rule add uidrange 4000-5000 lookup 203 pref 150",
                    "rule add uidrange 0-0 lookup 203 pref 152",
                ], priority: "152", isCertain: false),
            Case(
                row: "42: rules that say nothing",
                commands: [
                    "route add default dev t0 table 204", "rule add nop pref 10", "rule add lookup 205 pref 12",
                    "rule add iif e0 lookup 204 pref 14", "rule add oif e0 lookup 204 pref 16",
                    "rule add dsfield 0x10 lookup 204 pref 18", "rule add iif lo lookup 204 pref 20",
                ], priority: "20"),
            Case(row: "45: an address of the host", commands: [], destination: "198.51.100.5", priority: "0"),
            Case(row: "3: IPv6", commands: [], destination: "2001:db8:f::1", priority: "32766"),
            Case(
                row: "29: IPv6 withdrawn",
                commands: ["-6 route del default via 2001:db8:1::1 dev w0 metric 600"], destination: "2001:db8:f::1",
                priority: "none", outcome: "unreachable"),
            Case(
                row: "32: wg-quick, IPv6",
                commands: [
                    "-6 route add default dev t0 table 51820",
                    "-6 rule add not fwmark 51820 lookup 51820 pref 5210",
                    "-6 rule add lookup main suppress_prefixlength 0 pref 5208",
                ], destination: "2001:db8:f::1", priority: "5210"),
            Case(
                row: "34: a kill switch in a table, IPv6",
                commands: [
                    "-6 route add prohibit default table 210 metric 1", "-6 rule add lookup 210 pref 180",
                ], destination: "2001:db8:f::1", priority: "180", outcome: "unreachable"),
            Case(
                row: "13: a rule by source, IPv6, where the source is not asked for",
                commands: ["-6 rule add from 2001:db8:1::/64 lookup main pref 190"], destination: "2001:db8:f::1",
                priority: "32766"),
        ]

        @Test("explain names the rule that the kernel came to, on each host of the table")
        func rules() async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                for name in ["w0", "e0", "t0"] {
                    try await host.ip(
                        "link add \(name) type veth peer name \(name)p", "link set \(name)p up", "link set \(name) up")
                }
                for command in Self.base { try await host.ip(command) }
                let socket = lab.newPath("control")
                let program = try await host.startTapas(
                    ["--config-net", "--no-monitor", "-c", socket], ["sh", "-c", "echo ready; exec sleep 100"])
                try await program.wrote("ready")
                for row in Self.all {
                    if !row.commands.isEmpty { try await host.ip(row.commands.joined(separator: "\n")) }
                    let family = row.destination.contains(":") ? "-6" : "-4"
                    let kernel = try await host.must([
                        "python3", helperProgram("deciding_rule.py"), family, row.destination, "443",
                    ])
                    let place = family == "-6" ? "[\(row.destination)]:443" : "\(row.destination):443"
                    let answer = try await host.must([
                        controlBinary, "-s", socket + ".ctl", "--json", "explain", place,
                    ])
                    #expect(kernel == "\(row.priority)\n", "\(row.row): the kernel itself")
                    let rule = row.priority == "none" ? #""rule": null"# : #""priority": \#(row.priority),"#
                    #expect(answer.contains(rule), "\(row.row): \(answer)")
                    #expect(answer.contains(#""outcome": "\#(row.outcome)""#), "\(row.row): \(answer)")
                    #expect(answer.contains(#""certain": false"#) != row.isCertain, "\(row.row): \(answer)")
                    let undone = row.commands.reversed().map(Self.undone).joined(separator: "\n")
                    if !undone.isEmpty { try await host.ip(undone) }
                }
                #expect(Self.all.count >= 20)
            }
        }

        /// The command that takes back what a command has done.
        private static func undone(_ command: String) -> String {
            command.contains(" add ")
                ? command.replacing(" add ", with: " del ") : command.replacing(" del ", with: " add ")
        }
    }
}
