// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Logging

/// What the data path is told once, at start.
public struct ForwardingOptions: Sendable {
    /// Not `--no-tcp`.
    public var forwardsTCP = true
    /// Not `--no-udp`.
    public var forwardsUDP = true
    /// Not `--no-icmp`.
    public var forwardsICMP = true
    /// Flows at most, of all kinds together; below 2^24.
    public var maximumFlows = 131_072
    /// The time-outs of UDP flows in milliseconds (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`).
    public var udpTimeout: Int64 = 30_000
    /// As ``udpTimeout``, once several datagrams have gone both ways.
    public var udpStreamTimeout: Int64 = 120_000
    /// The resolvers' port, if not the one that the namespace asks at (tests: theirs may not have port 53).
    var resolverPort: UInt16?
    /// Chunks of 16 KiB for what host sockets do not take at once, for all flows together.
    var backlogChunks = DataPath.Size.backlogChunks

    /// Where the data path says what a person should know.
    public var logger: Logger

    /// Makes the options of a bare command line.
    public init(logger: Logger) {
        self.logger = logger
    }
}
