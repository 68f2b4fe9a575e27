// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A laptop on a network: what most scenarios begin with.
///
///     guest ══ tapas in host ── eth0 ─────────── eth0 ── server
///              192.0.2.10/24                 192.0.2.1/24        and 203.0.113.1 "beyond", on lo
///              2001:db8:1::10/64             2001:db8:1::1/64    and 2001:db8:f::1 "beyond", on lo
///              default via .1                default via .10's network only
///
/// The server is the host's router too. `guest` is a namespace with no interface; tapas is not started yet.
public struct Laptop: Sendable {
    /// Where tapas runs.
    public let host: Host
    /// The host's router, with servers on it.
    public let server: Host
    /// A namespace to attach to.
    public let guest: Host

    /// The server's addresses on the host's network, IPv4 then IPv6.
    public static let near = ["192.0.2.1", "2001:db8:1::1"]
    /// The server's addresses behind the router, IPv4 then IPv6.
    public static let beyond = ["203.0.113.1", "2001:db8:f::1"]
    /// The host's own addresses, IPv4 then IPv6.
    public static let own = ["192.0.2.10", "2001:db8:1::10"]

    /// Builds it.
    ///
    /// - Parameters:
    ///   - lab: The lab.
    ///   - congestionControl: The congestion control of TCP in all its namespaces.
    ///   - serving: True to start the servers.
    ///   - mtu: The MTU of the cable, in bytes.
    /// - Throws: `LabError` when the kernel refuses something.
    public init(
        in lab: Lab, congestionControl: String = "cubic", serving: Bool = true, mtu: Int = 1500
    ) async throws {
        host = try await lab.host("host", congestionControl: congestionControl)
        server = try await lab.host("server", congestionControl: congestionControl)
        guest = try await lab.host("guest", congestionControl: congestionControl)
        try await lab.link(host, "eth0", server, "eth0", mtu: mtu)
        try await server.ip(
            """
            address add 192.0.2.1/24 dev eth0
            address add 2001:db8:1::1/64 dev eth0 nodad
            address add 203.0.113.1/32 dev lo
            address add 2001:db8:f::1/128 dev lo nodad
            """)
        try await host.ip(
            """
            address add 192.0.2.10/24 dev eth0
            address add 2001:db8:1::10/64 dev eth0 nodad
            route add default via 192.0.2.1
            -6 route add default via 2001:db8:1::1
            """)
        if serving { try await server.startPython("serve.py") }
    }
}
