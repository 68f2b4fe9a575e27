// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A Neighbour Solicitation (RFC 4861 §4.3).
public struct NeighborSolicitation: Hashable, Sendable {
    /// Whose hardware address is asked for.
    public var target: IPv6Address
    /// The sender's hardware address; absent in duplicate detection.
    public var sourceLinkAddress: MACAddress?

    /// Makes a solicitation.
    public init(target: IPv6Address, sourceLinkAddress: MACAddress? = nil) {
        self.target = target
        self.sourceLinkAddress = sourceLinkAddress
    }

    /// Reads the message of an ICMPv6 packet; the caller makes the checks that need the IP header.
    ///
    /// - Parameter message: the message from its type on.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType``, ``ParseError/badLength`` (an option),
    ///   ``ParseError/badValue`` (code, or a group as target).
    public init(_ message: Span<UInt8>) throws(ParseError) {
        target = try readTarget(message, type: ICMPv6Type.neighborSolicitation)
        sourceLinkAddress = try NDPOptions(message, from: neighborOptionsOffset).sourceLinkAddress
    }

    /// The message's header and what follows its eight bytes.
    public var parts: (header: ICMPHeader, body: [UInt8]) {
        var body = MessageWriter()
        body.append(target)
        if let sourceLinkAddress { NDPOptions.write(sourceLinkAddress, as: NDPOptions.Kind.sourceLink, to: &body) }
        return (ICMPHeader(type: ICMPv6Type.neighborSolicitation, code: 0), body.bytes)
    }
}

/// A Neighbour Advertisement (RFC 4861 §4.4).
public struct NeighborAdvertisement: Hashable, Sendable {
    private static let routerFlag: UInt32 = 0x8000_0000
    private static let solicitedFlag: UInt32 = 0x4000_0000
    private static let overrideFlag: UInt32 = 0x2000_0000

    /// Whether the sender is a router.
    public var isRouter: Bool
    /// Whether it answers a solicitation.
    public var isSolicited: Bool
    /// Whether it replaces what is cached.
    public var isOverride: Bool
    /// Whose hardware address this is.
    public var target: IPv6Address
    /// The hardware address.
    public var targetLinkAddress: MACAddress?

    /// Makes an advertisement.
    public init(
        target: IPv6Address, targetLinkAddress: MACAddress?, isRouter: Bool = true, isSolicited: Bool = true,
        isOverride: Bool = true
    ) {
        self.isRouter = isRouter
        self.isSolicited = isSolicited
        self.isOverride = isOverride
        self.target = target
        self.targetLinkAddress = targetLinkAddress
    }

    /// Reads the message of an ICMPv6 packet; the caller makes the checks that need the IP header.
    ///
    /// - Parameter message: the message from its type on.
    /// - Throws: as ``NeighborSolicitation/init(_:)``.
    public init(_ message: Span<UInt8>) throws(ParseError) {
        target = try readTarget(message, type: ICMPv6Type.neighborAdvertisement)
        let flags = message.bigEndian32(at: 4)
        isRouter = flags & Self.routerFlag != 0
        isSolicited = flags & Self.solicitedFlag != 0
        isOverride = flags & Self.overrideFlag != 0
        targetLinkAddress = try NDPOptions(message, from: neighborOptionsOffset).targetLinkAddress
    }

    /// The message's header and what follows its eight bytes.
    public var parts: (header: ICMPHeader, body: [UInt8]) {
        var flags: UInt32 = 0
        if isRouter { flags |= Self.routerFlag }
        if isSolicited { flags |= Self.solicitedFlag }
        if isOverride { flags |= Self.overrideFlag }
        var body = MessageWriter()
        body.append(target)
        if let targetLinkAddress { NDPOptions.write(targetLinkAddress, as: NDPOptions.Kind.targetLink, to: &body) }
        return (ICMPHeader(type: ICMPv6Type.neighborAdvertisement, code: 0, rest: flags), body.bytes)
    }
}

/// A Router Solicitation (RFC 4861 §4.1).
public struct RouterSolicitation: Hashable, Sendable {
    /// The sender's hardware address.
    public var sourceLinkAddress: MACAddress?

    /// Makes a solicitation.
    public init(sourceLinkAddress: MACAddress? = nil) {
        self.sourceLinkAddress = sourceLinkAddress
    }

    /// Reads the message of an ICMPv6 packet; the caller makes the checks that need the IP header.
    ///
    /// - Parameter message: the message from its type on.
    /// - Throws: as ``NeighborSolicitation/init(_:)``.
    public init(_ message: Span<UInt8>) throws(ParseError) {
        try checkNDPHeader(message, type: ICMPv6Type.routerSolicitation, length: ICMPHeader.length)
        sourceLinkAddress = try NDPOptions(message, from: ICMPHeader.length).sourceLinkAddress
    }

    /// The message's header and what follows its eight bytes.
    public var parts: (header: ICMPHeader, body: [UInt8]) {
        var body = MessageWriter()
        if let sourceLinkAddress { NDPOptions.write(sourceLinkAddress, as: NDPOptions.Kind.sourceLink, to: &body) }
        return (ICMPHeader(type: ICMPv6Type.routerSolicitation, code: 0), body.bytes)
    }
}

/// Where the options of neighbour messages start.
private let neighborOptionsOffset = ICMPHeader.length + 16

func checkNDPHeader(_ message: Span<UInt8>, type: UInt8, length: Int) throws(ParseError) {
    guard message.count >= length else { throw .truncated }
    guard message[0] == type else { throw .badType }
    guard message[1] == 0 else { throw .badValue }
}

private func readTarget(_ message: Span<UInt8>, type: UInt8) throws(ParseError) -> IPv6Address {
    try checkNDPHeader(message, type: type, length: neighborOptionsOffset)
    let target = message.ipv6Address(at: ICMPHeader.length)
    guard !target.isMulticast else { throw .badValue }
    return target
}
