// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The places of frames in bytes of a stream socket, where each frame lies behind its length.
///
/// This is what QEMU's `-netdev stream`, libkrun and gVisor speak: four bytes, big-endian, then the Ethernet frame. The
/// bytes come in pieces of any size, so that a frame may begin in one and end in another. The value knows no memory: it
/// says where in the caller's memory the next bytes go, and which of them are a frame. A length that no frame has
/// cannot be got over, since nothing says where the next one begins: the value stays broken until ``reset()``.
public struct StreamFrames: Sendable {
    /// The bytes before each frame.
    public static let prefixLength = 4

    /// What comes next.
    public enum Next: Hashable, Sendable {
        /// A whole frame lies at an offset.
        case frame(offset: Int, count: Int)
        /// More bytes are needed.
        case incomplete
        /// A length that no frame has; nothing behind it can be read.
        case invalid(length: UInt32)
    }

    /// The shortest frame in bytes.
    public let shortest: Int
    /// The longest frame in bytes.
    public let longest: Int
    /// Where what has not been given begins.
    public private(set) var start = 0
    /// Where the bytes end that have come.
    public private(set) var end = 0
    /// Whether a length was invalid.
    public private(set) var isBroken = false

    /// Makes a value for a stream that begins.
    ///
    /// - Parameters:
    ///   - shortest: the shortest frame in bytes.
    ///   - longest: the longest frame in bytes.
    public init(shortest: Int, longest: Int) {
        precondition(0 <= shortest && shortest <= longest, "no frame is as long")
        self.shortest = shortest
        self.longest = longest
    }

    /// The bytes that have come and were not given.
    @inlinable
    public var count: Int { end &- start }

    /// Forgets everything: another stream begins.
    public mutating func reset() {
        start = 0
        end = 0
        isBroken = false
    }

    /// Notes bytes that have been put behind ``end``.
    public mutating func append(_ count: Int) {
        precondition(count >= 0, "no bytes are taken back")
        end += count
    }

    /// Notes that what has not been given was moved to the memory's start.
    public mutating func moveToStart() {
        end -= start
        start = 0
    }

    /// Looks what comes next; nothing is taken.
    ///
    /// - Parameter memory: the memory from offset 0 to at least ``end``.
    /// - Returns: What comes next.
    public func peek(in memory: RawSpan) -> Next {
        // A broken value keeps the bytes that it could not read.
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

    /// Takes the next frame.
    ///
    /// - Parameter memory: the memory from offset 0 to at least ``end``.
    /// - Returns: The frame, or why there is none.
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
