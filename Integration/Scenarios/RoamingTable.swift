// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension RoamingCase {
    /// Every row that namespaces can produce.
    static let all = arrival + wireless + severalInterfaces + onlyIPv6 + tunnels + resolvers + itself

    /// Rows that namespaces cannot produce, and why.
    static let notProduced: [(row: String, reason: String)] = [
        (
            "17",
            "suspend and resume: a namespace cannot make CLOCK_BOOTTIME run away from CLOCK_MONOTONIC; held by the "
                + "sleep detector's unit tests, and the renewed lease by row 20"
        ),
        ("18", "the same; what remains of it is row 9, everything in one settle window"),
        (
            "49",
            "a host without multicast groups (gVisor): no kernel that runs the lab is one; the polling is held by "
                + "the monitor's unit tests with a simulated kernel"
        ),
    ]
    // Row 12 is produced without its signs (the name of the Wi-Fi, the router's hardware address), which tapas does not
    // use; row 30 without the translation of addresses itself, for which namespaces have no device; VPNs (31 to 36) are
    // cables with a tunnel's name, with the addresses, tables and rules of OpenVPN, wg-quick and Tailscale; row 48 is
    // the burst of the figures; row 52 is a test of its own.
}

extension Scenarios {
    /// The host's network changes while the namespace is in use.
    ///
    /// Topology: see `Roaming`. After each change: what the namespace has, that a fresh start would give it the same,
    /// the effects on flows, names and ports, and that new traffic gets through.
    @Suite("tapas follows the host", .timeLimit(.minutes(3))) struct FollowsTheHost {
        @Test("row", arguments: RoamingCase.all)
        func row(row: RoamingCase) async throws {
            try await RoamingRun.run(row)
        }

        @Test("every row of the table is produced, or there is a reason")
        func everyRowIsProduced() {
            let produced = Set(RoamingCase.all.map { $0.row.prefix { $0.isNumber } }.map(String.init))
            let missing = Set(RoamingCase.notProduced.map(\.row))
            let elsewhere: Set = ["48", "52"]
            let all = Set((1...52).map(String.init))
            #expect(all.subtracting(produced).subtracting(missing).subtracting(elsewhere) == [])
            #expect(Set(RoamingCase.all.map(\.row)).count == RoamingCase.all.count, "each row has a name of its own")
        }

        @Test("52: the namespace ends while the host changes")
        func theNamespaceEnds() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change(Net.wifi)
                let engine = try await net.attach(RoamingCase.commonOptions + ["--quiet", "-t", "8080"])
                try await net.host.must([
                    "sh", "-ec",
                    """
                    ip address flush dev wlan0 scope global
                    ip address add 192.0.2.20/24 dev wlan0
                    sleep 0.1
                    umount /run/guests/guest
                    rm /run/guests/guest
                    """,
                ])
                let outcome = try await engine.program.end(within: .seconds(3))
                #expect(outcome.termination == .exited(0), "\(outcome)")
                #expect(outcome.errors == "", "\(outcome)")
            }
        }
    }
}
