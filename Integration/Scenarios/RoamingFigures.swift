// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// The cost and the duration of following the host: figures for the report, whose times are never asserted.
    ///
    /// The short run of each is for every commit; with TAPAS_ROAMING_FULL set it is the run that the figures are quoted
    /// from (`Integration/Bench/roaming.sh`).
    @Suite("figures of following the host", .timeLimit(.minutes(10))) struct RoamingFigures {
        private static let quiet = ["--quiet", "-t", "none", "-u", "none", "-T", "none", "-U", "none"]

        /// From the last event of the host, seen by a listener there, to the last one in the namespace.
        @Test("from a bare link to both families")
        func gain() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change("link set wlan0 up")
                try await net.attach(Self.quiet + ["--hold-down", "0"])
                var times: [Double] = []
                for _ in 0..<(RoamingReport.isFull ? 50 : 15) {
                    try await Self.becomes(Net.offline, in: net)
                    try await net.inHost.ask("mark")
                    try await net.inGuest.ask("mark")
                    try await net.change(Net.wifi)
                    try await Self.becomes(Net.guestWifi, in: net)
                    let events = try await (net.inHost.ask("events").words, net.inGuest.ask("events").words)
                    let last = try #require(Double(events.0[1]))
                    let programmed = try #require(Double(events.1[1]))
                    times.append((programmed - last) * 1000)
                    try await net.change(Net.wifiLeft)
                }
                RoamingReport.note("gain to both families, median of \(times.count)", times.median, "ms")
                RoamingReport.note("gain to both families, worst of \(times.count)", times.max() ?? 0, "ms")
            }
        }

        @Test("20,000 route events in a burst", arguments: ["eth0", "wlan0"])
        func burst(device: String) async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change(Net.wifi)
                try await net.change("link set eth0 up\naddress add 198.51.100.5/24 dev eth0")
                let engine = try await net.attach(Self.quiet)
                try await Self.becomes(Net.guestWifi, in: net)
                let idle = try await net.inGuest.ask("churn", "tcp", Roaming.beyond[0], "3").numbers
                let before = engine.processorSeconds
                async let burst = net.inHost.ask(
                    "burst", "20000", device, device == "eth0" ? "198.51.100.1" : "192.0.2.1", within: .seconds(60))
                let busy = try await net.inGuest.ask("churn", "tcp", Roaming.beyond[0], "3").numbers
                let done = try await burst
                #expect(done.hasPrefix("done "), "\(done)")
                try await follows(net)
                let used = engine.processorSeconds - before
                let where_ = device == "eth0" ? "on another interface" : "on the template"
                RoamingReport.note("20,000 route events \(where_): processor time with echoes", used, "s")
                // What the echoes cost by themselves, for comparison: as many without a burst.
                let start = engine.processorSeconds
                _ = try await net.inGuest.ask("churn", "tcp", Roaming.beyond[0], "3")
                let ofEchoes = engine.processorSeconds - start
                RoamingReport.note("20,000 route events \(where_): processor time of them", used - ofEchoes, "s")
                #expect(used - ofEchoes < 1, "a storm of route events costs \(used - ofEchoes) s of processor time")
                RoamingReport.note("20,000 route events \(where_): echo median, idle", idle[1], "ms")
                RoamingReport.note("20,000 route events \(where_): echo median, meanwhile", busy[1], "ms")
                RoamingReport.note("20,000 route events \(where_): echo worst, idle", idle[3], "ms")
                RoamingReport.note("20,000 route events \(where_): echo worst, meanwhile", busy[3], "ms")
            }
        }

        @Test("nothing wakes it while nothing happens", arguments: [quiet, ["--quiet"]])
        func idle(options: [String]) async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change(Net.wifi)
                let engine = try await net.attach(options)
                try await Self.becomes(Net.guestWifi, in: net)
                // What the start leaves to do, neighbours and router solicitations of the kernel included.
                let window = RoamingReport.isFull ? 60 : 5
                try await Task.sleep(for: .seconds(RoamingReport.isFull ? 30 : 6))
                let before = engine.sleeps
                try await Task.sleep(for: .seconds(window))
                let ports = options == Self.quiet ? "no forwarded ports" : "default options"
                RoamingReport.note(
                    "wake-ups in \(window) s without events and flows, \(ports)", Double(engine.sleeps - before), "")
                RoamingReport.note("resident memory, \(ports)", Double(engine.residentKibibytes), "KiB")
            }
        }

        private static func becomes(_ lines: [String], in net: Roaming) async throws {
            let wanted = (["link wlan0 mtu 65520 up"] + lines).sorted()
            var got: [String] = []
            do {
                try await eventually("the namespace is as planned") {
                    got = try await net.inGuest.ask("state").lines.sorted().map { line in
                        line.hasPrefix("link ") ? "link wlan0 mtu 65520 up" : line
                    }
                    return got == wanted
                }
            } catch {
                throw LabError("\(error)\n\(difference(got, wanted))")
            }
        }

        private func follows(_ net: Roaming) async throws {
            let fresh = try await net.fresh(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]).sorted()
            var got: [String] = []
            do {
                try await eventually("the namespace is what a fresh start gives") {
                    got = try await net.inGuest.ask("state").lines.sorted()
                    return got == fresh
                }
            } catch {
                throw LabError("\(error)\n\(difference(got, fresh).prefix(2000))")
            }
        }
    }
}

extension String {
    /// The numbers of a line of words.
    var numbers: [Double] { words.compactMap { Double($0) } }
}
