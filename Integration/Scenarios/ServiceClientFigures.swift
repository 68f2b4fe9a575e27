// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// How long a change of the host takes until a running client has it: figures for docs/benchmarks.md, never asserted
    /// by time (`Integration/Bench/service-clients.sh`).
    @Suite("figures of the services' clients", .timeLimit(.minutes(30))) struct ServiceClientFigures {
        private static let rounds = RoamingReport.isFull ? 9 : 2

        /// From the last command of the host's change to the first look that finds the client right.
        ///
        /// The short run has only clients that learn of a change at once, all at the same time: the others wait for
        /// their lease, and the figures of that run are not used.
        @Test("from another network of the host to the client")
        func change() async throws {
            let clients = ServiceClients.Client.here.filter { RoamingReport.isFull || !$0.waitsForLease }
            guard !RoamingReport.isFull else {
                for client in clients { try await measure(client) }
                return
            }
            await withTaskGroup { group in
                for client in clients {
                    group.addTask {
                        do { try await measure(client) } catch { Issue.record("\(client): \(error)") }
                    }
                }
            }
        }

        private func measure(_ client: ServiceClients.Client) async throws {
            try await withLab { lab in
                // The default of `--lease-time`, by which udhcpc and dhclient heal.
                let namespace = try await ServiceClients.Namespace(in: lab, client, at: .wifi)
                try await namespace.becomes(.wifi, within: .seconds(60))
                var times: [Double] = []
                for round in 0..<Self.rounds {
                    // The moment of the change is anywhere between two renewals.
                    let phase = Duration.milliseconds(client.renewal * (2 * round + 1) / (2 * Self.rounds))
                    try await Task.sleep(for: client.waitsForLease ? phase : .seconds(1))
                    let place = round % 2 == 0 ? ServiceClients.Place.otherWifi : .wifi
                    try await namespace.net.change(place.change)
                    let time = try await namespace.becomes(place, within: .seconds(240))
                    times.append(Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18)
                }
                RoamingReport.note("service client \(client.rawValue), median of \(times.count)", times.median, "s")
                RoamingReport.note("service client \(client.rawValue), worst of \(times.count)", times.max() ?? 0, "s")
            }
        }
    }
}

extension Scenarios.ServiceClients.Client {
    /// When it renews after it got its lease, in milliseconds: at half of it (`--lease-time`, udhcpc's is shorter).
    fileprivate var renewal: Int { self == .udhcpc ? 45_000 : 60_000 }
}
