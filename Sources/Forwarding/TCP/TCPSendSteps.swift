// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Data towards the namespace. The host socket keeps what was sent until it is acknowledged: sending is reading behind
// the bytes in flight (`SO_PEEK_OFF`), and a retransmission reads from the first byte.

internal import LinuxSystem
internal import NetworkTypes
internal import Wire

extension Readiness {
    /// Urgent data has arrived (`EPOLLPRI`).
    static let urgent = Readiness(rawValue: 0x002)
}

extension Flow {
    /// How often a flow reads from its host socket before others have their turn.
    private static let rounds = 4

    /// The host socket of a connection is ready; its errors and its backlog have been handled.
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

    /// Records that a short read does not mean an empty socket: the end is near, or urgent data cuts it short.
    @inline(__always)
    mutating func noteEnds(of readiness: Readiness) {
        if !readiness.isDisjoint(with: [.peerClosed, .hangUp]) { flags.insert(.hostClosing) }
        if readiness.contains(.urgent) { flags.insert(.urgent) }
    }

    /// What to read from the host socket and send now.
    ///
    /// - Parameters:
    ///   - round: The number of calls before in this turn.
    ///   - most: The greatest number of bytes that can be read at once.
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
            // Other flows come first; the rest is sent in the next turn.
            steps.actions = .enqueue
            return steps
        }
        steps.actions = .read
        steps.payloadCount = min(sendWindow - flight, UInt32(truncatingIfNeeded: most))
        return steps
    }

    /// The bytes that the host socket returned were sent.
    ///
    /// - Parameters:
    ///   - count: The number of bytes.
    ///   - wanted: The number of bytes that were requested.
    /// - Returns: Steps with ``TCPSteps/Actions/read`` if there may be more.
    @inline(__always)
    mutating func hostDataSent(_ count: Int, of wanted: UInt32) -> TCPSteps {
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

    /// The host socket has ended: FIN is sent behind all data.
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

    /// The host socket has discarded bytes that the namespace had acknowledged.
    @inline(__always)
    mutating func hostDropped(_ count: Int) {
        discardable -= min(UInt32(truncatingIfNeeded: count), discardable)
    }

    /// Records the highest number sent and starts the retransmission time-out.
    @inline(__always)
    private mutating func noteSent(_ steps: inout TCPSteps) {
        if isAfter(sendNext, sendHighest) { sendHighest = sendNext }
        steps.wait(TCPTime.backOff(retries))
    }

    // MARK: Retransmission

    /// Waits for the namespace's window to open; the segment that opens it may be lost.
    private mutating func persist(_ steps: inout TCPSteps) {
        flags.insert(.persisting)
        steps.wait(TCPTime.backOff(retries))
    }

    /// Sends again from the first unacknowledged byte.
    mutating func retransmit(_ steps: inout TCPSteps) {
        goBack(&steps)
        steps.actions.insert(.retransmit)
        // In case nothing can be read.
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
