// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import JSON
import LinuxSystem
import NetworkModel
import NetworkTypes
import Options
import TestSupport
import Testing

@testable import Engine
@testable import Forwarding
@testable import PortForwarding

/// The answers of the commands on flows, forwards, names and figures, as programs get them with `--json`.
///
/// What tapasctl prints of the same answers for people is in the tests of ControlClient; `status`, `explain` and `watch`
/// are in `ControlReportTests`.
@Suite("Answers of a recorded instance, every member")
struct AnswerGoldenTests {
    private func expect(_ answer: JSONValue, _ name: String) {
        let text = answer.indentedText + "\n"
        #expect(text == Golden.text("control/\(name).json", found: text))
    }

    private func endpoint(_ address: String, _ port: UInt16) throws -> Endpoint {
        Endpoint(address: try #require(IPAddress(address)).asIPv6, port: port)
    }

    @Test("flows")
    func flows() throws {
        let connection = FlowRecord(
            transport: .tcp, guest: try endpoint("192.0.2.10", 40112), remote: try endpoint("198.51.100.7", 443),
            hostAddress: IPAddress("192.0.2.10"), hostPort: 51200, hostInterface: "wlan0", state: .established,
            isInbound: false, isForResolvers: false, age: 125_500_000_000, idle: 100_000_000, framesFromGuest: 80,
            framesToGuest: 900, bytesFromGuest: 5120, bytesToGuest: 1_048_576, roundTrip: 13_000)
        let query = FlowRecord(
            transport: .udp, guest: try endpoint("2001:db8:1::10", 53999), remote: try endpoint("fe80::1", 53),
            hostAddress: nil, hostPort: nil, hostInterface: nil, state: .unanswered, isInbound: false,
            isForResolvers: true, age: 1_000_000_000, idle: 1_000_000_000, framesFromGuest: 1, framesToGuest: 0,
            bytesFromGuest: 64, bytesToGuest: 0, roundTrip: nil)
        let spliced = SplicedFlow(
            transport: .tcp, direction: .inbound, client: try endpoint("127.0.0.1", 50123),
            local: try endpoint("127.0.0.1", 8080), target: try endpoint("127.0.0.1", 80), state: .closing,
            age: 3_250_000_000, idle: 0, bytesFromClient: 12, bytesToClient: 3400)
        expect(
            ["flows": [FlowCommands.json(connection), FlowCommands.json(query), FlowCommands.json(spliced)]], "flows")
    }

    @Test("forward list, add, remove and replace")
    func forwards() throws {
        let commands = ForwardCommands(Invocation(), ephemeralRange: EphemeralRange.fallback)
        func rule(_ option: String, _ specification: String) throws -> PortForward {
            let rules = try commands.rules([["option": .string(option), "specification": .string(specification)]])
            return try #require(rules.first)
        }
        expect(
            ForwardCommands.answer([
                .init(rule: try rule("tcp-ports", "8080:80"), openPorts: 1, takenPorts: 0, wait: nil),
                .init(
                    rule: try rule("udp-ports", "192.0.2.10/53:10.89.0.2"), openPorts: 1, takenPorts: 0, wait: .address),
                .init(rule: try rule("tcp-ports", "9000-9009"), openPorts: 9, takenPorts: 1, wait: nil),
                .init(rule: try rule("tcp-ns", "5432"), openPorts: 1, takenPorts: 0, wait: nil),
            ]), "forwards")
    }

    @Test("dns")
    func dns() throws {
        var rules = TranslationRules()
        rules.families.v4.dnsForward = IPAddress("192.0.2.1")
        rules.dnsServers = [
            .init(try #require(IPAddress("192.0.2.53"))), .init(try #require(IPAddress("fe80::53")), zone: "wlan0"),
        ]
        expect(RunningMethods.dns(rules, try statistics()), "dns")
    }

    @Test("pcap stop")
    func captureStop() { expect(RunningMethods.captured(120, lost: 2), "pcap-stop") }

    private func statistics() throws -> DNSStatistics {
        var statistics = DNSStatistics()
        let servers = [try endpoint("192.0.2.53", 53), try endpoint("fe80::53", 53)]
        for _ in 0..<39 {
            statistics.countQuestion(to: servers[0], among: servers)
            statistics.countAnswer(from: servers[0], at: 1)
        }
        statistics.countQuestion(to: servers[1], among: servers)
        (statistics.queries, statistics.answers, statistics.failures) = (40, 39, 1)
        return statistics
    }

    @Test("metrics")
    func metrics() throws {
        var report = MetricsReport(version: "0.1.0", uptime: 61_250_000_000)
        var counters = Counters()
        (counters.framesIn, counters.bytesIn, counters.framesOut, counters.bytesOut) = (1200, 96_000, 1500, 2_400_000)
        (counters.flowsOpened, counters.flowsEvicted, counters.retransmissions) = (42, 1, 3)
        counters.backlogBytes = 16_384
        counters.drop(.spoofedSource)
        report.dataPath = ForwarderFigures(
            counters: counters, dns: try statistics(),
            flowsByKind: zip(FlowKind.allCases, 0...).map { ($0.metricName, $1) }, flowLimit: 131_072,
            flowMemory: 65_536, backlogMemory: 32_768)
        var ports = ForwardCounters()
        (ports.accepted, ports.refused, ports.changes, ports.failedChanges) = (7, 1, 2, 1)
        report.ports = ForwardFigures(counters: ports, rules: 4, listeners: 12, connections: 2, clients: 1)
        var monitor = MonitorCounters()
        (monitor.notifications, monitor.readings, monitor.overflows, monitor.changes) = (250, 12, 1, 5)
        (monitor.failures, monitor.holdDowns) = (0, 1)
        report.monitor = monitor
        var latency = LatencyHistogram()
        for milliseconds in [104, 106, 2, 780] as [Int64] { latency.add(milliseconds: milliseconds) }
        report.following = .init(plans: 6, latency: latency)
        report.residentMemory = 9_437_184
        expect(report.json, "metrics")
    }
}
