// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// The host's neighbours have the same hardware addresses in the namespace.
    ///
    ///     guest ══ tapas in host ── wlan0 ── internet        (Lab.Roaming)
    @Suite("neighbours", .timeLimit(.minutes(2))) struct Neighbours {
        private static let gateways = ["192.0.2.1", "2001:db8:1::1"]
        private static let others = ["192.0.2.254", "2001:db8:1::53"]
        private static let own = "9a:55:9a:55:9a:55"

        @Test(
            "the host's neighbours have their own hardware addresses, and a change of one is announced",
            arguments: [[], ["--no-map-gw"]])
        func areTold(options: [String]) async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change("link set wlan0 up\n\(Net.wifi)")
                let real = String(
                    try await net.internet.must(["cat", "/sys/class/net/wlan0/address"]).dropLast())
                try await net.attach(["-I", "tap7"] + options)
                for address in Self.gateways + Self.others { try await net.host.must(["ping", "-c", "1", address]) }
                // With --no-map-gw the gateway is a neighbour like any other.
                let gateway = options.isEmpty ? Self.own : real
                for (addresses, mac) in [(Self.gateways, gateway), (Self.others, real)] {
                    for address in addresses {
                        try await net.guest.must(["ping", "-c", "1", address])
                        try await Self.await(net.guest, address, at: mac)
                    }
                }
                for address in Self.others {
                    // Another machine takes over the address. The guest learns this by an announcement, without a
                    // request.
                    try await net.change(
                        "neighbour replace \(address) lladdr 02:00:00:00:00:99 nud permanent dev wlan0")
                    try await Self.await(net.guest, address, at: "02:00:00:00:00:99")
                }
            }
        }

        private static func `await`(_ guest: Host, _ address: String, at mac: some StringProtocol) async throws {
            var seen = ""
            do {
                try await eventually("\(address) at \(mac)") {
                    seen = try await guest.must(["ip", "neighbour", "show", address, "dev", "tap7"])
                    return seen.contains("lladdr \(mac) ")
                }
            } catch {
                throw LabError("\(error): \(seen)")
            }
        }
    }
}
