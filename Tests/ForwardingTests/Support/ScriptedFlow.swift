// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkTypes
import SystemPackage
import Testing
import Wire

@testable import Forwarding

/// A TCP flow with a manual clock and a host socket of plain arrays.
///
/// It carries out the steps that the state machine returns, and checks the invariants after each step.
final class ScriptedFlow {
    /// The host socket, as the kernel keeps it.
    struct HostSocket {
        /// The bytes that the server has sent and that were not discarded yet.
        var queue: [UInt8] = []
        var peekOffset = 0
        /// The server has ended its direction.
        var hasEnded = false
        /// The number of bytes that the server can still accept.
        var room = 0
        /// The bytes that the server has received.
        var delivered: [UInt8] = []
        /// A write was short: the next room is an edge.
        var wantsRoom = false
        var isShutDown = false
        /// What the next write or read fails with.
        var failure: Errno?
    }

    struct Sent {
        var header: TCPHeader
        var payload: [UInt8] = []
    }

    enum End { case closed, aborted }

    var flow: Flow
    var now: Int64 = 1_000_000_000
    var deadline: Int64?
    var host = HostSocket()
    var backlog: [UInt8] = []
    /// The bytes that the pool has room for.
    var poolRoom = 1 << 20
    /// What a flow may have as backlog.
    var allowance = TCPWindow.most
    var end: End?
    var isQueued = false
    var isConnection = false
    var drops: [FlowDropReason] = []
    var unreachable: Unreachable?
    var retransmissions = 0
    /// What was sent to the namespace and not taken by the test yet.
    var sent: [Sent] = []
    /// The answer to the last segment was "no such flow".
    var refusals = 0

    private var gathered: [UInt8] = []
    private var highestEdge: UInt32?
    private var highestAcknowledgment: UInt32?

    static let key = FlowKey(
        family: .v4, guest: IPv6Address(mapping: IPv4Address(10, 0, 2, 15)),
        remote: IPv6Address(mapping: IPv4Address(192, 0, 2, 1)), guestPort: 40000, remotePort: 80, transport: .tcp)

    init() {
        flow = Flow(key: Self.key, hash: 0, generation: 1)
        flow.socket = 7
    }

    // MARK: Events

    /// The namespace's SYN, then the host socket's connection.
    func open(initial: UInt32 = 1000, ours: UInt32 = 5000, mss: UInt16 = 1460, scale: UInt8? = 0, window: UInt16 = 8192)
    {
        begin(initial: initial, ours: ours, mss: mss, scale: scale, window: window)
        connect()
        receive(.ack, sequence: initial &+ 1, acknowledgment: ours &+ 1, window: window)
        endBatch()
    }

    func begin(
        initial: UInt32 = 1000, ours: UInt32 = 5000, mss: UInt16 = 1460, scale: UInt8? = 0, window: UInt16 = 8192
    ) {
        let syn = TCPSegment(flags: .syn, window: window, sequence: initial, acknowledgment: 0, payloadLength: 0)
        flow.beginOutbound(syn, options: TCPOptions(maximumSegmentSize: mss, windowScale: scale), initial: ours)
    }

    func connect() { carryOut(flow.hostConnected()) }

    /// A segment of the namespace; with the batch still open.
    func receive(
        _ flags: TCPFlags, sequence: UInt32, acknowledgment: UInt32 = 0, window: UInt16 = 8192,
        options: TCPOptions = TCPOptions(), payload: [UInt8] = []
    ) {
        guard end == nil else { return refusals += 1 }
        let segment = TCPSegment(
            flags: flags, window: window, sequence: sequence, acknowledgment: acknowledgment,
            payloadLength: payload.count)
        let steps =
            flow.state == .established
            ? flow.receive(segment, at: now) : flow.receiveInHandshake(segment, options: options, at: now)
        if steps.actions.contains(.gather) {
            gathered += payload[Int(steps.payloadOffset)..<Int(steps.payloadOffset + steps.payloadCount)]
        }
        if steps.actions.contains(.refuse) { refusals += 1 }
        carryOut(steps)
        guard steps.actions.contains(.fin), end == nil else { return }
        let number = flow.receiveNext
        flush()
        if end == nil { carryOut(flow.finReached(after: number, at: now)) }
    }

    /// The end of a batch of frames: what was gathered goes on, and the flow has its turn in the queue.
    func endBatch() {
        flush()
        serveQueue()
    }

    func serveQueue() {
        while isQueued, end == nil {
            isQueued = false
            if flow.state == .established {
                discard()
                if flow.flags.contains(.readable) { sendData() }
                if end != nil { return }
            }
            carryOut(flow.scheduledAcknowledgment())
        }
    }

    /// The host socket's edge.
    func hostReady(_ readiness: Readiness) {
        guard end == nil else { return }
        if readiness.contains(.writable), !backlog.isEmpty {
            let count = min(host.room, backlog.count)
            write(backlog[..<count])
            backlog.removeFirst(count)
            poolRoom += count
            host.wantsRoom = !backlog.isEmpty
            flow.backlogCount = UInt32(backlog.count)
            carryOut(flow.backlogDrained(count, at: now))
            if end != nil { return }
        }
        carryOut(flow.hostReady(readiness, at: now))
        serveQueue()
    }

    func hostFails(_ error: Errno) {
        if end == nil { carryOut(flow.hostFailed(error)) }
    }

    /// Goes to the deadline; false if there is none.
    @discardableResult
    func passDeadline() -> Bool {
        guard end == nil, let moment = deadline else { return false }
        now = max(now, moment)
        deadline = nil
        carryOut(flow.deadlinePassed(at: now))
        serveQueue()
        return true
    }

    // MARK: Carrying out

    private func carryOut(_ steps: TCPSteps) {
        let actions = steps.actions
        if actions.contains(.flush) {
            flush()
            if end != nil { return }
        }
        if let reason = steps.drop { drops.append(reason) }
        if let reason = steps.unreachable { unreachable = reason }
        if actions.contains(.countAsConnection) { isConnection = true }
        if actions.contains(.shutDown) {
            #expect(backlog.isEmpty && gathered.isEmpty && !host.isShutDown, "FIN overtakes data, or comes twice")
            host.isShutDown = true
        }
        if actions.contains(.send) { send(steps.segment, at: steps.sequence, []) }
        if actions.contains(.discard) { discard() }
        if actions.contains(.rewind) {
            discard()
            host.peekOffset = 0
        }
        if actions.contains(.abort) { return finish(.aborted) }
        if actions.contains(.close) { return finish(.closed) }
        if actions.contains(.wait) { deadline = now + Int64(steps.delay) * 1_000_000 }
        if actions.contains(.enqueue) { isQueued = true }
        if actions.contains(.retransmit) {
            retransmissions += 1
            sendData()
        }
        check()
    }

    private func finish(_ how: End) {
        end = how
        deadline = nil
        isQueued = false
    }

    private func flush() {
        guard !gathered.isEmpty, end == nil else { return }
        let bytes = gathered
        gathered = []
        if let failure = host.failure {
            host.failure = nil
            return hostFails(failure)
        }
        var taken = 0
        if backlog.isEmpty {
            taken = min(bytes.count, host.room)
            write(bytes[..<taken])
        }
        let kept = min(bytes.count - taken, poolRoom)
        backlog += bytes[taken..<taken + kept]
        poolRoom -= kept
        host.wantsRoom = host.wantsRoom || taken < bytes.count
        flow.backlogCount = UInt32(backlog.count)
        carryOut(flow.payloadPassedOn(bytes.count, taken: taken, kept: kept))
    }

    private func write(_ bytes: ArraySlice<UInt8>) {
        host.delivered += bytes
        host.room -= bytes.count
    }

    private func discard() {
        let count = Int(flow.discardable)
        guard count > 0 else { return }
        guard count <= host.queue.count else {
            Issue.record("drops \(count) of \(host.queue.count) bytes")
            return
        }
        host.queue.removeFirst(count)
        host.peekOffset = max(host.peekOffset - count, 0)
        flow.hostDropped(count)
    }

    private func sendData() {
        var round = 0
        while true {
            let wanted = flow.transmission(round: round, most: Int(flow.mss) * 4)
            guard wanted.actions.contains(.read) else { return carryOut(wanted) }
            round += 1
            if let failure = host.failure {
                host.failure = nil
                return hostFails(failure)
            }
            let available = host.queue.count - host.peekOffset
            if available == 0 {
                if host.hasEnded { return carryOut(flow.hostEnded()) }
                return flow.hostHasNothing()
            }
            let count = min(available, Int(wanted.payloadCount))
            var place = 0
            while place < count {
                let part = min(count - place, Int(flow.mss))
                let start = host.peekOffset + place
                send(.ack, at: flow.sendNext &+ UInt32(place), Array(host.queue[start..<start + part]))
                place += part
            }
            host.peekOffset += count
            let steps = flow.hostDataSent(count, of: wanted.payloadCount)
            deadline = now + Int64(steps.delay) * 1_000_000
            guard steps.actions.contains(.read) else { return }
        }
    }

    private func send(_ flags: TCPFlags, at sequence: UInt32, _ payload: [UInt8]) {
        let options =
            flags.contains(.syn)
            ? TCPOptions(maximumSegmentSize: 1460, windowScale: flow.flags.contains(.scales) ? TCPWindow.scale : nil)
            : TCPOptions()
        let isReset = flags.contains(.rst)
        if flags.contains(.ack), !isReset {
            #expect(gathered.isEmpty, "acknowledges what neither the host socket nor the backlog has")
        }
        let header = flow.header(flags, at: sequence, options: options, allowance: allowance)
        sent.append(Sent(header: header, payload: payload))
        guard flags.contains(.ack), !isReset, !flags.contains(.syn) else { return }
        let acknowledgment = header.acknowledgment
        if let highest = highestAcknowledgment {
            #expect(
                !isBefore(acknowledgment, highest), "takes an acknowledgement back by \(highest &- acknowledgment)")
        }
        highestAcknowledgment = acknowledgment
        let shift = flow.flags.contains(.scales) ? UInt32(TCPWindow.scale) : 0
        let edge = acknowledgment &+ UInt32(header.window) << shift
        if let highest = highestEdge, !flow.flags.contains(.guestFinished) {
            #expect(!isBefore(edge, highest), "shrinks the window by \(highest &- edge)")
        }
        highestEdge = edge
    }

    /// What holds whenever the state machine has nothing to do at once.
    private func check() {
        guard end == nil, flow.state != .connecting else { return }
        #expect(deadline != nil || isQueued || !gathered.isEmpty, "nothing will ever look at this flow again")
        #expect(!isAfter(flow.sendUnacknowledged, flow.sendNext) && !isAfter(flow.sendNext, flow.sendHighest))
        #expect(!isAfter(flow.receiveNext, flow.receiveEdge &+ 1), "received beyond the window")
        #expect(flow.flags.contains(.shutDown) == host.isShutDown)
    }
}
