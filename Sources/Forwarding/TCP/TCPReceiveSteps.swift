// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Segments from the namespace on an established connection: acknowledgements advance the send side, payload and FIN go
// to the host socket, and the offered window follows what it accepts.
//
// Segments behind a gap are dropped and answered with a duplicate acknowledgement, so that the namespace's kernel sends
// the missing one again at once. A tap does not reorder frames, and rarely loses any.
//
// `receiveNext` advances when payload is gathered, before the host socket has it. No acknowledgement may be sent in
// between: every step that sends one at once flushes first.

internal import NetworkTypes
internal import Wire

extension Flow {
    /// Processes a segment of an established connection (RFC 9293 §3.10.7.4).
    ///
    /// - Parameters:
    ///   - segment: The segment.
    ///   - now: The moment in nanoseconds.
    /// - Returns: The steps.
    @inline(__always)
    mutating func receive(_ segment: TCPSegment, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        activity = now
        receive(segment, at: now, into: &steps)
        return steps
    }

    @inline(__always)
    mutating func receive(_ segment: TCPSegment, at now: Int64, into steps: inout TCPSteps) {
        guard segment.flags.isDisjoint(with: [.rst, .syn]) else {
            receiveInterruption(segment, into: &steps)
            return
        }
        guard segment.flags.contains(.ack), takeAcknowledgment(segment, at: now, into: &steps) else { return }
        takePayload(segment, into: &steps)
    }

    /// A reset, or a SYN at the wrong time.
    @inline(never)
    private mutating func receiveInterruption(_ segment: TCPSegment, into steps: inout TCPSteps) {
        guard segment.flags.contains(.rst) else {
            // RFC 5961 §4.2.
            acknowledgeAtOnce(&steps)
            return
        }
        // The namespace forgets a connection that has ended both ways, and answers later segments with a reset. What we
        // have acknowledged and the host socket has not accepted yet is still passed on.
        if flags.isSuperset(of: [.guestFinished, .finAcknowledged]) { return }
        // RFC 5961 §3.2: only the exact number resets; other numbers are challenged.
        guard segment.sequence == receiveNext else { return scheduleAcknowledgment(&steps) }
        // What came before the reset in this batch is still passed on.
        steps.actions.formUnion([.flush, .abort])
    }

    // MARK: Our acknowledgements

    /// Schedules an acknowledgement for the end of the batch.
    @inline(__always)
    mutating func scheduleAcknowledgment(_ steps: inout TCPSteps) {
        flags.insert(.needsAck)
        steps.actions.insert(.enqueue)
    }

    /// Sends an acknowledgement at once, of what has reached the host socket or its backlog by then.
    private mutating func acknowledgeAtOnce(_ steps: inout TCPSteps) {
        steps.actions.insert(.flush)
        sendAcknowledgment(&steps)
    }

    /// Sends an acknowledgement of everything that has been received in order.
    @inline(__always)
    func sendAcknowledgment(_ steps: inout TCPSteps) {
        // Not `sendNext`, which may have gone back: the namespace accepts no acknowledgement before what it has
        // received.
        steps.send(.ack, at: sendHighest)
    }

    /// The acknowledgement that must be sent at the end of the batch, if there is one.
    @inline(__always)
    func scheduledAcknowledgment() -> TCPSteps {
        var steps = TCPSteps()
        if flags.contains(.needsAck) { sendAcknowledgment(&steps) }
        return steps
    }

    /// The header of a segment to the namespace: acknowledges everything and offers a window.
    ///
    /// - Parameters:
    ///   - segment: Its flags.
    ///   - sequence: Its number.
    ///   - options: Its options; with SYN only.
    ///   - allowance: The backlog that the flow may have, in bytes.
    /// - Returns: The header, without a checksum.
    @inline(__always)
    mutating func header(
        _ segment: TCPFlags, at sequence: UInt32, options: TCPOptions = TCPOptions(), allowance: UInt32
    ) -> TCPHeader {
        flags.remove(.needsAck)
        return TCPHeader(
            sourcePort: key.remotePort, destinationPort: key.guestPort, sequence: sequence,
            acknowledgment: segment.contains(.ack) ? receiveNext : 0, flags: segment,
            window: offerWindow(allowance: allowance, inHandshake: segment.contains(.syn)), options: options)
    }

    /// The window field of a segment; it moves the right edge of the offered window, never back (RFC 9293 §3.8.6).
    ///
    /// A scaled window is rounded up: if it were rounded down, the edge would move back by up to 127 bytes as data
    /// arrives.
    @inline(__always)
    private mutating func offerWindow(allowance: UInt32, inHandshake: Bool) -> UInt16 {
        let room = backlogCount >= allowance ? 0 : allowance - backlogCount
        let edge = receiveNext &+ room
        if isAfter(edge, receiveEdge) { receiveEdge = edge }
        let window = receiveEdge &- receiveNext
        if inHandshake || !flags.contains(.scales) { return UInt16(truncatingIfNeeded: min(window, 65535)) }
        let unit = UInt32(1) << UInt32(TCPWindow.scale)
        let field = min((window &+ (unit - 1)) >> UInt32(TCPWindow.scale), 65535)
        let offered = receiveNext &+ field << UInt32(TCPWindow.scale)
        if isAfter(offered, receiveEdge) { receiveEdge = offered }
        return UInt16(truncatingIfNeeded: field)
    }

    // MARK: The namespace's acknowledgements

    /// Processes an acknowledgement and a window.
    ///
    /// - Returns: False if the segment must be ignored because it acknowledges what was never sent.
    @inline(__always)
    private mutating func takeAcknowledgment(_ segment: TCPSegment, at now: Int64, into steps: inout TCPSteps) -> Bool {
        let number = segment.acknowledgment
        let unacknowledged = sendUnacknowledged
        guard !isAfter(number, sendHighest) else {
            steps.drop = .outOfWindow
            scheduleAcknowledgment(&steps)
            return false
        }
        let window = UInt32(segment.window) << UInt32(windowScale)
        if isAfter(number, unacknowledged) {
            var bytes = number &- unacknowledged
            sendUnacknowledged = number
            if (number ^ unacknowledged) >= DataPath.Size.queueLook { steps.actions.insert(.boundQueue) }
            if isAfter(number, sendNext) { sendNext = number }
            if flags.contains(.hostFinished), number == sendHighest {
                bytes &-= 1
                flags.formUnion([.finAcknowledged, .finSent])
            }
            discardable &+= bytes
            duplicates = 0
            retries = 0
            flags.remove(.persisting)
            sendWindow = window
            steps.wait(number == sendHighest ? idleTime : TCPTime.retransmission)
            steps.actions.insert(.enqueue)
            return true
        }
        // A segment with a smaller acknowledgement is older, and so is its window.
        guard number == unacknowledged else { return true }
        if window != sendWindow {
            let grew = window > sendWindow
            sendWindow = window
            if grew {
                flags.remove(.persisting)
                retries = 0
                if sendHighest != unacknowledged { steps.wait(TCPTime.retransmission) }
                steps.actions.insert(.enqueue)
            }
        } else if segment.payloadLength == 0, !segment.flags.contains(.fin), window > 0, sendHighest != unacknowledged {
            takeDuplicate(&steps)
        }
        return true
    }

    /// The third duplicate acknowledgement starts a retransmission at once (RFC 5681 §3.2).
    private mutating func takeDuplicate(_ steps: inout TCPSteps) {
        duplicates &+= 1
        guard duplicates == 3 else { return }
        steps.actions.insert(.flush)
        retransmit(&steps)
    }

    // MARK: Payload and FIN

    /// Processes payload and FIN that are next in order.
    @inline(__always)
    private mutating func takePayload(_ segment: TCPSegment, into steps: inout TCPSteps) {
        var length = segment.payloadLength
        var hasFin = segment.flags.contains(.fin)
        let next = receiveNext
        if length == 0 && !hasFin {
            // A keepalive or window probe lies before the next byte and requires an answer.
            if isBefore(segment.sequence, next) { scheduleAcknowledgment(&steps) }
            closeIfFinished(&steps)
            return
        }
        var known = 0
        if segment.sequence != next {
            guard isBefore(segment.sequence, next) else {
                steps.drop = .outOfOrder
                acknowledgeAtOnce(&steps)
                return
            }
            known = Int(next &- segment.sequence)
            if known > length || (known == length && !hasFin) || flags.contains(.guestFinished) {
                scheduleAcknowledgment(&steps)
                closeIfFinished(&steps)
                return
            }
            length -= known
        }
        if flags.contains(.guestFinished) {
            steps.drop = .outOfWindow
            scheduleAcknowledgment(&steps)
            return
        }
        let room = Int(receiveEdge &- next)
        if length > room {
            steps.drop = .outOfWindow
            length = room
            hasFin = false
        }
        if length > 0 {
            steps.actions.insert(.gather)
            steps.payloadOffset = UInt32(truncatingIfNeeded: known)
            steps.payloadCount = UInt32(truncatingIfNeeded: length)
            receiveNext = next &+ UInt32(truncatingIfNeeded: length)
        }
        scheduleAcknowledgment(&steps)
        if hasFin { steps.actions.insert(.fin) }
    }

    /// The gathered payload was passed on.
    ///
    /// - Parameters:
    ///   - count: The number of its bytes.
    ///   - taken: The number that the host socket has accepted.
    ///   - kept: The number that the backlog has stored of the rest. What is left counts as never received.
    /// - Returns: The steps.
    mutating func payloadPassedOn(_ count: Int, taken: Int, kept: Int) -> TCPSteps {
        var steps = TCPSteps()
        notePassedOn(taken)
        if taken + kept < count {
            steps.drop = .backlogFull
            receiveNext &-= UInt32(truncatingIfNeeded: count - taken - kept)
        }
        return steps
    }

    private mutating func notePassedOn(_ count: Int) {
        passedOn = min(passedOn &+ UInt32(truncatingIfNeeded: count), 1 << 30)
    }

    /// Everything before a FIN was passed on.
    ///
    /// - Parameters:
    ///   - end: The FIN's number.
    ///   - now: The moment in nanoseconds.
    /// - Returns: The steps.
    mutating func finReached(after end: UInt32, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        // What did not fit the backlog is sent again, together with the FIN.
        guard receiveNext == end else { return steps }
        receiveNext &+= 1
        flags.insert(.guestFinished)
        passFinOn(&steps)
        if backlogCount > 0 {
            lastDrain = now
            if sendUnacknowledged == sendHighest { steps.wait(TCPTime.unreadEnd) }
        }
        closeIfFinished(&steps)
        return steps
    }

    /// Shuts down the host socket's sending side once it has all data before the FIN.
    private mutating func passFinOn(_ steps: inout TCPSteps) {
        guard flags.contains(.guestFinished), !flags.contains(.shutDown), backlogCount == 0 else { return }
        flags.insert(.shutDown)
        steps.actions.insert(.shutDown)
    }

    /// The host socket has accepted some of the backlog; `backlogCount` is what is left.
    ///
    /// - Parameters:
    ///   - count: The number of bytes accepted.
    ///   - now: The moment in nanoseconds.
    /// - Returns: The steps.
    mutating func backlogDrained(_ count: Int, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        if count > 0 {
            notePassedOn(count)
            lastDrain = now
        }
        passFinOn(&steps)
        // The window has opened again. That is worth a segment once it is half open or the backlog is gone, as long as
        // more data can arrive.
        let offered = receiveEdge &- receiveNext
        if !flags.contains(.guestFinished), backlogCount == 0 || offered < TCPWindow.most / 2 {
            scheduleAcknowledgment(&steps)
        }
        closeIfFinished(&steps)
        return steps
    }
}
