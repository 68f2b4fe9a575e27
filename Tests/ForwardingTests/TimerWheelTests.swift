// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import TestSupport
import Testing

@testable import Forwarding

@Suite("Timer wheel")
struct TimerWheelTests {
    private static let tick: Int64 = 8_000_000

    private static func time(_ nanoseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds) }

    private static func expect(
        _ wheel: borrowing TimerWheel, wakesUp: Bool, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let next = wheel.nextDeadline
        #expect((next != nil) == wakesUp, sourceLocation: sourceLocation)
    }

    /// A distance from milliseconds to days, all magnitudes alike.
    private static func distance(_ generator: inout SplitMix64) -> Int64 {
        let magnitude = Int64(1) << Int64.random(in: 0...28, using: &generator)
        return Int64.random(in: 0...magnitude, using: &generator) * 1_000_000
            + Int64.random(in: 0..<1_000_000, using: &generator)
    }

    @Test("an empty wheel asks for no wake-up")
    func anEmptyWheelAsksForNoWakeUp() {
        var wheel = TimerWheel(capacity: 4, now: Self.time(123_456_789))
        Self.expect(wheel, wakesUp: false)
        for index in 0..<4 { wheel.adopt(index) }
        Self.expect(wheel, wakesUp: false)
        wheel.set(0, deadline: 1_000_000_000)
        Self.expect(wheel, wakesUp: true)
        wheel.remove(0)
        Self.expect(wheel, wakesUp: false)
        var expired: [Int32] = []
        wheel.expire(now: Self.time(5_000_000_000), into: &expired)
        #expect(expired.isEmpty)
        Self.expect(wheel, wakesUp: false)
    }

    @Test("a deadline that has passed when it is set fires with the next tick")
    func aDeadlineThatHasPassedFiresWithTheNextTick() {
        var wheel = TimerWheel(capacity: 1, now: Self.time(10_000_000_000))
        wheel.adopt(0)
        wheel.set(0, deadline: 5)
        var expired: [Int32] = []
        wheel.expire(now: Self.time(10_000_000_000 + 2 * Self.tick), into: &expired)
        #expect(expired == [0])
    }

    @Test("fires as a list of all deadlines says: never early, never more than a tick late", arguments: 1...12)
    func firesAsAListOfAllDeadlinesSays(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        let count = 200
        var now = Int64.random(in: 0...1 << 50, using: &generator)
        var wheel = TimerWheel(capacity: count, now: Self.time(now))
        for index in 0..<count { wheel.adopt(index) }
        var oracle: [Int: Int64] = [:]
        var expired: [Int32] = []
        for step in 0..<3000 {
            func fail(_ text: String) { Issue.record("seed \(seed), step \(step): \(text)") }
            for _ in 0..<Int.random(in: 0..<4, using: &generator) {
                let index = Int.random(in: 0..<count, using: &generator)
                switch Int.random(in: 0..<10, using: &generator) {
                case 0:
                    wheel.remove(index)
                    wheel.adopt(index)
                    oracle[index] = nil
                case 1:
                    wheel.set(index, deadline: .max)
                    oracle[index] = nil
                default:
                    let deadline = now + Self.distance(&generator)
                    wheel.set(index, deadline: deadline)
                    oracle[index] = deadline
                }
            }
            for (index, deadline) in oracle where wheel.deadline(of: index) != deadline {
                return fail("\(index) has deadline \(wheel.deadline(of: index)), not \(deadline)")
            }
            // Either sleep exactly as long as the wheel says, or be woken by something else.
            let next = wheel.nextDeadline
            if let first = oracle.values.min() {
                guard let next else { return fail("asks for no wake-up") }
                if next.nanoseconds > max(first, now) + Self.tick { return fail("would wake up too late") }
            }
            if let next, generator.chance(60) {
                now = max(now, next.nanoseconds)
            } else {
                now += Self.distance(&generator) / 16
            }
            expired.removeAll()
            wheel.expire(now: Self.time(now), into: &expired)
            for index in expired {
                guard let deadline = oracle.removeValue(forKey: Int(index)) else {
                    return fail("\(index) fired without a deadline")
                }
                if deadline > now { return fail("\(index) fired \(deadline - now) ns early") }
                if wheel.deadline(of: Int(index)) != .max { return fail("\(index) kept its deadline") }
            }
            for (index, deadline) in oracle where deadline + Self.tick <= now {
                return fail("\(index) is \(now - deadline) ns late")
            }
        }
        // All that is left fires in the end, by the wheel's own wake-ups alone.
        var turns = 0
        while let next = wheel.nextDeadline, turns < 100_000 {
            turns += 1
            now = max(now, next.nanoseconds)
            expired.removeAll()
            wheel.expire(now: Self.time(now), into: &expired)
            for index in expired { oracle[Int(index)] = nil }
        }
        #expect(oracle.isEmpty, "seed \(seed): never fired")
    }

    @Test("moving a deadline later costs one wake-up and then waits for the new one")
    func movingADeadlineLaterCostsOneWakeUp() throws {
        var wheel = TimerWheel(capacity: 1, now: Self.time(0))
        wheel.adopt(0)
        wheel.set(0, deadline: 100_000_000)
        let last: Int64 = 50 * 3_600_000_000_000
        for step in 1...1000 { wheel.set(0, deadline: last / 1000 * Int64(step)) }
        var expired: [Int32] = []
        var wakeUps = 0
        var now: Int64 = 0
        while expired.isEmpty {
            let next = wheel.nextDeadline
            now = try #require(next).nanoseconds
            wheel.expire(now: Self.time(now), into: &expired)
            wakeUps += 1
            try #require(wakeUps < 10)
        }
        #expect(now >= last && now <= last + Self.tick)
    }
}
