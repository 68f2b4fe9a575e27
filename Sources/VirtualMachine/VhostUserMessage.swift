// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The messages of vhost-user, as specified in QEMU's documentation ("Vhost-user Protocol"): a header of twelve bytes
// (request, flags, size of the payload), then the payload, all in the machine's byte order, which is little-endian on
// all supported machines. Descriptors are sent with the first byte of a message.

/// A region of the guest's memory as a message describes it.
public struct VhostUserRegion: Hashable, Sendable {
    /// Its address for the guest.
    public var guestAddress: UInt64
    /// Its size in bytes.
    public var size: UInt64
    /// Its address for the virtual machine's program; the addresses of rings are of this kind.
    public var userAddress: UInt64
    /// Its offset in its descriptor.
    public var mappingOffset: UInt64

    /// Makes a region.
    public init(guestAddress: UInt64, size: UInt64, userAddress: UInt64, mappingOffset: UInt64) {
        self.guestAddress = guestAddress
        self.size = size
        self.userAddress = userAddress
        self.mappingOffset = mappingOffset
    }

    /// Whether it is not empty, and its end does not overflow.
    public var isValid: Bool {
        size > 0 && size <= UInt64(Int.max) && !guestAddress.addingReportingOverflow(size).overflow
            && !userAddress.addingReportingOverflow(size).overflow
            && !mappingOffset.addingReportingOverflow(size).overflow
    }

    /// Whether two regions share a byte, for the guest or for its program.
    public func overlaps(_ other: VhostUserRegion) -> Bool {
        guestAddress < other.guestAddress &+ other.size && other.guestAddress < guestAddress &+ size
            || userAddress < other.userAddress &+ other.size && other.userAddress < userAddress &+ size
    }
}

/// The addresses of the parts of a ring (`struct vhost_vring_addr`), for the virtual machine's program.
public struct VhostUserRingAddresses: Hashable, Sendable {
    /// The table of descriptors.
    public var descriptors: UInt64
    /// The used part, which we write.
    public var used: UInt64
    /// The available part, which the guest writes.
    public var available: UInt64
    /// The address at which writes to the used part are logged.
    public var log: UInt64
    /// Whether they are logged.
    public var isLogged: Bool

    /// Makes addresses.
    public init(descriptors: UInt64, used: UInt64, available: UInt64, log: UInt64 = 0, isLogged: Bool = false) {
        self.descriptors = descriptors
        self.used = used
        self.available = available
        self.log = log
        self.isLogged = isLogged
    }
}

/// A message of the virtual machine's program.
public enum VhostUserMessage: Hashable, Sendable {
    /// Asks for the features of the device.
    case getFeatures
    /// Chooses features.
    case setFeatures(UInt64)
    /// Asks for the features of the protocol.
    case getProtocolFeatures
    /// Chooses features of the protocol.
    case setProtocolFeatures(UInt64)
    /// Begins a session.
    case setOwner
    /// Ends a session.
    case resetOwner
    /// Replaces the table of memory regions; a descriptor comes with each.
    case setMemoryTable([VhostUserRegion])
    /// Gives the log of dirty pages; a descriptor comes with it.
    case setLogBase(size: UInt64, offset: UInt64)
    /// Gives a descriptor for notifications about the log.
    case setLogDescriptor
    /// Sets the number of entries of a ring.
    case setRingSize(ring: Int, UInt32)
    /// Sets the addresses of a ring.
    case setRingAddresses(ring: Int, VhostUserRingAddresses)
    /// Sets the next entry to take from the available part.
    case setRingBase(ring: Int, UInt32)
    /// Stops a ring and asks for its next entry.
    case getRingBase(ring: Int)
    /// Gives the event descriptor on which the guest signals new entries; none if the ring must be polled.
    case setRingKick(ring: Int, hasDescriptor: Bool)
    /// Gives the event descriptor on which used entries are signalled to the guest.
    case setRingCall(ring: Int, hasDescriptor: Bool)
    /// Gives the event descriptor on which errors are signalled.
    case setRingError(ring: Int, hasDescriptor: Bool)
    /// Asks for the greatest number of rings.
    case getQueueNumber
    /// Switches a ring on or off.
    case setRingEnabled(ring: Int, Bool)
    /// A request that we do not know, or that needs a feature which we do not offer.
    case unknown(request: UInt32)

    /// The greatest number of regions of a table.
    public static let mostRegions = 8

    /// The number of descriptors that must come with the message.
    public var descriptorCount: Int {
        switch self {
        case .setMemoryTable(let regions): regions.count
        case .setLogBase, .setLogDescriptor: 1
        case .setRingKick(_, let has), .setRingCall(_, let has), .setRingError(_, let has): has ? 1 : 0
        default: 0
        }
    }

    /// Whether the message has an answer of its own.
    public var hasAnswer: Bool {
        switch self {
        case .getFeatures, .getProtocolFeatures, .getRingBase, .getQueueNumber, .setLogBase: true
        default: false
        }
    }
}

/// Why a message cannot be read; the connection must end.
public enum VhostUserFault: Error, Hashable, Sendable {
    /// The flags name another version of the protocol than 1.
    case version
    /// A reply, although only requests are expected.
    case reply
    /// The payload is longer than any message's.
    case tooLong
    /// The payload has another size than the request's.
    case payloadSize
    /// The number of a ring, of its entries or of regions is out of bounds.
    case outOfBounds
}

/// The header of a message.
public struct VhostUserHeader: Hashable, Sendable {
    /// Its length in bytes.
    public static let length = 12
    /// The longest payload that is read, in bytes.
    public static let longestPayload = 8 + 32 * VhostUserMessage.mostRegions

    /// The request.
    public let request: UInt32
    /// Whether the sender waits for an acknowledgement (`VHOST_USER_NEED_REPLY_MASK`).
    public let needsReply: Bool
    /// The size of the payload in bytes.
    public let size: Int

    /// Reads a header; `bytes` has at least ``length``.
    ///
    /// - Parameter bytes: the bytes.
    /// - Throws: ``VhostUserFault``
    public init(_ bytes: RawSpan) throws(VhostUserFault) {
        request = bytes.number32(at: 0)
        let flags = bytes.number32(at: 4)
        let size = bytes.number32(at: 8)
        guard flags & 3 == 1 else { throw .version }
        guard flags & 4 == 0 else { throw .reply }
        guard size <= UInt32(Self.longestPayload) else { throw .tooLong }
        needsReply = flags & 8 != 0
        self.size = Int(size)
    }
}

extension VhostUserMessage {
    /// Reads a message's payload.
    ///
    /// - Parameters:
    ///   - header: the header before it.
    ///   - payload: the payload; its length is that in the header.
    ///   - rings: the number of rings; a message may name no other.
    /// - Throws: ``VhostUserFault``
    public init(_ header: VhostUserHeader, payload: RawSpan, rings: Int) throws(VhostUserFault) {
        guard payload.byteCount == header.size else { throw .payloadSize }
        switch header.request {
        case 1, 3, 4, 15, 17:
            try Self.expect(header, 0)
            let simple: [UInt32: VhostUserMessage] = [
                1: .getFeatures, 3: .setOwner, 4: .resetOwner, 15: .getProtocolFeatures, 17: .getQueueNumber,
            ]
            self = simple[header.request] ?? .unknown(request: header.request)
        case 2:
            try Self.expect(header, 8)
            self = .setFeatures(payload.number64(at: 0))
        case 16:
            try Self.expect(header, 8)
            self = .setProtocolFeatures(payload.number64(at: 0))
        case 5: self = .setMemoryTable(try Self.regions(payload))
        case 6:
            try Self.expect(header, 16)
            let (size, offset) = (payload.number64(at: 0), payload.number64(at: 8))
            guard size > 0, !size.addingReportingOverflow(offset).overflow else { throw .outOfBounds }
            self = .setLogBase(size: size, offset: offset)
        case 7: self = .setLogDescriptor
        case 8:
            let (ring, number) = try Self.state(header, payload, rings)
            guard Virtqueue.Sizes.contains(number) else { throw .outOfBounds }
            self = .setRingSize(ring: ring, number)
        case 9:
            try Self.expect(header, 40)
            let addresses = VhostUserRingAddresses(
                descriptors: payload.number64(at: 8), used: payload.number64(at: 16),
                available: payload.number64(at: 24), log: payload.number64(at: 32),
                isLogged: payload.number32(at: 4) & 1 != 0)
            self = .setRingAddresses(ring: try Self.ring(UInt64(payload.number32(at: 0)), of: rings), addresses)
        case 10:
            let (ring, number) = try Self.state(header, payload, rings)
            guard number <= 0xFFFF else { throw .outOfBounds }
            self = .setRingBase(ring: ring, number)
        case 11: self = .getRingBase(ring: try Self.state(header, payload, rings).ring)
        case 12:
            let (ring, isThere) = try Self.descriptor(header, payload, rings)
            self = .setRingKick(ring: ring, hasDescriptor: isThere)
        case 13:
            let (ring, isThere) = try Self.descriptor(header, payload, rings)
            self = .setRingCall(ring: ring, hasDescriptor: isThere)
        case 14:
            let (ring, isThere) = try Self.descriptor(header, payload, rings)
            self = .setRingError(ring: ring, hasDescriptor: isThere)
        case 18:
            let (ring, number) = try Self.state(header, payload, rings)
            guard number <= 1 else { throw .outOfBounds }
            self = .setRingEnabled(ring: ring, number == 1)
        default: self = .unknown(request: header.request)
        }
    }

    private static func expect(_ header: VhostUserHeader, _ size: Int) throws(VhostUserFault) {
        guard header.size == size else { throw .payloadSize }
    }

    private static func ring(_ number: UInt64, of rings: Int) throws(VhostUserFault) -> Int {
        guard number < UInt64(rings) else { throw .outOfBounds }
        return Int(number)
    }

    /// Reads a ring and a number (`struct vhost_vring_state`).
    private static func state(
        _ header: VhostUserHeader, _ payload: RawSpan, _ rings: Int
    ) throws(VhostUserFault) -> (ring: Int, number: UInt32) {
        try expect(header, 8)
        return (try ring(UInt64(payload.number32(at: 0)), of: rings), payload.number32(at: 4))
    }

    /// Reads a ring and whether a descriptor comes: bits 0 to 7 are the ring, bit 8 means that there is none.
    private static func descriptor(
        _ header: VhostUserHeader, _ payload: RawSpan, _ rings: Int
    ) throws(VhostUserFault) -> (ring: Int, isThere: Bool) {
        try expect(header, 8)
        let number = payload.number64(at: 0)
        guard number & ~0x1FF == 0 else { throw .outOfBounds }
        return (try ring(number & 0xFF, of: rings), number & 0x100 == 0)
    }

    private static func regions(_ payload: RawSpan) throws(VhostUserFault) -> [VhostUserRegion] {
        guard payload.byteCount >= 8 else { throw .payloadSize }
        let count = Int(payload.number32(at: 0))
        guard (1...mostRegions).contains(count) else { throw .outOfBounds }
        guard payload.byteCount == 8 + 32 * count else { throw .payloadSize }
        var regions: [VhostUserRegion] = []
        for position in 0..<count {
            let start = 8 + 32 * position
            let region = VhostUserRegion(
                guestAddress: payload.number64(at: start), size: payload.number64(at: start + 8),
                userAddress: payload.number64(at: start + 16), mappingOffset: payload.number64(at: start + 24))
            guard region.isValid, !regions.contains(where: region.overlaps) else { throw .outOfBounds }
            regions.append(region)
        }
        return regions
    }
}

/// An answer to a message.
public struct VhostUserAnswer: Hashable, Sendable {
    /// The header, followed by the payload.
    public let bytes: [UInt8]

    /// An answer with a number: features, or an acknowledgement (0 for success).
    public init(to request: UInt32, _ number: UInt64) {
        self.init(request, [number])
    }

    /// The answer to ``VhostUserMessage/getRingBase(ring:)``.
    public init(to request: UInt32, ring: Int, base: UInt16) {
        self.init(request, [UInt64(UInt32(ring)) | UInt64(base) << 32])
    }

    private init(_ request: UInt32, _ payload: [UInt64]) {
        // Version 1, a reply.
        var bytes = Self.bytes(of: request) + Self.bytes(of: UInt32(5)) + Self.bytes(of: UInt32(8 * payload.count))
        for number in payload { bytes += Self.bytes(of: number) }
        self.bytes = bytes
    }

    private static func bytes(of number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
}

extension RawSpan {
    /// The 32-bit number at an offset, which must be inside.
    func number32(at offset: Int) -> UInt32 {
        precondition(offset >= 0 && offset <= byteCount &- 4, "read beyond the bytes")
        return unsafe UInt32(littleEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt32.self))
    }

    /// The 64-bit number at an offset, which must be inside.
    func number64(at offset: Int) -> UInt64 {
        precondition(offset >= 0 && offset <= byteCount &- 8, "read beyond the bytes")
        return unsafe UInt64(littleEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self))
    }
}
