// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import Forwarding
internal import HostMonitor
internal import JSON
internal import LinuxSystem
internal import Netlink
internal import PortForwarding

/// A histogram of the time that the namespace took to follow the host.
struct LatencyHistogram: Hashable {
    /// The upper bounds of the buckets, in milliseconds.
    static let bounds: [Int64] = [10, 25, 50, 100, 200, 500, 1000, 2000, 5000]

    /// The number of values in each bucket, and beyond the last.
    private(set) var counts: [UInt64] = .init(repeating: 0, count: bounds.count + 1)
    /// The sum of all, in milliseconds.
    private(set) var sum: Int64 = 0

    /// Counts a value.
    mutating func add(milliseconds: Int64) {
        let milliseconds = max(milliseconds, 0)
        sum += milliseconds
        counts[Self.bounds.firstIndex { milliseconds <= $0 } ?? Self.bounds.count] += 1
    }
}

/// All figures of an instance at one moment, and their text.
struct MetricsReport {
    /// The program's version.
    var version: String
    /// The time since the start, in nanoseconds.
    var uptime: Int64
    /// The figures of the data path; nil with `--splice-only`.
    var dataPath: ForwarderFigures?
    /// The figures of forwarded ports; nil without any.
    var ports: ForwardFigures?
    /// The figures of the monitor; nil with `--no-monitor`.
    var monitor: MonitorCounters?
    /// The figures of the follower; nil with `--no-monitor`.
    var following: FollowingFigures?
    /// Memory in use, in bytes; nil if unknown.
    var residentMemory: Int?

    /// The counters of the follower.
    struct FollowingFigures: Hashable {
        /// Plans that were made.
        var plans: UInt64 = 0
        /// The time from a change's last notification until it was applied, of changes that had an effect.
        var latency = LatencyHistogram()
    }

    /// The answer of `metrics` (docs/control.md).
    var json: JSONValue {
        ["content_type": "application/openmetrics-text; version=1.0.0; charset=utf-8", "text": .string(text)]
    }

    /// The figures as OpenMetrics text (docs/control.md).
    var text: String {
        var metrics = OpenMetrics()
        metrics.add("tapas_build", .gauge, "1, with the version as label.", [.init(1, .init("version", version))])
        metrics.add("tapas_uptime_seconds", .gauge, "How long the instance has run.", [.init(Double(uptime) / 1e9)])
        if let dataPath { Self.add(dataPath, to: &metrics) }
        if let ports { Self.add(ports, to: &metrics) }
        if let monitor { Self.add(monitor, following, to: &metrics) }
        if let residentMemory {
            metrics.add("tapas_resident_memory_bytes", .gauge, "Memory of the process.", residentMemory)
        }
        return metrics.text
    }

    private static func add(_ figures: ForwarderFigures, to metrics: inout OpenMetrics) {
        let counters = figures.counters
        metrics.add(
            "tapas_flows", .gauge, "Flows by kind.",
            figures.flowsByKind.map { .init($0.count, .init("kind", $0.kind)) })
        metrics.add("tapas_flows_limit", .gauge, "The most flows there may be.", figures.flowLimit)
        metrics.add("tapas_flows_opened", .counter, "Flows ever opened.", counters.flowsOpened)
        metrics.add("tapas_flows_evicted", .counter, "Flows that made room for others.", counters.flowsEvicted)
        func both(_ name: String, _ help: String, _ sent: UInt64, _ received: UInt64) {
            metrics.add(
                name, .counter, help,
                [.init(sent, .init("direction", "sent")), .init(received, .init("direction", "received"))])
        }
        both(
            "tapas_link_frames", "Frames that the namespace has sent and received.", counters.framesIn,
            counters.framesOut)
        both("tapas_link_bytes", "Bytes of those frames.", counters.bytesIn, counters.bytesOut)
        metrics.add(
            "tapas_tcp_retransmissions", .counter, "Segments sent to the namespace again.", counters.retransmissions)
        metrics.add(
            "tapas_backlog_bytes", .counter, "Bytes that host sockets did not take at once.", counters.backlogBytes)
        metrics.add(
            "tapas_drops", .counter, "Frames, datagrams and flows that were dropped, by reason.",
            counters.dropsByReason.map { .init($0.count, .init("reason", $0.reason)) })
        metrics.add(
            "tapas_memory_bytes", .gauge, "Memory of the data path, by use.",
            [
                .init(figures.flowMemory, .init("use", "flows")),
                .init(figures.backlogMemory, .init("use", "backlog")),
            ])
        add(figures.dns, to: &metrics)
    }

    private static func add(_ dns: DNSStatistics, to metrics: inout OpenMetrics) {
        metrics.add("tapas_dns_queries", .counter, "Queries for the host's resolvers over UDP.", dns.queries)
        metrics.add("tapas_dns_answers", .counter, "Answers given to the namespace.", dns.answers)
        metrics.add("tapas_dns_failures", .counter, "Queries that nobody has answered (SERVFAIL).", dns.failures)
        metrics.add("tapas_dns_unexpected", .counter, "Datagrams that no query had asked for.", dns.unexpected)
        metrics.add("tapas_dns_streams", .counter, "Connections to resolvers.", dns.streams)
        let servers = dns.servers
        metrics.add(
            "tapas_dns_server_questions", .counter, "Questions sent to each resolver.",
            servers.map { .init($0.questions, .init("server", "\($0.endpoint)")) })
        metrics.add(
            "tapas_dns_server_answers", .counter, "Answers of each resolver.",
            servers.map { .init($0.answers, .init("server", "\($0.endpoint)")) })
    }

    private static func add(_ figures: ForwardFigures, to metrics: inout OpenMetrics) {
        let counters = figures.counters
        metrics.add("tapas_forward_rules", .gauge, "Forwarding rules in force.", figures.rules)
        metrics.add("tapas_forward_listeners", .gauge, "Sockets that listen for them.", figures.listeners)
        metrics.add(
            "tapas_forward_connections", .counter, "Connections accepted on forwarded ports.", counters.accepted)
        metrics.add(
            "tapas_forward_connections_refused", .counter, "Connections of those that could not be passed on.",
            counters.refused)
        metrics.add(
            "tapas_forward_changes", .counter, "Changes of the rules at run time, by outcome.",
            [
                .init(counters.changes, .init("outcome", "made")),
                .init(counters.failedChanges, .init("outcome", "refused")),
            ])
        metrics.add(
            "tapas_spliced_flows", .gauge, "Flows from loopback to loopback, by protocol.",
            [.init(figures.connections, .init("protocol", "tcp")), .init(figures.clients, .init("protocol", "udp"))])
    }

    private static func add(
        _ monitor: MonitorCounters, _ following: FollowingFigures?, to metrics: inout OpenMetrics
    ) {
        metrics.add(
            "tapas_monitor_notifications", .counter, "The kernel's notifications of the host's network.",
            monitor.notifications)
        metrics.add("tapas_monitor_readings", .counter, "Times that tables were dumped.", monitor.readings)
        metrics.add("tapas_monitor_overflows", .counter, "Times that notifications were lost.", monitor.overflows)
        metrics.add("tapas_monitor_failures", .counter, "Readings that failed.", monitor.failures)
        metrics.add("tapas_monitor_changes", .counter, "Changes of the host that made a difference.", monitor.changes)
        metrics.add("tapas_monitor_hold_downs", .counter, "Losses of a family that were held back.", monitor.holdDowns)
        guard let following else { return }
        metrics.add("tapas_plans", .counter, "Plans made for the namespace.", following.plans)
        let latency = following.latency
        metrics.addHistogram(
            "tapas_change_latency_seconds",
            "From a change's last notification until the namespace had followed.",
            buckets: zip(LatencyHistogram.bounds, latency.counts).map { (Double($0) / 1000, $1) },
            beyond: latency.counts.last ?? 0, sum: Double(latency.sum) / 1000)
    }
}
