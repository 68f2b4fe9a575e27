// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A host's network, options, and what the namespace must then have.
struct HostConfiguration: Sendable, CustomTestStringConvertible {
    /// In words; the name of the test.
    let name: String
    /// `ip` commands in the host, which has eth0 and eth1, up and with no address.
    let host: [String]
    /// Options besides `--config-net`.
    var options: [String] = []
    /// All that the namespace has, canonical lines, in any order.
    let guest: [String]
    /// What standard error must contain; with nil it must be empty.
    var warning: String?

    var testDescription: String { name }

    /// Two cables to a neighbour that does nothing.
    ///
    ///     command ══ tapas in host ── eth0 ── neighbour
    ///                              ── eth1 ──
    static func makeHost(in lab: Lab, _ commands: [String]) async throws -> Host {
        let host = try await lab.host("host")
        let neighbour = try await lab.host("neighbour")
        for interface in ["eth0", "eth1"] {
            try await lab.link(host, interface, neighbour, interface)
        }
        if !commands.isEmpty { try await host.ip(commands.joined(separator: "\n")) }
        return host
    }
}

extension Scenarios {
    @Suite("--config-net gives the namespace the host's network", .timeLimit(.minutes(3))) struct Copying {
        @Test("addresses and routes are copied", arguments: HostConfiguration.copied)
        func addressesAndRoutesAreCopied(configuration: HostConfiguration) async throws {
            try await check(configuration)
        }

        @Test("options change what is copied", arguments: HostConfiguration.withOptions)
        func optionsChangeWhatIsCopied(configuration: HostConfiguration) async throws {
            try await check(configuration)
        }

        @Test("a thousand routes are copied")
        func aThousandRoutesAreCopied() async throws {
            try await withLab { lab in
                let routes = (0..<1000).map { "route add 10.\($0 / 250).\($0 % 250).0/24 via 192.0.2.1" }
                let host = try await HostConfiguration.makeHost(in: lab, HostConfiguration.plain)
                let file = lab.newPath("routes")
                try await host.must([
                    "sh", "-c", "cat > \(file) <<'END'\n\(routes.joined(separator: "\n"))\nEND\nip -batch \(file)",
                ])
                let outcome = try await host.tapas(["--config-net"], ["sh", "-c", "ip route | grep -c '^10[.]'"])
                #expect(outcome.output == "1000\n", "\(outcome)")
                #expect(outcome.errors == "")
            }
        }

        @Test("without --config-net tapas does not configure the namespace: an interface, down, no address")
        func withoutConfigNetTheInterfaceIsBare() async throws {
            try await withLab { lab in
                let host = try await HostConfiguration.makeHost(in: lab, HostConfiguration.plain)
                let outcome = try await host.tapas([], ["python3", helperProgram("netstate.py")])
                #expect(outcome.lines.count == 1, "\(outcome)")
                #expect(outcome.lines.first?.hasPrefix("link eth0 mtu ") == true, "\(outcome)")
            }
        }

        @Test("the link addresses given are used", arguments: ["-M", "--mac-addr"])
        func theLinkAddressesGivenAreUsed(option: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(
                    laptop.guest,
                    ["--config-net", option, "52:56:00:00:00:02", "--ns-mac-addr", "02:00:5e:10:00:01"])
                let state = try await laptop.guest.python("netstate.py", "--mac")
                #expect(state.contains("mac 02:00:5e:10:00:01"), "\(state)")
                for address in Laptop.near {
                    try await laptop.guest.must(["ping", "-c", "1", "-W", "5", address])
                    let neighbour = try await laptop.guest.must(["ip", "neighbour", "show", address])
                    #expect(neighbour.contains("52:56:00:00:00:02"), "\(neighbour)")
                }
            }
        }

        @Test("the default router's MAC address is 9a:55:9a:55:9a:55")
        func theDefaultRoutersMACAddress() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest)
                for address in Laptop.near {
                    try await laptop.guest.must(["ping", "-c", "1", "-W", "5", address])
                    let neighbour = try await laptop.guest.must(["ip", "neighbour", "show", address])
                    #expect(neighbour.contains("9a:55:9a:55:9a:55"), "\(neighbour)")
                }
            }
        }

        private func check(_ configuration: HostConfiguration) async throws {
            try await withLab { lab in
                let host = try await HostConfiguration.makeHost(in: lab, configuration.host)
                let outcome = try await host.tapas(
                    ["--config-net"] + configuration.options, ["python3", helperProgram("netstate.py")])
                #expect(outcome.termination == .exited(0), "\(outcome)")
                let (got, wanted) = (outcome.lines.sorted(), configuration.guest.sorted())
                #expect(got == wanted, "\(difference(got, wanted))\n\(outcome)")
                if let warning = configuration.warning {
                    #expect(outcome.errors.contains(warning), "\(outcome)")
                    #expect(outcome.errorLines.count == 1, "one warning: \(outcome)")
                } else {
                    #expect(outcome.errors == "", "\(outcome)")
                }
            }
        }
    }
}

/// The lines that only one side has, marked as diff does: `-` is missing, `+` is too much.
func difference(_ got: [String], _ wanted: [String]) -> String {
    let missing = wanted.filter { !got.contains($0) }.map { "- \($0)" }
    let extra = got.filter { !wanted.contains($0) }.map { "+ \($0)" }
    return (missing + extra).joined(separator: "\n")
}
