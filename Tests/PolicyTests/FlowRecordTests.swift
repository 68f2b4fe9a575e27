// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import NetworkTypes
@testable import Policy
import Testing

@Suite("flow log")
struct FlowRecordTests {
    private func record(_ event: FlowRecord.Event, _ transport: PolicyTransport, rule: PolicyRule?) throws -> FlowRecord
    {
        FlowRecord(
            event, time: 1_795_819_701_123_456_789, verdict: event == .open ? .allow : .deny, rule: rule,
            transport: transport, guest: .init(try address("10.0.2.15"), 40000),
            remote: .init(try address("2001:db8::1"), transport == .icmp ? 0 : 443))
    }

    @Test("has a line of JSON for each event, with what is known")
    func hasALine() throws {
        var open = try record(.open, .tcp, rule: try rules("allow example.org:443").first)
        open.name = "example.org"
        open.interface = "wlan0"
        #expect(
            open.jsonLine == """
                {"time":"2026-11-27T22:48:21.123456Z","event":"open","verdict":"allow","rule":"allow example.org:443",\
                "protocol":"tcp","guest_address":"10.0.2.15","guest_port":40000,"remote_address":"2001:db8::1",\
                "remote_port":443,"name":"example.org","interface":"wlan0"}

                """)
        var denied = try record(.deny, .icmp, rule: nil)
        denied.reason = "default"
        #expect(
            denied.jsonLine == """
                {"time":"2026-11-27T22:48:21.123456Z","event":"deny","verdict":"deny","rule":"default","protocol":"icmp",\
                "guest_address":"10.0.2.15","remote_address":"2001:db8::1","reason":"default"}

                """)
        var close = open
        close.event = .close
        var traffic = FlowRecord.Traffic()
        traffic.bytesOut = 12
        traffic.bytesIn = .max
        traffic.packetsOut = 1
        traffic.packetsIn = 2
        traffic.duration = 1_500_000
        close.traffic = traffic
        #expect(
            close.jsonLine.contains(
                #""bytes_out":12,"bytes_in":9223372036854775807,"packets_out":1,"packets_in":2,"duration_us":1500"#))
    }

    @Test("stays one line whatever a name holds")
    func staysOneLine() throws {
        var refused = try record(.refuse, .udp, rule: nil)
        refused.name = "a\n\u{0}\"\\b"
        let line = refused.jsonLine
        #expect(line.split(separator: "\n", omittingEmptySubsequences: false).count == 2)
        #expect(try JSONValue(parsing: Array(line.utf8))["name"]?.string == refused.name)
    }

    @Test(
        "writes times as RFC 3339",
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"), (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"), (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"), (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] as [(UInt64, String)])
    func writesTimes(seconds: UInt64, text: String) {
        #expect(FlowRecord.text(ofTime: seconds * 1_000_000_000) == text)
    }
}
