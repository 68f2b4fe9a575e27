// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Queries of `tapasctl` to a running instance (issue 13).
    @Suite("asking a running instance", .timeLimit(.minutes(2))) struct Control {
        @Test("a roam: status, explain, wait and watch report it; the socket's file exists as long as the program")
        func roam() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                let folder = "/run/control"
                try await net.host.must(["mkdir", "-m", "0777", folder])
                let socket = "\(folder)/c"
                let log = "\(folder)/log"
                let engine = try await net.attach(["--hold-down", "0", "-c", socket, "-l", log])
                // The file exists before the program is ready, for its owner only.
                let files = try await net.host.must(["stat", "-c", "%a %F", socket, socket + ".ctl"])
                #expect(files == "600 socket\n600 socket\n")
                func ask(_ words: String...) async throws -> String {
                    try await net.host.must([controlBinary, "-s", socket + ".ctl"] + words)
                }
                #expect(try await ask("status").contains("local"))
                let watch = try await net.host.start([controlBinary, "watch", "-s", socket + ".ctl"])
                try await watch.wrote("state -> ")
                async let waited = ask("wait", "--usable", "4", "--timeout", "10")
                try await net.change(Net.wifi)
                _ = try await waited
                try await watch.wrote("IPv4: local -> template wlan0")
                let status = try await ask("--json", "status")
                #expect(status.contains(#""interface": "wlan0""#), "\(status)")
                #expect(status.contains(#""prefix": "192.0.2.10/24""#), "\(status)")
                let why = try await ask("explain")
                #expect(why.contains("policy rule '32766: from all lookup main'"), "\(why)")
                let way = try await ask("explain", "203.0.113.1:443")
                #expect(way.contains("leaves the host by wlan0 via 192.0.2.1 from 192.0.2.10"), "\(way)")
                try await net.change(Net.wifiLeft)
                try await watch.wrote("IPv4: template wlan0 -> local")
                // The log has each change, with the time.
                let lines = try await net.host.must(["cat", log])
                #expect(lines.contains("Z info: host change 1 applied "), "\(lines)")
                // A second instance may not take a path that is in use, and says so in one line.
                let second = try await net.host.tapas(["-c", socket], ["true"])
                #expect(second.status == 1 && second.errors.contains("a running program listens there"), "\(second)")
                _ = try await net.host.must(["kill", "\(engine.processID)"])
                let end = try await watch.end(within: .seconds(10))
                #expect(end.status == 0, "\(end)")
                try await eventually("the files are gone") {
                    try await net.host.must(["ls", folder]) == "log\n"
                }
                let late = try await net.host.run([controlBinary, "-s", socket + ".ctl", "status"])
                #expect(
                    late.status == 1 && late.errors == "tapasctl: '\(socket).ctl': there is no such socket\n", "\(late)"
                )
            }
        }

        @Test("without -c every instance is found by its process id; one of several has to be chosen")
        func severalInstances() async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                let folder = "/run/user-test"
                try await host.must(["mkdir", "-m", "0777", folder])
                let environment = ["XDG_RUNTIME_DIR": folder]
                let ask = { (words: [String]) in
                    try await host.run([controlBinary] + words, environment: environment)
                }
                #expect(try await ask(["status"]).errors.hasPrefix("tapasctl: no running instance in \(folder)/tapas"))
                var programs: [Program] = []
                for number in 1...3 {
                    let options = number == 3 ? ["--no-monitor"] : []
                    programs.append(
                        try await host.startTapas(
                            options, ["sh", "-c", "echo ready; exec sleep 60"], environment: environment))
                    try await programs[number - 1].wrote("ready")
                    if number == 1 { #expect(try await ask(["status"]).status == 0) }
                }
                #expect(try await host.must(["stat", "-c", "%a", folder + "/tapas"]) == "700\n")
                let choice = try await ask(["status"])
                #expect(
                    choice.status == 1 && choice.errors.contains("3 instances run, choose one with --pid: "),
                    "\(choice)")
                let all = try await ask(["--all", "--json", "status"])
                #expect(all.status == 0 && all.output.ranges(of: #""version""#).count == 3, "\(all)")
                let usage = try await ask(["status", "--pid"])
                #expect(usage.status == 2, "\(usage)")
                let none = try await host.startTapas(
                    ["--no-control"], ["sh", "-c", "echo ready; exec sleep 60"], environment: environment)
                try await none.wrote("ready")
                #expect(try await host.must(["ls", folder + "/tapas"]).split(separator: "\n").count == 3)
            }
        }
    }
}
