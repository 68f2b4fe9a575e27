// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Control

@Suite("OpenMetrics text") struct OpenMetricsTests {
    @Test("families have their type and help, counters end with _total, and the end is marked")
    func familiesHaveTheirTypeAndHelp() {
        var metrics = OpenMetrics()
        metrics.add("tapas_flows", .gauge, "Flows that exist.", 12)
        metrics.add(
            "tapas_drops", .counter, "What was dropped.",
            [
                .init(UInt64(3), .init("reason", "martian")),
                .init(0, .init("reason", "a\"b\\c\nd"), .init("side", "tap")),
            ])
        metrics.addHistogram(
            "tapas_latency_seconds", "How long it took.", buckets: [(0.1, 2), (1, 3)], beyond: 1, sum: 4.25)
        #expect(
            metrics.text == """
                # TYPE tapas_flows gauge
                # HELP tapas_flows Flows that exist.
                tapas_flows 12
                # TYPE tapas_drops counter
                # HELP tapas_drops What was dropped.
                tapas_drops_total{reason="martian"} 3
                tapas_drops_total{reason="a\\"b\\\\c\\nd",side="tap"} 0
                # TYPE tapas_latency_seconds histogram
                # HELP tapas_latency_seconds How long it took.
                tapas_latency_seconds_bucket{le="0.1"} 2
                tapas_latency_seconds_bucket{le="1"} 5
                tapas_latency_seconds_bucket{le="+Inf"} 6
                tapas_latency_seconds_sum 4.25
                tapas_latency_seconds_count 6
                # EOF

                """)
    }

    @Test("text without figures is its end alone")
    func withoutFigures() {
        #expect(OpenMetrics().text == "# EOF\n")
    }
}
