// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc

/// A bounded queue of frames in memory that is allocated once.
@safe
struct FrameQueue: ~Copyable {
    /// Each frame has its length in front; the next one begins at a multiple of this number.
    private static var unit: Int { MemoryLayout<Int>.stride }

    private let memory: UnsafeMutableRawPointer
    private let capacity: Int
    private var start = 0
    private var end = 0

    init(capacity: Int) {
        self.capacity = capacity
        unsafe memory = .allocate(byteCount: capacity, alignment: Self.unit)
    }

    deinit { unsafe memory.deallocate() }

    var isEmpty: Bool { start == end }

    /// Whether some frames of a length would be accepted.
    func hasRoom(forFrames number: Int, of count: Int) -> Bool {
        end - start + number * Self.space(count) <= capacity
    }

    private static func space(_ count: Int) -> Int { unit + (count + unit - 1) / unit * unit }

    /// Adds a frame in pieces; false if there is no room.
    mutating func append(_ pieces: UnsafeMutablePointer<iovec>, count: Int) -> Bool {
        var total = 0
        for index in 0..<count { unsafe total += pieces[index].iov_len }
        guard hasRoom(forFrames: 1, of: total) else { return false }
        if end + Self.space(total) > capacity {
            unsafe memory.copyMemory(from: memory + start, byteCount: end - start)
            end -= start
            start = 0
        }
        unsafe memory.storeBytes(of: total, toByteOffset: end, as: Int.self)
        var place = unsafe memory + end + Self.unit
        for index in 0..<count {
            let piece = unsafe pieces[index]
            if let base = unsafe piece.iov_base { unsafe place.copyMemory(from: base, byteCount: piece.iov_len) }
            unsafe place += piece.iov_len
        }
        end += Self.space(total)
        return true
    }

    /// The first frame, which lies in one piece until something is added or removed; nil if there is none.
    var first: UnsafeMutableRawBufferPointer? {
        guard !isEmpty else { return nil }
        let total = unsafe memory.load(fromByteOffset: start, as: Int.self)
        return unsafe UnsafeMutableRawBufferPointer(start: memory + start + Self.unit, count: total)
    }

    /// Removes the first frame, if there is one.
    mutating func removeFirst() {
        guard !isEmpty else { return }
        start += Self.space(unsafe memory.load(fromByteOffset: start, as: Int.self))
        if start == end { removeAll() }
    }

    /// Removes all frames.
    mutating func removeAll() {
        start = 0
        end = 0
    }

    /// Removes the first frame; nil if there is none.
    mutating func remove(into target: UnsafeMutableRawBufferPointer) -> Int? {
        guard let frame = unsafe first else { return nil }
        let count = min(frame.count, target.count)
        if let from = frame.baseAddress, let base = target.baseAddress {
            unsafe base.copyMemory(from: from, byteCount: count)
        }
        removeFirst()
        return count
    }
}
