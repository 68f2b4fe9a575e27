// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import TestSupport
import Testing

@testable import ControlClient

private let plain = TextStyle(isColored: false)

@Suite("What tapasctl prints for people")
struct RenderingTests {
    private func value(_ name: String) throws -> JSONValue {
        let text = try #require(Golden.text("control/\(name).json"))
        return try JSONValue(parsing: Array(text.utf8))
    }

    private func expect(_ lines: [String], _ name: String) {
        let text = lines.joined(separator: "\n") + "\n"
        #expect(text == Golden.text("control/\(name).txt", found: text))
    }

    @Test("status") func status() throws { expect(StatusText.lines(try value("status"), plain), "status") }
    @Test("explain") func explain() throws { expect(ExplainText.lines(try value("explain"), plain), "explain") }
    @Test("explain DESTINATION") func destination() throws {
        expect(ExplainText.lines(try value("explain-destination"), plain), "explain-destination")
    }
    @Test("watch") func watch() throws { expect([WatchText.line(try value("watch"), plain)], "watch") }
    @Test("flows") func flows() throws {
        expect(FlowText.lines(try #require(try value("flows")["flows"]?.array)), "flows")
    }
    @Test("forward list") func forwards() throws { expect(ForwardText.lines(try value("forwards")), "forwards") }
    @Test("metrics") func metrics() throws { expect(ShortTexts.metrics(try value("metrics")), "metrics") }
    @Test("log level") func logLevel() throws { expect(ShortTexts.logLevel(try value("log-level")), "log-level") }
    @Test("flows kill") func flowsKill() throws { expect(ShortTexts.killed(try value("flows-kill")), "flows-kill") }
    @Test("pcap stop") func captureStop() throws { expect(ShortTexts.captured(try value("pcap-stop")), "pcap-stop") }
    @Test("one and many, and what was lost") func counts() {
        #expect(ShortTexts.killed(["killed": 1]) == ["1 flow reset"])
        #expect(ShortTexts.captured(["packets": 1, "lost": 0]) == ["1 packet captured"])
    }
    @Test("dns") func dns() throws { expect(DNSText.lines(try value("dns")), "dns") }

    @Test("colours only where they are wanted, and nothing from outside steers the terminal")
    func colors() throws {
        let colored = StatusText.lines(try value("status"), TextStyle(isColored: true)).joined()
        #expect(colored.contains("\u{1B}[1m"))
        let hostile: JSONValue = ["target": ["kind": "path", "path": "/run/\u{1B}[2Jx\n"], "warnings": ["a\u{7}\nb"]]
        let lines = StatusText.lines(hostile, plain)
        #expect(!lines.joined().unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F })
    }

    @Test("durations, bytes and milliseconds as people read them")
    func numbers() {
        #expect(
            [0, 0.04, 12.5, 59.94, 60, 3725, 273_600].map { Readable.duration($0) } == [
                "0 s", "0 s", "12.5 s", "59.9 s", "1 min", "1 h 2 min", "3 d 4 h",
            ])
        #expect(
            [0, 999, 1000, 1_549, 999_600, 20_000_000].map { Readable.bytes($0) } == [
                "0", "999", "1.0 kB", "1.5 kB", "1.0 MB", "20 MB",
            ])
        #expect([0, 0.44, 9.94, 104.4].map { Readable.milliseconds($0) } == ["0.0", "0.4", "9.9", "104"])
    }
}

@Suite("The words of tapasctl")
struct ArgumentTests {
    @Test(
        "options that every command has may stand before it",
        arguments: [
            ("status --json", "status --json"), ("--json status", "status --json"),
            ("-s /x status", "status -s /x"), ("-s/x --json flows", "flows list -s/x --json"),
            ("--pid 4 forward add -t 80", "forward add --pid 4 -t 80"),
            ("--pid=4 log level debug", "log level --pid=4 debug"),
            ("--all flows kill tcp", "flows kill --all tcp"),
            ("-s /x policy deny private", "policy deny -s /x private"),
            ("-s /x flow-log rotate f", "flow-log rotate -s /x f"), ("flows --tcp", "flows list --tcp"),
            ("flows --help", "flows --help"), ("--help", "--help"), ("", ""), ("--bad status", "--bad status"),
            ("--generate-completion-script bash", "--generate-completion-script bash"),
        ])
    func order(given: String, expected: String) {
        #expect(
            ArgumentOrder.normalized(given.split(separator: " ").map(String.init)).joined(separator: " ") == expected)
    }

    @Test("destinations with and without a port")
    func destinations() {
        func text(_ given: String) -> String? {
            DestinationArgument(given).map { "\($0.address) \($0.port.map(String.init) ?? "-")" }
        }
        #expect(text("192.0.2.1") == "192.0.2.1 -" && text("192.0.2.1:443") == "192.0.2.1 443")
        #expect(text("2001:db8::1") == "2001:db8::1 -" && text("[2001:db8::1]:443") == "2001:db8::1 443")
        #expect(text("[2001:db8::1]") == "2001:db8::1 -")
        for wrong in ["", "host", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1", "[::1]443", ":80"] {
            #expect(text(wrong) == nil, "\(wrong)")
        }
    }

    @Test("filters of flows")
    func filters() throws {
        let filter = try FlowFilterArguments(["tcp", "remote=192.0.2.1", "remote-port=443"])
        #expect(
            JSONValue.object(filter.parameters).compactText
                == #"{"protocol":"tcp","remote":"192.0.2.1","remote_port":443}"#)
        #expect(try FlowFilterArguments(["all"]).meansAll)
        for wrong in [["x"], ["remote-port=http"], ["tcp", "udp"], ["color=red"]] {
            #expect(throws: ClientError.self, "\(wrong)") { try FlowFilterArguments(wrong) }
        }
    }
}
