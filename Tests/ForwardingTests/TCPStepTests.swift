// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkTypes
import SystemPackage
import Testing
import Wire

@testable import Forwarding

/// The state machine, event by event.
///
/// The namespace's numbers begin at 1000 and ours at 5000: the namespace's first
/// byte is 1001, ours is 5001.
@Suite("TCP steps by section of the RFCs")
struct TCPStepTests {
    private static func opened(window: UInt16 = 8192) -> ScriptedFlow {
        let flow = ScriptedFlow()
        flow.host.room = 100_000
        flow.open(window: window)
        flow.sent = []
        return flow
    }

    /// A host that sends `count` bytes, seen by the flow.
    private static func hostSends(_ count: Int, to flow: ScriptedFlow) {
        flow.host.queue += [UInt8](repeating: 7, count: count)
        flow.hostReady(.readable)
    }

    // MARK: Handshake

    @Test("the namespace's SYN is answered when the host socket is connected (RFC 9293 §3.5)")
    func handshake() {
        let flow = ScriptedFlow()
        flow.begin()
        #expect(flow.sent.isEmpty && flow.deadline == nil)
        flow.connect()
        #expect(flow.sent.first?.header.flags == [.syn, .ack])
        #expect(flow.sent.first?.header.sequence == 5000)
        #expect(flow.sent.first?.header.acknowledgment == 1001)
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001)
        #expect(flow.flow.state == .established && flow.isConnection)
    }

    @Test("data on the third segment of the handshake is taken (RFC 9293 §3.10.7.4)")
    func dataOnTheThirdSegment() {
        let flow = ScriptedFlow()
        flow.host.room = 100
        flow.begin()
        flow.connect()
        flow.receive([.ack, .fin], sequence: 1001, acknowledgment: 5001, payload: [1, 2, 3])
        flow.endBatch()
        #expect(flow.host.delivered == [1, 2, 3] && flow.host.isShutDown)
        #expect(flow.sent.last?.header.acknowledgment == 1005)
    }

    @Test("SYN-ACK is repeated five times, each twice as late, then the flow is given up (tcp(7))")
    func synAckAgain() {
        let flow = ScriptedFlow()
        flow.begin()
        flow.connect()
        var waits: [Int64] = []
        while flow.end == nil {
            let before = flow.now
            flow.passDeadline()
            waits.append((flow.now - before) / 1_000_000_000)
        }
        #expect(waits == [1, 2, 4, 8, 16, 32])
        #expect(flow.sent.map(\.header.flags).filter { $0 == [.syn, .ack] }.count == 6)
        #expect(flow.sent.last?.header.flags == [.rst, .ack] && flow.end == .aborted)
    }

    @Test("an acknowledgement of what was never sent refuses the segment, not the handshake (RFC 9293 §3.10.7.4)")
    func wrongAcknowledgmentInHandshake() {
        let flow = ScriptedFlow()
        flow.begin()
        flow.connect()
        flow.receive(.ack, sequence: 1001, acknowledgment: 5002)
        #expect(flow.refusals == 1 && flow.flow.state == .synReceived)
    }

    @Test(
        "a reset ends a handshake at the exact number only (RFC 5961 §3.2)",
        arguments: [(1001, true), (1000, false), (1002, false), (0, false)] as [(UInt32, Bool)], [false, true])
    func resetInHandshake(reset: (sequence: UInt32, ends: Bool), isConnected: Bool) {
        let flow = ScriptedFlow()
        flow.begin()
        if isConnected { flow.connect() }
        flow.receive(.rst, sequence: reset.sequence)
        #expect(flow.end == (reset.ends ? .aborted : nil))
    }

    @Test(
        "what the host says of a connection reaches the namespace",
        arguments: [
            (.networkUnreachable, .network), (.addressNotAvailable, .network), (.noRouteToHost, .host),
            (.permissionDenied, .prohibited), (.timedOut, nil),
        ] as [(Errno, Unreachable?)])
    func hostRefuses(error: Errno, answer: Unreachable?) {
        let flow = ScriptedFlow()
        flow.begin()
        flow.hostFails(error)
        #expect(flow.unreachable == answer && flow.sent.isEmpty && flow.end == .closed)
    }

    @Test("a refused connection is reset with an acknowledgement of the SYN (RFC 9293 §3.10.7.1)")
    func refused() {
        let flow = ScriptedFlow()
        flow.begin()
        flow.hostFails(.connectionRefused)
        #expect(flow.sent.map(\.header.flags) == [[.rst, .ack]])
        #expect(flow.sent.first?.header.acknowledgment == 1001 && flow.sent.first?.header.sequence == 0)
    }

    @Test("an answer to our SYN that acknowledges something else is refused (RFC 9293 §3.10.7.3)")
    func answerToOurSyn() {
        var flow = Flow(key: ScriptedFlow.key, hash: 0, generation: 1)
        let syn = flow.beginInbound(initial: 5000)
        #expect(syn.segment == .syn && syn.sequence == 5000 && syn.delay == 1000)
        func answer(_ flags: TCPFlags, _ number: UInt32) -> TCPSteps {
            flow.receiveInHandshake(
                TCPSegment(flags: flags, window: 100, sequence: 1000, acknowledgment: number, payloadLength: 0),
                options: TCPOptions(maximumSegmentSize: 1460), at: 0)
        }
        #expect(answer([.syn, .ack], 5000).actions == .refuse)
        #expect(answer([.rst, .ack], 5000).actions == [])
        #expect(answer(.ack, 5001).actions == [])
        let steps = answer([.syn, .ack], 5001)
        #expect(steps.actions == [.countAsConnection, .enqueue, .wait])
        #expect(flow.state == .established && flow.receiveNext == 1001 && flow.flags.contains(.needsAck))
    }

    // MARK: Resets and SYNs of strangers

    @Test(
        "an established connection is reset at the exact number only; others are challenged (RFC 5961 §3.2)",
        arguments: [(1001, true), (1000, false), (1002, false), (2000, false)] as [(UInt32, Bool)])
    func exactReset(sequence: UInt32, ends: Bool) {
        let flow = Self.opened()
        flow.receive(.rst, sequence: sequence)
        flow.endBatch()
        #expect(flow.end == (ends ? .aborted : nil))
        #expect(flow.sent.map(\.header.flags) == (ends ? [] : [.ack]))
    }

    @Test("what came before a reset in the same batch still goes on")
    func dataBeforeReset() {
        let flow = Self.opened()
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001, payload: [1, 2, 3])
        flow.receive(.rst, sequence: 1004)
        #expect(flow.host.delivered == [1, 2, 3] && flow.end == .aborted)
    }

    @Test("a SYN on an established connection is challenged (RFC 5961 §4.2)")
    func strangeSyn() {
        let flow = Self.opened()
        flow.receive(.syn, sequence: 1001)
        #expect(flow.sent.map(\.header.flags) == [.ack] && flow.end == nil)
        #expect(flow.sent.first?.header.acknowledgment == 1001 && flow.sent.first?.header.sequence == 5001)
    }

    @Test("an acknowledgement of what was never sent is answered and dropped (RFC 9293 §3.10.7.4)")
    func futureAcknowledgment() {
        let flow = Self.opened()
        flow.receive(.ack, sequence: 1001, acknowledgment: 5002, payload: [1])
        flow.endBatch()
        #expect(flow.drops == [.outOfWindow] && flow.host.delivered.isEmpty)
        #expect(flow.sent.map(\.header.acknowledgment) == [1001])
    }

    // MARK: Acknowledgements and retransmission

    @Test("what is not acknowledged is sent again, each time twice as late, for twelve times (RFC 6298 §5.5)")
    func backOff() {
        let flow = Self.opened()
        Self.hostSends(100, to: flow)
        var waits: [Int64] = []
        while flow.end == nil {
            let before = flow.now
            flow.passDeadline()
            waits.append((flow.now - before) / 1_000_000)
        }
        #expect(waits == [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000, 30000, 30000])
        #expect(flow.sent.filter { $0.payload.count == 100 && $0.header.sequence == 5001 }.count == 13)
        #expect(flow.sent.last?.header.flags == [.rst, .ack] && flow.sent.last?.header.sequence == 5101)
    }

    @Test("the third duplicate acknowledgement sends again at once, no earlier (RFC 5681 §3.2)")
    func fastRetransmit() {
        let flow = Self.opened()
        Self.hostSends(3000, to: flow)
        flow.sent = []
        for count in 1...4 {
            flow.receive(.ack, sequence: 1001, acknowledgment: 5001)
            #expect(flow.retransmissions == (count < 3 ? 0 : 1), "after \(count)")
        }
        #expect(flow.sent.first?.header.sequence == 5001)
    }

    @Test(
        "no duplicate is what carries data, FIN or another window (RFC 5681 §2)",
        arguments: [("data", [1], .ack, 8192), ("FIN", [], [.ack, .fin], 8192), ("window", [], .ack, 8000)]
            as [(String, [UInt8], TCPFlags, UInt16)])
    func noDuplicate(what: String, payload: [UInt8], flags: TCPFlags, window: UInt16) {
        let flow = Self.opened()
        Self.hostSends(3000, to: flow)
        for count in 0..<5 {
            let number = what == "window" ? window - UInt16(count) : window
            flow.receive(flags, sequence: 1001, acknowledgment: 5001, window: number, payload: payload)
        }
        #expect(flow.retransmissions == 0, "\(what)")
    }

    @Test("the window of an older segment is not taken (RFC 9293 §3.10.7.4)")
    func oldWindow() {
        let flow = Self.opened()
        Self.hostSends(3000, to: flow)
        flow.receive(.ack, sequence: 1001, acknowledgment: 7001, window: 1000)
        flow.receive(.ack, sequence: 1001, acknowledgment: 6001, window: 60_000)
        #expect(flow.flow.sendWindow == 1000)
    }

    @Test("an acknowledgement after a retransmission goes on behind what it acknowledges")
    func acknowledgedAfterGoingBack() {
        let flow = Self.opened(window: 60_000)
        flow.host.queue = (0..<6000).map { UInt8($0 / 1000) }
        flow.hostReady(.readable)
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001, window: 500)
        flow.passDeadline()
        flow.sent = []
        flow.receive(.ack, sequence: 1001, acknowledgment: 9001, window: 60_000)
        flow.endBatch()
        #expect(flow.sent.first?.header.sequence == 9001)
        #expect(flow.sent.flatMap(\.payload) == (4000..<6000).map { UInt8($0 / 1000) })
    }

    // MARK: Zero windows

    @Test("a closed window is probed before it, and opens again (RFC 9293 §3.8.6.1)")
    func zeroWindow() {
        let flow = Self.opened(window: 0)
        Self.hostSends(100, to: flow)
        #expect(flow.sent.isEmpty && flow.flow.flags.contains(.persisting))
        let start = flow.now
        flow.passDeadline()
        #expect(flow.now - start == 200_000_000)
        #expect(flow.sent.map(\.header.sequence) == [5000] && flow.sent.map(\.payload.count) == [0])
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001, window: 60)
        flow.endBatch()
        #expect(flow.sent.last?.header.sequence == 5001 && flow.sent.last?.payload.count == 60)
    }

    @Test("a window may stay closed for days if the probes are answered, and not for long if they are not")
    func zeroWindowForLong() {
        let flow = Self.opened(window: 0)
        Self.hostSends(100, to: flow)
        for _ in 0..<10_000 where flow.end == nil {
            flow.passDeadline()
            flow.receive(.ack, sequence: 1001, acknowledgment: 5001, window: 0)
            flow.endBatch()
        }
        #expect(flow.end == nil && flow.now > 3 * 24 * 3600 * 1_000_000_000)
        let start = flow.now
        for _ in 0..<100 where flow.end == nil { flow.passDeadline() }
        #expect(flow.end == .aborted)
        #expect(flow.now - start < 300 * 1_000_000_000)
    }

    // MARK: Keepalive

    @Test("an idle connection is probed after two hours, and lives on as long as it answers (RFC 9293 §3.8.4)")
    func keepalive() {
        let flow = Self.opened()
        let day: Int64 = 24 * 3600 * 1_000_000_000
        var probes = 0
        while flow.now < 30 * day, flow.end == nil {
            flow.passDeadline()
            guard flow.sent.last?.header.sequence == 5000 else { continue }
            probes += 1
            flow.sent = []
            flow.receive(.ack, sequence: 1001, acknowledgment: 5001)
            flow.endBatch()
        }
        #expect(flow.end == nil, "reset after \(flow.now / 3_600_000_000_000) h")
        #expect(probes > 300)
    }

    @Test("an idle connection that answers no probe is given up after twelve")
    func keepaliveWithoutAnswer() {
        let flow = Self.opened()
        while flow.end == nil { flow.passDeadline() }
        #expect(flow.sent.filter { $0.header.sequence == 5000 }.count == 12)
        #expect(flow.end == .aborted)
    }

    // MARK: Payload

    @Test(
        "payload that overlaps what is known is cut, payload behind a gap is dropped (RFC 9293 §3.4)",
        arguments: [
            (1004, [4, 5], [1, 2, 3, 4, 5]), (1001, [1, 2, 3, 4], [1, 2, 3, 4]), (1003, [3], [1, 2, 3]),
            (1000, [0, 1, 2, 3, 4], [1, 2, 3, 4]), (1005, [5], [1, 2, 3]), (990, [9], [1, 2, 3]),
        ] as [(UInt32, [UInt8], [UInt8])])
    func overlap(sequence: UInt32, payload: [UInt8], delivered: [UInt8]) {
        let flow = Self.opened()
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001, payload: [1, 2, 3])
        flow.receive(.ack, sequence: sequence, acknowledgment: 5001, payload: payload)
        flow.endBatch()
        #expect(flow.host.delivered == delivered)
        #expect(flow.sent.last?.header.acknowledgment == 1001 + UInt32(delivered.count))
    }

    @Test("what neither the host socket nor the backlog takes is not acknowledged, and FIN behind it waits")
    func backlogFull() {
        let flow = Self.opened()
        flow.host.room = 2
        flow.poolRoom = 3
        flow.receive([.ack, .fin], sequence: 1001, acknowledgment: 5001, payload: [1, 2, 3, 4, 5, 6])
        flow.endBatch()
        #expect(flow.host.delivered == [1, 2] && flow.backlog == [3, 4, 5] && flow.drops == [.backlogFull])
        #expect(flow.sent.last?.header.acknowledgment == 1006)
        #expect(!flow.flow.flags.contains(.guestFinished))
        flow.host.room = 100
        flow.hostReady(.writable)
        flow.receive([.ack, .fin], sequence: 1006, acknowledgment: 5001, payload: [6])
        flow.endBatch()
        #expect(flow.host.delivered == [1, 2, 3, 4, 5, 6] && flow.host.isShutDown)
        #expect(flow.sent.last?.header.acknowledgment == 1008)
    }

    @Test("FIN is passed on behind the backlog, and a server that reads none of it is given up after a minute")
    func finBehindBacklog() {
        let flow = Self.opened()
        flow.host.room = 1
        flow.receive([.ack, .fin], sequence: 1001, acknowledgment: 5001, payload: [1, 2])
        flow.endBatch()
        #expect(!flow.host.isShutDown && flow.flow.flags.contains(.guestFinished))
        let start = flow.now
        flow.passDeadline()
        #expect(flow.end == .aborted && flow.now - start == 60_000_000_000)
    }

    // MARK: Ends

    @Test("both FINs end the flow, whichever comes first (RFC 9293 §3.6)", arguments: [true, false])
    func bothFins(guestFirst: Bool) {
        let flow = Self.opened()
        func guestEnds() {
            let number: UInt32 = flow.flow.flags.contains(.finSent) ? 5002 : 5001
            flow.receive([.ack, .fin], sequence: 1001, acknowledgment: number)
            flow.endBatch()
        }
        func hostEnds() {
            flow.host.hasEnded = true
            flow.hostReady([.readable, .peerClosed])
            #expect(flow.sent.last?.header.flags == [.fin, .ack] && flow.sent.last?.header.sequence == 5001)
        }
        if guestFirst { guestEnds() } else { hostEnds() }
        #expect(flow.end == nil)
        if guestFirst {
            hostEnds()
            flow.receive(.ack, sequence: 1002, acknowledgment: 5002)
        } else {
            guestEnds()
        }
        #expect(flow.end == .closed && flow.host.isShutDown)
        #expect(flow.sent.contains { $0.header.flags.contains(.ack) && $0.header.acknowledgment == 1002 })
    }

    @Test("an error of the host socket resets the namespace behind all that was sent, also after going back")
    func hostError() {
        let flow = Self.opened(window: 60_000)
        Self.hostSends(5000, to: flow)
        flow.receive(.ack, sequence: 1001, acknowledgment: 5001, window: 100)
        flow.passDeadline()
        #expect(flow.flow.sendNext != flow.flow.sendHighest)
        flow.hostFails(.connectionReset)
        #expect(flow.sent.last?.header.flags == [.rst, .ack] && flow.sent.last?.header.sequence == 10001)
        #expect(flow.end == .closed)
    }

    @Test("an evicted attempt says nothing, an evicted connection resets both sides")
    func evicted() {
        var flow = Flow(key: ScriptedFlow.key, hash: 0, generation: 1)
        flow.state = .connecting
        #expect(flow.evicted().actions == .abort)
        flow.state = .established
        flow.sendHighest = 77
        #expect(flow.evicted().actions == [.send, .abort] && flow.evicted().sequence == 77)
        flow.flags.insert(.shutDown)
        #expect(flow.withdrawn().actions == [.send, .close])
    }

    @Test("steps are small and trivial: nothing of them is allocated or counted")
    func size() {
        #expect(MemoryLayout<TCPSteps>.size <= 32 && _isPOD(TCPSteps.self))
        #expect(_isPOD(TCPSegment.self) && _isPOD(Flow.self) && MemoryLayout<Flow>.size <= 256)
    }
}
