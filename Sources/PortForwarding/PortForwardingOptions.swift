// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Logging

/// What the forwarded ports are told once, at start.
public struct PortForwardingOptions: Sendable {
    /// Not `--no-splice`: loopback clients of forwarded ports are spliced.
    public var splicesInbound = true
    /// `--host-lo-to-ns-lo`: they reach the namespace's loopback in place of its address.
    public var hostLoopbackToNamespaceLoopback = false
    /// How long a port that somebody else has is waited for when the first rules are set, in milliseconds: a
    /// predecessor may be about to go.
    public var patience: Int64 = 1000
    /// How often ports that somebody else has are tried again, if their rules do without them, in milliseconds.
    public var retryInterval: Int64 = 5000
    /// Who had ports of the host when the program started, for messages.
    public var holders = PortHolders()
    /// The time-outs of UDP clients in milliseconds (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`).
    public var udpTimeout: Int64 = 30_000
    /// As ``udpTimeout``, once several datagrams have gone both ways.
    public var udpStreamTimeout: Int64 = 120_000
    /// Spliced UDP clients at most; below 2^24.
    public var maximumRelays = 16_384
    /// Sockets of the namespace made in advance, of each of the four kinds.
    public var socketsAhead = 32
    /// Where a person is told what there is to know.
    public var logger: Logger

    /// Makes the options of a bare command line.
    public init(logger: Logger) {
        self.logger = logger
    }
}
