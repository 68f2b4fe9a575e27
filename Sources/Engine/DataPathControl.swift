// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Policy

/// The control plane's access to the data path: an actor on the data path's own loop, so that a call runs on that
/// thread between two turns, without a lock.
actor DataPathControl: FlowControl {
    private let dataPath: LoopBound<Forwarder>

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe dataPath.loop.asUnownedSerialExecutor() }

    /// Makes the access to a data path.
    init(_ dataPath: LoopBound<Forwarder>) {
        self.dataPath = dataPath
    }

    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, adjustments: FlowAdjustments, unplanned: Set<IPAddress>
    ) -> Int {
        dataPath.onLoop { forwarder in
            forwarder.publish(rules, services: services, unplanned: unplanned)
            return forwarder.apply(adjustments)
        }
    }

    func publish(neighbours: [IPAddress: MACAddress]) {
        dataPath.onLoop { $0.publish(neighbours: neighbours) }
    }

    func resetFlows(of address: IPAddress) {
        dataPath.onLoop { $0.resetFlows(guestAddress: address) }
    }

    func forgetObserved(_ addresses: Set<IPAddress>) {
        dataPath.onLoop { $0.forgetObserved(addresses) }
    }

    /// The number of flows.
    func flowCount() -> Int {
        dataPath.onLoop { $0.flowCount }
    }

    func connectionCounts(_ unplanned: Set<IPAddress>) -> [IPAddress: Int] {
        dataPath.onLoop { $0.connectionCounts(unplanned) }
    }

    // MARK: What may leave

    /// Sets the rules on what may leave, and ends the flows that they deny.
    ///
    /// - Returns: the number of flows that were ended.
    func publish(egress settings: EgressSettings) -> Int { dataPath.onLoop { $0.publish(egress: settings) } }

    /// Records flows from now on.
    func record(in events: FlowEventQueue) { dataPath.onLoop { $0.record(in: events) } }

    /// The state of the rules on what may leave; nil if there are none.
    var egressState: EgressState? { dataPath.onLoop { $0.egressState } }

    /// Decides as on flows that open now, without effect; nil if there are no rules.
    func decide(_ openings: [EgressPolicy.Opening]) -> [EgressPolicy.Decision]? {
        dataPath.onLoop { forwarder in
            var decisions: [EgressPolicy.Decision] = []
            for opening in openings {
                guard let decision = forwarder.decide(opening) else { return nil }
                decisions.append(decision)
            }
            return decisions
        }
    }

    // MARK: Asked by a control client

    /// The data path's figures.
    var figures: ForwarderFigures { dataPath.onLoop { $0.figures } }

    /// The rules for new flows.
    var rules: TranslationRules { dataPath.onLoop { $0.rules } }

    /// Returns a slice of the flows; the data path can handle traffic between two calls.
    func flows(from start: Int, matching filter: FlowFilter) -> FlowSlice {
        dataPath.onLoop { $0.flows(from: start, matching: filter, isDetailed: true) }
    }

    /// Ends some of the flows.
    func endFlows(from start: Int, matching filter: FlowFilter) -> (count: Int, next: Int?) {
        dataPath.onLoop { $0.endFlows(from: start, matching: filter) }
    }

    /// Sets the lowest level of the data path's own messages.
    func setLogLevel(_ level: Logger.Level) {
        dataPath.onLoop { $0.setLogLevel(level) }
    }

    /// Begins to record all frames in a file that a client has opened.
    ///
    /// - Returns: False if a recording is running.
    /// - Throws: If the file cannot be used.
    func startCapture(_ file: consuming OwnedFileDescriptor) throws(SystemCallError) -> Bool {
        let capture = try FrameCapture(handedOver: file)
        guard !dataPath.onLoop({ $0.isCapturing }) else { return false }
        var waiting: FrameCapture? = consume capture
        dataPath.onLoop { forwarder in
            if let capture = waiting.take() { forwarder.startCapture(capture) }
        }
        return true
    }

    /// Ends the recording.
    ///
    /// - Returns: the number of frames recorded, and of those that could not be written; nil if there was no recording.
    func stopCapture() -> (frames: UInt64, lost: UInt64)? {
        dataPath.onLoop { $0.stopCapture() }
    }
}
