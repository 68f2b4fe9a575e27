// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A virtual machine in memory: its program, which speaks vhost-user over a socket, and its guest's driver, which uses
// the two rings. Its memory is a file of two regions with a gap between them for the program and none for the guest. The
// first has the rings; the second, and the end of the first, have buffers. The test says when the link takes its turn.

import CLinux
import Glibc
import LinuxSystem
import Testing
import Wire

/// The other end of a vhost-user link.
final class VhostUserPeer {
    /// A ring as the driver sees it.
    struct Ring {
        /// Where it lies in the file.
        let offset: Int
        let size: Int
        /// The next entry of the available part.
        var available: UInt16 = 0
        /// The next entry of the used part that the driver looks at.
        var used: UInt16 = 0
        var kick: CInt = -1
        var call: CInt = -1
        var error: CInt = -1

        var descriptors: Int { offset }
        var availablePart: Int { offset + 0x2000 }
        var usedPart: Int { offset + 0x3000 }
    }

    static let hasNext: UInt16 = 1
    static let writable: UInt16 = 2
    static let indirect: UInt16 = 4

    /// All that the link offers.
    static let allFeatures: UInt64 = 0x01C0_0001_4000_B983
    static let mergeable: UInt64 = 1 << 15
    static let protocolFeatures: UInt64 = 1 << 30
    static let version1: UInt64 = 1 << 32

    /// The regions: where they lie for the guest, their size, where for the program, where in the file.
    static let regions: [(guest: UInt64, size: Int, user: UInt64, offset: Int)] = [
        (0x10_0000, 0x4_0000, 0x7F00_0000_0000, 0x1000), (0x14_0000, 0x40_0000, 0x7F80_0000_0000, 0x4_1000),
    ]
    static let fileSize = 0x44_1000
    /// Where the driver's buffers begin for the guest; frames to send lie behind those to fill.
    static let buffers: UInt64 = 0x14_0000
    static let frames: UInt64 = 0x34_0000
    /// Where the memory ends.
    static let end: UInt64 = 0x54_0000

    let socket: OwnedFileDescriptor
    let file: OwnedFileDescriptor
    private let start: UnsafeMutableRawPointer
    var rings: [Ring]
    /// The length of each buffer to fill.
    let bufferSize: Int
    /// Whether there are twelve bytes before each frame, or ten.
    private(set) var headerLength = 12
    private var nextFrame = VhostUserPeer.frames
    /// Has the link look at its socket, or at a ring that was kicked.
    var turn: (VhostUserPeer, Int?) -> Void = { _, _ in }

    init(_ socket: consuming OwnedFileDescriptor, ringSize: Int = 256, bufferSize: Int = 1600) throws {
        self.socket = consume socket
        file = try Self.memory(Self.fileSize)
        let mapped = mmap(nil, Self.fileSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, 0)
        start = try #require(mapped != MAP_FAILED ? mapped : nil)
        self.bufferSize = bufferSize
        rings = [Ring(offset: 0x1000, size: ringSize), Ring(offset: 0x9000, size: ringSize)]
        for index in rings.indices {
            rings[index].kick = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
            rings[index].call = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
            rings[index].error = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        }
    }

    deinit {
        munmap(start, Self.fileSize)
        for ring in rings {
            for number in [ring.kick, ring.call, ring.error] where number >= 0 { close(number) }
        }
    }

    /// A file in memory.
    static func memory(_ size: Int) throws -> OwnedFileDescriptor {
        typealias Function = @convention(c) (UnsafePointer<CChar>, CUnsignedInt) -> CInt
        let symbol = try #require(dlsym(nil, "memfd_create"))
        let number = unsafeBitCast(symbol, to: Function.self)("guest", 1)
        try #require(number >= 0)
        try #require(ftruncate(number, size) == 0)
        return OwnedFileDescriptor(taking: number)
    }

    // MARK: Messages

    static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    static func message(_ request: UInt32, _ payload: [UInt8] = [], flags: UInt32 = 1) -> [UInt8] {
        bytes(request) + bytes(flags) + bytes(UInt32(payload.count)) + payload
    }

    /// Sends bytes with descriptors; false if the link has closed its end.
    @discardableResult
    func sendRaw(_ bytes: [UInt8], descriptors: [CInt] = []) -> Bool {
        tapas_send_descriptors(socket.rawValue, bytes, bytes.count, descriptors, CInt(descriptors.count)) == bytes.count
    }

    /// Sends a message, and has the link answer it.
    func send(_ request: UInt32, _ payload: [UInt8] = [], flags: UInt32 = 1, descriptors: [CInt] = []) {
        sendRaw(Self.message(request, payload, flags: flags), descriptors: descriptors)
        turn(self, nil)
    }

    /// The number in the next answer; nil if there is none.
    func answer(to request: UInt32) -> UInt64? {
        var bytes = [UInt8](repeating: 0, count: 20)
        guard recv(socket.rawValue, &bytes, 20, CInt(MSG_DONTWAIT)) == 20 else { return nil }
        #expect(Array(bytes[..<12]) == Self.bytes(request) + Self.bytes(UInt32(5)) + Self.bytes(UInt32(8)))
        return bytes[12...].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    func ask(_ request: UInt32, _ payload: [UInt8] = [], descriptors: [CInt] = []) -> UInt64? {
        send(request, payload, descriptors: descriptors)
        return answer(to: request)
    }

    /// Sends a message that asks for an acknowledgement: 0 if it holds.
    func acknowledged(_ request: UInt32, _ payload: [UInt8], descriptors: [CInt] = []) -> UInt64? {
        send(request, payload, flags: 9, descriptors: descriptors)
        return answer(to: request)
    }

    /// Whether the link has closed its end.
    var isClosed: Bool {
        var state = pollfd(fd: socket.rawValue, events: 0, revents: 0)
        return poll(&state, 1, 0) == 1 && CInt(state.revents) & POLLHUP != 0
    }

    static func state(_ ring: Int, _ number: Int) -> [UInt8] { bytes(UInt32(ring)) + bytes(UInt32(number)) }

    static var table: [UInt8] {
        bytes(UInt32(regions.count)) + bytes(UInt32(0))
            + regions.flatMap {
                bytes($0.guest) + bytes(UInt64($0.size)) + bytes($0.user) + bytes(UInt64($0.offset))
            }
    }

    func addresses(_ ring: Int) -> [UInt8] {
        func user(_ offset: Int) -> [UInt8] {
            Self.bytes(Self.regions[0].user + UInt64(offset - Self.regions[0].offset))
        }
        let ring = (number: ring, ring: rings[ring])
        return Self.bytes(UInt32(ring.number)) + Self.bytes(UInt32(0)) + user(ring.ring.descriptors)
            + user(ring.ring.usedPart) + user(ring.ring.availablePart) + Self.bytes(UInt64(0))
    }

    // MARK: As QEMU begins

    /// Negotiates, gives the memory, and starts both rings.
    func begin(features: UInt64 = allFeatures) throws {
        #expect(ask(1) == Self.allFeatures)
        #expect(ask(15) == 8)
        send(16, Self.bytes(UInt64(8)))
        send(3)
        for ring in 0..<2 { send(13, Self.bytes(UInt64(ring)), descriptors: [rings[ring].call]) }
        try startRings(features: features)
    }

    /// What follows each time a driver is loaded.
    func startRings(features: UInt64 = allFeatures) throws {
        send(2, Self.bytes(features))
        headerLength = features & (Self.mergeable | Self.version1) != 0 ? 12 : 10
        #expect(giveMemory() == 0)
        for ring in 0..<2 { startRing(ring) }
        for ring in 0..<2 { #expect(acknowledged(18, Self.state(ring, 1)) == 0) }
    }

    /// Gives the table of memory; 0 if the link has it.
    func giveMemory() -> UInt64? {
        acknowledged(5, Self.table, descriptors: [file.rawValue, file.rawValue])
    }

    /// Starts a ring where the driver goes on.
    func startRing(_ ring: Int) {
        send(8, Self.state(ring, rings[ring].size))
        send(10, Self.state(ring, Int(rings[ring].used)))
        send(9, addresses(ring))
        send(12, Self.bytes(UInt64(ring)), descriptors: [rings[ring].kick])
        send(13, Self.bytes(UInt64(ring)), descriptors: [rings[ring].call])
        send(14, Self.bytes(UInt64(ring)), descriptors: [rings[ring].error])
    }

    /// Empties a ring, as a driver does that is loaded anew.
    func reset(_ ring: Int) {
        rings[ring].available = 0
        rings[ring].used = 0
        for offset in [rings[ring].availablePart, rings[ring].usedPart] { store(UInt32(0), at: offset) }
    }

    /// Stops a ring; its next available entry.
    func stopRing(_ ring: Int) -> UInt64? { ask(11, Self.state(ring, 0)).map { $0 >> 32 } }

    // MARK: Memory

    func load<Number: FixedWidthInteger>(_ offset: Int, as type: Number.Type) -> Number {
        start.loadUnaligned(fromByteOffset: offset, as: type)
    }

    func store<Number: FixedWidthInteger>(_ number: Number, at offset: Int) {
        start.storeBytes(of: number, toByteOffset: offset, as: Number.self)
    }

    /// Where an address of the guest lies in the file: the regions follow each other there, too.
    static func offset(_ guest: UInt64) -> Int { Int(guest - regions[0].guest) + regions[0].offset }

    func write(_ bytes: [UInt8], at guest: UInt64) {
        UnsafeMutableRawBufferPointer(start: start + Self.offset(guest), count: bytes.count).copyBytes(from: bytes)
    }

    func read(_ count: Int, at guest: UInt64) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: start + Self.offset(guest), count: count))
    }

    // MARK: The driver

    func describe(_ ring: Int, _ index: Int, _ address: UInt64, _ length: Int, _ flags: UInt16 = 0, next: Int = 0) {
        let place = rings[ring].descriptors + 16 * index
        store(address, at: place)
        store(UInt32(truncatingIfNeeded: length), at: place + 8)
        store(flags, at: place + 12)
        store(UInt16(truncatingIfNeeded: next), at: place + 14)
    }

    /// Makes a chain available.
    func offer(_ ring: Int, _ head: Int) {
        let entry = rings[ring].availablePart + 4 + 2 * (Int(rings[ring].available) & (rings[ring].size - 1))
        store(UInt16(truncatingIfNeeded: head), at: entry)
        rings[ring].available &+= 1
        store(rings[ring].available, at: rings[ring].availablePart + 2)
    }

    /// Whether the link wants kicks of a ring.
    func isToKick(_ ring: Int) -> Bool { load(rings[ring].usedPart, as: UInt16.self) & 1 == 0 }

    /// Kicks if the link wants that; whether it did.
    @discardableResult
    func kick(_ ring: Int) -> Bool {
        guard isToKick(ring) else { return false }
        var one: UInt64 = 1
        #expect(Glibc.write(rings[ring].kick, &one, 8) == 8)
        turn(self, ring)
        return true
    }

    /// How often a descriptor was written to since the last look.
    func takeCount(_ number: CInt) -> UInt64 {
        var count: UInt64 = 0
        return Glibc.read(number, &count, 8) == 8 ? count : 0
    }

    /// Gives buffers until the ring is full or there are so many.
    func giveBuffers(_ most: Int = .max) {
        var given = 0
        while given < most, Int(rings[0].available &- rings[0].used) < rings[0].size {
            let index = Int(rings[0].available) & (rings[0].size - 1)
            describe(0, index, Self.buffers + UInt64(index * bufferSize), bufferSize, Self.writable)
            offer(0, index)
            given += 1
        }
    }

    /// A frame that has come, with its header.
    struct Received: Hashable {
        var header: [UInt8]
        var frame: [UInt8]
        var buffers: Int
    }

    /// Takes the frames that have come; their buffers are free again.
    func take() -> [Received] {
        var frames: [Received] = []
        func nextBuffer() -> [UInt8]? {
            guard load(rings[0].usedPart + 2, as: UInt16.self) != rings[0].used else { return nil }
            let entry = rings[0].usedPart + 4 + 8 * (Int(rings[0].used) & (rings[0].size - 1))
            let head = Int(load(entry, as: UInt32.self))
            let count = Int(load(entry + 4, as: UInt32.self))
            #expect(head == Int(rings[0].used) & (rings[0].size - 1), "buffers are used in order")
            #expect(count <= bufferSize)
            rings[0].used &+= 1
            return read(count, at: Self.buffers + UInt64(head * bufferSize))
        }
        while let first = nextBuffer() {
            var received = Received(
                header: Array(first[..<headerLength]), frame: Array(first[headerLength...]), buffers: 1)
            if headerLength == 12 { received.buffers = Int(first[10]) | Int(first[11]) << 8 }
            for _ in 1..<max(received.buffers, 1) {
                guard let more = nextBuffer() else {
                    Issue.record("a frame says \(received.buffers) buffers, which have not come")
                    break
                }
                received.frame += more
            }
            frames.append(received)
        }
        return frames
    }

    /// How many chains the link has used of a ring since the last look.
    func reclaim(_ ring: Int) -> Int {
        let used = load(rings[ring].usedPart + 2, as: UInt16.self)
        defer { rings[ring].used = used }
        return Int(used &- rings[ring].used)
    }

    /// Puts a frame into the ring, in so many pieces; false if there is no room.
    func put(_ frame: [UInt8], header: VirtioNetHeader = VirtioNetHeader(), pieces: Int = 1) -> Bool {
        let ring = rings[1]
        var bytes = [UInt8](repeating: 0, count: headerLength)
        var span = bytes.mutableSpan
        header.write(into: &span)
        bytes += frame
        let pieces = min(pieces, bytes.count)
        // Each frame has its own descriptors: as many places as a ring has, in turn.
        guard Int(ring.available &- ring.used) < ring.size, pieces * (Int(ring.available &- ring.used) + 1) <= ring.size
        else { return false }
        if nextFrame + UInt64(bytes.count) > Self.buffers + UInt64(Self.regions[1].size) { nextFrame = Self.frames }
        write(bytes, at: nextFrame)
        let first = Int(ring.available) * pieces & (ring.size - 1)
        let size = (bytes.count + pieces - 1) / pieces
        var offset = 0
        for piece in 0..<pieces {
            let length = min(size, bytes.count - offset)
            let isLast = offset + length == bytes.count
            let index = (first + piece) & (ring.size - 1)
            describe(
                1, index, nextFrame + UInt64(offset), length, isLast ? 0 : Self.hasNext,
                next: (index + 1) & (ring.size - 1))
            offset += length
            if isLast { break }
        }
        nextFrame += UInt64(bytes.count)
        offer(1, first)
        return true
    }
}
