// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import Options
import Planning
import TestSupport
import Testing

@testable import Engine

/// A laptop with Wi-Fi, a cable without carrier, and a VPN that takes a part of the Internet.
private let laptop = Host(
    "link eth0 no-carrier", "link wlan0", "link tun0", "addr 198.51.100.5/24 dev eth0", "addr 192.0.2.10/24 dev wlan0",
    "addr 192.0.2.11/24 dev wlan0 secondary deprecated", "addr 10.8.0.2/24 dev tun0",
    "addr 2001:db8:1::10/64 dev wlan0", "addr fe80::10/64 dev wlan0",
    "route default via 198.51.100.1 dev eth0 linkdown metric 100", "route default via 192.0.2.1 dev wlan0 metric 600",
    "route 10.0.0.0/8 via 10.8.0.1 dev tun0", "route default via fe80::1 dev wlan0", "dns 192.0.2.53 127.0.0.53")

private func state(_ host: Host, _ edit: (inout Configuration) -> Void = { _ in }) -> Chronicle.State {
    var configuration = Configuration()
    configuration.configuresNamespace = true
    edit(&configuration)
    let snapshot = host.taken()
    return Chronicle.State(
        snapshot: snapshot, plan: Planning.plan(snapshot, configuration, namespaceFamilies: [.v4, .v6]))
}

private let mainRule = RoutingRule(family: .v4, priority: 32766, table: .main, action: 1)

@Suite("Reports of a running instance")
struct ControlReportTests {
    @Test("status of a recorded plan, every member")
    func status() throws {
        var invocation = Invocation()
        invocation.mode = .spawn(command: ["make", "fetch"])
        invocation.configuration.configuresNamespace = true
        var state = state(laptop)
        state.lingering = [try #require(IPAddress("203.0.113.9")): 2]
        state.failures = ["route add 10.0.0.0/8 via 192.0.2.9: Nexthop has invalid gateway"]
        let moment = (time: WallTime(milliseconds: 1_795_816_800_123), seconds: 61.2504)
        var change = FollowedChange(number: 3, time: 1_795_816_862_000, causes: "addresses, routes")
        change.changes = [.mode(.v4, from: .local, to: state.plan.families.v4.mode)]
        change.operations = ["addr add 192.0.2.10/24 dev wlan0"]
        change.operationCount = 1
        change.endedFlows = 4
        change.pinned = [(try #require(IPAddress("198.51.100.5")), "eth0")]
        change.latencies = .init(settled: 118.2, planned: 0.4, published: 0.31, applied: 2.9, total: 104)
        let forward: JSONValue = [
            "direction": "inbound", "protocol": "tcp", "address": nil, "interface": nil, "first": 8080, "last": 8080,
            "target_address": nil, "target_first": 80, "policy": "explicit", "state": "listening", "cause": nil,
            "text": "TCP *:8080 => 80",
        ]
        let report = StatusReport(
            process: 4711, started: moment.time, uptime: moment.seconds, invocation: invocation, state: state,
            since: .init(v4: moment, v6: moment), flowCount: 12, forwards: [forward], lastChange: change)
        let text = report.json.indentedText + "\n"
        #expect(text == Golden.text("control/status.json", found: text))
        // The names that programs rely on.
        let v4 = report.json["families"]?["ipv4"]
        #expect(v4?["mode"] == "template" && v4?["interface"] == "wlan0" && v4?["gateway"] == "192.0.2.1")
        #expect(v4?["addresses"]?.array?.first?["prefix"] == "192.0.2.10/24")
        #expect(report.json["families"]?["ipv6"]?["mode"] == "template")
        let event = change.json.indentedText + "\n"
        #expect(event == Golden.text("control/watch.json", found: event))
    }

    @Test("explain of a recorded plan, every member")
    func explain() {
        let state = state(laptop)
        let report = ExplainReport(
            state: state,
            traces: state.snapshot.lookups.map {
                RouteTrace(lookup: $0, rule: $0.destination.family == .v4 ? mainRule : nil)
            })
        let text = report.json.indentedText + "\n"
        #expect(text == Golden.text("control/explain.json", found: text))
    }

    @Test(
        "the host interfaces that were candidates, and the rule that decided on each",
        arguments: [
            // The default of the lowest metric; the kernel is asked, and where it was not the table decides.
            (
                [
                    "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
                    "route default via 10.2.0.1 dev d2 metric 300", "route default via 10.1.0.1 dev d1 metric 200",
                ], "d1 kernel 200 template, d2 default-route 300 outranked"
            ),
            (
                [
                    "unasked", "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
                    "route default via 10.2.0.1 dev d2 metric 300", "route default via 10.1.0.1 dev d1 metric 200",
                ], "d1 default-route 200 template, d2 default-route 300 outranked"
            ),
            (
                ["link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2"],
                "d1 other-route - template, d2 other-route - outranked"
            ),
            (["link d1", "addr 169.254.7.7/16 dev d1"], ""),
            (["link d1", "addr 169.254.7.7/16 dev d1", "route default dev d1"], "d1 kernel 0 no-usable-address"),
            (["link t", "addr 10.8.0.2/24 dev t", "route default dev t scope link"], "t kernel 0 template"),
            (
                ["-i d3", "link d1", "link d3", "addr 10.1.0.2/24 dev d1", "route default via 10.1.0.1 dev d1"],
                "d3 option - no-address"
            ),
            (["-i e", "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w"], "e option - absent"),
            (["-i e", "link e no-carrier", "addr 192.0.2.10/24 dev e"], "e option - no-carrier"),
            (["-i e", "link e", "addr 192.0.2.10/24 dev e"], "e option - template"),
            (
                [
                    "link e no-carrier", "link w", "addr 198.51.100.5/24 dev e", "addr 192.0.2.10/24 dev w",
                    "route default via 198.51.100.1 dev e linkdown metric 100",
                    "route default via 192.0.2.1 dev w metric 600",
                ], "e kernel 100 no-carrier, w default-route 600 template"
            ),
            (
                [
                    "link d1", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
                    "route default nexthop via 10.1.0.1 dev d1 weight 1 nexthop via 10.2.0.1 dev d2 weight 9",
                ], "d1 kernel 0 template, d2 default-route 0 outranked"
            ),
            (
                [
                    "link d1 no-carrier", "link d2", "addr 10.1.0.2/24 dev d1", "addr 10.2.0.2/24 dev d2",
                    "route default nexthop via 10.1.0.1 dev d1 dead nexthop via 10.2.0.1 dev d2",
                ], "d2 kernel 0 template"
            ),
            (
                [
                    "link w", "link t", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/24 dev t",
                    "route default via 192.0.2.1 dev w metric 600", "route 0.0.0.0/1 via 10.8.0.1 dev t",
                    "route 128.0.0.0/1 via 10.8.0.1 dev t",
                ], "t kernel - template, w default-route 600 outranked"
            ),
            (
                [
                    "tables 51820", "link w", "link wg0", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/32 dev wg0",
                    "route default via 192.0.2.1 dev w metric 600", "route default dev wg0 scope link table 51820",
                ], "wg0 kernel - template, w default-route 600 outranked"
            ),
            (
                [
                    "link w", "link t", "addr 192.0.2.10/24 dev w", "addr 10.8.0.2/24 dev t",
                    "route default via 192.0.2.1 dev w metric 600", "route 10.0.0.0/8 via 10.8.0.1 dev t",
                ], "w kernel 600 template"
            ),
            (
                [
                    "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600",
                    "route unreachable default metric 1",
                ], ""
            ),
            (
                [
                    "link w", "link t", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w metric 600",
                    "route default dev t scope link metric 50",
                ], "t kernel 50 no-address"
            ),
            (
                [
                    "link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w",
                    "route blackhole 203.0.113.0/24",
                ], "w default-route 0 template"
            ),
            (
                ["link w", "addr 192.0.2.10/24 dev w scope link", "route default via 192.0.2.1 dev w"],
                "w kernel 0 no-usable-address"
            ),
        ] as [([String], String)])
    func candidates(commands: [String], expected: String) {
        var host = Host()
        var configuration: (inout Configuration) -> Void = { _ in }
        for command in commands {
            let words = command.split(separator: " ").map(String.init)
            switch words[0] {
            case "unasked": host.isAsked = false
            case "-i": configuration = { $0.templateInterface = words[1] }
            case "tables": host.lookupTables = [RouteTable(rawValue: UInt32(words[1]) ?? 0), .main]
            default: host.run(command)
            }
        }
        let state = state(host, configuration)
        let family = ExplainReport(state: state).json["families"]?["ipv4"]
        let rows = (family?["candidates"]?.array ?? []).map { row in
            [
                row["interface"]?.string, row["rank"]?.string, row["metric"]?.integer.map(String.init) ?? "-",
                row["verdict"]?.string,
            ].map { $0 ?? "?" }.joined(separator: " ")
        }
        #expect(rows.joined(separator: ", ") == expected)
        // The report must match the plan: the template is the interface that the plan copies, and there is at most one.
        let templates = (family?["candidates"]?.array ?? []).filter { $0["verdict"] == "template" }
        #expect(templates.map { $0["interface"]?.string } == [state.plan.families.v4.mode.interface].compactMap(\.self))
    }

    @Test("a tentative address is reported as such (scenario 2)")
    func tentative() {
        let host = Host(
            "link e", "link w", "addr 2001:db8:2::5/64 dev e tentative", "addr fe80::5/64 dev e",
            "addr 2001:db8:1::10/64 dev w", "route default via fe80::2 dev e metric 100",
            "route default via fe80::1 dev w metric 600")
        let rows = ExplainReport(state: state(host)).json["families"]?["ipv6"]?["candidates"]?.array ?? []
        #expect(rows.map { $0["verdict"] } == ["tentative", "template"])
    }

    @Test(
        "what would happen to a packet",
        arguments: [
            ("198.51.100.7", 443, "host", "wlan0", "198.51.100.7"), ("10.1.2.3", 80, "host", "wlan0", "10.1.2.3"),
            ("192.0.2.1", 80, "loopback", "lo", "127.0.0.1"), ("192.0.2.1", 53, "resolver", "wlan0", "192.0.2.53"),
            ("192.0.2.10", 80, "namespace", nil, nil), ("127.0.0.1", 80, "namespace", nil, nil),
            ("255.255.255.255", 80, "refused", nil, nil),
        ] as [(String, UInt16, String, String?, String?)])
    func destinations(text: String, port: UInt16, outcome: String, interface: String?, mapped: String?) throws {
        let destination = try #require(IPAddress(text))
        let report = DestinationReport(
            destination: destination, port: port, transport: .tcp, state: state(laptop))
        let trace = report.asked.map { asked in
            RouteTrace(
                lookup: RouteLookup(
                    destination: asked,
                    answer: .route(
                        interface: InterfaceIndex(rawValue: 3), gateway: IPAddress("192.0.2.1"),
                        source: IPAddress("192.0.2.10"), table: .main)),
                rule: mainRule)
        }
        let json = report.json(trace)
        #expect(json["outcome"]?.string == outcome && json["interface"]?.string == interface)
        #expect(json["mapped_to"]?.string == mapped)
        if outcome == "host" { #expect(json["rule"]?["priority"] == 32766) }
        let line = json.indentedText + "\n"
        if text == "198.51.100.7" { #expect(line == Golden.text("control/explain-destination.json", found: line)) }
    }

    @Test("a refusal of the host's kernel is reported with the rule that refuses, a doubtful rule as such")
    func unreachable() throws {
        let destination = try #require(IPAddress("198.51.100.7"))
        let refusing = RoutingRule(family: .v4, priority: 5209, table: .main, action: 7)
        let report = DestinationReport(
            destination: destination, port: 0, transport: nil, state: state(laptop))
        let lookup = RouteLookup(destination: destination, answer: .unreachable(errno: 113))
        let json = report.json(RouteTrace(lookup: lookup, rule: refusing))
        #expect(json["outcome"] == "unreachable" && json["errno"] == 113 && json["protocol"] == "icmp")
        #expect(json["rule"]?["priority"] == 5209 && json["rule"]?["certain"] == true)
        #expect(json["text"]?.string?.hasSuffix(" errno 113 (rule 5209: from all unreachable)") == true, "\(json)")
        let doubtful = report.json(RouteTrace(lookup: lookup, rule: refusing, isCertain: false))
        #expect(doubtful["rule"]?["certain"] == false)
        #expect(doubtful["text"]?.string?.hasSuffix("(maybe rule 5209: from all unreachable)") == true)
        let none = report.json(RouteTrace(lookup: lookup, rule: nil))
        #expect(none["rule"] == .null && none["text"]?.string?.hasSuffix("(no rule leads to a route)") == true)
    }
}

@Suite("What to wait for")
struct WaitConditionTests {
    private func condition(_ parameters: JSONValue) throws -> WaitCondition {
        try WaitCondition(
            ControlParameters(try #require(parameters.object)),
            ForwardCommands(Invocation(), ephemeralRange: EphemeralRange.fallback))
    }

    @Test("conditions hold or say what is missing")
    func conditions() throws {
        let online = state(laptop)
        let offline = state(Host())
        for wanted in [
            ["usable": "4"], ["usable": "any"], ["address": "192.0.2.10"], ["mode": "template"],
            ["mode": "ipv6:template"], ["usable": "6", "mode": "ipv4:template"],
        ] as [JSONValue] {
            #expect(try condition(wanted).missing(in: online) == nil, "\(wanted.compactText)")
            #expect(try condition(wanted).missing(in: offline) != nil, "\(wanted.compactText)")
        }
        #expect(try condition(["usable": "6"]).missing(in: offline) == "IPv6 has no network of the host")
        #expect(try condition(["mode": "local"]).missing(in: offline) == nil)
    }

    @Test(
        "conditions without a meaning are refused",
        arguments: [
            [:], ["usable": "5"], ["usable": 4], ["address": "wlan0"], ["mode": "ipv5:local"], ["mode": "on"],
            ["forward": "none"], ["forward": "80-70"], ["forward": "-x 80"], ["forward": "-t 80 90"], ["forward": ""],
        ] as [JSONValue])
    func refusals(parameters: JSONValue) {
        #expect(throws: (any Error).self) { _ = try condition(parameters) }
    }
}
