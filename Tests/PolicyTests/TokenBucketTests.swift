// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Policy
import TestSupport
import Testing

@Suite("token bucket (RFC 2697)")
struct TokenBucketTests {
    @Test("gives the burst at once, then the rate")
    func givesTheBurstThenTheRate() {
        var bucket = TokenBucket(rate: 1000, burst: 100, now: 0)
        for _ in 0..<10 { #expect(bucket.take(10, now: 0) == true) }
        #expect(bucket.take(10, now: 0) == false)
        #expect(bucket.available(now: 0) == 0)
        #expect(bucket.available(now: 50_000_000) == 50)
        #expect(bucket.available(now: 10_000_000_000) == 100)
    }

    @Test("lets something larger than the burst through, and then waits for it")
    func letsSomethingLargerThrough() {
        var bucket = TokenBucket(rate: 1_000_000, burst: 1000, now: 0)
        #expect(bucket.take(500_000, now: 0) == true)
        #expect(bucket.take(1, now: 0) == false)
        let delay = bucket.delay(now: 0)
        #expect(delay == 499_000_001)
        #expect(bucket.take(1, now: delay - 1) == false)
        #expect(bucket.take(1, now: delay) == true)
    }

    @Test("keeps the rate over any pattern of takes", arguments: [3, 999, 1_000_003, 10_000_000_000] as [UInt64])
    func keepsTheRate(rate: UInt64) {
        for seed in 0..<4 as Range<UInt64> {
            var random = SplitMix64(seed: seed)
            let burst = max(rate / 50, 1)
            var bucket = TokenBucket(rate: rate, burst: burst, now: 77)
            var now: UInt64 = 77
            var taken: UInt64 = 0
            let largest = max(rate / 100, 1)
            while now < 77 + 20_000_000_000 {
                let units = UInt64.random(in: 1...largest, using: &random)
                if bucket.take(units, now: now) {
                    taken += units
                } else {
                    now += bucket.delay(now: now)
                }
            }
            let elapsed = Double(now - 77) / 1e9
            let wanted = Double(rate) * elapsed
            // No more than rate and burst allow, and no less than the rate when it always has takers.
            #expect(Double(taken) <= wanted + Double(burst + largest) + 1, "seed \(seed)")
            #expect(Double(taken) >= wanted - 1, "seed \(seed)")
        }
    }

    @Test("stands still when the clock goes back, and takes the largest steps")
    func survivesAnyClock() {
        var bucket = TokenBucket(rate: .max, burst: .max, now: 1000)
        #expect(bucket.take(.max, now: 0) == true)
        #expect(bucket.take(1, now: 999) == false)
        #expect(bucket.take(.max, now: .max) == true)
        #expect(bucket.take(1, now: .max) == false)
        var slow = TokenBucket(rate: 1, burst: 1, now: 0)
        #expect(slow.take(.max, now: 0) == true)
        #expect(slow.delay(now: 0) == .max)
    }
}
