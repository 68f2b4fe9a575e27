// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux

/// A netlink message's header (`struct nlmsghdr`, netlink(7)).
package struct MessageHeader: Hashable, Sendable {
    /// The header's length in bytes.
    package static let byteCount = 16

    /// The message's length in bytes, header included (`nlmsg_len`).
    package var length: UInt32
    /// The type (`nlmsg_type`).
    package var type: UInt16
    /// The flags (`nlmsg_flags`).
    package var flags: UInt16
    /// The request's number, which replies carry too (`nlmsg_seq`).
    package var sequence: UInt32
    /// The port of the requester; 0 in notifications that no request caused (`nlmsg_pid`).
    package var portID: UInt32

    /// Makes a header.
    package init(length: UInt32, type: UInt16, flags: UInt16, sequence: UInt32, portID: UInt32) {
        self.length = length
        self.type = type
        self.flags = flags
        self.sequence = sequence
        self.portID = portID
    }

    /// Whether more messages follow up to `NLMSG_DONE` (`NLM_F_MULTI`).
    package var isPartOfMany: Bool { flags & UInt16(NLM_F_MULTI) != 0 }
    /// Whether the table changed while it was dumped, so that the dump must be repeated (`NLM_F_DUMP_INTR`).
    package var isInterruptedDump: Bool { flags & UInt16(NLM_F_DUMP_INTR) != 0 }
}

/// Walks the messages of one datagram.
///
/// A message whose length does not fit ends the walk, since nothing behind it can be trusted. Each step advances by at
/// least the length of a header.
package struct MessageWalk {
    private var position = 0
    /// Whether the walk ended at a message that does not fit the datagram.
    package private(set) var isDamaged = false

    /// Begins at the datagram's first byte.
    package init() {}

    /// The next message's header and the range of its payload; nil at the end.
    package mutating func next(in datagram: Span<UInt8>) -> (header: MessageHeader, payload: Range<Int>)? {
        guard position < datagram.count, !isDamaged else { return nil }
        guard datagram.count - position >= MessageHeader.byteCount,
            let length = datagram.uint32(at: position), let type = datagram.uint16(at: position + 4),
            let flags = datagram.uint16(at: position + 6), let sequence = datagram.uint32(at: position + 8),
            let portID = datagram.uint32(at: position + 12),
            length >= UInt32(MessageHeader.byteCount), Int(length) <= datagram.count - position
        else {
            isDamaged = true
            return nil
        }
        let start = position + MessageHeader.byteCount
        let end = position + Int(length)
        position = end + (4 - end % 4) % 4
        let header = MessageHeader(length: length, type: type, flags: flags, sequence: sequence, portID: portID)
        return (header, start..<end)
    }
}

/// One attribute: its type without the flag bits, and the range of its payload (`struct rtattr`, rtnetlink(7)).
package struct Attribute: Hashable, Sendable {
    /// The type, without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    package var type: Int
    /// The payload's range in the walked bytes.
    package var payload: Range<Int>
}

/// Walks attributes within bounds: each step advances by at least a header, and an attribute that does not fit ends it.
package struct AttributeWalk {
    private static let headerByteCount = 4
    private var position: Int
    /// Whether the walk ended at an attribute that does not fit.
    package private(set) var isDamaged = false

    /// Begins behind a fixed header of the given length.
    package init(after byteCount: Int = 0) {
        position = byteCount
    }

    /// The next attribute; nil at the end.
    package mutating func next(in bytes: Span<UInt8>) -> Attribute? {
        guard position < bytes.count, !isDamaged else { return nil }
        guard let length = bytes.uint16(at: position), let type = bytes.uint16(at: position + 2),
            Int(length) >= Self.headerByteCount, Int(length) <= bytes.count - position
        else {
            isDamaged = true
            return nil
        }
        let start = position + Self.headerByteCount
        let end = position + Int(length)
        position = end + (4 - end % 4) % 4
        return Attribute(type: Int(type & UInt16(TAPAS_NLA_TYPE_MASK)), payload: start..<end)
    }
}
