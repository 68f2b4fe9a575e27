// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Data towards the namespace. The host socket keeps what was sent until it is acknowledged: sending is reading behind
// the bytes in flight (`SO_PEEK_OFF`), and sending again is reading from the first byte.

internal import LinuxSystem
internal import NetworkTypes
internal import Wire

extension Readiness {
    /// Urgent data has come (`EPOLLPRI`).
    static let urgent = Readiness(rawValue: 0x002)
}

extension Flow {
    /// How often a flow reads from its host socket before others have their turn.
    private static let rounds = 4

    /// The host socket of a connection is ready; its errors and its backlog have been seen to.
    @inline(__always)
    mutating func hostReady(_ readiness: Readiness, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        activity = now
        noteEnds(of: readiness)
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp]) {
            flags.insert(.readable)
            if state == .established { steps.actions.insert(.enqueue) }
        }
        return steps
    }

    /// Remembers what makes a short read no sign of an empty socket: the end is near, or urgent data cuts it short.
    @inline(__always)
    mutating func noteEnds(of readiness: Readiness) {
        if !readiness.isDisjoint(with: [.peerClosed, .hangUp]) { flags.insert(.hostClosing) }
        if readiness.contains(.urgent) { flags.insert(.urgent) }
    }

    /// What to read from the host socket and send now.
    ///
    /// - Parameters:
    ///   - round: How often it was asked before in this turn.
    ///   - most: The most bytes that can be read at once.
    /// - Returns: Steps with ``TCPSteps/Actions/read`` if there is something to read.
    @inline(__always)
    mutating func transmission(round: Int, most: Int) -> TCPSteps {
        var steps = TCPSteps()
        if flags.contains(.finSent) { return steps }
        let flight = sendNext &- sendUnacknowledged
        guard sendWindow > flight else {
            if flight == 0 { persist(&steps) }
            return steps
        }
        if round == Self.rounds {
            // Others first; the rest at the next turn.
            steps.actions = .enqueue
            return steps
        }
        steps.actions = .read
        steps.payloadCount = min(sendWindow - flight, UInt32(truncatingIfNeeded: most))
        return steps
    }

    /// What the host socket gave was sent.
    ///
    /// - Parameters:
    ///   - count: Its bytes.
    ///   - wanted: How many were asked for.
    /// - Returns: Steps with ``TCPSteps/Actions/read`` if there may be more.
    @inline(__always)
    mutating func hostGave(_ count: Int, of wanted: UInt32) -> TCPSteps {
        var steps = TCPSteps()
        sendNext &+= UInt32(truncatingIfNeeded: count)
        noteSent(&steps)
        if count < wanted && flags.isDisjoint(with: [.hostClosing, .urgent]) {
            flags.remove(.readable)
        } else {
            steps.actions.insert(.read)
        }
        return steps
    }

    /// The host socket has ended: FIN goes out behind all data.
    mutating func hostEnded() -> TCPSteps {
        var steps = TCPSteps()
        flags.formUnion([.hostFinished, .finSent])
        steps.send([.fin, .ack], at: sendNext)
        sendNext &+= 1
        noteSent(&steps)
        return steps
    }

    /// The host socket has nothing to read.
    mutating func hostHasNothing() {
        flags.subtract([.readable, .urgent])
    }

    /// The host socket has dropped bytes that the namespace had acknowledged.
    @inline(__always)
    mutating func hostDropped(_ count: Int) {
        discardable -= min(UInt32(truncatingIfNeeded: count), discardable)
    }

    /// Remembers the highest number sent and starts the retransmission time-out.
    @inline(__always)
    private mutating func noteSent(_ steps: inout TCPSteps) {
        if isAfter(sendNext, sendHighest) { sendHighest = sendNext }
        steps.wait(TCPTime.backOff(retries))
    }

    // MARK: Again

    /// Waits for the window of the namespace to open, which it may do unseen.
    private mutating func persist(_ steps: inout TCPSteps) {
        flags.insert(.persisting)
        steps.wait(TCPTime.backOff(retries))
    }

    /// Sends again from the first unacknowledged byte.
    mutating func retransmit(_ steps: inout TCPSteps) {
        goBack(&steps)
        steps.actions.insert(.retransmit)
        // For the case that nothing can be read.
        steps.wait(TCPTime.backOff(retries))
    }

    /// Makes the first unacknowledged byte the next to be sent.
    mutating func goBack(_ steps: inout TCPSteps) {
        sendNext = sendUnacknowledged
        flags.remove(.finSent)
        flags.insert(.readable)
        steps.actions.insert(.rewind)
    }
}
