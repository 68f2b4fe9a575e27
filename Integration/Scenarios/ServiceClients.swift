// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// A namespace that tapas does not program: real clients follow the host by what DHCP, DHCPv6 and Router
    /// Advertisements say.
    ///
    ///     guest: client ── wlan0 ══ tapas in host ── wlan0, eth0, usb0 ── internet        (Lab.Roaming)
    @Suite("clients of the services", .timeLimit(.minutes(10))) struct ServiceClients {
        static let quiet = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]

        /// A client and what it configures.
        enum Client: String, Sendable, CaseIterable, CustomTestStringConvertible {
            case slaac, udhcpc, dhclient, dhcpcd, networkd

            var testDescription: String { rawValue }
            /// Whether it gets an IPv4 address.
            var hasIPv4: Bool { self != .slaac }
            /// Those that can run here: systemd-networkd changes to a user of its own.
            static var here: [Client] { allCases.filter { $0 != .networkd || User.areSeveral } }
            /// Whether it asks again when the link comes back.
            var watchesCarrier: Bool { self == .dhcpcd || self == .networkd }
            /// Whether it learns of a change only by its lease.
            var waitsForLease: Bool { self == .udhcpc || self == .dhclient }
        }

        /// A place in the internet: what the host does to come there, and what a client there ends with.
        struct Place: Sendable {
            var name: String
            var change: String
            var address: String?
            var router: String?
            var prefix: String?

            static let wifi = Place(
                name: "a Wi-Fi", change: "\(clean)\n\(Net.wifi)", address: "192.0.2.10/24", router: "192.0.2.1",
                prefix: "2001:db8:1:0:")
            static let otherLease = Place(
                name: "the same Wi-Fi, another lease",
                change: """
                    \(clean)
                    link set wlan0 up
                    address add 192.0.2.77/24 dev wlan0
                    route add default via 192.0.2.1 dev wlan0 metric 600
                    address add 2001:db8:1::77/64 dev wlan0 nodad
                    route add default via 2001:db8:1::1 dev wlan0 metric 600
                    """, address: "192.0.2.77/24", router: "192.0.2.1", prefix: "2001:db8:1:0:")
            static let otherWifi = Place(
                name: "another Wi-Fi",
                change: """
                    \(clean)
                    link set wlan0 up
                    address add 198.18.7.7/24 dev wlan0
                    address add 2001:db8:7::7/64 dev wlan0 nodad
                    route add default via 198.18.7.1 dev wlan0 metric 600
                    route add default via 2001:db8:7::1 dev wlan0 metric 600
                    """, address: "198.18.7.7/24", router: "198.18.7.1", prefix: "2001:db8:7:0:")
            static let cable = Place(
                name: "a cable", change: "\(clean)\n\(Net.cable)", address: "198.51.100.5/24", router: "198.51.100.1",
                prefix: "2001:db8:2:0:")
            static let onlyIPv4 = Place(
                name: "a network without IPv6", change: "\(clean)\n\(Net.wifi4)", address: "192.0.2.10/24",
                router: "192.0.2.1", prefix: nil)
            static let offline = Place(
                name: "no network", change: clean, address: "169.254.2.1/16", router: "169.254.2.2", prefix: nil)

            /// Every interface down and without an address; routes go with them.
            private static let clean = """
                address flush dev wlan0 scope global
                address flush dev eth0 scope global
                link set wlan0 down
                link set eth0 down
                """
        }

        /// A namespace with a client that runs.
        struct Namespace {
            let net: Roaming
            let client: Client
            let device: String
            let engine: Program
            let program: Program

            init(
                in lab: Lab, _ client: Client, at place: Place, _ options: [String] = [], resolver: String = ""
            ) async throws {
                net = try await Roaming(in: lab)
                self.client = client
                try await net.host.resolver(resolver)
                try await net.change("link set wlan0 up\nlink set eth0 up\n\(place.change)")
                engine = try await net.host.attach(
                    net.guest, ServiceClients.quiet + ["--debug", "-I", "tap7"] + options)
                device = "tap7"
                program = try await net.guest.start([
                    "bash", projectFile("Integration/Lab/Programs/client.sh"), client.rawValue, device,
                ])
            }

            /// Waits until the client has what a place gives, and nothing else that it would use.
            ///
            /// - Returns: How long it took.
            @discardableResult
            func becomes(_ place: Place, within limit: Duration) async throws -> Duration {
                var last = ""
                // Each check starts three processes, so a client that must wait for a lease anyway is checked less
                // often.
                let pause = Duration.milliseconds(client.waitsForLease ? (RoamingReport.isFull ? 50 : 200) : 0)
                do {
                    return try await eventually("\(client) has what \(place.name) gives", within: limit) {
                        last = try await state(place)
                        if !last.isEmpty { try await Task.sleep(for: pause) }
                        return last.isEmpty
                    }
                } catch {
                    throw LabError("\(error): \(last)\n--- \(client) ---\n\(program.output)\(program.errors)")
                }
            }

            /// What is not as it should be; empty when all is.
            private func state(_ place: Place) async throws -> String {
                var wrong: [String] = []
                if client.hasIPv4 {
                    let addresses = try await net.guest.must(["ip", "-4", "-o", "address", "show", "dev", device])
                    let found = addresses.split(separator: "\n").compactMap {
                        $0.split(separator: " ").dropFirst(3).first
                    }
                    if found.map(String.init) != [place.address].compactMap(\.self) { wrong.append("IPv4: \(found)") }
                    let route = try await net.guest.must(["ip", "-4", "route", "show", "default"])
                    if !route.contains("via \(place.router ?? "nobody") ") || route.lines.count > 2 {
                        wrong.append("IPv4 default: \(route)")
                    }
                }
                let addresses = try await net.guest.must([
                    "ip", "-6", "-o", "address", "show", "dev", device, "scope", "global",
                ])
                let preferred = addresses.split(separator: "\n").filter {
                    !$0.contains("deprecated") && !$0.contains("tentative")
                }
                let prefix = place.prefix ?? "nothing"
                // Those of DHCPv6 are made without zeros in the middle.
                let short = prefix.replacing(":0:", with: "::")
                if preferred.contains(where: { !$0.contains(" \(prefix)") && !$0.contains(" \(short)") }) {
                    wrong.append("IPv6: \(preferred)")
                }
                if preferred.isEmpty != (place.prefix == nil) { wrong.append("IPv6: \(addresses)") }
                let route = try await net.guest.must(["ip", "-6", "route", "show", "default"])
                if route.contains("default") != (place.prefix != nil) { wrong.append("IPv6 default: \(route)") }
                return wrong.joined(separator: "; ")
            }

            func roams(to place: Place, within limit: Duration) async throws {
                try await net.change(place.change)
                try await becomes(place, within: limit)
                try await works(at: place)
            }

            /// Connections work, and are seen to come from the host.
            func works(at place: Place) async throws {
                guard place.name != Place.offline.name else { return }
                var wanted: [(to: String, from: String)] = []
                if client.hasIPv4, let address = place.address {
                    wanted.append((Roaming.beyond[0], "\(address.prefix { $0 != "/" }) "))
                }
                if place.prefix != nil { wanted.append((Roaming.beyond[1], "2001:db8:")) }
                for (to, from) in wanted {
                    var seen = ""
                    do {
                        try await eventually("a connection from \(from)to \(to)", within: .seconds(10)) {
                            seen = try await net.inGuest.ask("try", "tcp", to, "2")
                            return seen.hasPrefix(from)
                        }
                    } catch {
                        throw LabError("\(client) at \(place.name): \(error): \(seen)")
                    }
                }
            }
        }

        /// The places that the host goes to while a client runs.
        struct Journey: Sendable, CustomStringConvertible {
            var client: Client
            var start = Place.wifi
            var places: [Place]

            var description: String { "\(client) from \(start.name)" }

            /// The scenario table's roams for each client, and namespaces that start without a network.
            ///
            /// The roams are another lease, another network, none, one without IPv6, and back. Who starts without a
            /// network gets the local one, and the host's when it comes.
            static let all: [Journey] =
                Client.here.map { client in
                    // udhcpc waits 18 s for each: in the short run it makes two roams.
                    let isShort = !RoamingReport.isFull && client == .udhcpc
                    return Journey(
                        client: client,
                        places: isShort
                            ? [.otherLease, .cable]
                            : [.otherLease, .otherWifi, .cable, .offline, .wifi, .onlyIPv4, .otherWifi])
                }
                + [Client.udhcpc, .dhcpcd].map { Journey(client: $0, start: .offline, places: [.wifi, .offline]) }

            /// A client that ignores announcements is corrected by its lease; udhcpc treats a shorter lease as one of
            /// 30 s.
            private var leaseTime: Int { client == .dhclient ? 10 : 30 }

            func run(in lab: Lab) async throws {
                let namespace = try await Namespace(
                    in: lab, client, at: start, ["--lease-time", "\(leaseTime)", "--hold-down", "0.2"])
                let limit = Duration.seconds(60)
                try await namespace.becomes(start, within: limit)
                try await namespace.works(at: start)
                for place in places { try await namespace.roams(to: place, within: limit) }
                if namespace.program.termination != nil { throw LabError("it has ended: \(namespace.program.errors)") }
            }
        }

        /// All journeys at the same time, each in a lab of its own, because most of their time is waiting.
        @Test("running clients follow the host, and one that starts without a network")
        func follow() async {
            await withTaskGroup { group in
                for journey in Journey.all {
                    group.addTask {
                        do {
                            try await withLab { try await journey.run(in: $0) }
                        } catch {
                            Issue.record("\(journey): \(error)")
                        }
                    }
                }
            }
        }

        @Test(
            "systemd-networkd is among the clients",
            .enabled(if: User.areSeveral, "the run has one user id, and systemd-networkd changes to its own"))
        func networkdIsHere() {
            #expect(Client.here.contains(.networkd))
        }

        @Test("a lease that is still right is not refused, and the carrier not touched for it")
        func keepsALease() async throws {
            try await withLab { lab in
                let namespace = try await Namespace(
                    in: lab, .dhclient, at: .wifi, ["--lease-time", "4", "--dhcp-dns"])
                try await namespace.becomes(.wifi, within: .seconds(20))
                let file = "/sys/class/net/tap7/carrier_changes"
                let before = try await namespace.net.guest.must(["cat", file])
                try await namespace.net.host.resolver("nameserver 192.0.2.53\n")
                try await namespace.net.change("address add 10.99.0.1/32 dev lo")
                try await eventually("three renewals", within: .seconds(30)) {
                    namespace.program.errors.split(separator: "DHCPACK").count > 4
                }
                #expect(!namespace.program.errors.contains("DHCPNAK"))
                #expect(try await namespace.net.guest.must(["cat", file]) == before)
            }
        }

        @Test("--no-carrier-toggle leaves the carrier alone", arguments: [true, false])
        func carrier(isToggled: Bool) async throws {
            try await withLab { lab in
                let namespace = try await Namespace(
                    in: lab, .udhcpc, at: .wifi, ["--lease-time", "30"] + (isToggled ? [] : ["--no-carrier-toggle"]))
                try await namespace.becomes(.wifi, within: .seconds(20))
                let guest = namespace.net.guest
                let file = "/sys/class/net/tap7/carrier_changes"
                let before = try await guest.must(["cat", file])
                try await namespace.net.change(Place.otherWifi.change)
                // The carrier goes off in the same moment as the advertisement of the new prefix is sent.
                try await eventually("an address in the new prefix") {
                    try await guest.must(["ip", "-6", "address", "show", "dev", "tap7"]).contains("2001:db8:7:")
                }
                try await eventually("the carrier is on") {
                    try await guest.must(["cat", "/sys/class/net/tap7/carrier"]) == "1\n"
                }
                let after = try await guest.must(["cat", file])
                #expect((after != before) == isToggled)
            }
        }

        @Test("dhcpcd renews at a FORCERENEW, long before its lease says so")
        func forces() async throws {
            try await withLab { lab in
                // Without the carrier nothing tells it that its DHCPv6 lease is another: it accepts no RECONFIGURE.
                let namespace = try await Namespace(
                    in: lab, .dhcpcd, at: .wifi, ["--no-carrier-toggle", "--no-dhcpv6"])
                try await namespace.becomes(.wifi, within: .seconds(20))
                try await namespace.roams(to: .otherWifi, within: .seconds(20))
                let words = namespace.program.output + namespace.program.errors
                #expect(words.contains("Force Renew from"), "\(words)")
            }
        }

        @Test("rdisc6 sees the router, its prefix, its MTU and its resolvers")
        func discovers() async throws {
            try await withLab { lab in
                let net = try await Roaming(in: lab)
                try await net.change(Net.wifi)
                try await net.host.resolver("nameserver 2001:db8:1::53\nsearch example.test\n")
                try await net.host.attach(
                    net.guest, Self.quiet + ["-I", "tap7", "-m", "1400", "--dhcp-dns", "--dhcp-search"])
                try await net.guest.ip("link set tap7 up")
                let seen = try await net.guest.must(["rdisc6", "-1", "-w", "3000", "tap7"])
                for text in ["2001:db8:1::/64", "1400", "2001:db8:1::53", "example.test", "120 (0x"] {
                    #expect(seen.contains(text), "\(text): \(seen)")
                }
                // The resolver that was announced, asked from an address in the prefix that was announced.
                let line = seen.split(separator: "\n").first { $0.contains("Recursive DNS server") }
                let resolver = try #require(line?.split(separator: " ").last.map(String.init), "\(seen)")
                try await eventually("an answer of \(resolver)") {
                    let answer = try await net.guest.run(Self.question + ["@\(resolver)"])
                    return answer.output == "\"2001:db8:1::53\"\n"
                }
                // The host has another one: answers contain it, and say that the first one is no longer valid.
                try await net.host.resolver("nameserver 2001:db8:1::1\n")
                try await eventually("the other resolver is announced") {
                    let lines = try await net.guest.must(["rdisc6", "-1", "-w", "3000", "tap7"]).split(separator: "\n")
                    func lifetime(of server: String) -> Substring? {
                        guard let index = lines.firstIndex(where: { $0.hasSuffix(" \(server)") }) else { return nil }
                        return lines[(index + 1)...].first { $0.contains("lifetime") }
                    }
                    return lifetime(of: "2001:db8:1::1")?.contains(" 120 ") == true
                        && lifetime(of: "2001:db8:1::53")?.contains(" 0 ") == true
                }
            }
        }

        /// dig(1), for a name that the internet's name servers answer with the address that was asked.
        private static let question = ["dig", "+short", "+tries=1", "+time=5", "-t", "TXT", "web.example"]

        @Test("a program asks the resolver that DHCP announced, as its resolv.conf says")
        func asksTheAnnouncedResolver() async throws {
            try await withLab { lab in
                let namespace = try await Namespace(
                    in: lab, .udhcpc, at: .wifi, ["--dhcp-dns"], resolver: "nameserver 192.0.2.53\n")
                try await namespace.becomes(.wifi, within: .seconds(20))
                // In the mount namespace of the client, whose /etc/resolv.conf is what it made of its lease.
                let inside = ["nsenter", "--target", "\(namespace.program.processID)", "--mount"]
                let answer = try await namespace.net.guest.must(inside + Self.question)
                #expect(answer == "\"192.0.2.53\"\n")
            }
        }
    }
}
