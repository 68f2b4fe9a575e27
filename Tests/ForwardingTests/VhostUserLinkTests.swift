// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// The header of a TCP super-frame with its checksum left to the receiver.
private let superHeader: VirtioNetHeader = {
    var header = VirtioNetHeader(checksumStart: 34, checksumOffset: 16)
    header.segment(.tcpv4, size: 1400, headerLength: 54)
    return header
}()

private func bytes(of header: VirtioNetHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: VirtioNetHeader.length)
    var span = bytes.mutableSpan
    header.write(into: &span)
    return bytes
}

@Suite("A link over vhost-user", .timeLimit(.minutes(1)))
struct VhostUserLinkTests {
    // MARK: Setting up

    @Test("as QEMU begins, both rings run, and the data path may leave to the guest what its driver can do")
    func negotiation() throws {
        let machine = try VhostUserMachine()
        #expect(machine.link.capabilities == [.header, .backPressure])
        #expect(!machine.link.canTransmit, "there is no driver yet")
        #expect(!machine.transmit(numberedFrame(1, 60)))
        try machine.peer.begin()
        #expect(machine.link.capabilities == LinkCapabilities.offloads.union(.backPressure))
        machine.peer.giveBuffers()
        #expect(machine.link.canTransmit)
        #expect(machine.link.counters.refusedMessages == 0 && machine.link.counters.badMessages == 0)
        #expect(machine.link.hasClient)
        // Another driver, which knows less.
        for (bit, lost) in [
            (UInt64(1) << 1, LinkCapabilities.offloads.subtracting(.header)), (1 << 7, .tcpSegmentation),
            (1 << 8, .tcpSegmentation), (1 << 54, .udpSegmentation), (1 << 55, .udpSegmentation), (1 << 0, []),
        ] {
            machine.peer.send(2, VhostUserPeer.bytes(VhostUserPeer.allFeatures & ~bit))
            #expect(
                machine.link.capabilities == LinkCapabilities.offloads.union(.backPressure).subtracting(lost),
                "without \(bit)")
        }
    }

    @Test("messages may come in pieces, each with its descriptors")
    func messagesInPieces() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        for cut in 1..<20 {
            let message = VhostUserPeer.message(16, VhostUserPeer.bytes(UInt64(8)))
            peer.sendRaw(Array(message[..<cut]))
            peer.turn(peer, nil)
            peer.sendRaw(Array(message[cut...]))
            peer.turn(peer, nil)
        }
        // Several at once, the second with a descriptor.
        peer.sendRaw(VhostUserPeer.message(1))
        peer.sendRaw(VhostUserPeer.message(13, VhostUserPeer.bytes(UInt64(0))), descriptors: [peer.rings[0].call])
        peer.sendRaw(VhostUserPeer.message(1))
        peer.turn(peer, nil)
        #expect(peer.answer(to: 1) == VhostUserPeer.allFeatures)
        #expect(peer.answer(to: 1) == VhostUserPeer.allFeatures)
        #expect(machine.link.hasClient)
    }

    // MARK: From the guest

    @Test("frames of any length in any number of pieces arrive whole, with their header", arguments: [1, 2, 7, 19])
    func framesFromTheGuest(pieces: Int) throws {
        let machine = try VhostUserMachine()
        try machine.peer.begin()
        for (number, count) in [14, 60, 1514, 9014, 65_549, FrameArena.frameLimit - 12].enumerated() {
            for header in [VirtioNetHeader(), superHeader] {
                #expect(machine.peer.put(numberedFrame(number, count), header: header, pieces: pieces))
                machine.peer.kick(1)
                let received = machine.receive()
                #expect(received.map(\.frame) == [numberedFrame(number, count)])
                #expect(received.map(\.header) == [header])
                #expect(machine.peer.reclaim(1) == 1)
            }
        }
        #expect(machine.truncated == 0 && machine.link.counters.badFrames == 0)
    }

    @Test("a buffer may go over the border of two regions")
    func bufferOverTheBorder() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        let frame = numberedFrame(3, 1000)
        let place = VhostUserPeer.buffers - 500
        peer.write([UInt8](repeating: 0, count: 12) + frame, at: place)
        peer.describe(1, 0, place, 1012)
        peer.offer(1, 0)
        peer.kick(1)
        #expect(machine.receive().map(\.frame) == [frame])
    }

    @Test("the guest kicks only when the link has seen its ring empty, and no frame is left for want of a kick")
    func kicksFromTheGuest() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        #expect(machine.receive().isEmpty)
        var kicks = 0
        var received = 0
        var sent = 0
        for round in 0..<50 {
            for _ in 0...(round % 5) {
                #expect(peer.put(numberedFrame(sent, 100)))
                sent += 1
                if peer.kick(1) { kicks += 1 }
            }
            // The link takes a frame, and then finds that there are more.
            received += machine.receive(batch: 1 + round % 3).count
            _ = peer.reclaim(1)
        }
        #expect(received == sent)
        // One call of `kick` makes the link ready, but it takes nothing until asked: only the first of each round.
        #expect(kicks >= 50 && kicks <= sent)
        #expect(peer.put(numberedFrame(0, 100)) && peer.put(numberedFrame(1, 100)))
        peer.kick(1)
        #expect(machine.receive(batch: 1, turns: 1).count == 1)
        #expect(!peer.isToKick(1), "it has not seen the ring empty")
        #expect(machine.receive().count == 1)
        #expect(peer.isToKick(1))
    }

    @Test("a frame that is too long, or has no whole header, is dropped and counted")
    func badFrames() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        for (count, isFrame) in [
            (11, false), (12, true), (FrameArena.frameLimit, true), (FrameArena.frameLimit + 1, false),
        ] {
            peer.describe(1, 0, VhostUserPeer.frames, count)
            peer.offer(1, 0)
            peer.kick(1)
            #expect(machine.receive().count == (isFrame ? 1 : 0), "\(count) bytes")
        }
        // A chain to write into, where one to read is due.
        peer.describe(1, 0, VhostUserPeer.frames, 100, VhostUserPeer.writable)
        peer.offer(1, 0)
        peer.kick(1)
        #expect(machine.receive().isEmpty)
        #expect(machine.truncated == 3 && machine.link.counters.badFrames == 3)
        #expect(peer.reclaim(1) == 5, "they are used all the same")
    }

    // MARK: To the guest

    @Test("frames come in as many buffers as they need", arguments: [64, 1600, 4096, 70_000], [1, 2, 5, 100])
    func framesToTheGuest(bufferSize: Int, pieces: Int) throws {
        // As many buffers as the memory has place for.
        let machine = try VhostUserMachine(ringSize: bufferSize > 4096 ? 16 : 256, bufferSize: bufferSize)
        let peer = machine.peer
        try peer.begin()
        var number = 0
        for count in [14, 52, 53, 1514, 9014, bufferSize == 64 ? 15_000 : 65_549] {
            for header in [VirtioNetHeader(), superHeader] {
                number += 1
                peer.giveBuffers()
                let frame = numberedFrame(number, count)
                #expect(machine.transmit(frame, header: header, pieces: pieces))
                machine.link.flush()
                let received = peer.take()
                let buffers = (count + 12 + bufferSize - 1) / bufferSize
                let expected = VhostUserPeer.Received(
                    header: bytes(of: header) + VhostUserPeer.bytes(UInt16(buffers)), frame: frame, buffers: buffers)
                #expect(received == [expected])
                #expect(peer.takeCount(peer.rings[0].call) > 0)
            }
        }
        #expect(machine.link.counters.withoutBuffers == 0)
    }

    @Test("a guest that gives no buffers gets the frames that were taken later, in order; the others are counted")
    func noBuffers() throws {
        let machine = try VhostUserMachine(queue: 200_000)
        let peer = machine.peer
        try peer.begin()
        peer.giveBuffers(3)
        var taken: [[UInt8]] = []
        var refused = 0
        for number in 0..<200 {
            let frame = numberedFrame(number, number % 3 == 0 ? 9014 : 500)
            if machine.transmit(frame, pieces: 1 + number % 2) { taken.append(frame) } else { refused += 1 }
        }
        #expect(refused > 0 && taken.count > 20)
        #expect(machine.link.counters.queueFull == UInt64(refused))
        #expect(!machine.link.canTransmit)
        #expect(peer.isToKick(0))
        var received: [[UInt8]] = []
        for _ in 0..<500 where received.count < taken.count {
            received += peer.take().map(\.frame)
            peer.giveBuffers(2)
            #expect(peer.kick(0), "it waits for buffers")
        }
        #expect(received == taken)
        peer.giveBuffers()
        #expect(machine.link.canTransmit)
        #expect(!peer.isToKick(0), "there are enough")
        _ = peer.take()
    }

    @Test("without mergeable buffers a frame has one, or is dropped", arguments: [true, false])
    func oneBuffer(isModern: Bool) throws {
        let machine = try VhostUserMachine(bufferSize: 2000)
        let peer = machine.peer
        let modern = isModern ? VhostUserPeer.version1 : 0
        try peer.begin(features: VhostUserPeer.protocolFeatures | modern)
        peer.giveBuffers()
        let length = isModern ? 12 : 10
        #expect(machine.transmit(numberedFrame(1, 2000 - length), pieces: 3))
        #expect(!machine.transmit(numberedFrame(2, 2001 - length)))
        #expect(machine.transmit(numberedFrame(3, 100)))
        let received = peer.take()
        #expect(received.map(\.frame) == [numberedFrame(1, 2000 - length), numberedFrame(3, 100)])
        #expect(received.allSatisfy { $0.header == [UInt8](repeating: 0, count: 10) + (isModern ? [1, 0] : []) })
        #expect(machine.link.counters.tooLong == 1)
        #expect(machine.link.canTransmit)
        // And frames of the guest have as long a header.
        #expect(peer.put(numberedFrame(4, 300)))
        peer.kick(1)
        #expect(machine.receive().map(\.frame) == [numberedFrame(4, 300)])
    }

    @Test("the guest is called once a turn, and not if it does not want to be")
    func calls() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        peer.giveBuffers()
        machine.link.flush()
        _ = peer.takeCount(peer.rings[0].call)
        for number in 0..<10 { #expect(machine.transmit(numberedFrame(number, 60))) }
        #expect(peer.takeCount(peer.rings[0].call) == 0)
        machine.link.flush()
        #expect(peer.takeCount(peer.rings[0].call) == 1)
        machine.link.flush()
        #expect(peer.takeCount(peer.rings[0].call) == 0)
        peer.store(UInt16(1), at: peer.rings[0].availablePart)
        #expect(machine.transmit(numberedFrame(11, 60)))
        machine.link.flush()
        #expect(peer.takeCount(peer.rings[0].call) == 0)
        #expect(peer.take().count == 11)
    }

    // MARK: Changes while frames are under way

    @Test("rings that are stopped and started go on where they were, with nothing lost or twice", arguments: 1...5)
    func stoppedInTheMiddle(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let machine = try VhostUserMachine(ringSize: 16)
        let peer = machine.peer
        try peer.begin()
        var sent: [[UInt8]] = []
        var received: [[UInt8]] = []
        var transmitted: [[UInt8]] = []
        var taken: [[UInt8]] = []
        for number in 0..<400 {
            taken += peer.take().map(\.frame)
            peer.giveBuffers()
            let frame = numberedFrame(number, Int.random(in: 14...6000, using: &random))
            if machine.link.canTransmit, machine.transmit(frame) { transmitted.append(frame) }
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let frame = numberedFrame(sent.count, 200)
                if peer.put(frame) { sent.append(frame) }
            }
            peer.kick(1)
            if random.chance(50) { received += machine.receive(batch: 2, turns: 1).map(\.frame) }
            guard random.chance(20) else {
                _ = peer.reclaim(1)
                continue
            }
            let ring = random.chance(50) ? 0 : 1
            let base = try #require(peer.stopRing(ring))
            if ring == 0 { taken += peer.take().map(\.frame) } else { _ = peer.reclaim(1) }
            #expect(base == UInt64(peer.rings[ring].used), "all that was taken is used")
            #expect(ring == 1 || !machine.link.canTransmit)
            if random.chance(30) {
                #expect(peer.giveMemory() == 0)
            }
            peer.startRing(ring)
        }
        peer.kick(1)
        received += machine.receive().map(\.frame)
        taken += peer.take().map(\.frame)
        #expect(received == sent && sent.count > 300)
        #expect(taken == transmitted && transmitted.count > 300)
        #expect(machine.link.counters.brokenRings == 0)
    }

    @Test("a table of memory may replace the last one while rings run")
    func memoryTableChanges() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        for number in 0..<50 {
            peer.giveBuffers()
            #expect(machine.transmit(numberedFrame(number, 2000)))
            #expect(peer.put(numberedFrame(number, 300)))
            #expect(peer.giveMemory() == 0)
            #expect(peer.take().map(\.frame) == [numberedFrame(number, 2000)])
            #expect(machine.receive().map(\.frame) == [numberedFrame(number, 300)], "without a kick")
            _ = peer.reclaim(1)
        }
        // One without the rings stops them; one with them lets them go on.
        let small =
            VhostUserPeer.bytes(UInt32(1)) + VhostUserPeer.bytes(UInt32(0))
            + [0x14_0000, 0x1000, 0x7F80_0000_0000, 0x4_1000].flatMap { VhostUserPeer.bytes(UInt64($0)) }
        #expect(peer.acknowledged(5, small, descriptors: [peer.file.rawValue]) == 0)
        #expect(!machine.link.canTransmit)
        #expect(peer.giveMemory() == 0)
        #expect(machine.link.canTransmit)
        peer.giveBuffers()
        #expect(machine.transmit(numberedFrame(60, 2000)))
        #expect(peer.take().map(\.frame) == [numberedFrame(60, 2000)])
    }

    @Test("a ring that is switched off gives and takes nothing until it is on again")
    func switchedOff() throws {
        let machine = try VhostUserMachine()
        let peer = machine.peer
        try peer.begin()
        peer.giveBuffers()
        for ring in 0..<2 { #expect(peer.acknowledged(18, VhostUserPeer.state(ring, 0)) == 0) }
        #expect(peer.put(numberedFrame(1, 60)))
        peer.kick(1)
        #expect(machine.receive().isEmpty)
        #expect(!machine.transmit(numberedFrame(2, 60)))
        for ring in 0..<2 { #expect(peer.acknowledged(18, VhostUserPeer.state(ring, 1)) == 0) }
        #expect(machine.receive().map(\.frame) == [numberedFrame(1, 60)])
        #expect(machine.transmit(numberedFrame(3, 60)))
        #expect(peer.take().map(\.frame) == [numberedFrame(3, 60)])
    }
}
