// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import TestSupport
import Testing

@testable import PortForwarding

@Suite("Slot table")
struct SlotTableTests {
    @Test("a token names one value only: not the next value of its slot")
    func aTokenNamesOneValue() throws {
        var table = SlotTable<Int>()
        let first = table.insert(1)
        let token = table.token(first, kind: 7)
        #expect(token.kind == 7 && table.index(of: token) == first)
        table.remove(first)
        #expect(table.index(of: token) == nil && !table.isInUse(first))
        let second = table.insert(2)
        #expect(second == first, "a free slot is used first")
        #expect(table.index(of: token) == nil, "the token is that of the removed value")
        #expect(table.index(of: table.token(second, kind: 7)) == second && table[second] == 2)
        #expect(table.index(of: EventToken(kind: 7, generation: 1, index: 99)) == nil, "no such slot")
    }

    @Test(
        "agrees with a dictionary under any sequence of insertions and removals", arguments: [1, 2, 3, 4] as [UInt64])
    func agreesWithADictionary(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var table = SlotTable<Int>()
        var model: [Int: (value: Int, token: EventToken)] = [:]
        var removed: [EventToken] = []
        for step in 0..<2000 {
            if random.chance(55) {
                let index = table.insert(step)
                #expect(model[index] == nil, "seed \(seed), step \(step): the slot is in use")
                model[index] = (step, table.token(index, kind: 1))
            } else if let (index, entry) = model.randomElement(using: &random) {
                removed.append(entry.token)
                table.remove(index)
                model[index] = nil
            }
            try #require(table.count == model.count, "seed \(seed), step \(step)")
        }
        #expect(Array(table.indices) == model.keys.sorted(), "seed \(seed)")
        for (index, entry) in model {
            #expect(table[index] == entry.value && table.index(of: entry.token) == index, "seed \(seed)")
        }
        #expect(removed.allSatisfy { table.index(of: $0) == nil }, "seed \(seed)")
        #expect(table.end <= 2000 && table.indices.allSatisfy { $0 < table.end && table.isInUse($0) })
    }
}
