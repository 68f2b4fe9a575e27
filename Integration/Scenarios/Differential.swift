// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// Where tapas and Debian 12's pasta (of March 2023) give a namespace different networks, on purpose.
///
/// The list is complete: a case names its differences, and a named difference that does not occur is an error, too.
enum KnownDifference: String, Sendable, CaseIterable {
    /// A family that the host lacks is left alone by that pasta; tapas gives it the local mode that later ones have.
    case localMode = "no local mode in 2023"
    /// That pasta makes the default route anew; tapas, like later ones, copies it with its metric.
    case metric = "the default's metric is copied"

    /// Takes the difference out of what tapas made.
    func removed(from lines: [String]) -> [String] {
        switch self {
        case .localMode: lines.filter { !(HostConfiguration.local4 + HostConfiguration.local6).contains($0) }
        case .metric:
            lines.map { line in
                line.hasPrefix("route default") || line.hasPrefix("route6 default")
                    ? String(line.split(separator: " ").prefix { $0 != "metric" }.joined(separator: " ")) : line
            }
        }
    }
}

/// A host and options that both programs are given.
struct Comparison: Sendable, CustomTestStringConvertible {
    let name: String
    let host: [String]
    var options: [String] = []
    var differences: [KnownDifference] = []
    var testDescription: String { name }

    private static let second = ["address add 198.51.100.5/24 dev eth1"]

    static let all: [Comparison] = [
        .init(name: "one address of each family", host: HostConfiguration.plain),
        .init(name: "IPv4 only", host: HostConfiguration.plain4, differences: [.localMode]),
        .init(name: "IPv6 only", host: HostConfiguration.plain6, differences: [.localMode]),
        .init(
            name: "two defaults",
            host: HostConfiguration.plain6 + second + [
                "address add 192.0.2.10/24 dev eth0", "route add default via 192.0.2.1 metric 300",
                "route add default via 198.51.100.1 metric 200",
            ], differences: [.metric]),
        .init(
            name: "a template for each family",
            host: HostConfiguration.plain6 + second + ["route add default via 198.51.100.1"]),
        .init(name: "-4", host: HostConfiguration.plain, options: ["-4"]),
        .init(name: "-6", host: HostConfiguration.plain, options: ["-6"]),
        .init(name: "-m 1400", host: HostConfiguration.plain, options: ["-m", "1400"]),
        .init(name: "-I net0", host: HostConfiguration.plain, options: ["-I", "net0"]),
        .init(
            name: "-a and -g of both families", host: HostConfiguration.plain,
            options: ["-a", "10.1.2.3", "-n", "24", "-g", "10.1.2.1", "-a", "2001:db8:7::7", "-g", "2001:db8:7::1"]),
        .init(
            name: "the bug report's own values", host: HostConfiguration.plain,
            options: ["-4", "-I", "eth0", "-a", "169.254.2.15", "-n", "16", "-g", "169.254.2.2"]),
        .init(
            name: "QEMU's default network", host: HostConfiguration.plain,
            options: ["-4", "-I", "eth0", "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2", "-m", "1500"]),
        .init(
            name: "slirp4netns' network", host: HostConfiguration.plain,
            options: ["-4", "-I", "eth0", "-a", "10.0.2.100", "-n", "24", "-g", "10.0.2.2", "-m", "1500"]),
    ]
}

extension Scenarios {
    /// The same host for both programs, one after the other.
    ///
    ///     command ══ tapas, then pasta, in host ── eth0 ── neighbour
    ///                                           ── eth1 ──
    @Suite(
        "--config-net beside the distribution's pasta", .timeLimit(.minutes(2)),
        .enabled(if: !contents(of: "/usr/bin/pasta").isEmpty, "the distribution's pasta is not installed"))
    struct Differential {
        @Test("gives the same network", arguments: Comparison.all)
        func givesTheSameNetwork(comparison: Comparison) async throws {
            try await withLab { lab in
                let host = try await HostConfiguration.makeHost(in: lab, comparison.host)
                let state = ["python3", helperProgram("netstate.py")]
                let ours = try await host.tapas(["--config-net"] + comparison.options, state, as: .ordinary)
                let theirs = try await host.run(
                    ["/usr/bin/pasta", "--config-net"] + comparison.options + state, as: .ordinary)
                #expect(theirs.status == 0, "\(theirs)")
                var lines = ours.lines
                for known in comparison.differences {
                    let without = known.removed(from: lines)
                    #expect(without != lines, "this case does not show the difference: \(known.rawValue)")
                    lines = without
                }
                #expect(
                    lines.sorted() == theirs.lines.sorted(), "- pasta's, + tapas'\n\(difference(lines, theirs.lines))")
            }
        }
    }
}
