// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Reassembly of fragments")
struct ReassemblyTests {
    /// A second, in the units of ``Reassembly``.
    private static let second: Int64 = 1_000_000_000

    /// A reassembly, with the result for each fragment.
    private struct Gatherer: ~Copyable {
        var reassembly = Reassembly()
        var now: Int64 = 0
        var family = AddressFamily.v4

        /// The result for a fragment.
        enum Answer: Equatable {
            case waiting, refused
            case whole([UInt8])
        }

        /// Gives the bytes `range` of a datagram as a fragment.
        mutating func give(
            _ range: Range<Int>, of datagram: [UInt8], identification: UInt32 = 1, isLast: Bool? = nil,
            ipProtocol: IPProtocol = .udp, from port: UInt16 = 0
        ) -> Answer {
            var source = Lab.guest(family).asIPv6
            source.low &+= UInt64(port)
            let fragment = Reassembly.Fragment(
                family: family, source: source, destination: Lab.host(family).asIPv6, ipProtocol: ipProtocol,
                identification: identification, offset: range.lowerBound,
                isLast: isLast ?? (range.upperBound == datagram.count), trafficClass: 0, hopLimit: 64)
            let payload = Array(datagram[range])
            switch reassembly.take(
                fragment, payload: payload.span, macs: (.defaultGateway, World.guestMAC), now: now)
            {
            case .waiting: return .waiting
            case .refused: return .refused
            case .whole(let frame, let count):
                let headers = EthernetHeader.length + (family == .v4 ? IPv4Header.length : IPv6Header.length)
                let bytes = UnsafeRawBufferPointer(start: frame, count: count)
                return .whole(Array(bytes[headers...]))
            }
        }

        /// Gives all of a datagram in pieces of a size, in an order.
        mutating func give(
            all datagram: [UInt8], size: Int, identification: UInt32 = 1, order: ([Range<Int>]) -> [Range<Int>]
        ) -> [Answer] {
            let ranges = stride(from: 0, to: datagram.count, by: size).map { $0..<min($0 + size, datagram.count) }
            var answers: [Answer] = []
            for range in order(ranges) { answers.append(give(range, of: datagram, identification: identification)) }
            return answers
        }
    }

    @Test(
        "pieces in any order make the whole with the last of them", arguments: [AddressFamily.v4, .v6],
        [9, 1480, 9000, 65_000])
    func piecesInAnyOrder(family: AddressFamily, count: Int) {
        let datagram = stream(count)
        var generator = SplitMix64(seed: UInt64(count))
        let orders: [([Range<Int>]) -> [Range<Int>]] = [
            { $0 }, { $0.reversed() }, { $0.shuffled(using: &generator) }, { $0.shuffled(using: &generator) },
        ]
        for order in orders {
            var gatherer = Gatherer()
            gatherer.family = family
            var answers = gatherer.give(all: datagram, size: max(8, min(1232, count / 2 / 8 * 8)), order: order)
            #expect(answers.popLast() == .whole(datagram))
            #expect(answers.allSatisfy { $0 == .waiting })
        }
    }

    @Test("a piece that comes twice is taken once, before and after the others")
    func aPieceThatComesTwice() {
        let datagram = stream(3000)
        var gatherer = Gatherer()
        for _ in 0..<3 { #expect(gatherer.give(1000..<2000, of: datagram) == .waiting) }
        for _ in 0..<3 { #expect(gatherer.give(2000..<3000, of: datagram) == .waiting) }
        #expect(gatherer.give(0..<1000, of: datagram) == .whole(datagram))
        // One that comes late does not make another datagram of it.
        #expect(gatherer.give(0..<1000, of: datagram) == .waiting)
    }

    @Test(
        "pieces that overlap give the datagram up (RFC 5722)",
        arguments: [8..<1008, 992..<2000, 0..<2000, 992..<1000, 0..<3000, 1992..<3000])
    func piecesThatOverlap(range: Range<Int>) {
        let datagram = stream(3000)
        var gatherer = Gatherer()
        #expect(gatherer.give(0..<1000, of: datagram) == .waiting)
        #expect(gatherer.give(2000..<3000, of: datagram) == .waiting)
        #expect(gatherer.give(range, of: datagram) == .refused)
        #expect(gatherer.give(1000..<2000, of: datagram) == .waiting, "the rest alone is nothing")
        // All of it again is whole again.
        #expect(gatherer.give(0..<1000, of: datagram) == .waiting)
        #expect(gatherer.give(2000..<3000, of: datagram) == .whole(datagram))
    }

    @Test("pieces behind the end, another end, no bytes, and sizes that are no multiple of eight are refused")
    func piecesThatContradict() {
        let datagram = stream(4000)
        var gatherer = Gatherer()
        _ = gatherer.give(2000..<2400, of: datagram, isLast: true)
        #expect(gatherer.give(2400..<3200, of: datagram) == .refused, "behind the end")
        _ = gatherer.give(2000..<2400, of: datagram, isLast: true)
        #expect(gatherer.give(800..<1600, of: datagram, isLast: true) == .refused, "another end")
        _ = gatherer.give(2400..<3200, of: datagram)
        #expect(gatherer.give(800..<1600, of: datagram, isLast: true) == .refused, "an end before what has come")
        #expect(gatherer.give(0..<0, of: datagram) == .refused)
        #expect(gatherer.give(0..<1001, of: datagram) == .refused)
        #expect(gatherer.give(0..<1001, of: datagram, isLast: true) == .whole(Array(datagram[..<1001])))
    }

    @Test(
        "the longest datagram of each family is put together, a longer one is not", arguments: [AddressFamily.v4, .v6])
    func theLongestDatagram(family: AddressFamily) {
        let most = family == .v4 ? 65_515 : 65_535
        for count in [most - 1, most, most + 1] {
            let datagram = stream(count)
            var gatherer = Gatherer()
            gatherer.family = family
            let answers = gatherer.give(all: datagram, size: 1480) { $0 }
            #expect(answers.last == (count <= most ? .whole(datagram) : .refused), "\(count) bytes")
        }
    }

    @Test("what is not complete in time is given up: late pieces do not complete it, all of it again does")
    func whatIsNotCompleteInTime() {
        let datagram = stream(2000)
        var gatherer = Gatherer()
        #expect(gatherer.give(0..<1000, of: datagram) == .waiting)
        gatherer.now = Reassembly.patience - 1
        #expect(gatherer.give(1000..<2000, of: datagram) == .whole(datagram), "just in time")
        #expect(gatherer.give(0..<1000, of: datagram) == .waiting)
        gatherer.now += Reassembly.patience
        #expect(gatherer.give(1000..<2000, of: datagram) == .waiting, "too late")
        #expect(gatherer.give(0..<1000, of: datagram) == .whole(datagram))
    }

    @Test("the same identification of other ends or another protocol is another datagram")
    func theSameIdentification() {
        let (first, second) = (stream(2000), [UInt8](stream(2000).reversed()))
        var gatherer = Gatherer()
        #expect(gatherer.give(0..<1000, of: first) == .waiting)
        #expect(gatherer.give(1000..<2000, of: second, identification: 2) == .waiting)
        #expect(gatherer.give(1000..<2000, of: second, ipProtocol: .icmp) == .waiting)
        #expect(gatherer.give(1000..<2000, of: second, from: 1) == .waiting)
        #expect(gatherer.give(1000..<2000, of: first) == .whole(first))
        #expect(gatherer.give(0..<1000, of: second, identification: 2) == .whole(second))
        #expect(gatherer.give(0..<1000, of: second, ipProtocol: .icmp) == .whole(second))
        #expect(gatherer.give(0..<1000, of: second, from: 1) == .whole(second))
    }

    @Test("beyond the places there are, the oldest goes: a flood costs no memory and later datagrams pass")
    func tooManyAtOnce() {
        let datagram = stream(2000)
        var gatherer = Gatherer()
        for number in 0..<Reassembly.places + 1 {
            gatherer.now += Self.second / 100
            #expect(gatherer.give(0..<1000, of: datagram, identification: UInt32(number)) == .waiting)
        }
        #expect(gatherer.give(1000..<2000, of: datagram, identification: 1) == .whole(datagram))
        #expect(gatherer.give(1000..<2000, of: datagram, identification: 0) == .waiting, "the oldest had to go")
        for number in 100..<100_000 {
            gatherer.now += 1000
            _ = gatherer.give(0..<1000, of: datagram, identification: UInt32(number))
        }
        let answers = gatherer.give(all: datagram, size: 1000, identification: 7) { $0 }
        #expect(answers == [.waiting, .whole(datagram)])
    }

    @Test("a datagram in more pieces than are kept account of is given up")
    func tooManyPieces() {
        let datagram = stream((Reassembly.pieces + 4) * 8)
        var gatherer = Gatherer()
        let answers = gatherer.give(all: datagram, size: 8) { $0 }
        #expect(answers[..<Reassembly.pieces].allSatisfy { $0 == .waiting })
        #expect(answers[Reassembly.pieces] == .refused)
        #expect(!answers.contains(.whole(datagram)))
    }

    @Test("any pieces at all never make more than they have brought", arguments: 1...4)
    func anyPiecesAtAll(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        let datagram = stream(4096)
        var gatherer = Gatherer()
        var wholes = 0
        for _ in 0..<50_000 {
            gatherer.now += Int64.random(in: 0...Self.second, using: &generator)
            let start = Int.random(in: 0...7, using: &generator) * 512
            let end = min(start + Int.random(in: 0...3, using: &generator) * 512, datagram.count)
            let answer = gatherer.give(
                start..<end, of: datagram, identification: UInt32.random(in: 0...3, using: &generator))
            if case .whole(let bytes) = answer {
                wholes += 1
                #expect(bytes == datagram)
            }
        }
        #expect(wholes > 30, "\(wholes): the test shows nothing")
    }

    // MARK: Through the data path

    /// An IPv6 packet's frame cut into fragments (RFC 8200 §4.5).
    private static func fragments(of frame: [UInt8], size: Int, identification: UInt8) -> [[UInt8]] {
        let payload = Array(frame[54...])
        return stride(from: 0, to: payload.count, by: size).map { start in
            let end = min(start + size, payload.count)
            let length = end - start + 8
            var piece = Array(frame[..<54])
            piece[18] = UInt8(length >> 8)
            piece[19] = UInt8(length & 0xFF)
            piece[20] = 44
            let field = start | (end < payload.count ? 1 : 0)
            piece += [17, 0, UInt8(field >> 8), UInt8(field & 0xFF), 0, 0, 0, identification]
            return piece + payload[start..<end]
        }
    }

    @Test("an IPv6 datagram of 9,000 bytes in fragments reaches the server, between others, once")
    func anIPv6Datagram() throws {
        let world = try World()
        let server = try HostEnd.datagram(.v6)
        let path = GuestFrame.Path(.v6, from: 21_050, to: server.port)
        let payload = stream(9000)
        let pieces = Self.fragments(of: GuestFrame.udp(path, payload), size: 1232, identification: 9)
        world.send(GuestFrame.udp(path, [1]))
        for piece in pieces.reversed() { world.send(piece) }
        world.send(GuestFrame.udp(path, [2]))
        for piece in pieces.dropLast() { world.send(piece) }
        try world.settle()
        var received: [[UInt8]] = []
        while let datagram = server.receive() { received.append(datagram.bytes) }
        #expect(received == [[1], payload, [2]])
        #expect(world.drops(.fragment) == 0)
        world.clock = world.clock.advanced(milliseconds: 16_000)
        world.send(pieces[pieces.count - 1])
        try world.settle()
        #expect(server.receive() == nil, "the end of one that is too old")
    }

    @Test("the longest datagram that a socket takes arrives in fragments")
    func theLongestThatASocketTakes() throws {
        let world = try World()
        let server = try HostEnd.datagram(.v6)
        server.set(SOL_SOCKET, SO_RCVBUF, 1 << 20)
        let path = GuestFrame.Path(.v6, from: 21_052, to: server.port)
        // What an IPv4 socket takes at most; the kernel takes 20 more for IPv6.
        let payload = stream(65_507)
        for piece in Self.fragments(of: GuestFrame.udp(path, payload), size: 1232, identification: 9) {
            world.send(piece)
        }
        try world.settle()
        #expect(server.receive()?.bytes == payload)
    }

    @Test("a datagram whose fragments were changed on the way has a wrong checksum and is dropped")
    func aWrongChecksum() throws {
        let world = try World()
        let server = try HostEnd.datagram(.v6)
        let path = GuestFrame.Path(.v6, from: 21_051, to: server.port)
        var pieces = Self.fragments(of: GuestFrame.udp(path, stream(3000)), size: 1232, identification: 9)
        pieces[1][100] ^= 1
        for piece in pieces { world.send(piece) }
        try world.settle()
        #expect(server.receive() == nil)
        #expect(world.forwarder.counters.summary.contains { $0.name == "malformed: badTransportChecksum" })
    }
}
