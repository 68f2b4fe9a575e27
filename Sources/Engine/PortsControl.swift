// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel
internal import PortForwarding

/// The control plane's access to the forwarded ports: an actor on the ports' own loop, so that a call runs on that
/// thread between two turns, without a lock.
actor PortsControl {
    private let ports: LoopBound<ForwardedPorts>

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe ports.loop.asUnownedSerialExecutor() }

    /// Makes the access to forwarded ports.
    init(_ ports: LoopBound<ForwardedPorts>) {
        self.ports = ports
    }

    /// Sets who may use the ports from now on.
    func publish(_ policy: ForwardingPolicy) {
        ports.onLoop { $0.policy = policy }
    }

    /// The rules in force.
    var forwards: [PortForward] { ports.onLoop { $0.forwards } }

    /// The rules in force with their states.
    var states: [ForwardState] { ports.onLoop { $0.states } }

    /// The figures.
    var figures: ForwardFigures { ports.onLoop { $0.figures } }

    /// Changes the rules, all of them or none; existing flows are not touched.
    ///
    /// - Parameter compute: makes the new rules from those in force when the change begins.
    /// - Returns: the rules in force after the change, with their states.
    /// - Throws: The error of `compute`, or the first port that cannot be opened; nothing has changed then.
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

    /// Returns a slice of the spliced flows.
    func splicedFlows(from start: Int) -> SplicedFlowSlice { ports.onLoop { $0.splicedFlows(from: start) } }

    /// Ends some of the spliced flows.
    func endSplicedFlows(
        from start: Int, where condition: @Sendable (SplicedFlow) -> Bool
    ) -> (count: Int, next: Int?) {
        ports.onLoop { $0.endSplicedFlows(from: start, where: condition) }
    }
}
