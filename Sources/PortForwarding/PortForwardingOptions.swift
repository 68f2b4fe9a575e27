// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Logging

/// The settings of the forwarded ports, which never change.
public struct PortForwardingOptions: Sendable {
    /// Not `--no-splice`: loopback clients of forwarded ports are spliced.
    public var splicesInbound = true
    /// `--host-lo-to-ns-lo`: they reach the namespace's loopback instead of its address.
    public var hostLoopbackToNamespaceLoopback = false
    /// Not `--no-monitor`: rules wait for addresses and interfaces that the host does not have yet.
    public var followsHost = true
    /// The interface of `--mode transparent`, whose absence is somebody else's to tell: rules wait for it in silence.
    public var mirroredInterface: String?
    /// `--freebind`: that the host does not have the address of a rule is meant.
    public var expectsAbsentAddresses = false
    /// How long the first rules wait for a port that another process has, in milliseconds.
    ///
    /// That process may be a predecessor that is about to end.
    public var patience: Int64 = 2000
    /// How long of that they wait before it is told, in milliseconds.
    public var silentPatience: Int64 = 500
    /// How often ports that another process has are tried again, if their rules tolerate that, in milliseconds.
    public var retryInterval: Int64 = 5000
    /// The owners of the host's ports when the program started, for messages.
    public var holders = PortHolders()
    /// The time-outs of UDP clients in milliseconds (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`).
    public var udpTimeout: Int64 = 30_000
    /// As ``udpTimeout``, after several datagrams have gone both ways.
    public var udpStreamTimeout: Int64 = 120_000
    /// The greatest number of spliced UDP clients; below 2^24.
    public var maximumRelays = 16_384
    /// The number of sockets of the namespace that are made ahead, of each of the four kinds.
    public var socketsAhead = 32
    /// Who may use the ports, at first.
    public var policy = ForwardingPolicy()
    /// Keeps listening sockets for a successor of this process, and has those of its predecessor.
    public var keeper: (any ListenerKeeper)?
    /// Where messages go.
    public var logger: Logger

    /// Makes the options of a bare command line.
    public init(logger: Logger) {
        self.logger = logger
    }
}
