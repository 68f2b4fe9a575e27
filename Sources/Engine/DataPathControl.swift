// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes

/// The data path as the control plane reaches it: an actor on the data path's own loop, so that a call is a hop to that
/// thread between two turns, never a lock.
actor DataPathControl: FlowControl {
    private let dataPath: LoopBound<Forwarder>

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe dataPath.loop.asUnownedSerialExecutor() }

    /// Reaches a data path.
    init(_ dataPath: LoopBound<Forwarder>) {
        self.dataPath = dataPath
    }

    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, fates: FlowFates, leaving: Set<IPAddress>
    ) -> Int {
        dataPath.onLoop { forwarder in
            forwarder.publish(rules, services: services, leaving: leaving)
            return forwarder.apply(fates)
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

    /// How many flows there are.
    func flowCount() -> Int {
        dataPath.onLoop { $0.flowCount }
    }

    func flowsKeeping(_ leaving: Set<IPAddress>) -> [IPAddress: Int] {
        dataPath.onLoop { $0.flowsKeeping(leaving) }
    }

    // MARK: Asked by a control client

    /// The data path's figures.
    var figures: ForwarderFigures { dataPath.onLoop { $0.figures } }

    /// The rules that new flows go by.
    var rules: TranslationRules { dataPath.onLoop { $0.rules } }

    /// Some of the flows; the data path serves others between two calls.
    func flows(from start: Int, matching filter: FlowFilter) -> FlowSlice {
        dataPath.onLoop { $0.flows(from: start, matching: filter, isDetailed: true) }
    }

    /// Ends some of the flows.
    func endFlows(from start: Int, matching filter: FlowFilter) -> (count: Int, next: Int?) {
        dataPath.onLoop { $0.endFlows(from: start, matching: filter) }
    }

    /// Has the data path's own messages begin at a level.
    func setLogLevel(_ level: Logger.Level) {
        dataPath.onLoop { $0.setLogLevel(level) }
    }

    /// Begins to record all frames in a file that a client has opened.
    ///
    /// - Returns: False if frames are recorded already.
    /// - Throws: If the file is of no use.
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
    /// - Returns: how many frames it has, and how many could not be written; nil if there is none.
    func stopCapture() -> (frames: UInt64, lost: UInt64)? {
        dataPath.onLoop { $0.stopCapture() }
    }
}
