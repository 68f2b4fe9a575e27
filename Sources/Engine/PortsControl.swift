// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel
internal import PortForwarding

/// The forwarded ports as the control plane reaches them: an actor on the ports' own loop, so that a call is a hop to
/// that thread between two turns, never a lock.
actor PortsControl {
    private let ports: LoopBound<ForwardedPorts>

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe ports.loop.asUnownedSerialExecutor() }

    /// Reaches forwarded ports.
    init(_ ports: LoopBound<ForwardedPorts>) {
        self.ports = ports
    }

    /// The rules in force.
    var forwards: [PortForward] { ports.onLoop { $0.forwards } }

    /// The rules in force, and what each is at.
    var states: [ForwardState] { ports.onLoop { $0.states } }

    /// What has been counted.
    var figures: ForwardFigures { ports.onLoop { $0.figures } }

    /// Changes the rules, all of them or none; flows that exist are not touched.
    ///
    /// - Parameter compute: makes the new rules of those in force, when the change's turn has come.
    /// - Returns: the rules in force then, and what each is at.
    /// - Throws: What `compute` throws, or the first port that cannot be had; nothing has changed then.
    @discardableResult
    func change(
        _ compute: @escaping @Sendable ([PortForward]) throws(PortForwardingError) -> [PortForward]
    ) async throws(PortForwardingError) -> [ForwardState] {
        let outcome = await withCheckedContinuation {
            (continuation: CheckedContinuation<Result<[PortForward], PortForwardingError>, Never>) in
            ports.onLoop { $0.change(compute) { outcome in continuation.resume(returning: outcome) } }
        }
        _ = try outcome.get()
        return states
    }

    /// Some of the flows that never touch the tap.
    func splicedFlows(from start: Int) -> SplicedFlowSlice { ports.onLoop { $0.splicedFlows(from: start) } }

    /// Ends some of the flows that never touch the tap.
    func endSplicedFlows(
        from start: Int, where condition: @Sendable (SplicedFlow) -> Bool
    ) -> (count: Int, next: Int?) {
        ports.onLoop { $0.endSplicedFlows(from: start, where: condition) }
    }
}
