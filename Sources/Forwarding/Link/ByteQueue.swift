// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// A bounded ring buffer of bytes, whose memory is allocated once.
///
/// The bytes in it are one piece of memory or two.
@safe
struct ByteQueue: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    /// The greatest number of bytes.
    let capacity: Int
    private var start = 0
    /// The number of bytes in it.
    private(set) var count = 0

    /// Makes an empty queue.
    init(capacity: Int) {
        precondition(capacity > 0, "a queue without room")
        self.capacity = capacity
        unsafe memory = .allocate(byteCount: capacity, alignment: 4096)
    }

    deinit { unsafe memory.deallocate() }

    /// Whether it is empty.
    @inline(__always)
    var isEmpty: Bool { count == 0 }

    /// The number of bytes that can be added.
    @inline(__always)
    var room: Int { capacity - count }

    /// Adds bytes; there must be room for them.
    mutating func append(_ bytes: UnsafeRawPointer, count added: Int) {
        precondition(added >= 0 && added <= room, "the queue is full")
        var end = start + count
        if end >= capacity { end -= capacity }
        let first = min(added, capacity - end)
        unsafe (memory + end).copyMemory(from: bytes, byteCount: first)
        unsafe memory.copyMemory(from: bytes + first, byteCount: added - first)
        count += added
    }

    /// Removes the first bytes.
    mutating func removeFirst(_ removed: Int) {
        precondition(removed >= 0 && removed <= count, "so many bytes do not wait")
        count -= removed
        start += removed
        if start >= capacity { start -= capacity }
        if count == 0 { start = 0 }
    }

    /// Removes everything.
    mutating func removeAll() { removeFirst(count) }

    /// Describes the bytes in one entry, or in two.
    ///
    /// - Parameter pieces: room for two entries.
    /// - Returns: The number of entries; 0 if the queue is empty.
    func pieces(into pieces: UnsafeMutablePointer<iovec>) -> Int {
        if count == 0 { return 0 }
        let first = min(count, capacity - start)
        unsafe pieces[0] = unsafe iovec(iov_base: memory + start, iov_len: first)
        if first == count { return 1 }
        unsafe pieces[1] = unsafe iovec(iov_base: memory, iov_len: count - first)
        return 2
    }
}
