// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What happens when a TCP flow's deadline has passed: a handshake's segment is repeated, data is repeated, a window is
// probed, or a keepalive is sent. A flow whose namespace does not answer for too long is ended.

internal import Wire

extension Flow {
    /// The flow's deadline has passed.
    ///
    /// - Parameter now: The moment in nanoseconds.
    /// - Returns: The steps.
    mutating func deadlinePassed(at now: Int64) -> TCPSteps {
        switch state {
        case .synReceived, .synSent:
            guard countRetry(most: TCPTime.handshakeRetries) else { return abandoned() }
            return state == .synReceived ? sendSynAck() : sendSyn()
        case .established:
            return establishedDeadline(at: now)
        case .connecting, .datagram, .free:
            return TCPSteps()
        }
    }

    private mutating func establishedDeadline(at now: Int64) -> TCPSteps {
        if endIsUnread(at: now) { return abandoned() }
        var steps = TCPSteps()
        let isOutstanding = sendUnacknowledged != sendHighest
        if sendWindow == 0, isOutstanding || flags.contains(.persisting) {
            guard probeWindow(&steps, at: now) else { return abandoned() }
        } else if isOutstanding {
            guard countRetry(most: TCPTime.retries) else { return abandoned() }
            retransmit(&steps)
        } else {
            guard probeLife(&steps, at: now) else { return abandoned() }
        }
        return steps
    }

    /// Whether the namespace has ended, and the server has not read any of the backlog for long.
    private func endIsUnread(at now: Int64) -> Bool {
        guard waitsForServer else { return false }
        return now &- lastDrain >= TCPTime.unreadEnd * 1_000_000
    }

    private var waitsForServer: Bool { flags.contains(.guestFinished) && backlogCount > 0 }

    /// How long a flow may be idle before it is checked, in milliseconds.
    @inline(__always)
    var idleTime: Int64 { waitsForServer ? TCPTime.unreadEnd : TCPTime.keepalive }

    /// Counts a retransmission; false after too many.
    private mutating func countRetry(most: UInt8) -> Bool {
        guard retries < most else { return false }
        retries += 1
        return true
    }

    /// Probes the window of a namespace that has closed it; what it had to drop is sent again when it opens.
    ///
    /// A namespace that answers may keep its window closed for as long as it likes (RFC 9293 §3.8.6.1). One that does
    /// not answer is given up, as with data.
    ///
    /// - Returns: False if the namespace has not answered for too long.
    private mutating func probeWindow(_ steps: inout TCPSteps, at now: Int64) -> Bool {
        if retries < TCPTime.windowRetries {
            retries += 1
        } else if now &- activity >= TCPTime.silence * 1_000_000 {
            return false
        }
        if sendNext != sendUnacknowledged { goBack(&steps) }
        flags.insert(.persisting)
        sendProbe(&steps)
        steps.wait(TCPTime.backOff(retries))
        return true
    }

    /// Probes a namespace that has been silent for long while nothing was outstanding, so that dead flows end.
    ///
    /// - Returns: False if the namespace has not answered for too long.
    private mutating func probeLife(_ steps: inout TCPSteps, at now: Int64) -> Bool {
        let idle = (now &- activity) / 1_000_000
        if idle < TCPTime.keepalive {
            // Something has arrived since: for example an answer to the last probe.
            retries = 0
            steps.wait(min(TCPTime.keepalive - idle, idleTime))
            return true
        }
        guard countRetry(most: TCPTime.retries) else { return false }
        sendProbe(&steps)
        steps.wait(TCPTime.keepaliveInterval)
        return true
    }

    /// Sends a segment before the window, which a live peer answers with an acknowledgement (RFC 9293 §3.10.7.4).
    private func sendProbe(_ steps: inout TCPSteps) {
        steps.send(.ack, at: sendUnacknowledged &- 1)
    }

    /// Probes a connection that has been idle for a time and is open on both sides.
    ///
    /// Outstanding data is repeated anyway, and a half-closed connection is judged by its traffic.
    ///
    /// - Parameters:
    ///   - idle: The shortest idle time in nanoseconds.
    ///   - now: The moment in nanoseconds.
    /// - Returns: The steps.
    func probe(afterIdle idle: Int64, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        if flags.isDisjoint(with: [.guestFinished, .hostFinished]), sendUnacknowledged == sendHighest,
            now &- activity >= idle
        {
            sendProbe(&steps)
        }
        return steps
    }
}
