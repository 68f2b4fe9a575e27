// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// Forwarded ports that lead to an address behind the namespace, as Podman's bridge networks have them.
    ///
    ///     box ── br0 in guest ══ tapas in host ── eth0 ── server        (Laptop)
    ///     10.89.0.2/24  10.89.0.1/24               clients here, and in host
    ///     fd00:89::2/64 fd00:89::1/64
    @Suite("forwarded ports to an address behind the namespace", .timeLimit(.minutes(2))) struct PortsBehind {
        private static let box = ["10.89.0.2", "fd00:89::2"]
        private static let bridge = ["10.89.0.1", "fd00:89::1"]

        /// A laptop with a bridge in its guest, and a box on the bridge.
        private static func bridged(in lab: Lab) async throws -> (laptop: Laptop, box: Host) {
            let laptop = try await Laptop(in: lab, serving: false)
            let box = try await lab.host("box")
            try await laptop.guest.ip(
                """
                link add br0 type bridge
                link set br0 up
                address add 10.89.0.1/24 dev br0
                address add fd00:89::1/64 dev br0 nodad
                """)
            try await lab.link(laptop.guest, "veth0", box, "eth0")
            try await laptop.guest.ip("link set veth0 master br0")
            for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                try await laptop.guest.set(name, to: "1")
            }
            try await box.ip(
                """
                address add 10.89.0.2/24 dev eth0
                address add fd00:89::2/64 dev eth0 nodad
                route add default via 10.89.0.1
                -6 route add default via fd00:89::1
                """)
            return (laptop, box)
        }

        @Test(
            "by the tap and spliced, both families, and the namespace's own ports stay its own",
            arguments: ["tcp", "udp"])
        func byTheTapAndSpliced(kind: String) async throws {
            try await withLab { lab in
                let (laptop, box) = try await Self.bridged(in: lab)
                let option = kind == "tcp" ? "-t" : "-u"
                try await laptop.host.attach(
                    laptop.guest,
                    [
                        "--config-net", option, "0.0.0.0/5000:10.89.0.2/6000", option, "::/5000:[fd00:89::2]/6000",
                        option,
                        "9000",
                    ])
                let places = (box: ["::/6000"], guest: ["::/9000"])
                try await box.answer(tcp: kind == "tcp" ? places.box : [], udp: kind == "udp" ? places.box : [])
                try await laptop.guest.answer(
                    tcp: kind == "tcp" ? places.guest : [], udp: kind == "udp" ? places.guest : [])
                for (family, loopback) in ["127.0.0.1", "::1"].enumerated() {
                    // By the tap the client keeps its address; spliced it is the namespace's end of the bridge.
                    let far = try #require(try await laptop.server.asks(kind, Laptop.own[family], 5000))
                    #expect(far.first == Laptop.near[family] && far.last == "6000", "\(far)")
                    let near = try #require(try await laptop.host.asks(kind, loopback, 5000))
                    #expect(near.first == Self.bridge[family] && near.last == "6000", "\(near)")
                    if kind == "tcp" { #expect(far[2] == Self.box[family] && near[2] == Self.box[family]) }
                    // What has answered from behind is not taken for the namespace's own address.
                    let own = try #require(try await laptop.server.asks(kind, Laptop.own[family], 9000))
                    #expect(own.last == "9000", "\(own)")
                    if kind == "tcp" { #expect(own[2] == Laptop.own[family]) }
                }
            }
        }
    }
}
