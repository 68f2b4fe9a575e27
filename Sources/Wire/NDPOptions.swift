// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The options of NDP messages (RFC 4861 §4.6, RFC 8106 §5) that this program uses.
struct NDPOptions {
    /// The numbers of options.
    enum Kind {
        static let sourceLink: UInt8 = 1
        static let targetLink: UInt8 = 2
        static let prefixInformation: UInt8 = 3
        static let mtu: UInt8 = 5
        static let routeInformation: UInt8 = 24
        static let recursiveDNS: UInt8 = 25
        static let searchList: UInt8 = 31
    }

    var sourceLinkAddress: MACAddress?
    var targetLinkAddress: MACAddress?
    var mtu: UInt32?
    var prefixes: [RouterAdvertisement.PrefixInformation] = []
    var routes: [RouterAdvertisement.RouteInformation] = []
    var recursiveDNS: [RouterAdvertisement.RecursiveDNS] = []
    var searchLists: [RouterAdvertisement.SearchList] = []

    /// Reads the options that fill the rest of a message; unknown ones are skipped (RFC 4861 §9).
    ///
    /// - Throws: ``ParseError/badLength`` (zero, or beyond the message, or too short for its kind).
    init(_ message: Span<UInt8>, from start: Int) throws(ParseError) {
        var offset = start
        while offset < message.count {
            guard message.count - offset >= 8 else { throw .badLength }
            let length = Int(message[offset + 1]) * 8
            guard length > 0, length <= message.count - offset else { throw .badLength }
            try read(message.extracting(offset..<offset + length))
            offset += length
        }
    }

    private mutating func read(_ option: Span<UInt8>) throws(ParseError) {
        switch option[0] {
        case Kind.sourceLink: sourceLinkAddress = option.macAddress(at: 2)
        case Kind.targetLink: targetLinkAddress = option.macAddress(at: 2)
        case Kind.mtu: mtu = option.bigEndian32(at: 4)
        case Kind.prefixInformation: prefixes.append(try .init(option))
        case Kind.routeInformation: routes.append(try .init(option))
        case Kind.recursiveDNS: recursiveDNS.append(try .init(option))
        case Kind.searchList: searchLists.append(try .init(option))
        default: break
        }
    }

    static func write(_ address: MACAddress, as kind: UInt8, to writer: inout MessageWriter) {
        writer.append(kind)
        writer.append(UInt8(1))
        writer.append(address)
    }
}

/// A Router Advertisement (RFC 4861 §4.2) with its options.
public struct RouterAdvertisement: Hashable, Sendable {
    /// The lifetime that never ends.
    public static let infinite = UInt32.max
    /// The length before the options, in bytes.
    static let fixedLength = 16
    private static let managedFlag: UInt8 = 0x80
    private static let otherFlag: UInt8 = 0x40

    /// A prefix of the link (RFC 4861 §4.6.2).
    public struct PrefixInformation: Hashable, Sendable {
        private static let length = 32
        private static let onLinkFlag: UInt8 = 0x80
        private static let autonomousFlag: UInt8 = 0x40

        /// The prefix; its host bits are not sent.
        public var prefix: IPv6Address
        /// Its length, 0 to 128.
        public var prefixLength: UInt8
        /// Whether its addresses are neighbours.
        public var isOnLink: Bool
        /// Whether hosts form addresses in it.
        public var isAutonomous: Bool
        /// How long it is valid, in seconds.
        public var validLifetime: UInt32
        /// How long addresses of it are preferred, in seconds; 0 deprecates them.
        public var preferredLifetime: UInt32

        /// Makes an option.
        public init(
            prefix: IPv6Address, prefixLength: UInt8 = 64, isOnLink: Bool = true, isAutonomous: Bool = true,
            validLifetime: UInt32 = RouterAdvertisement.infinite,
            preferredLifetime: UInt32 = RouterAdvertisement.infinite
        ) {
            self.prefix = prefix
            self.prefixLength = prefixLength
            self.isOnLink = isOnLink
            self.isAutonomous = isAutonomous
            self.validLifetime = validLifetime
            self.preferredLifetime = preferredLifetime
        }

        init(_ option: Span<UInt8>) throws(ParseError) {
            guard option.count == Self.length else { throw .badLength }
            prefixLength = option[2]
            guard prefixLength <= 128 else { throw .badValue }
            isOnLink = option[3] & Self.onLinkFlag != 0
            isAutonomous = option[3] & Self.autonomousFlag != 0
            validLifetime = option.bigEndian32(at: 4)
            preferredLifetime = option.bigEndian32(at: 8)
            prefix = option.ipv6Address(at: 16)
        }

        func write(to writer: inout MessageWriter) {
            writer.append(NDPOptions.Kind.prefixInformation)
            writer.append(UInt8(Self.length / 8))
            writer.append(prefixLength)
            writer.append((isOnLink ? Self.onLinkFlag : 0) | (isAutonomous ? Self.autonomousFlag : 0))
            writer.append(validLifetime)
            writer.append(preferredLifetime)
            writer.append(UInt32(0))
            writer.append(prefix)
        }
    }

    /// A route by way of the sender (RFC 4191 §2.3).
    public struct RouteInformation: Hashable, Sendable {
        /// The destination; its host bits are not sent.
        public var prefix: IPv6Address
        /// Its length, 0 to 128.
        public var prefixLength: UInt8
        /// The preference among routers: 0 medium, 1 high, 3 low.
        public var preference: UInt8
        /// The route's lifetime in seconds; 0 removes it.
        public var lifetime: UInt32

        /// Makes an option.
        public init(prefix: IPv6Address, prefixLength: UInt8, preference: UInt8 = 0, lifetime: UInt32) {
            self.prefix = prefix
            self.prefixLength = prefixLength
            self.preference = preference
            self.lifetime = lifetime
        }

        init(_ option: Span<UInt8>) throws(ParseError) {
            prefixLength = option[2]
            guard prefixLength <= 128 else { throw .badValue }
            let length = prefixLength == 0 ? 8 : prefixLength <= 64 ? 16 : 24
            guard (length...24).contains(option.count) else { throw .badLength }
            preference = option[3] >> 3 & 3
            lifetime = option.bigEndian32(at: 4)
            prefix = IPv6Address(
                high: option.count >= 16
                    ? UInt64(option.bigEndian32(at: 8)) << 32 | UInt64(option.bigEndian32(at: 12))
                    : 0,
                low: option.count >= 24
                    ? UInt64(option.bigEndian32(at: 16)) << 32 | UInt64(option.bigEndian32(at: 20))
                    : 0)
        }

        func write(to writer: inout MessageWriter) {
            let words = prefixLength == 0 ? 0 : prefixLength <= 64 ? 1 : 2
            writer.append(NDPOptions.Kind.routeInformation)
            writer.append(UInt8(1 + words))
            writer.append(prefixLength)
            writer.append((preference & 3) << 3)
            writer.append(lifetime)
            if words > 0 { writer.append(prefix.high) }
            if words > 1 { writer.append(prefix.low) }
        }
    }

    /// Recursive DNS servers (RFC 8106 §5.1).
    public struct RecursiveDNS: Hashable, Sendable {
        /// The greatest number of servers in one option.
        public static let maximumServerCount = 127

        /// The servers.
        public var servers: [IPv6Address]
        /// How long they may be used, in seconds.
        public var lifetime: UInt32

        /// Makes an option; servers beyond the 127th are left out.
        public init(servers: [IPv6Address], lifetime: UInt32 = RouterAdvertisement.infinite) {
            self.servers = Array(servers.prefix(Self.maximumServerCount))
            self.lifetime = lifetime
        }

        init(_ option: Span<UInt8>) throws(ParseError) {
            guard option.count >= 24, option.count % 16 == 8 else { throw .badLength }
            lifetime = option.bigEndian32(at: 4)
            servers = stride(from: 8, to: option.count, by: 16).map { option.ipv6Address(at: $0) }
        }

        func write(to writer: inout MessageWriter) {
            writer.append(NDPOptions.Kind.recursiveDNS)
            writer.append(UInt8(clamping: 1 + 2 * servers.count))
            writer.append(UInt16(0))
            writer.append(lifetime)
            for server in servers { writer.append(server) }
        }
    }

    /// Domains to search (RFC 8106 §5.2).
    public struct SearchList: Hashable, Sendable {
        private static let maximumLength = 255 * 8 - 8

        /// The domains.
        public var domains: [DNSName]
        /// How long they may be used, in seconds.
        public var lifetime: UInt32

        /// Makes an option; domains that do not fit it are left out.
        public init(domains: [DNSName], lifetime: UInt32 = RouterAdvertisement.infinite) {
            var room = Self.maximumLength
            self.domains = domains.filter { domain in
                guard domain.wireBytes.count <= room else { return false }
                room -= domain.wireBytes.count
                return true
            }
            self.lifetime = lifetime
        }

        init(_ option: Span<UInt8>) throws(ParseError) {
            guard option.count >= 16 else { throw .badLength }
            lifetime = option.bigEndian32(at: 4)
            domains = []
            var offset = 8
            // An empty label where a name would start is padding.
            while offset < option.count, option[offset] != 0 {
                domains.append(try DNSName(option, at: &offset))
            }
        }

        func write(to writer: inout MessageWriter) {
            let names = domains.flatMap(\.wireBytes)
            let units = (names.count + 7) / 8
            writer.append(NDPOptions.Kind.searchList)
            writer.append(UInt8(clamping: 1 + units))
            writer.append(UInt16(0))
            writer.append(lifetime)
            writer.append(names)
            writer.appendZeros(units * 8 - names.count)
        }
    }

    /// The hop limit for hosts' packets; 0 for no statement.
    public var hopLimit: UInt8
    /// Whether addresses are available by DHCPv6.
    public var isManaged: Bool
    /// Whether other settings are available by DHCPv6.
    public var hasOtherConfiguration: Bool
    /// How long the sender is a default router, in seconds; 0 for not at all.
    public var routerLifetime: UInt16
    /// The router's hardware address.
    public var sourceLinkAddress: MACAddress?
    /// The link's MTU in bytes.
    public var mtu: UInt32?
    /// The prefixes.
    public var prefixes: [PrefixInformation]
    /// The routes besides the default one.
    public var routes: [RouteInformation]
    /// The DNS servers, those of one lifetime together.
    public var recursiveDNS: [RecursiveDNS]
    /// The domains to search, those of one lifetime together.
    public var searchLists: [SearchList]

    /// Makes an advertisement.
    public init(
        routerLifetime: UInt16, hopLimit: UInt8 = 255, isManaged: Bool = false, hasOtherConfiguration: Bool = false,
        sourceLinkAddress: MACAddress? = nil, mtu: UInt32? = nil, prefixes: [PrefixInformation] = [],
        routes: [RouteInformation] = [], recursiveDNS: [RecursiveDNS] = [], searchLists: [SearchList] = []
    ) {
        self.hopLimit = hopLimit
        self.isManaged = isManaged
        self.hasOtherConfiguration = hasOtherConfiguration
        self.routerLifetime = routerLifetime
        self.sourceLinkAddress = sourceLinkAddress
        self.mtu = mtu
        self.prefixes = prefixes
        self.routes = routes
        self.recursiveDNS = recursiveDNS
        self.searchLists = searchLists
    }

    /// Reads the message of an ICMPv6 packet; the caller makes the checks that need the IP header.
    ///
    /// - Parameter message: the message from its type on.
    /// - Throws: as ``NeighborSolicitation/init(_:)``, and what ``DNSName/init(_:at:)`` throws.
    public init(_ message: Span<UInt8>) throws(ParseError) {
        try checkNDPHeader(message, type: ICMPv6Type.routerAdvertisement, length: Self.fixedLength)
        hopLimit = message[4]
        isManaged = message[5] & Self.managedFlag != 0
        hasOtherConfiguration = message[5] & Self.otherFlag != 0
        routerLifetime = message.bigEndian16(at: 6)
        let options = try NDPOptions(message, from: Self.fixedLength)
        sourceLinkAddress = options.sourceLinkAddress
        mtu = options.mtu
        prefixes = options.prefixes
        routes = options.routes
        recursiveDNS = options.recursiveDNS
        searchLists = options.searchLists
    }

    /// The message's header and what follows its eight bytes; it does not specify reachable and retransmission times.
    public var parts: (header: ICMPHeader, body: [UInt8]) {
        let flags = (isManaged ? Self.managedFlag : 0) | (hasOtherConfiguration ? Self.otherFlag : 0)
        let rest = UInt32(hopLimit) << 24 | UInt32(flags) << 16 | UInt32(routerLifetime)
        var body = MessageWriter()
        body.append(UInt64(0))
        if let sourceLinkAddress { NDPOptions.write(sourceLinkAddress, as: NDPOptions.Kind.sourceLink, to: &body) }
        if let mtu {
            body.append(NDPOptions.Kind.mtu)
            body.append(UInt8(1))
            body.append(UInt16(0))
            body.append(mtu)
        }
        for prefix in prefixes { prefix.write(to: &body) }
        for route in routes { route.write(to: &body) }
        for list in recursiveDNS where !list.servers.isEmpty { list.write(to: &body) }
        for list in searchLists where !list.domains.isEmpty { list.write(to: &body) }
        return (ICMPHeader(type: ICMPv6Type.routerAdvertisement, code: 0, rest: rest), body.bytes)
    }
}
