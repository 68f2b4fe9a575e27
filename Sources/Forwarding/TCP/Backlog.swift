// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// When a host socket takes less than the namespace has sent, the rest must not be thrown away: nothing would make the
// namespace send it again but its retransmission time-out (docs/decisions/0004-backlog.md). It is kept here, in chunks
// of 64 KiB from one pool, chained for each flow. The window that we offer never exceeds what the pool could take for
// a single flow, and once the pool runs short the windows offered shrink. Chunks are memory of one reserved region:
// untouched chunks cost nothing, freed ones are used again first.
//
// syscalls: sendto

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The memory for what host sockets did not take yet.
@safe
struct BacklogPool: ~Copyable {
    static let chunkSize = 65536
    static let none: Int32 = -1

    /// A chunk: bytes `start..<end` of its memory are waiting.
    private struct Chunk {
        var next: Int32
        var start: Int32
        var end: Int32
    }

    /// How many chunks there are.
    let capacity: Int
    /// How many are in use.
    private(set) var used = 0

    private let memory: UnsafeMutableRawPointer
    private let chunks: UnsafeMutablePointer<Chunk>
    private var firstFree: Int32 = none
    private var highWater = 0

    init(capacity: Int) {
        self.capacity = capacity
        unsafe memory = .allocate(byteCount: capacity * Self.chunkSize, alignment: 4096)
        unsafe chunks = .allocate(capacity: capacity)
    }

    deinit {
        unsafe memory.deallocate()
        unsafe chunks.deallocate()
    }

    /// Bytes that can still be taken.
    var room: Int { (capacity - used) * Self.chunkSize }

    private mutating func allocate() -> Int32? {
        let index: Int32
        if firstFree != Self.none {
            index = firstFree
            firstFree = unsafe chunks[Int(index)].next
        } else if highWater < capacity {
            index = Int32(highWater)
            highWater += 1
        } else {
            return nil
        }
        unsafe (chunks + Int(index)).initialize(to: Chunk(next: Self.none, start: 0, end: 0))
        used += 1
        return index
    }

    /// Whether nothing fits into a chunk any more, or there is none.
    private func isFull(_ index: Int32) -> Bool {
        guard index != Self.none else { return true }
        return unsafe chunks[Int(index)].end == Int32(Self.chunkSize)
    }

    private mutating func free(_ index: Int32) {
        unsafe chunks[Int(index)].next = firstFree
        firstFree = index
        used -= 1
    }

    /// Appends bytes to a flow's backlog.
    ///
    /// - Returns: How many were taken: fewer than given only if the pool is used up.
    mutating func append(_ bytes: UnsafeRawBufferPointer, to flow: inout Flow) -> Int {
        var taken = 0
        while taken < bytes.count {
            if isFull(flow.backlogEnd) {
                guard let fresh = allocate() else { break }
                if flow.backlogEnd == Self.none {
                    flow.backlog = fresh
                } else {
                    unsafe chunks[Int(flow.backlogEnd)].next = fresh
                }
                flow.backlogEnd = fresh
            }
            let index = Int(flow.backlogEnd)
            let end = unsafe Int(chunks[index].end)
            let count = min(bytes.count - taken, Self.chunkSize - end)
            unsafe UnsafeMutableRawBufferPointer(start: memory + index * Self.chunkSize + end, count: count)
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[taken..<taken + count]))
            unsafe chunks[index].end = Int32(end + count)
            taken += count
        }
        flow.backlogCount += UInt32(taken)
        return taken
    }

    /// Writes as much of a flow's backlog as its socket takes.
    mutating func drain(_ flow: inout Flow) -> IOResult {
        var total = 0
        while flow.backlog != Self.none {
            let index = Int(flow.backlog)
            let start = unsafe Int(chunks[index].start)
            let end = unsafe Int(chunks[index].end)
            let count = end - start
            let result = transferring {
                unsafe send(
                    flow.socket, memory + index * Self.chunkSize + start, count,
                    CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
            guard case .bytes(let written) = result else {
                if case .wouldBlock = result, total > 0 { return .bytes(total) }
                return result
            }
            total += written
            flow.backlogCount -= UInt32(written)
            if written < count {
                // Not +=: with the thread sanitizer the compiler of Swift 6.3 breaks on that (docs/testing.md).
                unsafe chunks[index].start = Int32(start + written)
                return .bytes(total)
            }
            let next = unsafe chunks[index].next
            free(flow.backlog)
            flow.backlog = next
            if next == Self.none { flow.backlogEnd = Self.none }
        }
        return .bytes(total)
    }

    /// Gives a flow's backlog up.
    mutating func discard(_ flow: inout Flow) {
        while flow.backlog != Self.none {
            let next = unsafe chunks[Int(flow.backlog)].next
            free(flow.backlog)
            flow.backlog = next
        }
        flow.backlogEnd = Self.none
        flow.backlogCount = 0
    }
}
