// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// What a destination in the namespace leads to.
struct Mapping: Sendable, CustomTestStringConvertible {
    let name: String
    let options: [String]
    /// Asked on port 7009, which answers with the address that it sees.
    let destination: String
    /// Which of the host's servers answers: the one on loopback, on its own address, or the router's.
    let answers: Answerer
    var testDescription: String { name }

    enum Answerer: String, Sendable {
        case loopback, own, router, nobody
    }

    static let all: [Mapping] = [
        .init(name: "the gateway is the host's loopback", options: [], destination: Laptop.near[0], answers: .loopback),
        .init(
            name: "the IPv6 gateway is the host's loopback", options: [], destination: Laptop.near[1],
            answers: .loopback),
        .init(
            name: "--no-map-gw: the gateway is the gateway", options: ["--no-map-gw"], destination: Laptop.near[0],
            answers: .router),
        .init(
            name: "--no-map-gw, IPv6", options: ["--no-map-gw"], destination: Laptop.near[1], answers: .router),
        .init(
            name: "--map-host-loopback", options: ["--map-host-loopback", "10.99.99.99"], destination: "10.99.99.99",
            answers: .loopback),
        .init(
            name: "--map-host-loopback, IPv6", options: ["--map-host-loopback", "2001:db8:99::99"],
            destination: "2001:db8:99::99", answers: .loopback),
        .init(
            name: "--map-host-loopback frees the gateway", options: ["--map-host-loopback", "10.99.99.99"],
            destination: Laptop.near[0], answers: .router),
        .init(
            name: "--map-host-loopback none", options: ["--map-host-loopback", "none"], destination: Laptop.near[0],
            answers: .router),
        .init(
            name: "--no-map-gw leaves an explicit mapping",
            options: ["--no-map-gw", "--map-host-loopback", "10.99.99.99"], destination: "10.99.99.99",
            answers: .loopback),
        .init(
            name: "--map-guest-addr", options: ["--no-map-gw", "--map-guest-addr", "169.254.1.2"],
            destination: "169.254.1.2", answers: .own),
        .init(
            name: "--map-guest-addr, IPv6", options: ["--no-map-gw", "--map-guest-addr", "2001:db8:99::2"],
            destination: "2001:db8:99::2", answers: .own),
        .init(
            name: "the namespace's own loopback stays its own", options: [], destination: "127.0.0.1",
            answers: .nobody),
    ]
}

extension Scenarios {
    /// The host's own services, as far as options let the namespace reach them.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///              servers on 127.0.0.1, ::1 and on the host's own addresses
    @Suite("addresses that lead to the host", .timeLimit(.minutes(2))) struct HostMappings {
        /// A server for TCP and UDP that says its own name, on one address.
        static func announce(_ name: String, on address: String, of host: Host) async throws {
            let family = address.contains(":") ? "AF_INET6" : "AF_INET"
            let script = """
                import socket, threading
                def tcp():
                    listener = socket.create_server(("\(address)", 7100), family=socket.\(family))
                    print("ready", flush=True)
                    while True:
                        sock, peer = listener.accept()
                        sock.sendall(b"\(name) " + peer[0].encode() + b"\\n")
                        sock.close()
                udp = socket.socket(socket.\(family), socket.SOCK_DGRAM)
                udp.bind(("\(address)", 7100))
                threading.Thread(target=tcp, daemon=True).start()
                while True:
                    data, peer = udp.recvfrom(100)
                    udp.sendto(b"\(name) " + peer[0].encode(), peer)
                """
            try await host.start(["python3", "-c", script]).wrote("ready")
        }

        @Test("TCP and UDP", arguments: Mapping.all, ["tcp", "udp"])
        func mapping(mapping: Mapping, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                for address in ["127.0.0.1", "::1"] {
                    try await Self.announce("loopback", on: address, of: laptop.host)
                }
                for address in Laptop.own { try await Self.announce("own", on: address, of: laptop.host) }
                for address in Laptop.near { try await Self.announce("router", on: address, of: laptop.server) }
                // The splice path of -T and -U would answer on the namespace's loopback.
                try await laptop.host.attach(
                    laptop.guest,
                    ["--config-net", "-t", "none", "-u", "none", "-T", "none", "-U", "none"] + mapping.options)
                let client = ["python3", helperProgram("client.py"), "who", kind, mapping.destination, "7100"]
                let outcome = try await laptop.guest.run(client)
                if mapping.answers == .nobody {
                    #expect(outcome.status != 0, "\(outcome)")
                } else {
                    #expect(outcome.output.hasPrefix(mapping.answers.rawValue + " "), "\(outcome)")
                }
            }
        }

        @Test("--map-guest-addr finds the host at the address that it has now")
        func theMappingFollowsTheHost() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let file = try await laptop.host.nameFile(of: laptop.guest)
                try await laptop.host.attach(
                    path: file, ["--config-net", "--no-map-gw", "--map-guest-addr", "169.254.1.2"])
                try await Self.announce("own", on: "192.0.2.10", of: laptop.host)
                let client = ["python3", helperProgram("client.py"), "who", "tcp", "169.254.1.2", "7100"]
                #expect(try await laptop.guest.must(client).hasPrefix("own "))
            }
        }

        @Test("the server sees the host's own address", arguments: Laptop.beyond, ["tcp", "udp"])
        func theServerSeesTheHost(address: String, kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.attach(laptop.guest)
                let seen = try await laptop.guest.python("client.py", "who", kind, address)
                #expect(seen.hasPrefix(address.contains(":") ? "2001:db8:1::10 " : "192.0.2.10 "), "\(seen)")
            }
        }

        @Test("-o: host sockets use the address given", arguments: ["tcp", "udp"])
        func outboundAddress(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                try await laptop.host.ip("address add 192.0.2.77/24 dev eth0")
                try await laptop.host.attach(laptop.guest, ["--config-net", "-o", "192.0.2.77"])
                let seen = try await laptop.guest.python("client.py", "who", kind, Laptop.beyond[0])
                #expect(seen.hasPrefix("192.0.2.77 "), "\(seen)")
            }
        }

        @Test("ping of the gateway is answered, mapped or not", arguments: [[], ["--no-map-gw"]])
        func pingOfTheGateway(options: [String]) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                try await laptop.host.attach(laptop.guest, ["--config-net"] + options)
                for address in Laptop.near {
                    let outcome = try await laptop.guest.run(["ping", "-c", "2", "-i", "0.01", "-W", "5", address])
                    #expect(outcome.output.contains("2 received"), "\(outcome)")
                }
            }
        }
    }
}
