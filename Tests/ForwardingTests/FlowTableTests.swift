// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Flow table")
struct FlowTableTests {
    /// A key of a small world, so that keys come again; `number` below 1,000.
    private static func key(_ number: Int) -> FlowKey {
        FlowKey(
            family: .v6, guest: IPv6Address(high: 0xFD00 << 48, low: UInt64(number % 5)),
            remote: IPv6Address(high: 0x2001_0DB8_0000_0000, low: UInt64(number % 7)),
            guestPort: UInt16(1024 + number % 11), remotePort: UInt16(number),
            transport: number.isMultiple(of: 3) ? .udp : .tcp)
    }

    /// Inserts as the data path does: the table itself leaves the state to its owner.
    private static func insert(_ key: FlowKey, hash: UInt32, into table: inout FlowTable) -> Int? {
        guard let index = table.insert(key, hash: hash) else { return nil }
        table[index].state = .datagram
        return index
    }

    @Test("a flow's record stays within 256 bytes")
    func aFlowsRecordStaysWithin256Bytes() {
        #expect(MemoryLayout<Flow>.stride <= 256)
    }

    @Test(
        "finds what a dictionary finds after any sequence of insertions and removals",
        arguments: zip([1, 2, 3, 4, 5, 6] as [UInt64], [1, 7, 64, 100, 256, 1000]))
    func findsWhatADictionaryFinds(seed: UInt64, capacity: Int) {
        var generator = SplitMix64(seed: seed)
        var table = FlowTable(capacity: capacity)
        var oracle: [FlowKey: Int] = [:]
        // Few distinct hashes make long runs that wrap around the end of the slots.
        let spread: UInt32 = seed.isMultiple(of: 2) ? .max : 3
        func hash(_ key: FlowKey) -> UInt32 { UInt32.max - (key.hash & spread) }
        for step in 0..<20_000 {
            let key = Self.key(Int.random(in: 0..<min(1000, capacity * 2 + 1), using: &generator))
            let hash = hash(key)
            let found = table.find(key, hash: hash)
            if found != oracle[key] {
                Issue.record("seed \(seed), step \(step): found \(found as Any), not \(oracle[key] as Any)")
                return
            }
            if let index = found {
                if generator.chance(60) {
                    table.remove(index)
                    oracle[key] = nil
                }
            } else if let index = Self.insert(key, hash: hash, into: &table) {
                #expect(oracle.count < capacity, "seed \(seed), step \(step): more than the capacity")
                oracle[key] = index
            } else {
                #expect(oracle.count == capacity, "seed \(seed), step \(step): refused while there is room")
            }
            if table.count != oracle.count {
                Issue.record("seed \(seed), step \(step): \(table.count) flows, not \(oracle.count)")
                return
            }
        }
        for (key, index) in oracle {
            let found = table.find(key, hash: hash(key))
            #expect(found == index)
            let held = table[index].key
            #expect(held == key)
        }
        #expect(Set(oracle.values).count == oracle.count, "each flow has an index of its own")
    }

    @Test("a full table refuses and takes again after a removal")
    func aFullTableRefuses() throws {
        var table = FlowTable(capacity: 16)
        for number in 0..<16 {
            let key = Self.key(number)
            let index = Self.insert(key, hash: key.hash, into: &table)
            #expect(index != nil)
        }
        let late = Self.key(16)
        let refused = table.insert(late, hash: late.hash)
        let full = table.count
        #expect(refused == nil)
        #expect(full == 16)
        let first = Self.key(0)
        let found = table.find(first, hash: first.hash)
        let index = try #require(found)
        table.remove(index)
        let again = Self.insert(late, hash: late.hash, into: &table)
        let gone = table.find(first, hash: first.hash)
        let there = table.find(late, hash: late.hash)
        #expect(again == index)
        #expect(gone == nil)
        #expect(there == index)
    }

    @Test("a slot that is used again has another generation, and the old one is not current")
    func aSlotUsedAgainHasAnotherGeneration() throws {
        var table = FlowTable(capacity: 1)
        let key = Self.key(1)
        var seen: Set<UInt32> = []
        for _ in 0..<1000 {
            let inserted = Self.insert(key, hash: key.hash, into: &table)
            let index = try #require(inserted)
            #expect(index == 0)
            let generation = table[index].generation
            #expect(seen.insert(generation).inserted)
            #expect(generation < 1 << 24, "fits an event token")
            let current = table.isCurrent(index, generation: generation)
            let earlier = table.isCurrent(index, generation: generation &- 1)
            table.remove(index)
            let afterwards = table.isCurrent(index, generation: generation)
            #expect(current)
            #expect(!earlier)
            #expect(!afterwards)
        }
        let neverUsed = table.isCurrent(1, generation: 1)
        #expect(!neverUsed)
    }

    @Test("keys that differ in one field hash apart and are different flows")
    func keysThatDifferInOneFieldAreDifferentFlows() {
        let base = Self.key(8)
        var keys = [base]
        for change: (inout FlowKey) -> Void in [
            { $0.guest = IPv6Address(high: 0, low: 7) }, { $0.remote = .loopback }, { $0.guestPort += 1 },
            { $0.remotePort += 1 }, { $0.transport = .icmp }, { swap(&$0.guestPort, &$0.remotePort) },
        ] {
            var key = base
            change(&key)
            keys.append(key)
        }
        #expect(Set(keys.map(\.hash)).count == keys.count)
        var table = FlowTable(capacity: 8)
        var indices: [Int?] = []
        for key in keys { indices.append(table.insert(key, hash: 5)) }
        for (key, index) in zip(keys, indices) { #expect(table.find(key, hash: 5) == index) }
    }
}
