// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A wrong command line and what its message must name.
struct WrongOptions: Sendable, CustomTestStringConvertible {
    let options: [String]
    let named: [String]
    var testDescription: String { options.map { $0.isEmpty ? "''" : $0 }.joined(separator: " ") }

    /// Each line has the options; the message must name the option and the value unless `naming` gives other words.
    init(_ options: String..., naming named: [String]? = nil) {
        self.options = options
        self.named = named ?? options
    }

    static let all: [WrongOptions] = [
        .init("--no-such-option"), .init("-Z", naming: ["Z"]), .init("-a", naming: ["a"]),
        .init("--mtu", naming: ["mtu"]),
        .init("-a", "1.2.3", naming: ["-a", "1.2.3"]), .init("-a", "0.0.0.0"), .init("-a", "127.0.0.1"),
        .init("-a", "224.0.0.1"), .init("-a", "255.255.255.255"), .init("-a", "10.0.0.1/33"), .init("-a", "10.0.0.1/"),
        .init("-a", "10.0.0.1/255.0.0.0"), .init("-a", "10.0.0.1/0"), .init("-a", "::"), .init("-a", "::1"),
        .init("-a", "ff02::1"), .init("-a", "2001:db8::1/129"), .init("-a", ""), .init("-a", "a.host.example.org"),
        .init("-n", "33"), .init("-n", "255.0.255.0"), .init("-n", "x"), .init("-n", "0"),
        .init("-a", "10.0.0.1/24", "-n", "24", naming: ["-n"]),
        .init("-g", "1.2.3"), .init("-g", "0.0.0.0"), .init("-g", "127.0.0.1"), .init("-g", "224.0.0.1"),
        .init("-g", "ff02::1"),
        .init("-m", "x"), .init("-m", "-1"), .init("-m", "65522"), .init("-m", "67"),
        .init("-m", "99999999999999999999"),
        .init("-M", "52:56:00:00:00"), .init("-M", "01:00:00:00:00:01"), .init("-M", "00:00:00:00:00:00"),
        .init("-M", "52-56-00-00-00-02"), .init("--ns-mac-addr", "01:00:00:00:00:01"),
        .init("-M", "02:00:00:00:00:01", "--ns-mac-addr", "02:00:00:00:00:01", naming: ["02:00:00:00:00:01"]),
        .init("-I", ""), .init("-I", "much-too-long-a-name"), .init("-I", "a/b"), .init("-I", "a b"), .init("-I", "."),
        .init("-o", "0.0.0.0"), .init("-o", "224.0.0.1"), .init("-o", "x"),
        .init("--dns-forward", "127.0.0.1"), .init("--dns-forward", "x"), .init("-D", "x"), .init("--dns-host", "x"),
        .init("--map-host-loopback", "x"), .init("--map-host-loopback", "127.0.0.1"), .init("--map-guest-addr", "::"),
        .init("-t", "65536"), .init("-t", "0"), .init("-t", "90-80"), .init("-t", "80:"), .init("-t", ","),
        .init("-u", "x"), .init("-T", "1.2.3.4/80"), .init("-U", "-5"), .init("-t", "none,80"),
        .init("-p", "/no/such/folder/capture"), .init("-l", "/no/such/folder/log"), .init("-P", "/no/such/folder/pid"),
        .init("--log-size", "100"), .init("--log-size", "x"), .init("--runas", "no-such-user-here"),
        .init("--netns", "/no/such/namespace"), .init("--netns", "no-such-name"), .init("--netns", "/etc/passwd"),
        .init(
            "--userns", "/no/such/namespace", "--netns", "/proc/self/ns/net",
            naming: ["--userns", "/no/such/namespace"]),
        .init("--netns", "/proc/self/ns/net", "true", naming: ["--netns"]),
        .init("999999999", naming: ["999999999"]), .init("99999999999999999999", naming: ["99999999999999999999"]),
        .init("-H", String(repeating: "h", count: 254), naming: ["-H"]),
    ]
}

extension Scenarios {
    /// Wrong words on the command line: a message, status 1, and nothing done.
    ///
    ///     host, with an address on eth0; tapas never gets as far as a namespace
    @Suite("bad input", .timeLimit(.minutes(3))) struct BadInput {
        @Test("one line that names option and value, status 1, nothing created", arguments: WrongOptions.all)
        func oneLineAndStatus1(wrong: WrongOptions) async throws {
            try await withLab { lab in
                let host = try await lab.host("host")
                try await host.ip(
                    "link add eth0 type veth peer name other", "link set eth0 up", "link set other up",
                    "address add 192.0.2.10/24 dev eth0", "route add default via 192.0.2.1")
                let file = lab.newPath("ran")
                let hasOperand = wrong.options.last.map { $0 == "true" || Int($0.prefix(5)) == 99999 } ?? false
                let operand = hasOperand || wrong.options.contains("--netns") ? [] : ["--", "touch", file]
                // An option that lacks its value would take the operand for it.
                let lacksValue = wrong.options.count == 1 && ["-a", "--mtu"].contains(wrong.options[0])
                let outcome = try await host.tapas(["--config-net"] + wrong.options + (lacksValue ? [] : operand))
                #expect(outcome.termination == .exited(1), "\(outcome)")
                #expect(outcome.output == "", "\(outcome)")
                let messages = outcome.errorLines.filter { !$0.contains("--help") }
                #expect(messages.count == 1, "\(outcome)")
                for word in wrong.named {
                    #expect(
                        messages.contains { $0.contains(word) || alternatives(word).contains(where: $0.contains) },
                        "names \(word): \(outcome)")
                }
                #expect(try await host.run(["test", "-e", file]).status == 1, "the command was not started")
                #expect(try await lab.strays() == [])
            }
        }

        @Test("a file that is there and is not of the option's kind is left alone", arguments: ["-l", "-P", "-p"])
        func aFileThatIsThere(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let (file, pipe) = (lab.newPath("file"), lab.newPath("pipe"))
                try await laptop.host.must(["sh", "-ec", "echo precious > \(file); mkfifo \(pipe)"])
                for (path, words) in [(file, "exists and is not a"), (pipe, "nobody reads this pipe")] {
                    let outcome = try await laptop.host.tapas(["--config-net", option, path], ["echo", "ran"])
                    #expect(outcome.termination == .exited(1) && outcome.output == "", "\(outcome)")
                    #expect(outcome.errorLines.count == 1, "\(outcome)")
                    #expect(outcome.errors.contains("'\(path)': \(words)"), "\(outcome)")
                }
                #expect(contents(of: file) == "precious\n")
                // What an earlier run has left is replaced.
                let own = lab.newPath("own")
                for _ in 0..<2 {
                    let outcome = try await laptop.host.tapas(["--config-net", option, own], ["true"])
                    #expect(outcome.termination == .exited(0) && outcome.errors == "", "\(outcome)")
                }
            }
        }

        @Test(
            "an interface that is not there may come: one warning that names it, and local mode until then",
            arguments: ["-i", "--outbound-if4", "--outbound-if6"])
        func anInterfaceThatIsNotThere(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(
                    ["--config-net", option, "nosuch0"], ["python3", helperProgram("netstate.py")])
                #expect(outcome.termination == .exited(0), "\(outcome)")
                #expect(outcome.errorLines.count == 1, "\(outcome)")
                #expect(outcome.errors.contains("nosuch0") && outcome.errors.contains(option), "\(outcome)")
                let local = option == "--outbound-if6" ? "route6 default via fe80::1" : "addr 169.254.2.1/16"
                #expect(outcome.lines.contains(local), "\(outcome)")
            }
        }

        /// The long spelling of a short option, which a message may use.
        private func alternatives(_ word: String) -> [String] {
            let long = [
                "-a": "--address", "-n": "--netmask", "-g": "--gateway", "-i": "--interface", "-m": "--mtu",
                "-M": "--mac-addr", "-I": "--ns-ifname", "-o": "--outbound", "-D": "--dns", "-t": "--tcp-ports",
                "-u": "--udp-ports", "-T": "--tcp-ns", "-U": "--udp-ns", "-p": "--pcap", "-l": "--log-file",
                "-P": "--pid", "-H": "--hostname",
            ]
            return long[word].map { [$0] } ?? []
        }
    }
}
