// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing

@testable import PortForwarding

/// Issue 19, point 1, for spliced UDP clients: clients of a flood are evicted for others.
@Suite("Eviction of spliced UDP clients")
struct RelaySharesTests {
    private static func address(_ number: Int) -> IPv6Address {
        IPv6Address(high: 0x2001_0DB8 << 32, low: UInt64(number))
    }

    @Test(
        "a flood of clients that nobody answers leaves those that somebody has answered, and new ones have their time",
        arguments: [true, false])
    func aFloodOfClients(comesFromEverywhere: Bool) {
        var shares = RelayShares()
        let most = 2000
        for index in 0..<200 { shares.file(index, isAnswered: true, peer: Self.address(index), port: 53) }
        var free = Array(200..<most)
        var lost = 0
        var lostNew = 0
        for number in 0..<10_000 {
            if free.isEmpty, let victim = shares.candidate {
                shares.remove(victim)
                free.append(victim)
                lost += victim < 200 ? 1 : 0
            }
            let index = free.removeLast()
            let peer = Self.address(comesFromEverywhere ? 1000 + number : 1)
            shares.file(index, isAnswered: false, peer: peer, port: 6000)
            guard number % 100 == 99 else { continue }
            // Somebody new, who will be answered soon: it is still there 200 clients of the flood later.
            guard let victim = shares.candidate else { continue }
            shares.remove(victim)
            let mine = victim
            shares.file(mine, isAnswered: false, peer: Self.address(500), port: 53)
            for other in 0..<200 {
                guard let next = shares.candidate else { break }
                lostNew += next == mine ? 1 : 0
                shares.remove(next)
                let flooder = Self.address(comesFromEverywhere ? 50_000 + number + other : 1)
                shares.file(next, isAnswered: false, peer: flooder, port: 6000)
            }
        }
        #expect(lost == 0, "\(lost) that were answered have gone")
        #expect(lostNew <= 2, "\(lostNew) new ones of 100 have gone")
        #expect(shares.count(areAnswered: true) == 200)
    }

    @Test("lists stay whole through any sequence of clients", arguments: 1...4 as ClosedRange<UInt64>)
    func listsStayWhole(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var shares = RelayShares()
        var oracle: [Int: Bool] = [:]
        for _ in 0..<20_000 {
            let index = Int.random(in: 0..<300, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1, 2:
                let isAnswered = random.chance(50)
                shares.file(
                    index, isAnswered: isAnswered, peer: Self.address(Int.random(in: 0..<20, using: &random)),
                    port: UInt16.random(in: 0..<40, using: &random))
                oracle[index] = isAnswered
            case 3 where oracle[index] != nil: shares.renew(index)
            case 4:
                shares.remove(index)
                oracle[index] = nil
            default:
                guard let victim = shares.candidate else { continue }
                #expect(oracle[victim] != nil)
                shares.remove(victim)
                oracle[victim] = nil
            }
            #expect(shares.count(areAnswered: true) == oracle.values.count { $0 })
            #expect(shares.count(areAnswered: false) == oracle.values.count { !$0 })
        }
    }
}
