// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// How TCP flows end: both sides have ended, the host socket has failed, or the flow is evicted or withdrawn.

internal import SystemPackage
internal import Wire

extension Flow {
    /// Ends a flow when both directions have ended: FIN passed on, FIN acknowledged.
    @inline(__always)
    mutating func closeIfFinished(_ steps: inout TCPSteps) {
        guard flags.isSuperset(of: [.shutDown, .finAcknowledged]) else { return }
        if flags.contains(.needsAck) { sendAcknowledgment(&steps) }
        steps.actions.formUnion([.discard, .close])
    }

    /// The host socket has an error: the namespace's side is reset.
    mutating func hostFailed(_ error: Errno) -> TCPSteps {
        if state == .connecting { return hostRefused(error) }
        var steps = TCPSteps()
        sendReset(&steps)
        steps.actions.insert(.close)
        return steps
    }

    /// The flow is ended on both sides.
    func abandoned() -> TCPSteps {
        var steps = TCPSteps()
        sendReset(&steps)
        steps.actions.insert(.abort)
        return steps
    }

    /// The flow is evicted for another one.
    func evicted() -> TCPSteps {
        guard state == .connecting else { return abandoned() }
        // The attempt is not refused, so the namespace's kernel sends its SYN again.
        var steps = TCPSteps()
        steps.actions = .abort
        return steps
    }

    /// The namespace's address is removed.
    ///
    /// The server still receives what the namespace has sent before its FIN: that socket is closed, not reset.
    func withdrawn() -> TCPSteps {
        guard flags.contains(.shutDown) else { return abandoned() }
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
