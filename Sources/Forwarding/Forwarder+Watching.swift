// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Observing the data path while it runs: figures, the log level, captures.

public import Logging

/// The figures of the data path at one moment.
public struct ForwarderFigures: Sendable {
    /// The counters.
    public var counters: Counters
    /// The counts of queries to resolvers.
    public var dns: DNSStatistics
    /// The number of flows by kind; the names and the order never change.
    public var flowsByKind: [(kind: String, count: Int)]
    /// The greatest number of flows.
    public var flowLimit: Int
    /// Bytes of memory for flows that have been touched.
    public var flowMemory: Int
    /// Backlog memory in use (chunks of 16 KiB), in bytes.
    public var backlogMemory: Int
}

extension Forwarder {
    /// The present figures.
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
    /// - Parameter capture: the new capture; a running one ends.
    public func startCapture(_ capture: consuming FrameCapture) {
        var capture: FrameCapture? = capture
        withPath { $0.capture = capture.take() }
    }

    /// Ends the capture.
    ///
    /// - Returns: the number of frames recorded, and of those that could not be written; nil if there was no capture.
    @discardableResult
    public func stopCapture() -> (frames: UInt64, lost: UInt64)? {
        withPath { path in
            guard let capture = path.capture.take() else { return nil }
            return (capture.frames, capture.lost)
        }
    }
}

extension FlowKind {
    /// The name of the kind in figures.
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
