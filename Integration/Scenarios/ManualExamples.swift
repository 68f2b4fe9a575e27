// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// The command lines under EXAMPLES in tapas(1), word for word from the page.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("the manual's examples", .timeLimit(.minutes(2))) struct ManualExamples {
        /// What the page's example lines are, without prompt and markup.
        private static func lines() throws -> [String] {
            let page = contents(of: projectFile("docs/man/tapas.1"))
            let section = try #require(page.split(separator: "\n.Sh ").first { $0.hasPrefix("EXAMPLES\n") })
            return section.split(separator: "\n").filter { $0.hasPrefix(".Dl ") }.map { line in
                // The prompts are "$ " and "# "; groff's \- is a dash.
                String(line.dropFirst(6)).replacing("\\-", with: "-")
            }
        }

        /// Programs that examples name, and that do here what the example is about.
        private static let programs = [
            "make": "curl -sS --max-time 5 http://203.0.113.1:7080/ -o /dev/null -w 'fetched\\n' || echo 'not fetched'",
            "httpd": "exec busybox httpd \"$@\" -p 80 -h /run",
            "shell": "echo \"the shell has $(ip -4 -brief address show scope global | tr -s ' ')\"",
        ]

        @Test("run, and do what the page says")
        func theyRun() async throws {
            let lines = try Self.lines()
            #expect(lines.count >= 6, "\(lines)")
            for line in lines {
                try await withLab { lab in try await Self.run(line, in: lab) }
            }
        }

        private static func run(_ line: String, in lab: Lab) async throws {
            let laptop = try await Laptop(in: lab)
            let host = laptop.host
            let folder = lab.newPath("bin")
            var script = "mkdir \(folder); ln -s \(binary) \(folder)/tapas\n"
            for (name, text) in programs {
                script += "printf '#!/bin/sh\\n%s\\n' '\(text.replacing("'", with: "'\\''"))' > \(folder)/\(name)\n"
                script += "chmod 755 \(folder)/\(name)\n"
            }
            try await host.must(["sh", "-ec", script])
            let environment = ["SHELL": "\(folder)/shell"]
            func start(_ line: String) async throws -> Program {
                try await host.start(
                    ["sh", "-c", "cd \(folder) && PATH=\(folder):$PATH && exec \(line)"], environment: environment)
            }
            switch line {
            case "tapas --config-net", "tapas --config-net --dns-forward 169.254.1.1":
                let outcome = try await start(line).end(within: .seconds(10))
                #expect(outcome.status == 0 && outcome.output.contains("192.0.2.10/24"), "\(line): \(outcome)")
            case _ where line.hasSuffix("-- make fetch"):
                let web = try await laptop.server.start([
                    "busybox", "httpd", "-f", "-p", "203.0.113.1:7080", "-h", "/run",
                ])
                let outcome = try await start(line).end(within: .seconds(10))
                #expect(outcome.status == 0 && outcome.output == "fetched\n", "\(line): \(outcome)")
                #expect(web.termination == nil)
            case _ where line.hasSuffix("-- httpd -f"):
                let program = try await start(line)
                try await eventually("the web server answers on port 8080") {
                    let answer = try await laptop.server.run([
                        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://192.0.2.10:8080/none",
                    ])
                    return answer.output == "404"
                }
                program.send(15)
                _ = try await program.end(within: .seconds(5))
            case _ where line.hasSuffix(" 4711"):
                // The page's process id stands for that of a process in the namespace.
                let outcome = try await start(line.replacing(" 4711", with: " \(laptop.guest.processID)")).end()
                #expect(outcome.status == 0, "\(line): \(outcome)")
                #expect(try await laptop.guest.networkState().contains("addr 192.0.2.10/24"))
                try await host.must(["sh", "-ec", "kill $(cat \(folder)/tapas.pid)"])
            case _ where line.hasSuffix("--netns blue"):
                try await host.must(["ip", "netns", "add", "blue"])
                let outcome = try await start(line).end()
                #expect(outcome.status == 0, "\(line): \(outcome)")
                let addresses = try await host.must(["ip", "-n", "blue", "-brief", "address"])
                #expect(addresses.contains("192.0.2.10/24"), "\(addresses)")
                try await host.must(["ip", "netns", "delete", "blue"])
            default:
                Issue.record("the manual has an example that no test knows: \(line)")
            }
        }
    }
}
