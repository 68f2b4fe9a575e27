// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
public import NetworkTypes
public import Policy

/// Who may use the forwarded ports.
public struct ForwardingPolicy: Sendable {
    /// The rules on what may leave, which decide on connections to the host's loopback; nil if everything may.
    ///
    /// Such a connection counts as one to the host (`host`), at the port that it is forwarded to.
    public var egress: EgressPolicy?
    /// `--allow-from`: the sources that may use ports from the host to the namespace; empty for all.
    public var allowedSources: [Prefix] = []

    /// Allows everything.
    public init() {}

    /// Whether a connection or datagram of the namespace may reach the host's loopback.
    ///
    /// - Parameters:
    ///   - transport: its protocol.
    ///   - address: the loopback address.
    ///   - port: the host's port.
    /// - Returns: whether it may.
    func allows(_ transport: PolicyTransport, to address: IPv6Address, port: UInt16) -> Bool {
        guard let egress else { return true }
        let opening = EgressPolicy.Opening(transport, to: IPAddress(unmapping: address), port: port)
        return egress.decide(opening, in: PolicySurroundings()).verdict == .allow
    }

    /// Whether a client may use the ports from the host to the namespace.
    func allows(client: Endpoint) -> Bool {
        if allowedSources.isEmpty { return true }
        let address = IPAddress(unmapping: client.address)
        return allowedSources.contains { $0.contains(address) }
    }
}
