// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// `--dns-forward`: a constant address in the namespace for whatever name server the host has.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///              resolv.conf names a server on the router, or one on the host's loopback
    @Suite("--dns-forward", .timeLimit(.minutes(2))) struct NameResolution {
        @Test(
            "the host's resolver answers, on the network or on loopback",
            arguments: [Laptop.near[0], "127.0.0.53"], ["+notcp", "+tcp"])
        func theHostsResolverAnswers(resolver: String, transport: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.resolver("search example\nnameserver \(resolver)\n")
                let place = resolver.hasPrefix("127.") ? laptop.host : laptop.server
                try await place.startPython("dns.py", resolver, "198.18.7.7")
                try await laptop.host.attach(laptop.guest, ["--config-net", "--dns-forward", "169.254.1.1"])
                let answer = try await laptop.guest.must([
                    "dig", "+short", "+tries=1", "+time=5", transport, "@169.254.1.1", "web.example",
                ])
                #expect(answer == "198.18.7.7\n")
            }
        }

        @Test("an IPv6 forward address and an IPv6 resolver")
        func anIPv6ForwardAddress() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.resolver("nameserver \(Laptop.near[1])\n")
                try await laptop.server.startPython("dns.py", Laptop.near[1], "198.18.7.8")
                try await laptop.host.attach(laptop.guest, ["--config-net", "--dns-forward", "2001:db8:53::53"])
                let answer = try await laptop.guest.must([
                    "dig", "+short", "+tries=1", "+time=5", "@2001:db8:53::53", "web.example",
                ])
                #expect(answer == "198.18.7.8\n")
            }
        }

        @Test(
            "a router that is the resolver, too, is asked itself, and not the host's loopback",
            arguments: [[], ["--no-map-gw"], ["--dns-forward", "169.254.1.1"]], ["+notcp", "+tcp"])
        func aRouterIsAsked(options: [String], transport: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.resolver("nameserver \(Laptop.near[0])\n")
                try await laptop.server.startPython("dns.py", Laptop.near[0], "198.18.7.7")
                // A query to the host's loopback gets another answer.
                try await laptop.host.startPython("dns.py", "127.0.0.1", "198.18.7.1")
                try await laptop.host.attach(laptop.guest, ["--config-net"] + options)
                let answer = try await laptop.guest.must([
                    "dig", "+short", "+tries=1", "+time=5", transport, "@\(Laptop.near[0])", "web.example",
                ])
                #expect(answer == "198.18.7.7\n")
            }
        }

        @Test("--dns-host names the resolver")
        func dnsHostNamesTheResolver() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.resolver("nameserver 192.0.2.250\n")
                try await laptop.server.startPython("dns.py", Laptop.beyond[0], "198.18.7.9")
                try await laptop.host.attach(
                    laptop.guest, ["--config-net", "--dns-forward", "169.254.1.1", "--dns-host", Laptop.beyond[0]])
                let answer = try await laptop.guest.must([
                    "dig", "+short", "+tries=1", "+time=5", "@169.254.1.1", "web.example",
                ])
                #expect(answer == "198.18.7.9\n")
            }
        }
    }
}
