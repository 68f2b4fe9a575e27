// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// A link over a socket pair; the test holds the other end and plays the virtual machine.
private final class Machine {
    let link: StreamLink
    var arena = FrameArena()
    private(set) var number: CInt
    /// How often the machine was found to be gone.
    private(set) var lost = 0
    /// What the link has sent, as far as it makes no whole frame.
    private var rest: [UInt8] = []

    init(queue: Int = StreamLink.Size.queue) throws {
        let (ours, theirs) = try Self.pair()
        link = StreamLink(client: OwnedFileDescriptor(taking: theirs), queue: queue)
        number = ours
    }

    deinit { close() }

    static func pair() throws -> (CInt, CInt) {
        var ends: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        return (ends[0], ends[1])
    }

    func close() {
        if number >= 0 { Glibc.close(number) }
        number = -1
    }

    /// Sends all bytes; false if the link has closed its end.
    @discardableResult
    func send(_ bytes: some Collection<UInt8>) -> Bool {
        let bytes = Array(bytes)
        return Glibc.send(number, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count
    }

    /// What the data path would receive in one turn, in batches of at most `most` frames.
    func receive(batch most: Int = 256) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        link.ready(link.clientToken, .readable)
        repeat {
            arena.reset()
            var given: [(UnsafeMutableRawPointer, Int)] = []
            var isEmpty = false
            while given.count < most, !arena.isFull, !isEmpty {
                switch link.receive(into: &arena) {
                case .frame(let start, let count, _): given.append((start, count))
                case .truncated: Issue.record("a stream has no truncated frames")
                case .empty, .gone: isEmpty = true
                }
            }
            // Only now, as the data path sends payload from there at the end of a batch.
            frames += given.map { Array(UnsafeRawBufferPointer(start: $0.0, count: $0.1)) }
            if link.takeLostGuest() { lost += 1 }
            _ = link.takeNewGuest()
        } while link.hasMore
        return frames
    }

    /// The frames that have come to the machine; it reads at most `limit` bytes.
    func take(limit: Int = .max) -> [[UInt8]] {
        var left = limit
        var buffer = [UInt8](repeating: 0, count: 65536)
        while left > 0 {
            let count = recv(number, &buffer, min(left, buffer.count), CInt(MSG_DONTWAIT))
            guard count > 0 else { break }
            rest += buffer[..<count]
            left -= count
        }
        var frames: [[UInt8]] = []
        var start = 0
        while rest.count - start >= 4 {
            let length = rest[start..<(start + 4)].reduce(0) { $0 << 8 | Int($1) }
            guard rest.count - start - 4 >= length else { break }
            frames.append(Array(rest[(start + 4)..<(start + 4 + length)]))
            start += 4 + length
        }
        rest.removeFirst(start)
        return frames
    }

    /// Has the link send a frame, in `pieces` pieces.
    func transmit(_ frame: [UInt8], pieces: Int = 1) -> Bool {
        ForwardingTests.transmit(frame, over: link, pieces: pieces)
    }
}

/// A frame behind its length.
private func framed(_ frame: [UInt8]) -> [UInt8] { length(UInt32(frame.count)) + frame }

private func length(_ number: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) } }

@Suite("A link over a stream socket", .timeLimit(.minutes(1)))
struct StreamLinkTests {
    // MARK: From the guest

    @Test("two frames arrive whole wherever the bytes are cut")
    func everySplit() throws {
        let frames = [numberedFrame(1, 60), numberedFrame(2, 14)]
        let bytes = frames.flatMap(framed)
        for first in 0...bytes.count {
            for second in Set([first, min(first + 1, bytes.count), bytes.count]) {
                let machine = try Machine()
                var received: [[UInt8]] = []
                for part in [bytes[..<first], bytes[first..<second], bytes[second...]] where !part.isEmpty {
                    machine.send(part)
                    received += machine.receive()
                }
                #expect(received == frames, "cut at \(first) and \(second)")
                #expect(machine.link.hasClient && !machine.link.hasMore)
            }
        }
    }

    @Test("frames of all sizes arrive whole and in order, in pieces and batches of any size", arguments: 1...6)
    func anyChunks(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let machine = try Machine()
        let frames = (0..<300).map { number in
            let longest = random.chance(10) ? FrameArena.frameLimit : random.chance(50) ? 1514 : 100
            return numberedFrame(number, Int.random(in: 14...longest, using: &random))
        }
        let bytes = frames.flatMap(framed)
        var received: [[UInt8]] = []
        var sent = 0
        while sent < bytes.count {
            // A socket pair takes more than this without being read.
            let most = random.chance(20) ? 10 : 60_000
            let count = min(Int.random(in: 1...most, using: &random), bytes.count - sent)
            machine.send(bytes[sent..<(sent + count)])
            sent += count
            if random.chance(60) || bytes.count == sent || count > 20_000 {
                let most = Int.random(in: 1...300, using: &random)
                received += machine.receive(batch: most)
            }
        }
        #expect(received.count == frames.count)
        #expect(received == frames)
        #expect(machine.link.counters.badLengths == 0)
    }

    @Test("the longest frames come through, one behind the other")
    func longestFrames() throws {
        let machine = try Machine()
        let frames = (0..<20).map { numberedFrame($0, FrameArena.frameLimit) }
        var received: [[UInt8]] = []
        for frame in frames {
            machine.send(framed(frame))
            received += machine.receive()
        }
        #expect(received == frames)
    }

    @Test(
        "a length that no frame has drops the client, and what came before is still handled",
        arguments: [0, 1, 13, UInt32(FrameArena.frameLimit) + 1, 0x7FFF_FFFF, 0x8000_0000, .max])
    func hostileLengths(bad: UInt32) throws {
        let machine = try Machine()
        machine.send(framed(numberedFrame(1, 60)) + length(bad) + framed(numberedFrame(2, 60)))
        #expect(machine.receive() == [numberedFrame(1, 60)])
        #expect(machine.link.counters.badLengths == 1)
        #expect(machine.link.clients.lost == 1)
        #expect(!machine.link.hasClient)
        var byte: UInt8 = 0
        // Closed, or reset because of what was not read.
        #expect(recv(machine.number, &byte, 1, CInt(MSG_DONTWAIT)) <= 0)
        #expect(!machine.transmit(numberedFrame(3, 60)))
        #expect(machine.link.counters.withoutClient == 1)
    }

    @Test("a client that ends in the middle of a frame is gone, and so is a link that had no other")
    func endInAFrame() throws {
        let machine = try Machine()
        machine.send(framed(numberedFrame(1, 60)) + framed(numberedFrame(2, 60)).dropLast())
        machine.close()
        #expect(machine.receive() == [numberedFrame(1, 60)])
        machine.arena.reset()
        guard case .gone = machine.link.receive(into: &machine.arena) else {
            Issue.record("the link is not gone")
            return
        }
        #expect(!machine.link.hasMore, "the end is told once")
        #expect(machine.link.counters.badLengths == 0)
        #expect(machine.lost == 1)
        #expect(!machine.link.takeLostGuest())
    }

    // MARK: To the guest

    @Test("small frames go out together, large ones at once, all of them in order", arguments: [1, 2, 7, 100])
    func framesGoOutInOrder(pieces: Int) throws {
        let machine = try Machine()
        var frames: [[UInt8]] = []
        for number in 0..<100 {
            frames.append(numberedFrame(number, number % 10 == 9 ? 5000 : 200 + number))
            #expect(machine.transmit(frames[number], pieces: pieces))
        }
        machine.link.flush()
        #expect(machine.take() == frames)
        #expect(machine.link.counters.sends == 10, "one call for nine small frames and the large one behind them")
    }

    @Test("a guest that reads slowly gets every frame that was taken, whole; the others are counted", arguments: 1...3)
    func slowReader(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let queue = 300_000
        let machine = try Machine(queue: queue)
        var taken: [[UInt8]] = []
        var received: [[UInt8]] = []
        var refused = 0
        for number in 0..<2000 {
            let longest = random.chance(20) ? FrameArena.frameLimit : 1514
            let count = Int.random(in: 14...longest, using: &random)
            let next = numberedFrame(number, count)
            if machine.transmit(next, pieces: random.chance(30) ? 3 : 1) { taken.append(next) } else { refused += 1 }
            if random.chance(10) { machine.link.flush() }
            if random.chance(30) {
                received += machine.take(limit: Int.random(in: 1...30_000, using: &random))
                machine.link.ready(machine.link.clientToken, .writable)
            }
        }
        #expect(refused > 0 && taken.count > 100)
        #expect(machine.link.counters.queueFull == UInt64(refused))
        #expect((1...queue).contains(machine.link.counters.mostQueued))
        // Until there is nothing left: the queue and the socket together have little.
        for _ in 0..<100 {
            machine.link.ready(machine.link.clientToken, .writable)
            received += machine.take()
        }
        #expect(received.count == taken.count)
        #expect(received == taken)
        #expect(machine.link.canTransmit)
    }

    @Test("a guest that does not read costs no call for each frame, and no memory beyond the queue")
    func noReader() throws {
        let machine = try Machine()
        #expect(machine.link.canTransmit)
        var frames = 0
        while machine.transmit(numberedFrame(frames, 1514)), frames < 10_000 { frames += 1 }
        #expect(!machine.link.canTransmit)
        #expect(machine.link.counters.mostQueued <= StreamLink.Size.queue)
        let sends = machine.link.counters.sends
        #expect(sends < 20)
        for number in 0..<1000 { #expect(!machine.transmit(numberedFrame(number, 1514))) }
        #expect(machine.link.counters.sends == sends)
        #expect(machine.link.counters.queueFull == 1001)
    }

    @Test("a guest that closes while frames wait for it ends the link, not the process")
    func closedWhileFramesWait() throws {
        let machine = try Machine()
        while machine.link.canTransmit { #expect(machine.transmit(numberedFrame(1, 1514))) }
        machine.close()
        machine.link.ready(machine.link.clientToken, [.writable, .hangUp])
        #expect(!machine.link.hasClient)
        #expect(machine.link.clients.lost == 1)
        #expect(machine.link.hasMore, "no event will tell of it")
        #expect(machine.receive() == [])
        #expect(machine.lost == 1)
    }
}
