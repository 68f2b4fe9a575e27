// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A split virtqueue (Virtual I/O Device specification 1.2, section 2.7): a table of descriptors, a ring of chains that
// the guest makes available, a ring of chains that we have used. All three and the buffers are in memory that the guest
// can write, so nothing in them is trusted. Each number is copied out of the guest's memory once and the copy is
// checked (a fence prevents the compiler from reading it again). A chain has at most as many descriptors as the table,
// and at most `VirtqueueChain.mostPieces`, which also ends a circular chain. Each buffer must be in a region. Any error
// breaks the queue, which then returns nothing until its owner sets it up anew, because errors cannot be reported to
// the guest.
//
// Indirect descriptors, event indices and the packed ring are not offered and therefore not supported.

internal import Synchronization

/// Why a queue is broken.
public enum VirtqueueFault: Error, Hashable, Sendable {
    /// A part of it is outside the guest's memory, or is not aligned.
    case ringOutsideMemory
    /// The guest has made more chains available than there are descriptors.
    case availableIndex
    /// A chain begins or continues after the table's end.
    case descriptorIndex
    /// A chain has too many descriptors or pieces, or a frame needs too many of them.
    case chainTooLong
    /// A buffer is outside the guest's memory.
    case bufferOutsideMemory
    /// A descriptor of a kind that was not offered.
    case indirect
    /// A buffer for us to read follows one for us to write.
    case order
    /// A chain for us to write has no room for a frame's first byte.
    case noRoom
}

/// The buffers of a chain, in memory that is allocated once.
@safe
public struct VirtqueueChain: ~Copyable {
    /// The greatest number of pieces.
    public static let mostPieces = 1024

    private let pieces: UnsafeMutablePointer<UnsafeMutableRawBufferPointer>
    private(set) var count = 0
    /// The number of descriptors.
    public fileprivate(set) var descriptorCount = 0
    /// The number of pieces for us to read; the others are for us to write.
    private(set) var readableCount = 0
    /// The first descriptor.
    public fileprivate(set) var head: UInt16 = 0
    /// The bytes for us to read.
    public private(set) var readableBytes = 0
    /// The bytes for us to write.
    public private(set) var writableBytes = 0
    /// Where ``append(_:)`` continues: a piece, and the number of its bytes that are written.
    private var nextPiece = 0
    private var nextOffset = 0

    /// Makes an empty chain.
    public init() {
        unsafe pieces = .allocate(capacity: Self.mostPieces)
    }

    deinit { unsafe pieces.deallocate() }

    mutating func begin(_ head: UInt16) {
        self.head = head
        count = 0
        descriptorCount = 0
        readableCount = 0
        readableBytes = 0
        writableBytes = 0
        nextPiece = 0
        nextOffset = 0
    }

    mutating func append(_ piece: UnsafeMutableRawBufferPointer, isWritable: Bool) -> Bool {
        guard count < Self.mostPieces else { return false }
        unsafe (pieces + count).initialize(to: piece)
        count += 1
        if isWritable {
            writableBytes += piece.count
        } else {
            readableCount += 1
            readableBytes += piece.count
            nextPiece = readableCount
        }
        return true
    }

    /// Copies the bytes that the guest sends.
    ///
    /// - Parameter target: the memory to fill; bytes that do not fit are not copied.
    /// - Returns: The number of bytes copied.
    public func read(into target: UnsafeMutableRawBufferPointer) -> Int {
        var done = 0
        for position in 0..<readableCount {
            let piece = unsafe pieces[position]
            let size = min(piece.count, target.count - done)
            guard size > 0, let to = target.baseAddress, let from = piece.baseAddress else { continue }
            unsafe (to + done).copyMemory(from: from, byteCount: size)
            done += size
        }
        return done
    }

    /// Copies bytes into the buffers that the guest receives them in.
    ///
    /// - Parameters:
    ///   - source: the bytes; those that do not fit are not copied.
    ///   - offset: the position in the chain at which to begin.
    /// - Returns: The bytes copied.
    public func write(_ source: UnsafeRawBufferPointer, at offset: Int = 0) -> Int {
        var skip = offset
        var done = 0
        for position in readableCount..<count {
            let piece = unsafe pieces[position]
            let left = min(skip, piece.count)
            skip -= left
            let size = min(piece.count - left, source.count - done)
            guard size > 0, let to = piece.baseAddress, let from = source.baseAddress else { continue }
            unsafe (to + left).copyMemory(from: from + done, byteCount: size)
            done += size
        }
        return done
    }

    /// Copies bytes into the guest's buffers, after those of the last call.
    ///
    /// - Parameter source: the bytes; what does not fit is left.
    /// - Returns: The bytes copied.
    public mutating func append(_ source: UnsafeRawBufferPointer) -> Int {
        var done = 0
        guard let from = source.baseAddress else { return 0 }
        while done < source.count, nextPiece < count {
            let piece = unsafe pieces[nextPiece]
            let size = min(piece.count - nextOffset, source.count - done)
            if size > 0, let to = piece.baseAddress {
                unsafe (to + nextOffset).copyMemory(from: from + done, byteCount: size)
                done += size
                nextOffset += size
            }
            if nextOffset == piece.count {
                nextPiece += 1
                nextOffset = 0
            }
        }
        return done
    }

    /// The address of a byte that we may write; nil if there are not that many.
    public func writablePlace(at offset: Int) -> UnsafeMutableRawPointer? {
        var left = offset
        for position in readableCount..<count {
            let piece = unsafe pieces[position]
            if left < piece.count { return unsafe piece.baseAddress.map { unsafe $0 + left } }
            left -= piece.count
        }
        return nil
    }
}

/// A split ring in the guest's memory.
@safe
public struct Virtqueue {
    /// The possible numbers of entries of a ring: powers of two.
    public enum Sizes {
        /// Whether a ring may have this number of entries.
        public static func contains(_ number: UInt32) -> Bool {
            (1...32768).contains(number) && number & (number - 1) == 0
        }
    }

    /// The number of entries.
    public let size: Int
    private let descriptors: UnsafeMutableRawPointer
    private let available: UnsafeMutableRawPointer
    private let used: UnsafeMutableRawPointer
    /// The next entry of the available part (`GET_VRING_BASE`).
    public private(set) var nextAvailable: UInt16
    /// The next entry of the used part, including entries that are not published yet.
    private var nextUsed: UInt16
    /// The next entry of the used part as the guest sees it.
    private var publishedUsed: UInt16
    /// The error that broke the queue, if there is one; then it returns nothing any more.
    public private(set) var fault: VirtqueueFault?

    /// Finds a ring in the guest's memory.
    ///
    /// - Parameters:
    ///   - size: the number of entries (`SET_VRING_NUM`).
    ///   - addresses: its addresses (`SET_VRING_ADDR`).
    ///   - base: the next available entry (`SET_VRING_BASE`).
    ///   - memory: the guest's memory, which must stay mapped while the queue is used.
    /// - Throws: ``VirtqueueFault/ringOutsideMemory``
    public init(
        size: UInt32, addresses: VhostUserRingAddresses, base: UInt16, memory: borrowing GuestMemory
    ) throws(VirtqueueFault) {
        precondition(Self.Sizes.contains(size), "no ring has as many entries")
        let count = Int(size)
        guard let descriptors = unsafe memory.pointer(toUser: addresses.descriptors, count: 16 * count, alignment: 16),
            let available = unsafe memory.pointer(toUser: addresses.available, count: 4 + 2 * count, alignment: 2),
            let used = unsafe memory.pointer(toUser: addresses.used, count: 4 + 8 * count, alignment: 4)
        else { throw .ringOutsideMemory }
        self.size = count
        unsafe self.descriptors = descriptors
        unsafe self.available = available
        unsafe self.used = used
        nextAvailable = base
        // The memory still contains what was used before a pause.
        nextUsed = unsafe UInt16(littleEndian: used.load(fromByteOffset: 2, as: UInt16.self))
        publishedUsed = nextUsed
    }

    /// Whether the guest has made a chain available that was not taken; never on a broken ring.
    public var hasAvailable: Bool {
        guard fault == nil else { return false }
        return unsafe UInt16(littleEndian: available.load(fromByteOffset: 2, as: UInt16.self)) != nextAvailable
    }

    /// Tells the guest whether to send a kick when it makes chains available (`VIRTQ_USED_F_NO_NOTIFY`).
    ///
    /// After switching kicks on, the caller must look for chains once more: the guest may have added some before it saw
    /// the change.
    public func wantKicks(_ wanted: Bool) {
        unsafe used.storeBytes(of: (wanted ? 0 : 1 as UInt16).littleEndian, as: UInt16.self)
        if wanted { atomicMemoryFence(ordering: .sequentiallyConsistent) }
    }

    /// A position in the ring.
    public struct Mark: Sendable {
        fileprivate let nextAvailable: UInt16
        fileprivate let nextUsed: UInt16
    }

    /// The present position, for ``rewind(to:)``.
    public var mark: Mark { Mark(nextAvailable: nextAvailable, nextUsed: nextUsed) }

    /// Returns to a position, as if the chains since then had not been taken; none of them may be published.
    public mutating func rewind(to mark: Mark) {
        nextAvailable = mark.nextAvailable
        nextUsed = mark.nextUsed
    }

    /// Marks the ring as broken, for an error that its owner has found.
    public mutating func fail(_ reason: VirtqueueFault) {
        if fault == nil { fault = reason }
    }

    /// Whether the guest wants a signal for used entries (it has not set `VIRTQ_AVAIL_F_NO_INTERRUPT`).
    public var wantsCall: Bool {
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        return unsafe UInt16(littleEndian: available.load(as: UInt16.self)) & 1 == 0
    }

    /// Takes the next chain that the guest has made available.
    ///
    /// - Parameters:
    ///   - chain: receives the chain.
    ///   - memory: the guest's memory.
    /// - Returns: False if there is none at present.
    /// - Throws: ``VirtqueueFault``, and again at each call after that.
    public mutating func next(
        into chain: inout VirtqueueChain, memory: borrowing GuestMemory
    ) throws(VirtqueueFault) -> Bool {
        if let fault { throw fault }
        do throws(VirtqueueFault) {
            return try take(into: &chain, memory: memory)
        } catch {
            fault = error
            throw error
        }
    }

    private mutating func take(
        into chain: inout VirtqueueChain, memory: borrowing GuestMemory
    ) throws(VirtqueueFault) -> Bool {
        let index = unsafe UInt16(littleEndian: available.load(fromByteOffset: 2, as: UInt16.self))
        atomicMemoryFence(ordering: .acquiring)
        let waiting = index &- nextAvailable
        if waiting == 0 { return false }
        guard Int(waiting) <= size else { throw .availableIndex }
        let entry = 4 + 2 * (Int(nextAvailable) & (size - 1))
        let head = unsafe UInt16(littleEndian: available.load(fromByteOffset: entry, as: UInt16.self))
        atomicMemoryFence(ordering: .acquiring)
        chain.begin(head)
        var next = Int(head)
        var hasWritable = false
        // A chain without bytes has no pieces that would bound it.
        for _ in 0..<min(size, VirtqueueChain.mostPieces) {
            guard next < size else { throw .descriptorIndex }
            chain.descriptorCount += 1
            let descriptor = unsafe Descriptor(at: descriptors + 16 * next)
            guard !descriptor.isIndirect else { throw .indirect }
            guard descriptor.isWritable || !hasWritable else { throw .order }
            hasWritable = descriptor.isWritable
            try Self.add(descriptor, to: &chain, memory: memory)
            guard descriptor.hasNext else {
                nextAvailable &+= 1
                return true
            }
            next = descriptor.next
        }
        throw .chainTooLong
    }

    /// Adds a descriptor's buffer, which may extend over several regions.
    private static func add(
        _ descriptor: Descriptor, to chain: inout VirtqueueChain, memory: borrowing GuestMemory
    ) throws(VirtqueueFault) {
        var address = descriptor.address
        var left = descriptor.length
        while left > 0 {
            guard let piece = unsafe memory.bytes(at: address, upTo: left) else { throw .bufferOutsideMemory }
            guard unsafe chain.append(piece, isWritable: descriptor.isWritable) else { throw .chainTooLong }
            let size = piece.count
            left -= size
            let (end, isRound) = address.addingReportingOverflow(UInt64(size))
            guard !isRound || left == 0 else { throw .bufferOutsideMemory }
            address = end
        }
    }

    /// Records a chain as used; the guest sees it after ``publish()``.
    ///
    /// - Parameters:
    ///   - head: the chain's first descriptor.
    ///   - written: the number of bytes that were written.
    public mutating func use(_ head: UInt16, written: UInt32) {
        let entry = 4 + 8 * (Int(nextUsed) & (size - 1))
        unsafe used.storeBytes(of: UInt32(head).littleEndian, toByteOffset: entry, as: UInt32.self)
        unsafe used.storeBytes(of: written.littleEndian, toByteOffset: entry + 4, as: UInt32.self)
        nextUsed &+= 1
    }

    /// Makes the used entries visible to the guest.
    ///
    /// - Returns: Whether there were new entries.
    @discardableResult
    public mutating func publish() -> Bool {
        guard nextUsed != publishedUsed else { return false }
        atomicMemoryFence(ordering: .releasing)
        unsafe used.storeBytes(of: nextUsed.littleEndian, toByteOffset: 2, as: UInt16.self)
        publishedUsed = nextUsed
        return true
    }
}

/// A descriptor, copied out of the guest's memory.
private struct Descriptor {
    let address: UInt64
    let length: Int
    let flags: UInt16
    let next: Int

    /// Copies the descriptor at an address that is a multiple of 16.
    init(at place: UnsafeMutableRawPointer) {
        address = unsafe UInt64(littleEndian: place.load(as: UInt64.self))
        length = unsafe Int(UInt32(littleEndian: place.load(fromByteOffset: 8, as: UInt32.self)))
        flags = unsafe UInt16(littleEndian: place.load(fromByteOffset: 12, as: UInt16.self))
        next = unsafe Int(UInt16(littleEndian: place.load(fromByteOffset: 14, as: UInt16.self)))
        // The following code reads the copy, not memory that the guest may change meanwhile.
        atomicMemoryFence(ordering: .acquiring)
    }

    var hasNext: Bool { flags & 1 != 0 }
    var isWritable: Bool { flags & 2 != 0 }
    var isIndirect: Bool { flags & 4 != 0 }
}
