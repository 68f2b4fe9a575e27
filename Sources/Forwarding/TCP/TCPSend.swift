// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Segments and super-frames to the namespace: reads what the state machine (TCPSteps.swift) requests, and sends it.
// `pump` does the work of a flow at the end of a batch.
//
// syscalls: running(data-path): recvmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    // MARK: Segments

    /// Sends a segment without payload.
    @inline(never)
    mutating func sendControl(_ index: Int, flags: TCPFlags, sequence: UInt32) {
        let start = unsafe scratch + Size.headroom
        let options = flags.contains(.syn) ? handshakeOptions(index, flags) : TCPOptions()
        unsafe sendSegment(index, flags: flags, sequence: sequence, payload: start, count: 0, options: options)
    }

    /// Sends a segment whose payload is at `payload`, with ``Size/headroom`` bytes free before it.
    @inline(__always)
    mutating func sendSegment(
        _ index: Int, flags: TCPFlags, sequence: UInt32, payload: UnsafeMutableRawPointer, count: Int,
        options: TCPOptions = TCPOptions()
    ) {
        let key = table[index].key
        table[index].countToGuest(count)
        let ip = IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .tcp, hopLimit: 64)
        let allowance = backlog.allowance(of: table[index])
        let tcp = table[index].header(flags, at: sequence, options: options, allowance: allowance)
        var data = unsafe Payload(payload, count: count)
        let mss = Int(table[index].mss)
        if count > mss {
            data.segmentation = key.isIPv4 ? .tcpv4 : .tcpv6
            data.segmentSize = mss
        }
        sendPacket(ip, headerLength: tcp.headerLength, data) { span, offset in
            tcp.write(into: &span, at: offset, ip: ip, payloadLength: count)
        }
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
        let nothing = unsafe Payload(scratch + Size.headroom, count: 0)
        sendPacket(ip, headerLength: TCPHeader.length, nothing, to: summary.sourceMAC) { span, offset in
            tcp.write(into: &span, at: offset, ip: ip, payloadLength: 0)
        }
    }

    /// Sends a segment without data that fits no connection, which an existing connection answers.
    mutating func sendChallenge(_ guest: IPv6Address, _ guestPort: UInt16, from remote: IPv6Address, _ port: UInt16) {
        let family: AddressFamily = guest.isIPv4Mapped ? .v4 : .v6
        let ip = IPHeader(family, source: remote, destination: guest, ipProtocol: .tcp, hopLimit: 64)
        let tcp = TCPHeader(
            sourcePort: port, destinationPort: guestPort, sequence: .random(in: 0 ... .max),
            acknowledgment: .random(in: 0 ... .max), flags: .ack, window: 0)
        let nothing = unsafe Payload(scratch + Size.headroom, count: 0)
        sendPacket(ip, headerLength: TCPHeader.length, nothing) { span, offset in
            tcp.write(into: &span, at: offset, ip: ip, payloadLength: 0)
        }
    }

    /// Bounds the queue of the host socket while its server is near, in steps of ``Size/queueLook`` bytes received.
    ///
    /// A server that is faster than we are fills any queue, and the kernel lets it grow to 6 or 32 MB
    /// (`net.ipv4.tcp_rmem`). What we read is then in memory and no longer in a cache, which costs half as much again
    /// for each byte with several streams. With a server so near, even a small queue never runs empty; for a more
    /// distant one the kernel's own size is used.
    @inline(never)
    mutating func boundQueue(_ index: Int) {
        guard boundsQueues else { return }
        let number = table[index].socket
        guard let roundTrip = HostSocket.roundTripTime(number), roundTrip < Size.nearRoundTrip else {
            HostSocket.setIfPossible(number, SOL_SOCKET, CInt(TAPAS_SO_BUF_LOCK), 0)
            return
        }
        // The kernel doubles the value, for its own overhead (socket(7)).
        guard HostSocket.get(number, SOL_SOCKET, SO_RCVBUF) != 2 * Size.nearQueue else { return }
        HostSocket.setIfPossible(number, SOL_SOCKET, SO_RCVBUF, Size.nearQueue)
        if HostSocket.get(number, SOL_SOCKET, SO_RCVBUF) != 2 * Size.nearQueue {
            // net.core.rmem_max is lower, which is too little for a fast stream.
            boundsQueues = false
            HostSocket.setIfPossible(number, SOL_SOCKET, CInt(TAPAS_SO_BUF_LOCK), 0)
        }
    }

    // MARK: The end of a batch

    /// Discards what the namespace has acknowledged from the host socket, sends what its window allows, acknowledges.
    mutating func pump(_ index: Int) {
        if table[index].state == .established {
            discardAcknowledged(index)
            if table[index].flags.contains(.readable) {
                sendData(index)
                guard table[index].state == .established else { return }
            }
        } else if table[index].state == .datagram {
            table[index].flags.remove(.readable)
            udpReady(index, .readable)
            return
        }
        let steps = table[index].scheduledAcknowledgment()
        if steps.actions.contains(.send) { sendControl(index, flags: steps.segment, sequence: steps.sequence) }
    }

    /// Sends data, and FIN behind the last of it, as far as the namespace's window allows; a bounded amount at a time.
    mutating func sendData(_ index: Int) {
        var round = 0
        while true {
            let mss = Int(table[index].mss)
            let largest = table[index].key.largestSegment
            let chunk = link.capabilities.contains(.tcpSegmentation) ? largest / mss * mss : mss
            let wanted = table[index].transmission(round: round, most: chunk * Size.segments)
            guard wanted.actions.contains(.read) else { return carryOut(wanted, for: index) }
            // If the link has no room, data stays in the host socket and the flow in the queue.
            guard link.canTransmit else { return enqueue(index) }
            round += 1
            let flight = table[index].sendNext &- table[index].sendUnacknowledged
            switch peek(index, want: Int(wanted.payloadCount), chunk: chunk, skipping: flight) {
            case .bytes(let count) where count > 0:
                sendPeeked(index, count: count, chunk: chunk)
                let steps = table[index].hostDataSent(count, of: wanted.payloadCount)
                setDeadline(index, milliseconds: Int64(steps.delay))
                guard steps.actions.contains(.read) else { return }
            case .bytes:
                return carryOut(table[index].hostEnded(), for: index)
            case .wouldBlock:
                return table[index].hostHasNothing()
            case .failed(let error):
                return hostFailed(index, error)
            }
        }
    }

    /// Reads the bytes behind those in flight, without removing them, into the payload places of the send arena.
    private mutating func peek(_ index: Int, want: Int, chunk: Int, skipping flight: UInt32) -> IOResult {
        var vectors = 0
        var skipped = 0
        if table[index].flags.contains(.peeksFromStart) {
            // Without SO_PEEK_OFF the bytes in flight come first; they go to the scratch page, again and again.
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

    /// Sends the bytes that ``peek`` has read into the arena.
    @inline(__always)
    private mutating func sendPeeked(_ index: Int, count: Int, chunk: Int) {
        var sent = 0
        var slot = 0
        let first = table[index].sendNext
        while sent < count {
            let part = min(count - sent, chunk)
            let payload = unsafe sendArena + slot * Size.segment + Size.headroom
            let isLast = sent + part == count
            unsafe sendSegment(
                index, flags: isLast ? [.ack, .psh] : .ack, sequence: first &+ UInt32(sent), payload: payload,
                count: part)
            sent += part
            slot += 1
        }
    }

    // MARK: Deadlines

    /// A TCP flow's deadline has passed.
    mutating func tcpDeadline(_ index: Int) {
        // While it is connecting, only a connection to a resolver has a deadline of its own, for the next server.
        if table[index].state == .connecting, table[index].flags.contains(.dns) {
            return hostFailed(index, .connectionRefused)
        }
        carryOut(table[index].deadlinePassed(at: now.nanoseconds), for: index)
    }
}
