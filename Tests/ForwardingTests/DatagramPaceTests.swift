// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Forwarding

@Suite("a rest in a fast stream of datagrams") struct DatagramPaceTests {
    /// Turns of the event loop, `gap` nanoseconds apart: how many ended with a rest.
    private func rests(turns: Int, gap: Int64, _ count: (inout DatagramPace, Int) -> Void) -> Int {
        var pace = DatagramPace()
        var now: Int64 = 1_000_000_000
        var rests = 0
        for turn in 0..<turns {
            count(&pace, turn)
            if pace.endTurn(now) > 0 { rests += 1 }
            now += gap
        }
        return rests
    }

    @Test("one a turn, one way, every 10 us: the loop rests", arguments: [true, false])
    func stream(inbound: Bool) {
        let rests = rests(turns: 2000, gap: 10_000) { pace, _ in
            if inbound { pace.countInbound(1) } else { pace.countOutbound(1) }
        }
        // Not before there are two windows of it.
        #expect(rests > 1700 && rests < 2000)
    }

    @Test("questions and answers, however fast, are never held back")
    func alternation() {
        #expect(
            rests(turns: 2000, gap: 5_000) { pace, turn in
                if turn % 2 == 0 { pace.countOutbound(1) } else { pace.countInbound(1) }
            } == 0)
    }

    @Test("a slow stream is not held back")
    func slow() {
        #expect(rests(turns: 2000, gap: 100_000) { pace, _ in pace.countInbound(1) } == 0)
    }

    @Test("batches that are there already need no rest")
    func batches() {
        #expect(rests(turns: 2000, gap: 50_000) { pace, _ in pace.countInbound(40) } == 0)
    }

    /// A pace in the middle of a fast stream into the namespace, and the moment.
    private func inFastStream() -> (DatagramPace, Int64) {
        var pace = DatagramPace()
        var now: Int64 = 1_000_000_000
        for _ in 0..<500 {
            pace.countInbound(1)
            _ = pace.endTurn(now)
            now += 10_000
        }
        return (pace, now)
    }

    @Test("the first turn after silence does not rest, nor do turns without datagrams")
    func silence() {
        var (pace, now) = inFastStream()
        #expect(pace.endTurn(now) == 0)
        now += 1_000_000_000
        pace.countInbound(1)
        #expect(pace.endTurn(now) == 0)
    }

    @Test("a stream that turns round is a new stream")
    func turnsRound() {
        var (pace, now) = inFastStream()
        pace.countInbound(1)
        #expect(pace.endTurn(now) > 0)
        now += 10_000
        pace.countOutbound(1)
        #expect(pace.endTurn(now) == 0)
    }
}
