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

        /// Gives the host an /etc of its own, in which resolv.conf can be replaced: the file itself, or what its link
        /// leads to.
        private static func ownFolder(_ host: Host, linked: Bool) async throws -> String {
            let file = linked ? "/run/resolve/stub.conf" : "/etc/resolv.conf"
            let link = linked ? "ln -s ../run/resolve/stub.conf /run/etc/resolv.conf" : ""
            try await host.must([
                "sh", "-ec",
                """
                mkdir /run/etc /run/resolve
                cp -a /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache /etc/alternatives /run/etc/
                \(link)
                mount --bind /run/etc /etc
                printf 'nameserver 192.0.2.250\noptions ndots:2\nsearch a.example\n' > \(file)
                """,
            ])
            return file
        }

        @Test(
            "a command's resolv.conf names the forwarded address, whatever the host's programs make of theirs",
            arguments: [false, true])
        func aCommandsOwnFile(linked: Bool) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = try await Self.ownFolder(laptop.host, linked: linked)
                try await laptop.server.startPython("dns.py", Laptop.near[0], "198.18.7.7")
                let go = lab.newPath("go")
                let script = """
                    cat /etc/resolv.conf
                    echo first
                    until [ -e \(go) ]; do sleep 0.02; done
                    until dig +short +tries=1 +time=1 web.example | grep 198.18.7.7; do sleep 0.05; done
                    cat /etc/resolv.conf
                    """
                let program = try await laptop.host.startTapas(
                    ["--config-net", "--dns-forward", "169.254.1.1"], ["sh", "-c", script])
                try await program.wrote("first")
                // As programs do it: by renaming, several times, and by removing and making anew.
                try await laptop.host.must([
                    "sh", "-ec",
                    """
                    for turn in 1 2 3 4 5; do
                        echo nameserver 192.0.2.25$turn > \(file).new
                        mv \(file).new \(file)
                    done
                    rm \(file)
                    echo nameserver \(Laptop.near[0]) > \(file)
                    touch \(go)
                    """,
                ])
                let outcome = try await program.end(within: .seconds(10))
                let own = "nameserver 169.254.1.1\noptions ndots:2\nsearch a.example\n"
                #expect(outcome.errors.isEmpty, "\(outcome)")
                #expect(outcome.output.hasPrefix("# Made by tapas"), "\(outcome)")
                #expect(outcome.output.split(separator: "# Made by tapas").count == 2, "\(outcome)")
                #expect(outcome.output.contains(own + "first\n198.18.7.7\n#"), "\(outcome)")
                #expect(outcome.output.hasSuffix(own), "\(outcome)")
                #expect(
                    try await laptop.host.must(["cat", "/etc/resolv.conf"]) == "nameserver \(Laptop.near[0])\n",
                    "the host's is its own")
            }
        }

        @Test(
            "it is the host's without --dns-forward, with --no-resolv-conf, and without --config-net; not in opaque mode"
        )
        func theHostsFile() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.resolver("nameserver 192.0.2.250\n")
                let forward = ["--config-net", "--dns-forward", "169.254.1.1"]
                for (options, expected) in [
                    (["--config-net"], "192.0.2.250"), (forward + ["--no-resolv-conf"], "192.0.2.250"),
                    (["--dns-forward", "169.254.1.1"], "192.0.2.250"),
                    (["--config-net", "--mode", "opaque"], "169.254.2.2"),
                    (forward + ["--dns-forward", "2001:db8:53::53", "-6"], "2001:db8:53::53"),
                ] {
                    let outcome = try await laptop.host.tapas(
                        options + ["-q"], ["grep", "^nameserver", "/etc/resolv.conf"])
                    #expect(outcome.output == "nameserver \(expected)\n", "\(options): \(outcome)")
                }
                let other = try await laptop.host.tapas(
                    forward + ["-q", "-S", "x.example y.example"], ["tail", "-n", "+2", "/etc/resolv.conf"],
                    as: .ordinary)
                #expect(other.output == "nameserver 169.254.1.1\nsearch x.example y.example\n", "\(other)")
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
