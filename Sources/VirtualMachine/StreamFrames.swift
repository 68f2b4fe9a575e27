// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Finds the frames in the bytes of a stream socket, where each frame follows its length.
///
/// QEMU's `-netdev stream`, libkrun and gVisor use this format: the length in four bytes, big-endian, then the Ethernet
/// frame. The bytes arrive in pieces of any size, so a frame may begin in one piece and end in another. This value owns
/// no memory: it returns the position in the caller's memory where the next bytes go, and the position of each frame.
/// After an impossible length the start of the next frame is unknown, so the value stays broken until ``reset()``.
public struct StreamFrames: Sendable {
    /// The bytes before each frame.
    public static let prefixLength = 4

    /// The next item.
    public enum Next: Hashable, Sendable {
        /// A whole frame at an offset.
        case frame(offset: Int, count: Int)
        /// More bytes are needed.
        case incomplete
        /// An impossible length; nothing after it can be read.
        case invalid(length: UInt32)
    }

    /// The shortest frame in bytes.
    public let shortest: Int
    /// The longest frame in bytes.
    public let longest: Int
    /// The offset of the first byte that has not been returned.
    public private(set) var start = 0
    /// The offset of the end of the received bytes.
    public private(set) var end = 0
    /// Whether a length was invalid.
    public private(set) var isBroken = false

    /// Makes a value for a new stream.
    ///
    /// - Parameters:
    ///   - shortest: the shortest frame in bytes.
    ///   - longest: the longest frame in bytes.
    public init(shortest: Int, longest: Int) {
        precondition(0 <= shortest && shortest <= longest, "no frame is as long")
        self.shortest = shortest
        self.longest = longest
    }

    /// The number of bytes that were received and not returned.
    @inlinable
    public var count: Int { end &- start }

    /// Discards everything, for a new stream.
    public mutating func reset() {
        start = 0
        end = 0
        isBroken = false
    }

    /// Records bytes that were added after ``end``.
    public mutating func append(_ count: Int) {
        precondition(count >= 0, "no bytes are taken back")
        end += count
    }

    /// Records that the remaining bytes were moved to the memory's start.
    public mutating func moveToStart() {
        end -= start
        start = 0
    }

    /// Returns the next item without removing it.
    ///
    /// - Parameter memory: the memory from offset 0 to at least ``end``.
    /// - Returns: The next item.
    public func peek(in memory: RawSpan) -> Next {
        // A broken value keeps the bytes that cannot be read.
        guard count >= Self.prefixLength else { return .incomplete }
        precondition(end <= memory.byteCount, "the bytes lie outside the memory")
        let length = unsafe UInt32(
            bigEndian: memory.unsafeLoadUnaligned(fromUncheckedByteOffset: start, as: UInt32.self))
        guard !isBroken, length >= UInt32(clamping: shortest), length <= UInt32(clamping: longest) else {
            return .invalid(length: length)
        }
        guard count - Self.prefixLength >= Int(length) else { return .incomplete }
        return .frame(offset: start + Self.prefixLength, count: Int(length))
    }

    /// Returns the next frame and removes it.
    ///
    /// - Parameter memory: the memory from offset 0 to at least ``end``.
    /// - Returns: The frame, or the reason why there is none.
    public mutating func next(in memory: RawSpan) -> Next {
        let next = peek(in: memory)
        switch next {
        case .frame(let offset, let count): start = offset + count
        case .incomplete: break
        case .invalid: isBroken = true
        }
        return next
    }
}
