// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Logging

/// The settings of the data path, which never change.
public struct ForwardingOptions: Sendable {
    /// Not `--no-tcp`.
    public var forwardsTCP = true
    /// Not `--no-udp`.
    public var forwardsUDP = true
    /// Not `--no-icmp`.
    public var forwardsICMP = true
    /// The greatest number of flows of all kinds; below 2^24.
    public var maximumFlows = 131_072
    /// The time-outs of UDP flows in milliseconds (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`).
    public var udpTimeout: Int64 = 30_000
    /// As ``udpTimeout``, after several datagrams have gone both ways.
    public var udpStreamTimeout: Int64 = 120_000
    /// The rules on what may leave; nil if everything may.
    public var egress: EgressSettings?
    /// Where flows are recorded; nil if they are not.
    public var flowEvents: FlowEventQueue?
    /// The resolvers' port, if it is not the one that the namespace uses (for tests, whose resolvers may not use port
    /// 53).
    var resolverPort: UInt16?
    /// Chunks of 16 KiB for data that host sockets do not accept at once, for all flows together.
    var backlogChunks = DataPath.Size.backlogChunks

    /// Where messages for the user go.
    public var logger: Logger

    /// Makes the options of a bare command line.
    public init(logger: Logger) {
        self.logger = logger
    }
}
