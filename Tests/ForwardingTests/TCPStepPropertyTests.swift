// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkTypes
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// The state machine against a namespace and a host that are played.
///
/// Every order of segments, time-outs and socket results, with a clock in hand and no socket. `ScriptedFlow` holds the
/// invariants after every step.
@Suite("TCP steps under any order of events (RFC 9293)")
struct TCPStepPropertyTests {
    /// One connection between a scripted guest and a scripted host.
    private final class Game {
        var generator: SplitMix64
        let flow = ScriptedFlow()
        var guest: ScriptedGuest
        let answer: [UInt8]
        /// Segments on the way to the flow, and to the guest.
        var outward: [ScriptedGuest.Segment] = []
        var inward: [ScriptedFlow.Sent] = []
        var written = 0
        /// An edge of the host socket that was not reported yet.
        var edge: Readiness = []
        /// Segments that may still be lost, doubled or overtaken.
        var disturbances: Int
        var guestRetries = 0

        init(seed: UInt64, disturbances: Int) {
            var generator = SplitMix64(seed: seed)
            let scale: UInt8 = [0, 2, 7].randomElement(using: &generator) ?? 0
            let capacity = [700, 4096, 30_000].randomElement(using: &generator) ?? 4096
            guest = ScriptedGuest(
                initial: UInt32.random(in: .min ... .max, using: &generator),
                data: generator.bytes(upTo: 20_000), capacity: capacity, mss: 536, scale: scale)
            answer = generator.bytes(upTo: 20_000)
            flow.allowance = [4096, 65536, TCPWindow.most].randomElement(using: &generator) ?? 4096
            flow.poolRoom = [1000, 9000, 1 << 20].randomElement(using: &generator) ?? 9000
            flow.host.room = Int.random(in: 0...8000, using: &generator)
            self.disturbances = disturbances
            self.generator = generator
            let syn = guest.syn
            flow.begin(
                initial: guest.initial, ours: UInt32.random(in: .min ... .max, using: &self.generator), mss: guest.mss,
                scale: scale, window: syn.window)
            flow.connect()
            collect()
        }

        private func collect() {
            inward += flow.sent
            flow.sent = []
        }

        private func post(_ segment: ScriptedGuest.Segment?) {
            if let segment { outward.append(segment) }
        }

        /// Takes a segment out of a queue: the first one, unless the network plays a trick.
        private func pick<Segment>(_ queue: inout [Segment]) -> Segment? {
            guard !queue.isEmpty else { return nil }
            guard disturbances > 0 else { return queue.removeFirst() }
            switch Int.random(in: 0..<10, using: &generator) {
            case 0:
                disturbances -= 1
                queue.removeFirst()
                return nil
            case 1:
                disturbances -= 1
                return queue.randomElement(using: &generator)
            case 2:
                disturbances -= 1
                return queue.remove(at: Int.random(in: 0..<queue.count, using: &generator))
            default: return queue.removeFirst()
            }
        }

        private func batch() {
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                guard let segment = pick(&outward) else { continue }
                flow.receive(
                    segment.flags, sequence: segment.sequence, acknowledgment: segment.acknowledgment,
                    window: segment.window, options: segment.options, payload: segment.payload)
            }
            flow.endBatch()
        }

        private func hostActs() {
            switch Int.random(in: 0..<3, using: &generator) {
            case 0 where written < answer.count:
                let count = min(Int.random(in: 1...3000, using: &generator), answer.count - written)
                flow.host.queue += answer[written..<written + count]
                written += count
                edge.insert(.readable)
            case 1 where written == answer.count && !flow.host.hasEnded:
                flow.host.hasEnded = true
                edge.formUnion([.readable, .peerClosed])
            default: serverReads()
            }
        }

        private func serverReads() {
            flow.host.room = Int.random(in: 1...6000, using: &generator)
            if flow.host.wantsRoom { edge.insert(.writable) }
        }

        private func reportEdge() {
            guard !edge.isEmpty else { return }
            let readiness = edge
            edge = []
            flow.hostReady(readiness)
        }

        /// Lets the time pass until something happens by itself.
        private func passTime() {
            // A server that reads nothing for a minute ends the flow: this one is not so slow.
            if !flow.backlog.isEmpty { return serverReads() }
            if Bool.random(using: &generator) || !flow.passDeadline() { post(guest.timeout()) }
        }

        func step() {
            switch Int.random(in: 0..<12, using: &generator) {
            case 0...2: batch()
            case 3...5: if let sent = pick(&inward) { post(guest.take(sent)) }
            case 6: post(guest.push(Int.random(in: 1...Int(guest.mss), using: &generator)))
            case 7:
                if guest.unread > 0 {
                    guest.unread -= Int.random(in: 1...guest.unread, using: &generator)
                    if guest.isOpen, Bool.random(using: &generator) { post(guest.acknowledge()) }
                }
            case 8: hostActs()
            case 9: reportEdge()
            default:
                let isQuiet = inward.isEmpty && outward.isEmpty && edge.isEmpty
                if isQuiet || generator.chance(2) { passTime() }
            }
            collect()
        }

        var isOver: Bool { flow.end != nil && guest.isAcknowledged && guest.hasFin }
    }

    @Test(
        "every byte arrives in order and once, both ways, and both FINs end the flow, whatever the network does",
        arguments: 1...150 as ClosedRange<UInt64>)
    func everyByteArrives(seed: UInt64) {
        let game = Game(seed: seed, disturbances: seed % 5 == 0 ? 0 : 120)
        var steps = 0
        while !game.isOver && steps < 60_000 && !game.guest.isReset {
            game.step()
            steps += 1
            guard game.guest.received.count <= game.answer.count else { break }
        }
        #expect(!game.guest.isReset, "seed \(seed): reset after \(steps) steps")
        #expect(game.flow.end == .closed, "seed \(seed): \(game.flow.flow.flags) after \(steps) steps")
        let delivered = game.flow.host.delivered == game.guest.data
        let received = game.guest.received == game.answer
        #expect(delivered, "seed \(seed): \(game.flow.host.delivered.count) of \(game.guest.data.count) to the host")
        #expect(received, "seed \(seed): \(game.guest.received.count) of \(game.answer.count) to the namespace")
        #expect(game.flow.host.isShutDown && game.guest.hasFin, "seed \(seed)")
        #expect(game.flow.backlog.isEmpty)
    }

    /// Nobody answers any more: whatever had happened before, only deadlines are left.
    @Test(
        "a flow whose namespace falls silent at any moment ends in bounded time",
        arguments: 1...60 as ClosedRange<UInt64>)
    func silenceEnds(seed: UInt64) {
        let game = Game(seed: seed, disturbances: 40)
        for _ in 0..<Int(seed * 17 % 1000) where !game.guest.isReset { game.step() }
        let flow = game.flow
        let start = flow.now
        var deadlines = 0
        while flow.end == nil && deadlines < 200 {
            guard flow.passDeadline() else {
                Issue.record("seed \(seed): no deadline in \(flow.flow.state), \(flow.flow.flags)")
                return
            }
            deadlines += 1
        }
        #expect(flow.end != nil, "seed \(seed): still there after \(deadlines) deadlines")
        #expect(flow.now - start < 5 * 3600 * 1_000_000_000, "seed \(seed)")
    }

    /// Segments that no honest peer sends, at numbers near those that count; the host's side does what it likes.
    @Test(
        "no garbage makes a flow trap, acknowledge what it does not have, or stay without a deadline",
        arguments: 1...150 as ClosedRange<UInt64>)
    func garbage(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        let flow = ScriptedFlow()
        flow.allowance = 20_000
        flow.poolRoom = 30_000
        if generator.chance(50) {
            flow.open(scale: generator.chance(50) ? 3 : nil)
        } else {
            flow.begin()
            flow.connect()
        }
        for _ in 0..<400 where flow.end == nil {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...4:
                let near: [UInt32] = [
                    flow.flow.receiveNext, flow.flow.receiveNext, flow.flow.receiveEdge,
                    .random(in: 0 ... .max, using: &generator),
                ]
                let numbers = [flow.flow.sendUnacknowledged, flow.flow.sendNext, flow.flow.sendHighest]
                let offset = UInt32(bitPattern: Int32.random(in: -2...2, using: &generator))
                let sequence = (near.randomElement(using: &generator) ?? 0) &+ offset
                let exact = sequence == flow.flow.receiveNext
                let flags: TCPFlags =
                    generator.chance(80) ? .ack : TCPFlags(rawValue: .random(in: .min ... .max, using: &generator))
                flow.receive(
                    flags, sequence: sequence,
                    acknowledgment: (numbers.randomElement(using: &generator) ?? 0) &+ offset
                        &* (generator.chance(90) ? 0 : 1),
                    window: generator.chance(20) ? 0 : .random(in: .min ... .max, using: &generator),
                    payload: generator.bytes(upTo: generator.chance(50) ? 0 : 1500))
                if flow.end == .aborted { #expect(exact && flags.contains(.rst), "seed \(seed): ended by \(flags)") }
                if generator.chance(60) { flow.endBatch() }
            case 5:
                flow.endBatch()
                flow.host.queue += generator.bytes(upTo: 4000)
                flow.hostReady(.readable)
            case 6:
                flow.endBatch()
                flow.host.room = Int.random(in: 0...5000, using: &generator)
                flow.hostReady(.writable)
            case 7:
                flow.endBatch()
                if generator.chance(10) {
                    flow.host.hasEnded = true
                    flow.hostReady([.readable, .peerClosed])
                }
            case 8:
                flow.endBatch()
                if generator.chance(30) { flow.passDeadline() }
            default: flow.endBatch()
            }
            flow.sent = []
            if flow.end == .aborted { break }
        }
        flow.endBatch()
        var deadlines = 0
        while flow.end == nil && deadlines < 200 {
            guard flow.passDeadline() else {
                Issue.record("seed \(seed): no deadline in \(flow.flow.state)")
                return
            }
            deadlines += 1
        }
        #expect(flow.end != nil, "seed \(seed)")
    }
}
