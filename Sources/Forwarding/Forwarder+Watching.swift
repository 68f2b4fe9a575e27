// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What the data path tells of itself while it runs, and how much of it: figures, the level of its log, captures.

public import Logging

/// The figures of the data path at one moment.
public struct ForwarderFigures: Sendable {
    /// What has been counted.
    public var counters: Counters
    /// What was asked of resolvers.
    public var dns: DNSStatistics
    /// Flows that exist, by kind: each kind has its name and place for good.
    public var flowsByKind: [(kind: String, count: Int)]
    /// The most flows there may be.
    public var flowLimit: Int
    /// Bytes of memory for flows that have been touched.
    public var flowMemory: Int
    /// Chunks of 16 KiB in use for what host sockets have not taken yet, in bytes.
    public var backlogMemory: Int
}

extension Forwarder {
    /// The figures as they are.
    public var figures: ForwarderFigures {
        withPath { path in
            ForwarderFigures(
                counters: path.counters, dns: path.dns.statistics,
                flowsByKind: FlowKind.allCases.map { ($0.metricName, path.table.shares.count(of: $0)) },
                flowLimit: path.options.maximumFlows, flowMemory: path.table.touchedBytes,
                backlogMemory: path.backlog.used * BacklogPool.chunkSize)
        }
    }

    /// Sets the lowest level of the data path's own messages.
    public func setLogLevel(_ level: Logger.Level) {
        withPath { path in
            path.options.logger.logLevel = level
            path.trace = DataPath.FlowTrace(of: path.options.logger)
        }
    }

    // MARK: Captures

    /// Whether frames are captured.
    public var isCapturing: Bool { withPath { $0.capture != nil } }

    /// Begins to record all frames.
    ///
    /// - Parameter capture: where to; one that is under way ends.
    public func startCapture(_ capture: consuming FrameCapture) {
        var capture: FrameCapture? = capture
        withPath { $0.capture = capture.take() }
    }

    /// Ends the capture.
    ///
    /// - Returns: how many frames it has, and how many could not be written; nil if there was none.
    @discardableResult
    public func stopCapture() -> (frames: UInt64, lost: UInt64)? {
        withPath { path in
            guard let capture = path.capture.take() else { return nil }
            return (capture.frames, capture.lost)
        }
    }
}

extension FlowKind {
    /// What figures call the kind.
    var metricName: String {
        switch self {
        case .connection: "tcp"
        case .handshake: "tcp_handshake"
        case .inboundHandshake: "tcp_inbound_handshake"
        case .exchange: "udp"
        case .question: "udp_unanswered"
        case .inboundQuestion: "udp_inbound_unanswered"
        case .echo: "icmp"
        }
    }
}
