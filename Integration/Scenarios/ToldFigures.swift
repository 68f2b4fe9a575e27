// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// How long a change of the host takes until a running client has it: figures for docs/benchmarks.md, never asserted
    /// by time (`Integration/Bench/told.sh`).
    @Suite("figures of telling", .timeLimit(.minutes(30))) struct ToldFigures {
        private static let rounds = RoamingReport.isFull ? 9 : 2
        /// The default of `--lease-time`, by which udhcpc heals; the short run has less time.
        private static let leaseTime = RoamingReport.isFull ? 120 : 8

        /// From the last command of the host's change to the first look that finds the client right.
        ///
        /// In the short run only those that hear of a change at once: the others wait for their lease.
        @Test(
            "from another network of the host to the client",
            arguments: Told.Client.allCases.filter { RoamingReport.isFull || $0 == .slaac || $0.watchesCarrier })
        func change(client: Told.Client) async throws {
            try await withLab { lab in
                let namespace = try await Told.Namespace(
                    in: lab, client, at: .wifi, ["--lease-time", "\(Self.leaseTime)"])
                try await namespace.becomes(.wifi, within: .seconds(60))
                var times: [Double] = []
                for round in 0..<Self.rounds {
                    if client == .udhcpc || client == .dhclient {
                        // The moment of the change is anywhere between two renewals.
                        try await Task.sleep(for: .milliseconds(Self.leaseTime * 500 * round / Self.rounds))
                    } else {
                        try await Task.sleep(for: .seconds(1))
                    }
                    let place = round % 2 == 0 ? Told.Place.otherWifi : .wifi
                    try await namespace.net.change(place.change)
                    let time = try await namespace.becomes(place, within: .seconds(Self.leaseTime * 2))
                    times.append(Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18)
                }
                RoamingReport.note("told \(client.rawValue), median of \(times.count)", times.median, "s")
                RoamingReport.note("told \(client.rawValue), worst of \(times.count)", times.max() ?? 0, "s")
            }
        }
    }
}
