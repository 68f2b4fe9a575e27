// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Segments from the namespace: acknowledgements move the send side, payload is gathered for the host socket.
//
// Segments that follow a gap are dropped and answered with a duplicate acknowledgement, so that the namespace's kernel
// sends the missing one again at once: a tap does not reorder, and what it loses is rare.
//
// syscalls: running(data-path): sendmsg shutdown

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension Readiness {
    /// Urgent data has come (`EPOLLPRI`).
    static let urgent = Readiness(rawValue: 0x002)
}

extension DataPath {
    /// A TCP segment from the namespace, at `frame`.
    @inline(__always)
    mutating func receiveTCP(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        guard options.forwardsTCP else { return counters.drop(.protocolOff) }
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination, guestPort: summary.sourcePort,
            remotePort: summary.destinationPort, transport: .tcp)
        // Most frames belong to the flow of the one before.
        if gather.flow >= 0 && gather.segmentSize == 0 && table[gather.flow].key == key {
            unsafe segment(gather.flow, summary, frame: frame, count: count)
            return
        }
        let hash = key.hash
        if let index = table.find(key, hash: hash) {
            unsafe segment(index, summary, frame: frame, count: count)
        } else {
            unsafe unknownSegment(summary, key: key, hash: hash, frame: frame, count: count)
        }
    }

    private mutating func unknownSegment(
        _ summary: FrameSummary, key: FlowKey, hash: UInt32, frame: UnsafeMutableRawPointer, count: Int
    ) {
        let flags = summary.tcpFlags
        if flags.contains(.syn), flags.isDisjoint(with: [.ack, .rst, .fin]), key.guestPort != 0, key.remotePort != 0 {
            let options = unsafe summary.tcpOptions(in: Self.bytes(frame, count))
            openOutbound(summary, key: key, hash: hash, options: options)
            return
        }
        counters.drop(.unknownFlow)
        refuseSegment(summary)
    }

    /// A segment for a flow that exists.
    private mutating func segment(_ index: Int, _ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        table[index].activity = now.nanoseconds
        let flags = summary.tcpFlags
        switch table[index].state {
        case .established:
            break
        case .connecting:
            // The SYN again is what a slow connection looks like; a reset takes the attempt back.
            if flags.contains(.rst) { abortFlow(index) }
            return
        case .synSent:
            let options = unsafe summary.tcpOptions(in: Self.bytes(frame, count))
            answered(index, summary, options: options)
            return
        case .synReceived:
            guard awaitHandshakeEnd(index, summary) else { return }
        case .datagram, .free:
            return
        }
        if flags.contains(.rst) {
            // A connection that has ended both ways is forgotten there, and whatever still comes for it is answered with
            // a reset. What we have acknowledged and the host socket has not taken yet goes on its way all the same.
            if table[index].flags.isSuperset(of: [.guestFinished, .finAcknowledged]) { return }
            // RFC 5961 §3.2: only the exact number resets, others in the window are challenged.
            guard summary.tcpSequence == table[index].receiveNext else { return owe(index) }
            // What came before the reset in this batch still goes.
            flushGathered()
            if table[index].state == .established { abortFlow(index) }
            return
        }
        if flags.contains(.syn) {
            // RFC 5961 §4.2.
            acknowledgeAtOnce(index)
            return
        }
        guard flags.contains(.ack), acknowledge(index, summary) else { return }
        unsafe accept(index, summary, frame: frame)
    }

    /// Whether the third segment of the handshake is there.
    private mutating func awaitHandshakeEnd(_ index: Int, _ summary: FrameSummary) -> Bool {
        let flags = summary.tcpFlags
        if flags.contains(.rst) {
            abortFlow(index)
            return false
        }
        if flags.contains(.syn) {
            if summary.tcpSequence &+ 1 == table[index].receiveNext { sendSynAck(index) }
            return false
        }
        guard flags.contains(.ack), summary.tcpAcknowledgment == table[index].sendHighest else {
            if flags.contains(.ack) { refuseSegment(summary) }
            return false
        }
        table[index].sendUnacknowledged = summary.tcpAcknowledgment
        table[index].sendNext = summary.tcpAcknowledgment
        establish(index)
        return true
    }

    /// Owes an acknowledgement at the end of the batch.
    @inline(__always)
    private mutating func owe(_ index: Int) {
        table[index].flags.insert(.owesAck)
        enqueue(index)
    }

    /// Acknowledges at once what has reached the host socket or its backlog: nothing else may be told.
    private mutating func acknowledgeAtOnce(_ index: Int) {
        if gather.flow == index { flushGathered() }
        if table[index].state == .established { sendAcknowledgment(index) }
    }

    // MARK: The send side

    /// Takes an acknowledgement and a window.
    ///
    /// - Returns: False if the segment is of no more use: it acknowledges what was never sent, or the flow has ended.
    @inline(__always)
    private mutating func acknowledge(_ index: Int, _ summary: FrameSummary) -> Bool {
        let number = summary.tcpAcknowledgment
        let unacknowledged = table[index].sendUnacknowledged
        guard !isAfter(number, table[index].sendHighest) else {
            counters.drop(.outOfWindow)
            owe(index)
            return false
        }
        let window = UInt32(summary.tcpWindow) << UInt32(table[index].windowScale)
        if isAfter(number, unacknowledged) {
            var bytes = number &- unacknowledged
            table[index].sendUnacknowledged = number
            if (number ^ unacknowledged) >= Size.queueLook { boundQueue(index) }
            if isAfter(number, table[index].sendNext) { table[index].sendNext = number }
            if table[index].flags.contains(.hostFinished), number == table[index].sendHighest {
                bytes &-= 1
                table[index].flags.formUnion([.finAcknowledged, .finSent])
            }
            table[index].discardable &+= bytes
            table[index].duplicates = 0
            table[index].retries = 0
            table[index].flags.remove(.persisting)
            table[index].sendWindow = window
            let isAllAcknowledged = number == table[index].sendHighest
            setDeadline(
                index, milliseconds: isAllAcknowledged ? idleTime(index) : TCPTime.retransmission)
            enqueue(index)
            return true
        }
        if window != table[index].sendWindow {
            // An old segment must not take a window back (RFC 9293 §3.10.7.4 keeps SND.WL1; a tap does not reorder).
            let grew = window > table[index].sendWindow
            table[index].sendWindow = window
            if grew {
                table[index].flags.remove(.persisting)
                table[index].retries = 0
                if table[index].sendHighest != unacknowledged {
                    setDeadline(index, milliseconds: TCPTime.retransmission)
                }
                enqueue(index)
            }
        } else if number == unacknowledged, summary.payloadLength == 0, !summary.tcpFlags.contains(.fin), window > 0,
            table[index].sendHighest != unacknowledged
        {
            duplicate(index)
            return table[index].state == .established
        }
        return true
    }

    /// The third duplicate acknowledgement starts a retransmission at once (RFC 5681 §3.2).
    private mutating func duplicate(_ index: Int) {
        table[index].duplicates &+= 1
        guard table[index].duplicates == 3 else { return }
        if gather.flow == index { flushGathered() }
        if table[index].state == .established { retransmit(index) }
    }

    // MARK: The receive side

    /// Takes payload and FIN that are next in order.
    @inline(__always)
    private mutating func accept(_ index: Int, _ summary: FrameSummary, frame: UnsafeMutableRawPointer) {
        var length = summary.payloadLength
        var hasFin = summary.tcpFlags.contains(.fin)
        if length == 0 && !hasFin {
            // A keepalive or window probe lies before the next byte and wants an answer.
            if isBefore(summary.tcpSequence, table[index].receiveNext) { owe(index) }
            closeIfFinished(index)
            return
        }
        var sequence = summary.tcpSequence
        var offset = summary.payloadOffset
        let next = table[index].receiveNext
        if isBefore(sequence, next) {
            let known = Int(next &- sequence)
            if known > length || (known == length && !hasFin) || table[index].flags.contains(.guestFinished) {
                owe(index)
                closeIfFinished(index)
                return
            }
            offset += known
            length -= known
            sequence = next
        } else if sequence != next {
            counters.drop(.outOfOrder)
            acknowledgeAtOnce(index)
            return
        }
        if table[index].flags.contains(.guestFinished) {
            counters.drop(.outOfWindow)
            owe(index)
            return
        }
        let room = Int(table[index].receiveEdge &- next)
        if length > room {
            counters.drop(.outOfWindow)
            length = room
            hasFin = false
        }
        if length > 0 {
            if gather.flow != index || gather.count == Size.batchFrames {
                flushGathered()
                // The flush may have ended a flow: this one too, if its socket failed.
                guard table[index].state == .established else { return }
                gather.flow = index
            }
            unsafe gatherVectors[gather.count] = unsafe iovec(iov_base: frame + offset, iov_len: length)
            gather.count += 1
            gather.bytes += length
            table[index].receiveNext &+= UInt32(length)
        }
        owe(index)
        if hasFin { acceptFin(index) }
    }

    private mutating func acceptFin(_ index: Int) {
        let end = table[index].receiveNext
        flushGathered()
        // What did not fit the backlog comes again, and FIN with it.
        guard table[index].state == .established, table[index].receiveNext == end else { return }
        table[index].receiveNext &+= 1
        table[index].flags.insert(.guestFinished)
        passFinOn(index)
        if table[index].backlogCount > 0 {
            table[index].lastDrain = now.nanoseconds
            if table[index].sendUnacknowledged == table[index].sendHighest {
                setDeadline(index, milliseconds: TCPTime.unreadEnd)
            }
        }
        closeIfFinished(index)
    }

    /// Shuts the host socket's sending side down once all data before FIN is in it.
    mutating func passFinOn(_ index: Int) {
        guard table[index].flags.contains(.guestFinished), !table[index].flags.contains(.shutDown),
            table[index].backlogCount == 0
        else { return }
        shutdown(table[index].socket, CInt(SHUT_WR))
        table[index].flags.insert(.shutDown)
    }

    // MARK: To the host socket

    /// Sends what was gathered for a TCP flow; what the socket does not take goes to its backlog.
    mutating func flushTCP(_ index: Int, count: Int, bytes: Int) {
        var sent = 0
        if table[index].backlogCount == 0 {
            var message = unsafe msghdr()
            unsafe message.msg_iov = unsafe gatherVectors
            unsafe message.msg_iovlen = count
            let number = table[index].socket
            let result = transferring { unsafe tapas_sendmsg(number, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            switch result {
            case .bytes(let taken):
                sent = taken
                table[index].passedOn = min(table[index].passedOn &+ UInt32(truncatingIfNeeded: taken), 1 << 30)
            case .wouldBlock: break
            case .failed(let error):
                hostFailed(index, error)
                return
            }
        }
        if sent < bytes { keep(index, vectors: count, after: sent, of: bytes) }
    }

    /// Puts the tail of what was gathered into the backlog; what the pool cannot take counts as never received.
    private mutating func keep(_ index: Int, vectors: Int, after sent: Int, of bytes: Int) {
        var skip = sent
        var kept = 0
        var most = bytes
        if backlog.flows > BacklogPool.generousFlows {
            most = max(Int(backlog.allowance(of: table[index])) - Int(table[index].backlogCount), 0)
        }
        for position in 0..<vectors {
            let vector = unsafe gatherVectors[position]
            let length = unsafe vector.iov_len
            if skip >= length {
                skip -= length
                continue
            }
            if kept == most { break }
            let end = min(length, skip + most - kept)
            let rest = unsafe UnsafeRawBufferPointer(
                rebasing: UnsafeRawBufferPointer(start: vector.iov_base, count: length)[skip..<end])
            skip = 0
            let taken = unsafe backlog.append(rest, to: &table[index])
            kept += taken
            if taken < rest.count { break }
        }
        counters.backlogBytes &+= UInt64(kept)
        let lost = bytes - sent - kept
        if lost > 0 {
            counters.drop(.backlogFull)
            table[index].receiveNext &-= UInt32(lost)
        }
    }

    /// The host socket takes data again.
    mutating func drainBacklog(_ index: Int) {
        guard table[index].backlogCount > 0 else { return }
        switch backlog.drain(&table[index]) {
        case .bytes(let count):
            table[index].passedOn = min(table[index].passedOn &+ UInt32(truncatingIfNeeded: count), 1 << 30)
            table[index].lastDrain = now.nanoseconds
        case .wouldBlock: break
        case .failed(let error):
            hostFailed(index, error)
            return
        }
        passFinOn(index)
        // The window has opened again: worth a segment once it is half open or the backlog is gone, as long as there is
        // anything to come.
        let offered = table[index].receiveEdge &- table[index].receiveNext
        if !table[index].flags.contains(.guestFinished),
            table[index].backlogCount == 0 || offered < Size.window / 2
        {
            owe(index)
        }
        closeIfFinished(index)
    }

    // MARK: Events of the host socket

    /// A TCP flow's host socket is ready.
    @inline(__always)
    mutating func tcpReady(_ index: Int, _ readiness: Readiness) {
        if table[index].state == .connecting {
            connectReady(index, readiness)
            return
        }
        if !readiness.isDisjoint(with: [.error, .hangUp]) {
            if let error = HostSocket.takeError(table[index].socket) {
                hostFailed(index, error)
                return
            }
        }
        table[index].activity = now.nanoseconds
        if readiness.contains(.writable) && table[index].backlogCount > 0 {
            drainBacklog(index)
            guard table[index].state != .free else { return }
        }
        note(index, readiness)
        if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp]) {
            table[index].flags.insert(.readable)
            if table[index].state == .established { enqueue(index) }
        }
    }

    /// Remembers what makes a short read no sign of an empty socket: the end is near, or urgent data cuts it short.
    @inline(__always)
    mutating func note(_ index: Int, _ readiness: Readiness) {
        if !readiness.isDisjoint(with: [.peerClosed, .hangUp]) { table[index].flags.insert(.hostClosing) }
        if readiness.contains(.urgent) { table[index].flags.insert(.urgent) }
    }

    /// Memory as a span, for the parsers.
    @inline(__always)
    @_lifetime(immortal)
    static func bytes(_ start: UnsafeMutableRawPointer, _ count: Int) -> Span<UInt8> {
        let span = unsafe Span(_unsafeStart: UnsafePointer(start.assumingMemoryBound(to: UInt8.self)), count: count)
        return unsafe _overrideLifetime(span, copying: ())
    }
}
