// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

private typealias Peer = VhostUserPeer

@Suite("Hostile guests over vhost-user", .timeLimit(.minutes(1)))
struct VhostUserHostileTests {
    // MARK: Rings

    /// What a hostile driver does to a ring.
    struct Attack: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let prepare: @Sendable (VhostUserPeer, Int) -> Void

        init(_ description: String, _ prepare: @escaping @Sendable (VhostUserPeer, Int) -> Void) {
            testDescription = description
            self.prepare = prepare
        }

        /// Descriptors, the first of which is offered.
        init(_ description: String, _ descriptors: (UInt64, Int, UInt16, Int)...) {
            self.init(description) { peer, ring in
                let flag = ring == 0 ? VhostUserPeer.writable : 0
                for (index, (address, length, flags, next)) in descriptors.enumerated() {
                    peer.describe(ring, index, address, length, flags ^ flag, next: next)
                }
                peer.offer(ring, 0)
            }
        }
    }

    private static let place = Peer.frames
    private static let end = Peer.end

    static let attacks: [Attack] = [
        Attack("the index jumps") { peer, ring in
            peer.store(peer.rings[ring].available &+ 257, at: peer.rings[ring].availablePart + 2)
        },
        Attack("the index goes back") { peer, ring in
            peer.store(peer.rings[ring].available &- 1, at: peer.rings[ring].availablePart + 2)
        },
        Attack("a chain begins behind the table") { $0.offer($1, 256) },
        Attack("a chain begins far behind the table") { $0.offer($1, 0xFFFF) },
        Attack("a chain goes on behind the table", (place, 64, Peer.hasNext, 256)),
        Attack("a chain goes round", (place, 64, Peer.hasNext, 0)),
        Attack("a chain of empty buffers goes round", (place, 0, Peer.hasNext, 1), (place, 0, Peer.hasNext, 0)),
        Attack("indirect descriptors", (place, 64, Peer.indirect, 0)),
        Attack("before the memory", (Peer.regions[0].guest - 1, 64, 0, 0)),
        Attack("nowhere", (0, 64, 0, 0)),
        Attack("behind the memory", (end, 64, 0, 0)),
        Attack("over the memory's end", (end - 63, 64, 0, 0)),
        Attack("at the end of all addresses", (.max, 64, 0, 0)),
        Attack("round the end of all addresses", (.max - 32, 64, 0, 0)),
        Attack("the longest buffer", (place, Int(UInt32.max), 0, 0)),
        Attack("the second buffer outside", (place, 64, Peer.hasNext, 1), (end, 64, 0, 0)),
    ]

    static let receiveAttacks: [Attack] = [
        Attack("nothing to write to") { peer, ring in
            peer.describe(ring, 0, place, 2000)
            peer.offer(ring, 0)
        },
        Attack("no room for the header") { peer, ring in
            peer.describe(ring, 0, place, 12, Peer.writable)
            peer.offer(ring, 0)
        },
        Attack("a second buffer without room") { peer, ring in
            peer.describe(ring, 0, place, 100, Peer.writable)
            peer.describe(ring, 1, place, 0, Peer.writable)
            peer.offer(ring, 0)
            peer.offer(ring, 1)
        },
        Attack("a second buffer outside") { peer, ring in
            peer.describe(ring, 0, place, 100, Peer.writable)
            peer.describe(ring, 1, end, 100, Peer.writable)
            peer.offer(ring, 0)
            peer.offer(ring, 1)
        },
        Attack("buffers that go on in circles of short ones") { peer, ring in
            // 256 chains of 256 descriptors each, with a byte each.
            for index in 0..<256 {
                peer.describe(
                    ring, index, place, index == 0 ? 13 : 1, Peer.writable | (index < 255 ? Peer.hasNext : 0),
                    next: index + 1)
            }
            for _ in 0..<256 { peer.offer(ring, 0) }
        },
    ]

    @Test("a ring to fill that is broken gives no frame, and harms nothing else", arguments: attacks + receiveAttacks)
    func hostileReceiveRing(attack: Attack) throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        attack.prepare(peer, 0)
        #expect(!machine.transmit(numberedFrame(1, 60_000)))
        #expect(!machine.transmit(numberedFrame(2, 60)), "it stays broken")
        #expect(!machine.link.canTransmit)
        machine.link.flush()
        try expectBroken(machine, ring: 0)
    }

    @Test("a ring of frames that is broken gives none, and harms nothing else", arguments: attacks)
    func hostileTransmitRing(attack: Attack) throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        attack.prepare(peer, 1)
        peer.kick(1)
        #expect(machine.receive().isEmpty)
        peer.kick(1)
        #expect(machine.receive().isEmpty)
        #expect(machine.link.takeNewGuest())
        #expect(!machine.link.hasMore)
        try expectBroken(machine, ring: 1)
    }

    /// The program is told, the other ring works, and the driver may begin anew.
    private func expectBroken(_ machine: VhostUserMachine, ring: Int) throws {
        let peer = machine.peer
        #expect(machine.link.counters.brokenRings == 1)
        #expect(peer.takeCount(peer.rings[ring].error) == 1)
        #expect(machine.link.hasClient)
        func work(_ ring: Int) {
            if ring == 0 {
                peer.giveBuffers()
                #expect(machine.transmit(numberedFrame(3, 3000)))
                #expect(peer.take().map(\.frame) == [numberedFrame(3, 3000)])
            } else {
                #expect(peer.put(numberedFrame(4, 3000)))
                peer.kick(1)
                #expect(machine.receive().map(\.frame) == [numberedFrame(4, 3000)])
            }
        }
        work(1 - ring)
        _ = try #require(peer.stopRing(ring))
        peer.reset(ring)
        peer.startRing(ring)
        work(ring)
        #expect(machine.link.counters.brokenRings == 1)
    }

    // MARK: Messages

    @Test("bytes that are no message, or a message that does not hold, drop the client and keep no descriptor")
    func hostileMessages() throws {
        func number(_ value: UInt64) -> [UInt8] { Peer.bytes(value) }
        let cases: [(String, [UInt8], Int)] = [
            ("another version", Peer.message(1, flags: 2), 0),
            ("a reply", Peer.message(1, flags: 5), 0),
            ("too long", Peer.bytes(UInt32(1)) + Peer.bytes(UInt32(1)) + Peer.bytes(UInt32(10_000)), 0),
            ("another size", Peer.message(2, [1, 2, 3]), 0),
            ("an unknown request", Peer.message(99), 0),
            ("a feature that was not offered", Peer.message(2, number(4)), 0),
            ("a ring that does not exist", Peer.message(12, number(2)), 1),
            ("a kick without a descriptor", Peer.message(12, number(0x100)), 0),
            ("a kick that lacks its descriptor", Peer.message(12, number(0)), 0),
            ("a kick that is a pipe", Peer.message(12, number(0)), 1),
            ("a call that is a pipe", Peer.message(13, number(0)), 1),
            ("an error that is a pipe", Peer.message(14, number(0)), 1),
            ("descriptors that nobody asked for", Peer.message(1), 1),
            ("as many descriptors as there may be", Peer.message(1), 8),
            ("more descriptors", Peer.message(1), 9),
            ("more descriptors than are read", Peer.message(1), 30),
            ("memory that is a pipe", Peer.message(5, Peer.table), 2),
            ("memory that lacks a descriptor", Peer.message(5, Peer.table), 1),
            ("no end, and descriptors", Array(Peer.message(5, Peer.table)[..<11]), 2),
        ]
        for (what, message, count) in cases {
            let machine = try VhostUserMachine()
            var ends: [CInt] = [-1, -1]
            try #require(pipe(&ends) == 0)
            machine.peer.sendRaw(message, descriptors: [CInt](repeating: ends[1], count: count))
            close(ends[1])
            machine.peer.turn(machine.peer, nil)
            if what.hasPrefix("no end") { shutdown(machine.peer.socket.rawValue, CInt(SHUT_WR)) }
            machine.peer.turn(machine.peer, nil)
            #expect(!machine.link.hasClient, "\(what)")
            #expect(machine.peer.isClosed, "\(what)")
            var state = pollfd(fd: ends[0], events: 0, revents: 0)
            #expect(poll(&state, 1, 0) == 1 && CInt(state.revents) & POLLHUP != 0, "\(what): a descriptor is kept")
            close(ends[0])
        }
    }

    @Test("a message that does not hold is answered if its sender waits for an answer")
    func refusedWithAnAnswer() throws {
        let machine = try VhostUserMachine()
        machine.peer.send(16, Peer.bytes(UInt64(8)))
        #expect(machine.peer.acknowledged(2, Peer.bytes(UInt64(4))) == 1)
        #expect(machine.peer.acknowledged(99, []) == 1)
        #expect(machine.peer.acknowledged(3, []) == 0)
        #expect(machine.link.counters.refusedMessages == 2 && machine.link.hasClient)
    }

    @Test("memory that cannot be mapped drops the client", arguments: ["short", "folder", "device", "overlap"])
    func unmappableMemory(kind: String) throws {
        let machine = try VhostUserMachine()
        machine.peer.send(16, Peer.bytes(UInt64(8)))
        let file: OwnedFileDescriptor
        switch kind {
        case "short": file = try Peer.memory(Peer.fileSize - 1)
        case "folder": file = try .open("/", .readOnly)
        case "device": file = try .open("/dev/zero", .readWrite)
        default: file = try Peer.memory(Peer.fileSize)
        }
        var table = Peer.table
        if kind == "overlap" { table.replaceSubrange(8..<16, with: Peer.bytes(Peer.regions[1].guest + 0x1000)) }
        machine.peer.send(5, table, flags: 9, descriptors: [file.rawValue, file.rawValue])
        #expect(!machine.link.hasClient)
        let counters = machine.link.counters
        #expect(counters.unmappableMemory + counters.badMessages == 1)
    }

    @Test("a file of memory that becomes shorter ends the client, not the process", arguments: [0, 0x4_1000], 0...3)
    func memoryThatShrinks(size: Int, way: Int) throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        peer.giveBuffers()
        for number in 0..<3 { #expect(peer.put(numberedFrame(number, 1000))) }
        if size > 0 { peer.describe(1, 0, Peer.end - 1012, 1012) }
        peer.turn(peer, 1)
        // From here on the peer must not touch its memory either.
        try #require(ftruncate(peer.file.rawValue, size) == 0)
        switch way {
        case 0: _ = machine.receive()
        case 1: _ = machine.transmit(numberedFrame(1, 5000))
        case 2:
            _ = machine.link.canTransmit
            machine.link.flush()
            _ = machine.transmit(numberedFrame(1, 60))
        default:
            _ = machine.receive()
            for number in 0..<100 { _ = machine.transmit(numberedFrame(number, 5000)) }
        }
        machine.link.flush()
        #expect(!machine.link.hasClient)
        #expect(machine.link.counters.lostMemory == 1)
        _ = machine.receive()
        #expect(machine.lost == 1)
    }

    // MARK: Anything

    @Test("whatever a guest and its program do, nothing traps or hangs", arguments: 1...10)
    func randomRings(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var received = 0
        var transmitted = 0
        for _ in 0..<25 {
            let machine = try VhostUserMachine(ringSize: 8)
            let peer = machine.peer
            try peer.begin(features: random.chance(80) ? Peer.allFeatures : Peer.protocolFeatures)
            for _ in 0..<80 where machine.link.hasClient {
                let ring = random.chance(50) ? 0 : 1
                switch Int.random(in: 0..<12, using: &random) {
                case 0...3:
                    let inside = UInt64.random(in: Peer.frames..<Peer.end, using: &random)
                    let address = random.chance(90) ? inside : random.next()
                    let any = UInt16.random(in: 0...7, using: &random)
                    let flags = random.chance(90) ? (ring == 0 ? 2 : 0) | any & 1 : any
                    let length = Int(UInt32.random(in: 0...(random.chance(90) ? 3000 : .max), using: &random))
                    peer.describe(
                        ring, Int.random(in: 0..<8, using: &random), address, length, flags,
                        next: Int.random(in: 0...8, using: &random))
                    peer.offer(ring, Int.random(in: 0...(random.chance(98) ? 7 : 9), using: &random))
                case 4...5:
                    peer.kick(ring)
                    received += machine.receive(turns: 3).count
                case 6...8:
                    let frame = numberedFrame(1, Int.random(in: 14...9000, using: &random))
                    if machine.transmit(frame, pieces: 2) { transmitted += 1 }
                    _ = machine.link.canTransmit
                case 9:
                    // Anywhere in the rings, which mostly breaks them.
                    guard random.chance(20) else { break }
                    let place = peer.rings[ring].offset + Int.random(in: 0..<0x3100, using: &random)
                    peer.store(UInt8.random(in: 0...255, using: &random), at: place)
                case 10:
                    switch Int.random(in: 0..<6, using: &random) {
                    case 0: _ = peer.stopRing(ring)
                    case 1:
                        peer.reset(ring)
                        peer.startRing(ring)
                    case 2: _ = peer.giveMemory()
                    case 3: _ = peer.acknowledged(18, Peer.state(ring, random.chance(70) ? 1 : 0))
                    case 4: _ = peer.acknowledged(9, peer.addresses(ring))
                    default: peer.send(10, Peer.state(ring, Int.random(in: 0...0xFFFF, using: &random)), flags: 9)
                    }
                    while recvAnswer(peer) {}
                default: machine.link.flush()
                }
            }
        }
        #expect(received > 0 && transmitted > 0)
    }

    private func recvAnswer(_ peer: VhostUserPeer) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 20)
        return recv(peer.socket.rawValue, &bytes, 20, CInt(MSG_DONTWAIT)) > 0
    }
}
