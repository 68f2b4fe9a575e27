// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux

/// How the kernel ends a request: `NLMSG_ERROR` or `NLMSG_DONE`, with the extended acknowledgement (netlink(7),
/// `NETLINK_EXT_ACK`).
package struct Acknowledgement: Hashable, Sendable {
    /// The error as a positive errno; 0 for success.
    package var errno: Int32
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`).
    package var message: String?
    /// Which byte of the request the kernel objects to (`NLMSGERR_ATTR_OFFS`).
    package var offset: UInt32?
    /// The type of the attribute that is missing (`NLMSGERR_ATTR_MISS_TYPE`).
    package var missingAttribute: UInt32?

    /// Reads an `NLMSG_ERROR` or `NLMSG_DONE` payload; nil if it has no error number.
    package init?(_ header: MessageHeader, _ payload: Span<UInt8>) {
        guard let number = payload.int32(at: 0), number != .min else {
            // An old kernel's NLMSG_DONE may be empty.
            guard Int32(header.type) == NLMSG_DONE else { return nil }
            errno = 0
            return
        }
        errno = abs(number)
        guard header.flags & UInt16(NLM_F_ACK_TLVS) != 0 else { return }
        var start = 4
        if Int32(header.type) == NLMSG_ERROR {
            // The request's header follows, and unless it was capped, the whole request.
            guard let length = payload.uint32(at: 4) else { return }
            let isCapped = header.flags & UInt16(NLM_F_CAPPED) != 0 || number == 0
            let echoed = isCapped ? MessageHeader.byteCount : Int(length) + (4 - Int(length) % 4) % 4
            start += echoed
        }
        guard start >= 0, start <= payload.count else { return }
        var walk = AttributeWalk(after: start)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch UInt32(attribute.type) {
            case NLMSGERR_ATTR_MSG.rawValue: message = value.text()
            case NLMSGERR_ATTR_OFFS.rawValue: offset = value.uint32()
            case NLMSGERR_ATTR_MISS_TYPE.rawValue: missingAttribute = value.uint32()
            default: break
            }
        }
    }
}
