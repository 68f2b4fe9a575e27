// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import VirtualMachine

private let hasNext: UInt16 = 1
private let writable: UInt16 = 2
private let indirect: UInt16 = 4

/// A guest's memory with one ring, and what the driver writes into it.
private final class Guest {
    /// Two regions; for the guest the second follows the first at once, for its program it does not.
    static let regions = [
        VhostUserRegion(guestAddress: 0x1000, size: 0x4000, userAddress: 0x10_0000, mappingOffset: 0),
        VhostUserRegion(guestAddress: 0x5000, size: 0x1000, userAddress: 0x20_0000, mappingOffset: 0x4000),
    ]
    static let addresses = VhostUserRingAddresses(descriptors: 0x10_0000, used: 0x10_0800, available: 0x10_0400)

    let storage = UnsafeMutableRawPointer.allocate(byteCount: 0x5000, alignment: 4096)
    let memory: GuestMemory
    var queue: Virtqueue
    var chain = VirtqueueChain()

    init(size: UInt32 = 8, base: UInt16 = 0) throws {
        storage.initializeMemory(as: UInt8.self, repeating: 0, count: 0x5000)
        var memory = GuestMemory()
        let hasFirst = memory.add(Self.regions[0], at: storage)
        let hasSecond = memory.add(Self.regions[1], at: storage + 0x4000)
        #expect(hasFirst && hasSecond)
        queue = try Virtqueue(size: size, addresses: Self.addresses, base: base, memory: memory)
        self.memory = memory
        set(available: base)
    }

    deinit { storage.deallocate() }

    func describe(_ index: Int, _ address: UInt64, _ length: UInt32, _ flags: UInt16 = 0, next: UInt16 = 0) {
        storage.storeBytes(of: address, toByteOffset: 16 * index, as: UInt64.self)
        storage.storeBytes(of: length, toByteOffset: 16 * index + 8, as: UInt32.self)
        storage.storeBytes(of: flags, toByteOffset: 16 * index + 12, as: UInt16.self)
        storage.storeBytes(of: next, toByteOffset: 16 * index + 14, as: UInt16.self)
    }

    func set(available index: UInt16) { storage.storeBytes(of: index, toByteOffset: 0x402, as: UInt16.self) }

    /// Makes a chain available.
    func offer(_ head: UInt16) {
        let index = storage.load(fromByteOffset: 0x402, as: UInt16.self)
        storage.storeBytes(of: head, toByteOffset: 0x404 + 2 * (Int(index) & (queue.size - 1)), as: UInt16.self)
        set(available: index &+ 1)
    }

    func next() throws(VirtqueueFault) -> Bool { try queue.next(into: &chain, memory: memory) }

    func read() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: chain.readableBytes)
        let count = bytes.withUnsafeMutableBytes { chain.read(into: $0) }
        #expect(count == bytes.count)
        return bytes
    }

    func byte(_ offset: Int) -> UInt8 { storage.load(fromByteOffset: offset, as: UInt8.self) }

    /// What the guest sees as used, the entry so many before the end: its head and how much was written.
    func used(_ back: UInt16 = 1) -> [UInt32] {
        let index = storage.load(fromByteOffset: 0x802, as: UInt16.self) &- back
        let entry = 0x804 + 8 * (Int(index) & (queue.size - 1))
        return [entry, entry + 4].map { storage.load(fromByteOffset: $0, as: UInt32.self) }
    }
}

@Suite("Virtqueues in a guest's memory") struct VirtqueueTests {
    @Test("chains are read piece by piece, over the border of regions too, and used in order, round the ring")
    func chainsAreRead() throws {
        let guest = try Guest(base: 0xFFFD)
        for offset in 0x1000..<0x4000 {
            guest.storage.storeBytes(of: UInt8(offset & 0xFF), toByteOffset: offset, as: UInt8.self)
        }
        for round in 0..<20 {
            #expect(try !guest.next())
            // The second has 16 bytes in the one region and 16 in the other.
            guest.describe(3, 0x2000 + UInt64(round), 10, hasNext, next: 7)
            guest.describe(7, 0x4FF0, 32)
            guest.offer(3)
            #expect(try guest.next())
            let first = (0..<10).map { UInt8($0 + round) }
            let second = (0..<16).map { UInt8(0xF0 + $0) } + [UInt8](repeating: 0, count: 16)
            #expect(guest.read() == first + second)
            guest.queue.use(guest.chain.head, written: 0)
            guest.queue.publish()
            #expect(guest.used() == [3, 0])
        }
        #expect(guest.queue.nextAvailable == 0xFFFD &+ 20)
    }

    @Test("writing fills the guest's buffers in order, from an offset, and no more than there is")
    func chainsAreWritten() throws {
        let guest = try Guest()
        guest.describe(0, 0x3000, 3, hasNext | writable, next: 1)
        guest.describe(1, 0x3100, 0, hasNext | writable, next: 2)
        guest.describe(2, 0x3200, 5, writable)
        guest.offer(0)
        #expect(try guest.next())
        #expect(guest.chain.writableBytes == 8 && guest.chain.readableBytes == 0)
        let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
        #expect(bytes.withUnsafeBytes { guest.chain.write($0) } == 8)
        #expect([UInt8](11...12).withUnsafeBytes { guest.chain.write($0, at: 2) } == 2)
        let offsets = [0x2000, 0x2001, 0x2002, 0x2003, 0x2200, 0x2201, 0x2204, 0x2205]
        #expect(offsets.map(guest.byte) == [1, 2, 11, 0, 12, 5, 8, 0])
    }

    @Test("used entries are not seen before they are published")
    func usedIsPublished() throws {
        let guest = try Guest()
        guest.queue.use(5, written: 9)
        guest.queue.use(6, written: 10)
        #expect(guest.byte(0x802) == 0)
        guest.queue.publish()
        #expect(guest.byte(0x802) == 2)
        #expect(guest.used(2) == [5, 9])
        #expect(guest.used() == [6, 10])
        #expect(guest.queue.wantsCall)
        guest.storage.storeBytes(of: 1, toByteOffset: 0x400, as: UInt16.self)
        #expect(!guest.queue.wantsCall)
    }

    @Test("hostile chains break the queue with their reason, for good")
    func hostileChains() throws {
        func offering(_ descriptors: (UInt64, UInt32, UInt16, UInt16)...) -> (Guest) -> Void {
            { guest in
                for (index, (address, length, flags, next)) in descriptors.enumerated() {
                    guest.describe(index, address, length, flags, next: next)
                }
                guest.offer(0)
            }
        }
        let cases: [(VirtqueueFault, (Guest) -> Void)] = [
            (.availableIndex, { $0.set(available: 9) }),
            (.availableIndex, { $0.set(available: 0xFFFF) }),
            (.descriptorIndex, { $0.offer(8) }),
            (.descriptorIndex, { $0.offer(0xFFFF) }),
            (.descriptorIndex, offering((0x2000, 4, hasNext, 8))),
            // Round in a circle, with and without bytes.
            (.chainTooLong, offering((0x2000, 4, hasNext, 0))),
            (.chainTooLong, offering((0x2000, 0, hasNext, 1), (0x2000, 0, hasNext, 0))),
            (.indirect, offering((0x2000, 16, indirect, 0))),
            (.order, offering((0x2000, 4, hasNext | writable, 1), (0x2000, 4, 0, 0))),
            (.bufferOutsideMemory, offering((0, 1, 0, 0))),
            (.bufferOutsideMemory, offering((0xFFF, 2, 0, 0))),
            (.bufferOutsideMemory, offering((0x5FFF, 2, writable, 0))),
            (.bufferOutsideMemory, offering((0x6000, 1, 0, 0))),
            (.bufferOutsideMemory, offering((.max, 1, 0, 0))),
            (.bufferOutsideMemory, offering((.max, .max, writable, 0))),
            (.bufferOutsideMemory, offering((0x1000, .max, 0, 0))),
            (.bufferOutsideMemory, offering((1 << 63, 1, 0, 0))),
            (.bufferOutsideMemory, offering((0x2000, 1, hasNext, 1), (0xFFF, 1, 0, 0))),
        ]
        for (fault, prepare) in cases {
            let guest = try Guest()
            prepare(guest)
            #expect(throws: fault) { try guest.next() }
            #expect(guest.queue.fault == fault)
            guest.set(available: 0)
            #expect(throws: fault) { try guest.next() }
        }
    }

    @Test("a chain may have as many descriptors as the ring, and no more pieces than there is room for")
    func longestChains() throws {
        let guest = try Guest()
        for index in 0..<8 {
            guest.describe(index, 0x2000, 4, index < 7 ? hasNext : 0, next: UInt16(index + 1))
        }
        guest.offer(0)
        #expect(try guest.next())
        #expect(guest.chain.readableBytes == 32)
        var chain = VirtqueueChain()
        let byte = UnsafeMutableRawBufferPointer(start: guest.storage, count: 1)
        var pieces = 0
        while chain.append(byte, isWritable: false) { pieces += 1 }
        #expect(pieces == VirtqueueChain.mostPieces)
    }

    @Test("a ring must lie in the memory, at multiples of what it has to")
    func hostileRings() throws {
        let guest = try Guest()
        let bad: [(descriptors: UInt64, used: UInt64, available: UInt64)] = [
            (0, 0x10_0800, 0x10_0400), (.max, 0x10_0800, 0x10_0400), (0x10_3F90, 0x10_0800, 0x10_0400),
            (0x10_0008, 0x10_0800, 0x10_0400), (0x10_0000, 0x10_0802, 0x10_0400), (0x10_0000, 0x10_3FC0, 0x10_0400),
            (0x10_0000, 0x10_0800, 0x10_0401), (0x10_0000, 0x10_0800, 0x20_0FF0),
        ]
        for (descriptors, used, available) in bad {
            let addresses = VhostUserRingAddresses(descriptors: descriptors, used: used, available: available)
            #expect(throws: VirtqueueFault.ringOutsideMemory, "\(addresses)") {
                _ = try Virtqueue(size: 8, addresses: addresses, base: 0, memory: guest.memory)
            }
        }
    }

    @Test("random rings never lead out of the memory", arguments: 1...20)
    func randomRings(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var chains = 0
        let bytes = [UInt8](repeating: 0xAA, count: 0x3000)
        for _ in 0..<200 {
            let guest = try Guest()
            for index in 0..<8 {
                let address = random.chance(90) ? UInt64.random(in: 0x1000...0x5F00, using: &random) : random.next()
                let flags = UInt16.random(in: 0...(random.chance(90) ? 3 : 7), using: &random)
                let next = UInt16.random(in: 0...8, using: &random)
                guest.describe(index, address, UInt32.random(in: 0...0x400, using: &random), flags, next: next)
            }
            for _ in 0..<Int.random(in: 1...8, using: &random) { guest.offer(UInt16.random(in: 0...8, using: &random)) }
            while (try? guest.next()) == true {
                chains += 1
                _ = guest.read()
                let count = bytes.withUnsafeBytes { guest.chain.write($0) }
                #expect(count == min(bytes.count, guest.chain.writableBytes))
                guest.queue.use(guest.chain.head, written: UInt32(count))
                guest.queue.publish()
            }
        }
        #expect(chains > 20)
    }
}
