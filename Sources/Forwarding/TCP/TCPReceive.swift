// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Segments from the namespace and events of host sockets: finds their flows, runs the state machine (TCPSteps.swift),
// gathers payload and passes it on.
//
// syscalls: running(data-path): sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// A TCP segment from the namespace, at `frame`.
    @inline(__always)
    mutating func receiveTCP(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        guard options.forwardsTCP else { return counters.drop(.protocolOff) }
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination, guestPort: summary.sourcePort,
            remotePort: summary.destinationPort, transport: .tcp)
        // Most frames belong to the same flow as the frame before.
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
        if gather.count == Size.batchFrames {
            flushGathered()
            // That may have ended a flow, also this one, if its socket failed.
            guard table[index].state != .free else { return }
        }
        table[index].countFromGuest(summary.payloadLength)
        guard table[index].state == .established else {
            let options = unsafe summary.tcpOptions(in: Self.bytes(frame, count))
            let steps = table[index].receiveInHandshake(TCPSegment(summary), options: options, at: now.nanoseconds)
            unsafe carryOutSegment(steps, index, summary, frame: frame)
            return
        }
        let steps = table[index].receive(TCPSegment(summary), at: now.nanoseconds)
        guard steps.actions.isSubset(of: .common), steps.drop == nil else {
            unsafe carryOutSegment(steps, index, summary, frame: frame)
            return
        }
        if steps.actions.contains(.gather) { unsafe gatherPayload(steps, index, summary, frame: frame) }
        if steps.actions.contains(.wait) { setDeadline(index, milliseconds: Int64(steps.delay)) }
        if steps.actions.contains(.enqueue) { enqueue(index) }
    }

    /// Carries out the steps of a segment with unusual steps.
    @inline(never)
    private mutating func carryOutSegment(
        _ steps: TCPSteps, _ index: Int, _ summary: FrameSummary, frame: UnsafeMutableRawPointer
    ) {
        if steps.actions.contains(.gather) { unsafe gatherPayload(steps, index, summary, frame: frame) }
        if steps.actions.contains(.refuse) { refuseSegment(summary) }
        carryOut(steps, for: index)
        guard steps.actions.contains(.fin), table[index].state == .established else { return }
        let end = table[index].receiveNext
        flushGathered()
        guard table[index].state == .established else { return }
        carryOut(table[index].finReached(after: end, at: now.nanoseconds), for: index)
    }

    /// Adds a segment's payload to the gathered payload of its flow.
    @inline(__always)
    private mutating func gatherPayload(
        _ steps: TCPSteps, _ index: Int, _ summary: FrameSummary, frame: UnsafeMutableRawPointer
    ) {
        if gather.flow != index {
            flushGathered()
            gather.flow = index
        }
        let start = unsafe frame + summary.payloadOffset + Int(steps.payloadOffset)
        let length = Int(steps.payloadCount)
        unsafe gatherVectors[gather.count] = unsafe iovec(iov_base: start, iov_len: length)
        gather.count += 1
        gather.bytes += length
    }

    // MARK: To the host socket

    /// Sends the gathered payload of a TCP flow; what the socket does not accept goes to the flow's backlog.
    mutating func flushTCP(_ index: Int, count: Int, bytes: Int) {
        var taken = 0
        if table[index].backlogCount == 0 {
            var message = unsafe msghdr()
            unsafe message.msg_iov = unsafe gatherVectors
            unsafe message.msg_iovlen = count
            let number = table[index].socket
            let result = transferring { unsafe tapas_sendmsg(number, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            switch result {
            case .bytes(let count): taken = count
            case .wouldBlock: break
            case .failed(let error):
                hostFailed(index, error)
                return
            }
        }
        let kept = taken < bytes ? addToBacklog(index, vectors: count, after: taken, of: bytes) : 0
        let steps = table[index].payloadPassedOn(bytes, taken: taken, kept: kept)
        if let reason = steps.drop { counters.drop(reason) }
    }

    /// Stores the rest of the gathered payload in the backlog.
    ///
    /// - Returns: The number of bytes that the pool has stored.
    private mutating func addToBacklog(_ index: Int, vectors: Int, after sent: Int, of bytes: Int) -> Int {
        var skip = sent
        var kept = 0
        var most = bytes
        if backlog.flows > BacklogPool.generousFlows {
            most = max(Int(backlog.most(of: table[index])) - Int(table[index].backlogCount), 0)
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
        return kept
    }

    /// The host socket accepts data again.
    private mutating func drainBacklog(_ index: Int) {
        var count = 0
        switch backlog.drain(&table[index]) {
        case .bytes(let taken): count = taken
        case .wouldBlock: break
        case .failed(let error):
            hostFailed(index, error)
            return
        }
        carryOut(table[index].backlogDrained(count, at: now.nanoseconds), for: index)
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
        if readiness.contains(.writable) && table[index].backlogCount > 0 {
            drainBacklog(index)
            guard table[index].state != .free else { return }
        }
        let steps = table[index].hostReady(readiness, at: now.nanoseconds)
        if steps.actions.contains(.enqueue) { enqueue(index) }
    }

    /// Memory as a span, for the parsers.
    @inline(__always)
    @_lifetime(immortal)
    static func bytes(_ start: UnsafeMutableRawPointer, _ count: Int) -> Span<UInt8> {
        let span = unsafe Span(_unsafeStart: UnsafePointer(start.assumingMemoryBound(to: UInt8.self)), count: count)
        return unsafe _overrideLifetime(span, copying: ())
    }
}
