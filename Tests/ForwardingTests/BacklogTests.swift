// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Backlog of what host sockets did not take")
struct BacklogTests {
    private static func flow(socket: CInt) -> Flow {
        var flow = Flow(
            key: FlowKey(
                family: .v6, guest: .loopback, remote: .loopback, guestPort: 1, remotePort: 2, transport: .tcp),
            hash: 0, generation: 1)
        flow.socket = socket
        return flow
    }

    private static func append(_ bytes: [UInt8], to flow: inout Flow, in pool: inout BacklogPool) -> Int {
        bytes.withUnsafeBytes { pool.append($0, to: &flow) }
    }

    private static func expectAppend(
        _ bytes: [UInt8], to flow: inout Flow, in pool: inout BacklogPool, takes wanted: Int,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let taken = append(bytes, to: &flow, in: &pool)
        #expect(taken == wanted, sourceLocation: sourceLocation)
    }

    private static func expect(
        _ pool: borrowing BacklogPool, uses wanted: Int, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let used = pool.used
        #expect(used == wanted, sourceLocation: sourceLocation)
    }

    /// Three flows share a pool; each byte that a flow's socket delivers is compared with a plain array.
    @Test("keeps order and content of several flows through any sequence of appends and drains", arguments: 1...6)
    func keepsOrderAndContent(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let pairs = try [SocketPair(), SocketPair(), SocketPair()]
        var flows = pairs.map { Self.flow(socket: $0.near) }
        var pool = BacklogPool(capacity: 24)
        var expected: [[UInt8]] = [[], [], []]
        var delivered: [[UInt8]] = [[], [], []]
        // A prime period, so that a piece out of place shows.
        let pattern = (0..<101_000).map { UInt8(truncatingIfNeeded: ($0 % 997) &* 31) }
        for _ in 0..<600 {
            let index = Int.random(in: 0..<3, using: &generator)
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<5:
                let count = Int.random(in: 0...100_000, using: &generator)
                let start = Int.random(in: 0..<997, using: &generator)
                let bytes = Array(pattern[start..<start + count])
                let room = pool.room
                let before = flows[index].backlogCount
                let taken = Self.append(bytes, to: &flows[index], in: &pool)
                let left = pool.room
                if taken < bytes.count { #expect(left == 0, "refused while there was room") }
                #expect(taken >= min(bytes.count, room))
                #expect(flows[index].backlogCount == before + UInt32(taken))
                expected[index] += bytes.prefix(taken)
            case 5..<8:
                if case .failed = pool.drain(&flows[index]) { Issue.record("drain failed") }
            default:
                delivered[index] += pairs[index].read(upTo: Int.random(in: 1...300_000, using: &generator))
            }
        }
        for index in 0..<3 {
            var idle = 0
            while flows[index].backlogCount > 0 && idle < 1000 {
                _ = pool.drain(&flows[index])
                let bytes = pairs[index].read(upTo: 1 << 20)
                idle = bytes.isEmpty ? idle + 1 : 0
                delivered[index] += bytes
            }
            delivered[index] += pairs[index].read(upTo: 1 << 20)
            #expect(delivered[index] == expected[index], "seed \(seed), flow \(index)")
            #expect(flows[index].backlog == BacklogPool.none)
            #expect(flows[index].backlogEnd == BacklogPool.none)
        }
        Self.expect(pool, uses: 0)
    }

    @Test("takes exactly what the pool holds, and as much again after a flow has gone")
    func takesExactlyWhatThePoolHolds() {
        var pool = BacklogPool(capacity: 3)
        var first = Self.flow(socket: -1)
        var second = Self.flow(socket: -1)
        let bytes = [UInt8](repeating: 7, count: 5 * BacklogPool.chunkSize)
        Self.expectAppend([1, 2, 3], to: &second, in: &pool, takes: 3)
        Self.expectAppend(bytes, to: &first, in: &pool, takes: 2 * BacklogPool.chunkSize)
        Self.expect(pool, uses: 3)
        Self.expectAppend([9], to: &first, in: &pool, takes: 0)
        // The rest of a chunk that a flow has already is its own.
        Self.expectAppend(bytes, to: &second, in: &pool, takes: BacklogPool.chunkSize - 3)
        pool.discard(&first)
        #expect(first.backlogCount == 0)
        Self.expect(pool, uses: 1)
        Self.expectAppend(bytes, to: &first, in: &pool, takes: 2 * BacklogPool.chunkSize)
        pool.discard(&first)
        pool.discard(&second)
        Self.expect(pool, uses: 0)
        let room = pool.room
        #expect(room == 3 * BacklogPool.chunkSize)
    }

    @Test("a thousand flows that are never drained leave room, and their memory goes back (issue 19)")
    func aThousandFlowsLeaveRoom() {
        var pool = BacklogPool(capacity: DataPath.Size.backlogChunks)
        let none = pool.slabsInMemory
        #expect(none == 0, "memory was taken before it was needed")
        var flows = (0..<1000).map { _ in Self.flow(socket: -1) }
        let bytes = [UInt8](repeating: 1, count: BacklogPool.chunkSize)
        for index in flows.indices {
            while flows[index].backlogCount < pool.allowance(of: flows[index]) {
                if Self.append(bytes, to: &flows[index], in: &pool) < bytes.count { break }
            }
        }
        let room = pool.room
        #expect(room > DataPath.Size.backlogChunks * BacklogPool.chunkSize / 4)
        var proven = Self.flow(socket: -1)
        let first = pool.allowance(of: proven)
        #expect(first == pool.share)
        proven.passedOn = 1 << 30
        let later = pool.allowance(of: proven)
        #expect(later == TCPWindow.most, "a server that reads is worth a whole window")
        for index in flows.indices { pool.discard(&flows[index]) }
        Self.expect(pool, uses: 0)
        let left = pool.slabsInMemory
        #expect(left <= 2)
        let again = pool.flows
        #expect(again == 0)
    }

    @Test("what a flow was offered is taken, though its own backlog makes the share of each smaller (issue 19)")
    func whatWasOfferedIsTaken() {
        var pool = BacklogPool(capacity: DataPath.Size.backlogChunks)
        var flows = (0..<300).map { _ in Self.flow(socket: -1) }
        for index in flows.indices { _ = Self.append([1], to: &flows[index], in: &pool) }
        var mine = Self.flow(socket: -1)
        // A scaled window is rounded up.
        let offered = pool.allowance(of: mine) + 127
        _ = Self.append([1], to: &mine, in: &pool)
        let share = pool.allowance(of: mine)
        #expect(share < offered, "the share has not shrunk: the test shows nothing")
        let most = pool.most(of: mine)
        #expect(most >= offered)
        for index in flows.indices { pool.discard(&flows[index]) }
        pool.discard(&mine)
    }

    @Test("a socket whose reader has gone fails the drain and loses nothing of the pool")
    func aSocketWhoseReaderHasGoneFailsTheDrain() throws {
        let pair = try SocketPair()
        var pool = BacklogPool(capacity: 2)
        var flow = Self.flow(socket: pair.near)
        _ = Self.append([1, 2, 3], to: &flow, in: &pool)
        pair.closeFar()
        guard case .failed = pool.drain(&flow) else {
            Issue.record("the drain did not fail")
            return
        }
        pool.discard(&flow)
        Self.expect(pool, uses: 0)
    }
}

/// Two stream sockets joined, neither waiting.
final class SocketPair {
    let near: CInt
    private var far: CInt

    init() throws {
        var numbers: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        try #require(socketpair(AF_UNIX, type, 0, &numbers) == 0)
        near = numbers[0]
        far = numbers[1]
    }

    deinit {
        close(near)
        closeFar()
    }

    func closeFar() {
        if far >= 0 { close(far) }
        far = -1
    }

    /// What the far end has to read, up to a limit.
    func read(upTo limit: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = Glibc.read(far, &bytes, limit)
        return Array(bytes.prefix(max(count, 0)))
    }
}
