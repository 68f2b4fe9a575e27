// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// How TCP flows end: both sides have, the host socket has failed, or the flow must go.

internal import SystemPackage
internal import Wire

extension Flow {
    /// Ends a flow when both directions have: FIN passed on, FIN acknowledged.
    @inline(__always)
    mutating func closeIfFinished(_ steps: inout TCPSteps) {
        guard flags.isSuperset(of: [.shutDown, .finAcknowledged]) else { return }
        if flags.contains(.owesAck) { sendAcknowledgment(&steps) }
        steps.actions.formUnion([.discard, .close])
    }

    /// The host socket is in error: the namespace's side is reset.
    mutating func hostFailed(_ error: Errno) -> TCPSteps {
        if state == .connecting { return hostRefused(error) }
        var steps = TCPSteps()
        sendReset(&steps)
        steps.actions.insert(.close)
        return steps
    }

    /// The flow is given up on both sides.
    func givenUp() -> TCPSteps {
        var steps = TCPSteps()
        sendReset(&steps)
        steps.actions.insert(.abort)
        return steps
    }

    /// The flow makes room for another one.
    func evicted() -> TCPSteps {
        guard state == .connecting else { return givenUp() }
        // Nobody has refused it: the namespace's kernel will send its SYN again.
        var steps = TCPSteps()
        steps.actions = .abort
        return steps
    }

    /// The namespace's address goes.
    ///
    /// What the namespace has sent and ended still reaches the server: that socket is closed, not reset.
    func withdrawn() -> TCPSteps {
        guard flags.contains(.shutDown) else { return givenUp() }
        var steps = TCPSteps()
        sendReset(&steps)
        steps.actions.insert(.close)
        return steps
    }

    private func sendReset(_ steps: inout TCPSteps) {
        // Not `sendNext`, which may have gone back: the namespace ignores a reset before what it has received.
        steps.send([.rst, .ack], at: state == .connecting ? 0 : sendHighest)
    }
}
