// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Towards the namespace: segments, super-frames, retransmission. `pump` is the heart: it does whatever a flow owes.
//
// syscalls: running(data-path): recvfrom recvmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// Time-outs of TCP towards the namespace, in milliseconds.
    enum TCPTime {
        /// The first retransmission of data.
        static let retransmission: Int64 = 200
        /// The first repetition of a SYN or SYN-ACK; each further one waits twice as long.
        static let handshake: Int64 = 1000
        /// The longest gap between retransmissions.
        static let longest: Int64 = 30_000
        /// Retransmissions before the flow is given up.
        static let retries: UInt8 = 12
        /// Repetitions of a SYN or SYN-ACK before the handshake is given up: 63 s after the first, as Linux does
        /// (tcp_synack_retries in tcp(7)).
        static let handshakeRetries: UInt8 = 5
        /// A flow whose program has ended is given up after so long without the server reading anything of the backlog.
        static let unreadEnd: Int64 = 60_000
        /// After so long without a sign of life the namespace's side is probed.
        static let keepalive: Int64 = 2 * 3600 * 1000
    }

    // MARK: Segments

    /// Sends a segment without payload.
    mutating func sendControl(_ index: Int, flags: TCPFlags, sequence: UInt32, options: TCPOptions = TCPOptions()) {
        let start = unsafe scratch + Size.headroom
        unsafe sendSegment(index, flags: flags, sequence: sequence, payload: start, count: 0, options: options)
    }

    /// Sends a segment whose payload lies at `payload`, with ``Size/headroom`` bytes free before it.
    @inline(__always)
    mutating func sendSegment(
        _ index: Int, flags: TCPFlags, sequence: UInt32, payload: UnsafeMutableRawPointer, count: Int,
        options: TCPOptions = TCPOptions()
    ) {
        let key = table[index].key
        let ip = IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .tcp, hopLimit: 64)
        let tcp = TCPHeader(
            sourcePort: key.remotePort, destinationPort: key.guestPort, sequence: sequence,
            acknowledgment: flags.contains(.ack) ? table[index].receiveNext : 0, flags: flags,
            window: offerWindow(index, inHandshake: flags.contains(.syn)), options: options)
        let tcpLength = tcp.headerLength
        let headers = EthernetHeader.length + ip.length + tcpLength
        let frame = unsafe payload - headers
        var span = unsafe MutableSpan(
            _unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: headers + count)
        let offset = ip.writeFrame(into: &span, to: guestMAC, from: gatewayMAC, payloadLength: tcpLength + count)
        let owed = tcp.write(into: &span, at: offset, ip: ip, payloadLength: count)
        var header = VirtioNetHeader()
        if leavesChecksums {
            header = owed.leaveToReceiver(in: &span)
            let mss = Int(table[index].mss)
            if count > mss {
                header.segment(key.isIPv4 ? .tcpv4 : .tcpv6, size: mss, headerLength: headers)
            }
        } else {
            owed.finish(in: &span, payloadLength: count)
        }
        table[index].flags.remove(.owesAck)
        unsafe transmit(frame, count: headers + count, header: header)
    }

    /// The window field of a segment; moves the offered edge, never back.
    @inline(__always)
    mutating func offerWindow(_ index: Int, inHandshake: Bool) -> UInt16 {
        let waiting = table[index].backlogCount
        let limit = backlog.allowance(of: table[index])
        let room = waiting >= limit ? 0 : limit - waiting
        let edge = table[index].receiveNext &+ room
        if isAfter(edge, table[index].receiveEdge) { table[index].receiveEdge = edge }
        let window = table[index].receiveEdge &- table[index].receiveNext
        if inHandshake || !table[index].flags.contains(.scales) { return UInt16(min(window, 65535)) }
        return UInt16(min(window >> UInt32(Size.windowScale), 65535))
    }

    /// Sends an acknowledgement of all that has been received in order.
    mutating func sendAcknowledgment(_ index: Int) {
        // Not `sendNext`, which may have gone back: before what it has received the namespace takes nothing of it.
        sendControl(index, flags: .ack, sequence: table[index].sendHighest)
    }

    /// Answers a segment that belongs to no flow (RFC 9293 §3.10.7.1).
    mutating func refuseSegment(_ summary: FrameSummary) {
        let flags = summary.tcpFlags
        if flags.contains(.rst) { return }
        let ip = IPHeader(
            summary.family, source: summary.destination, destination: summary.source, ipProtocol: .tcp, hopLimit: 64)
        var length = UInt32(truncatingIfNeeded: summary.payloadLength)
        if flags.contains(.syn) { length &+= 1 }
        if flags.contains(.fin) { length &+= 1 }
        let tcp = TCPHeader(
            sourcePort: summary.destinationPort, destinationPort: summary.sourcePort,
            sequence: flags.contains(.ack) ? summary.tcpAcknowledgment : 0,
            acknowledgment: flags.contains(.ack) ? 0 : summary.tcpSequence &+ length,
            flags: flags.contains(.ack) ? .rst : [.rst, .ack], window: 0)
        let frame = unsafe scratch + Size.headroom
        let total = EthernetHeader.length + ip.length + TCPHeader.length
        var span = unsafe MutableSpan(_unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: total)
        let offset = ip.writeFrame(
            into: &span, to: summary.sourceMAC, from: gatewayMAC, payloadLength: TCPHeader.length)
        tcp.write(into: &span, at: offset, ip: ip, payloadLength: 0).finish(in: &span, payloadLength: 0)
        unsafe transmit(frame, count: total, header: VirtioNetHeader())
    }

    /// Bounds what waits in the host socket while its server is near, in units of ``Size/queueLook`` bytes received.
    ///
    /// A server faster than we are fills any queue, and the kernel lets it grow to 6 or 32 MB (`net.ipv4.tcp_rmem`): what
    /// we read then comes from memory and not from a cache, at half as much again for a byte with several streams. From a
    /// server so near, a queue as small never runs dry; one farther away gets the kernel's own measure.
    @inline(never)
    mutating func boundQueue(_ index: Int) {
        guard boundsQueues else { return }
        let number = table[index].socket
        guard let roundTrip = HostSocket.roundTripTime(number), roundTrip < Size.nearRoundTrip else {
            HostSocket.set(number, SOL_SOCKET, CInt(TAPAS_SO_BUF_LOCK), 0)
            return
        }
        // The kernel doubles the value, for its own overhead (socket(7)).
        guard HostSocket.get(number, SOL_SOCKET, SO_RCVBUF) != 2 * Size.nearQueue else { return }
        HostSocket.set(number, SOL_SOCKET, SO_RCVBUF, Size.nearQueue)
        if HostSocket.get(number, SOL_SOCKET, SO_RCVBUF) != 2 * Size.nearQueue {
            // net.core.rmem_max is lower: too little for a fast stream.
            boundsQueues = false
            HostSocket.set(number, SOL_SOCKET, CInt(TAPAS_SO_BUF_LOCK), 0)
        }
    }

    // MARK: What a flow owes

    /// Drops what the namespace has acknowledged from the host socket, sends what its window allows, acknowledges.
    mutating func pump(_ index: Int) {
        guard table[index].state == .established else {
            if table[index].state == .datagram {
                table[index].flags.remove(.readable)
                udpReady(index, .readable)
            } else if table[index].flags.contains(.owesAck) {
                sendAcknowledgment(index)
            }
            return
        }
        discardAcknowledged(index)
        if table[index].flags.contains(.readable) { sendData(index) }
        if table[index].state == .established, table[index].flags.contains(.owesAck) { sendAcknowledgment(index) }
    }

    /// Lets the host socket forget what the namespace has acknowledged.
    @inline(__always)
    mutating func discardAcknowledged(_ index: Int) {
        while table[index].discardable > 0 {
            let number = table[index].socket
            let count = Int(table[index].discardable)
            let result = transferring { recv(number, nil, count, CInt(MSG_TRUNC | MSG_DONTWAIT)) }
            guard case .bytes(let dropped) = result, dropped > 0 else { return }
            table[index].discardable -= UInt32(min(dropped, count))
        }
    }

    /// Sends data, and FIN after the last of it, as far as the namespace's window reaches; a bounded amount at a time.
    mutating func sendData(_ index: Int) {
        var rounds = 0
        while true {
            if table[index].flags.contains(.finSent) { return }
            let flight = table[index].sendNext &- table[index].sendUnacknowledged
            guard table[index].sendWindow > flight else {
                if flight == 0 { persist(index) }
                return
            }
            if rounds == 4 {
                // Others first; the rest at the next turn.
                enqueue(index)
                return
            }
            rounds += 1
            let mss = Int(table[index].mss)
            let most = Self.largestPayload(isIPv4: table[index].key.isIPv4)
            let chunk = tap.offloads.contains(.tcpSegmentation) ? most / mss * mss : mss
            let want = min(Int(table[index].sendWindow - flight), chunk * Size.segments)
            let result = peek(index, want: want, chunk: chunk, skipping: flight)
            switch result {
            case .bytes(let count) where count > 0:
                sendPeeked(index, count: count, chunk: chunk)
                if count < want && table[index].flags.isDisjoint(with: [.hostClosing, .urgent]) {
                    table[index].flags.remove(.readable)
                    return
                }
            case .bytes:
                table[index].flags.insert(.hostFinished)
                sendFin(index)
                return
            case .wouldBlock:
                table[index].flags.subtract([.readable, .urgent])
                return
            case .failed(let error):
                hostFailed(index, error)
                return
            }
        }
    }

    /// The most payload that a packet has room for, TCP options left out.
    static func largestPayload(isIPv4: Bool) -> Int { isIPv4 ? 65495 : 65475 }

    /// Reads what follows the bytes in flight, without taking it, into the payload places of the send arena.
    private mutating func peek(_ index: Int, want: Int, chunk: Int, skipping flight: UInt32) -> IOResult {
        var vectors = 0
        var skipped = 0
        if table[index].flags.contains(.peeksFromStart) {
            // Without SO_PEEK_OFF the bytes in flight come first: into the scratch page, again and again.
            var rest = Int(flight)
            while rest > 0 && vectors < 100 {
                let part = min(rest, Size.segment)
                unsafe peekVectors[vectors] = iovec(iov_base: scratch, iov_len: part)
                vectors += 1
                rest -= part
            }
            if rest > 0 { return .wouldBlock }
            skipped = Int(flight)
        }
        var left = want
        var slot = 0
        while left > 0 && slot < Size.segments {
            let part = min(left, chunk)
            unsafe peekVectors[vectors] = iovec(
                iov_base: sendArena + slot * Size.segment + Size.headroom, iov_len: part)
            vectors += 1
            left -= part
            slot += 1
        }
        var message = unsafe msghdr()
        unsafe message.msg_iov = unsafe peekVectors
        unsafe message.msg_iovlen = vectors
        let number = table[index].socket
        let result = transferring { unsafe tapas_recvmsg(number, &message, CInt(MSG_PEEK | MSG_DONTWAIT)) }
        guard skipped > 0, case .bytes(let count) = result else { return result }
        if count > skipped { return .bytes(count - skipped) }
        return table[index].flags.contains(.hostClosing) ? .bytes(0) : .wouldBlock
    }

    /// Sends what ``peek`` has placed in the arena.
    @inline(__always)
    private mutating func sendPeeked(_ index: Int, count: Int, chunk: Int) {
        var sent = 0
        var slot = 0
        while sent < count {
            let part = min(count - sent, chunk)
            let payload = unsafe sendArena + slot * Size.segment + Size.headroom
            let isLast = sent + part == count
            unsafe sendSegment(
                index, flags: isLast ? [.ack, .psh] : .ack, sequence: table[index].sendNext, payload: payload,
                count: part)
            table[index].sendNext &+= UInt32(part)
            sent += part
            slot += 1
        }
        noteSent(index)
    }

    /// Sends FIN behind all data.
    mutating func sendFin(_ index: Int) {
        sendControl(index, flags: [.fin, .ack], sequence: table[index].sendNext)
        table[index].sendNext &+= 1
        table[index].flags.insert(.finSent)
        noteSent(index)
    }

    /// Remembers the highest number sent and starts the retransmission time-out.
    @inline(__always)
    private mutating func noteSent(_ index: Int) {
        if isAfter(table[index].sendNext, table[index].sendHighest) {
            table[index].sendHighest = table[index].sendNext
        }
        setDeadline(index, milliseconds: Self.backOff(table[index].retries))
    }

    static func backOff(_ retries: UInt8) -> Int64 {
        min(TCPTime.retransmission << Int64(min(retries, 10)), TCPTime.longest)
    }

    // MARK: Again

    /// Waits for the window of the namespace to open, which it may do unseen.
    private mutating func persist(_ index: Int) {
        table[index].flags.insert(.persisting)
        setDeadline(index, milliseconds: Self.backOff(table[index].retries))
    }

    /// Goes back to the first unacknowledged byte and sends from there.
    mutating func retransmit(_ index: Int) {
        counters.retransmissions &+= 1
        goBack(index)
        sendData(index)
    }

    /// Makes the first unacknowledged byte the next to be sent.
    private mutating func goBack(_ index: Int) {
        discardAcknowledged(index)
        table[index].sendNext = table[index].sendUnacknowledged
        table[index].flags.remove(.finSent)
        if !table[index].flags.contains(.peeksFromStart) {
            HostSocket.set(table[index].socket, SOL_SOCKET, SO_PEEK_OFF, 0)
        }
        table[index].flags.insert(.readable)
    }

    /// Asks for the window of a namespace that has closed it; what it had to drop is sent again when it opens.
    private mutating func probe(_ index: Int) {
        table[index].retries = min(table[index].retries + 1, 8)
        if table[index].sendNext != table[index].sendUnacknowledged { goBack(index) }
        table[index].flags.insert(.persisting)
        // One byte before the window: answered with the present window (RFC 9293 §3.8.6.1).
        sendControl(index, flags: .ack, sequence: table[index].sendUnacknowledged &- 1)
        setDeadline(index, milliseconds: Self.backOff(table[index].retries))
    }

    /// A TCP flow's deadline has passed.
    mutating func tcpDeadline(_ index: Int) {
        switch table[index].state {
        case .synReceived, .synSent:
            guard giveUpOrCount(index, after: TCPTime.handshakeRetries) else { return }
            if table[index].state == .synReceived { sendSynAck(index) } else { sendSyn(index) }
            setDeadline(index, milliseconds: TCPTime.handshake << Int64(table[index].retries))
        case .established:
            if endIsUnread(index) {
                resetBothSides(index)
                return
            }
            let isOutstanding = table[index].sendUnacknowledged != table[index].sendHighest
            if table[index].sendWindow == 0, isOutstanding || table[index].flags.contains(.persisting) {
                probe(index)
            } else if isOutstanding {
                guard giveUpOrCount(index) else { return }
                retransmit(index)
            } else {
                idleDeadline(index)
            }
        case .connecting:
            // Only a connection to a resolver has a deadline of its own: the next one's turn.
            if table[index].flags.contains(.dns) { connectionFailed(index, .connectionRefused) }
        case .datagram, .free:
            break
        }
    }

    /// Whether the namespace has ended, and the server has long read nothing of what is left for it.
    private func endIsUnread(_ index: Int) -> Bool {
        guard table[index].flags.contains(.guestFinished), table[index].backlogCount > 0 else { return false }
        return now.nanoseconds &- table[index].lastDrain >= TCPTime.unreadEnd * 1_000_000
    }

    /// How long a flow may be idle before it is looked at, in milliseconds.
    @inline(__always)
    func idleTime(_ index: Int) -> Int64 {
        let waits = table[index].backlogCount > 0 && table[index].flags.contains(.guestFinished)
        return waits ? TCPTime.unreadEnd : TCPTime.keepalive
    }

    /// Counts a retransmission; after too many the flow is reset on both sides.
    private mutating func giveUpOrCount(_ index: Int, after most: UInt8 = TCPTime.retries) -> Bool {
        guard table[index].retries < most else {
            resetBothSides(index)
            return false
        }
        table[index].retries += 1
        return true
    }

    /// Nothing was outstanding: probes a namespace that has been silent for long, so that dead flows go in the end.
    private mutating func idleDeadline(_ index: Int) {
        let idle = (now.nanoseconds &- table[index].activity) / 1_000_000
        let most = idleTime(index)
        if idle < TCPTime.keepalive {
            setDeadline(index, milliseconds: min(TCPTime.keepalive - idle, most))
            return
        }
        guard giveUpOrCount(index) else { return }
        sendControl(index, flags: .ack, sequence: table[index].sendUnacknowledged &- 1)
        setDeadline(index, milliseconds: 75_000)
    }
}
