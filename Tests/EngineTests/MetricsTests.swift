// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import Testing

@testable import Engine
@testable import Forwarding
@testable import PortForwarding

@Suite("Figures as text") struct MetricsTests {
    @Test("an instance without data path, ports and monitor has its version and uptime")
    func withoutAnything() {
        let report = MetricsReport(version: "1.2.3", uptime: 1_500_000_000)
        #expect(
            report.text == """
                # TYPE tapas_build gauge
                # HELP tapas_build 1, with the version as label.
                tapas_build{version="1.2.3"} 1
                # TYPE tapas_uptime_seconds gauge
                # HELP tapas_uptime_seconds How long the instance has run.
                tapas_uptime_seconds 1.5
                # EOF

                """)
    }

    @Test("each family is there once, with its type, and each figure has its family's name")
    func eachFamilyIsThereOnce() {
        var latency = LatencyHistogram()
        for milliseconds in [-1, 10, 11, 700, 60_000] as [Int64] { latency.add(milliseconds: milliseconds) }
        var report = MetricsReport(version: "1", uptime: 0)
        report.ports = ForwardFigures()
        report.monitor = MonitorCounters()
        report.following = .init(plans: 5, latency: latency)
        let lines = report.text.split(separator: "\n").map(String.init)
        let families = lines.filter { $0.hasPrefix("# TYPE") }.map { String($0.split(separator: " ")[2]) }
        #expect(Set(families).count == families.count)
        var current = ""
        for line in lines.dropLast() {
            if line.hasPrefix("# TYPE ") {
                current = String(line.split(separator: " ")[2])
            } else {
                #expect(line.hasPrefix("# HELP \(current) ") || line.hasPrefix(current), "\(line)")
            }
        }
        #expect(lines.last == "# EOF")
        #expect(lines.contains("tapas_change_latency_seconds_bucket{le=\"0.01\"} 2"))
        #expect(lines.contains("tapas_change_latency_seconds_bucket{le=\"1\"} 4"))
        #expect(lines.contains("tapas_change_latency_seconds_bucket{le=\"+Inf\"} 5"))
        #expect(lines.contains("tapas_change_latency_seconds_sum 60.721"))
    }

    @Test("the columns have upstream's names in upstream's order, and none of what is not there")
    func columns() {
        var path = Counters()
        (path.tcpEvents, path.udpEvents, path.echoEvents, path.linkEvents) = (1, 5, 7, 8)
        var ports = ForwardCounters()
        (ports.spliceEvents, ports.streamListenerEvents) = (2, 3)
        (ports.datagramListenerEvents, ports.relayEvents) = (4, 6)
        let all = EventTable.columns(path, ports)
        #expect(
            all.map(\.name) == [
                "connected TCP socket", "connected spliced TCP socket", "listening TCP socket", "listening UDP socket",
                "UDP flow socket", "spliced UDP socket", "ICMP/ICMPv6 ping socket", "/dev/net/tun device",
            ])
        #expect(all.map(\.count) == Array(1...8))
        #expect(EventTable.columns(path, nil).map(\.count) == [1, 5, 7, 8])
        #expect(EventTable.columns(nil, ports).map(\.count) == [2, 3, 4, 6])
    }

    @Test("the table of events has a heading, a line for each change, and nothing where nothing has changed")
    func theTableOfEvents() {
        var table = EventTable()
        let first = table.next([.init(name: "tap", count: 5), .init(name: "TCP", count: 12345)])
        #expect(first == "        tap\n        |        TCP\n        5    12345\n")
        #expect(table.next([.init(name: "tap", count: 5), .init(name: "TCP", count: 12345)]) == nil)
        #expect(table.next([.init(name: "tap", count: 6), .init(name: "TCP", count: 12345)]) == "        6    12345\n")
        for count in 7...24 as ClosedRange<UInt64> {
            #expect(table.next([.init(name: "tap", count: count)])?.contains("tap") == false)
        }
        #expect(table.next([.init(name: "tap", count: 99)])?.hasPrefix("        tap\n") == true)
    }
}
