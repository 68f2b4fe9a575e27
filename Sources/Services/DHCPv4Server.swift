// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// What the DHCP server tells the namespace.
public struct DHCPv4Settings: Hashable, Sendable {
    /// The lease that never ends.
    public static let infinite = UInt32.max

    /// The namespace's address with its prefix length; an IPv6 one gives no answers.
    public var guestAddress: Prefix
    /// The server's address: ours on the link.
    public var ownAddress: IPv4Address
    /// The router; nil to tell none.
    public var gateway: IPv4Address?
    /// How long the address may be used, in seconds.
    public var leaseTime: UInt32
    /// The MTU in bytes; nil to tell none.
    public var mtu: UInt32?
    /// The DNS servers; none to tell none.
    public var dnsServers: [IPv4Address]
    /// The domains to search; names that are none, or do not fit, are left out.
    public var searchDomains: [String]
    /// The namespace's host name (`-H`).
    public var hostName: String?
    /// The namespace's full name (`--fqdn`).
    public var fullName: String?

    /// Makes settings.
    public init(
        guestAddress: Prefix, ownAddress: IPv4Address, gateway: IPv4Address?,
        leaseTime: UInt32 = DHCPv4Settings.infinite, mtu: UInt32? = nil, dnsServers: [IPv4Address] = [],
        searchDomains: [String] = [], hostName: String? = nil, fullName: String? = nil
    ) {
        self.guestAddress = guestAddress
        self.ownAddress = ownAddress
        self.gateway = gateway
        self.leaseTime = leaseTime
        self.mtu = mtu
        self.dnsServers = dnsServers
        self.searchDomains = searchDomains
        self.hostName = hostName
        self.fullName = fullName
    }
}

/// Gives the namespace its one IPv4 address (RFC 2131).
public enum DHCPv4Server {
    private typealias Code = DHCPv4Message.OptionCode

    /// Answers a client's message in a frame.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/udp`` over IPv4 to port 67.
    ///   - settings: what to tell.
    ///   - rules: the translation rules, for the hardware address.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, settings: DHCPv4Settings, rules: TranslationRules,
        into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard summary.kind == .udp, summary.isIPv4, summary.destinationPort == DHCPv4Message.serverPort,
            summary.payloadLength <= frame.count - summary.payloadOffset
        else { return 0 }
        let end = summary.payloadOffset + summary.payloadLength
        guard let request = try? DHCPv4Message(frame.extracting(summary.payloadOffset..<end)),
            let answer = Self.answer(to: request, settings: settings)
        else { return 0 }
        let toAll = answer.wantsBroadcast || answer.yourAddress.isUnspecified
        return UDPHeader.writeFrame(
            answer.bytes.span, from: DHCPv4Message.serverPort, to: DHCPv4Message.clientPort,
            ip: IPHeader(
                .v4, source: IPv6Address(mapping: settings.ownAddress),
                destination: IPv6Address(mapping: toAll ? .broadcast : answer.yourAddress), ipProtocol: .udp),
            to: summary.sourceMAC, from: rules.gatewayMAC, into: &reply)
    }

    /// Answers a message.
    ///
    /// A DISCOVER is offered the address, or granted it at once if it allows that (RFC 4039); a REQUEST is granted
    /// if it names the address or none, whoever it was meant for, and refused if it names another, so that a client
    /// whose address is gone asks anew. BOOTP clients are granted it.
    ///
    /// - Parameters:
    ///   - request: the client's message.
    ///   - settings: what to tell.
    /// - Returns: the answer; nil if none is due.
    public static func answer(to request: DHCPv4Message, settings: DHCPv4Settings) -> DHCPv4Message? {
        guard !request.isReply, let address = settings.guestAddress.address.v4 else { return nil }
        let kind: DHCPv4Message.Kind
        var isRapid = false
        switch request.kind {
        case .discover:
            isRapid = request[Code.rapidCommit] != nil
            kind = isRapid ? .acknowledgment : .offer
        case .request:
            let wanted = request.address(Code.requestedAddress) ?? request.clientAddress
            kind = wanted.isUnspecified || wanted == address ? .acknowledgment : .negativeAcknowledgment
        case nil where request[Code.messageType] == nil: kind = .acknowledgment
        default: return nil
        }
        var reply = DHCPv4Message(replyTo: request)
        if kind == .negativeAcknowledgment {
            // RFC 2131 §4.3.2 and table 3: to everyone, and nothing but who says so.
            reply.wantsBroadcast = true
            reply.clientAddress = .unspecified
            reply.options = [
                .init(Code.messageType, [kind.rawValue]),
                .init(Code.serverIdentifier, bytes(settings.ownAddress)),
            ]
            return reply
        }
        reply.yourAddress = address
        var data = values(settings)
        data[Code.messageType] = [kind.rawValue]
        if isRapid { data[Code.rapidCommit] = [] }
        reply.options = ordered(data, wanted: request[Code.parameterRequestList] ?? [])
        return reply
    }

    /// All options in the order to send them: the kind first unless the client ordered it, then the client's list,
    /// then the rest ascending.
    private static func ordered(_ data: [UInt8: [UInt8]], wanted: [UInt8]) -> [DHCPv4Message.Option] {
        var order = wanted.contains(Code.messageType) ? [] : [Code.messageType]
        order += wanted + data.keys.sorted()
        var seen: Set<UInt8> = []
        return order.compactMap { code in
            guard let value = data[code], seen.insert(code).inserted else { return nil }
            return DHCPv4Message.Option(code, value)
        }
    }

    private static func values(_ settings: DHCPv4Settings) -> [UInt8: [UInt8]] {
        let prefix = settings.guestAddress
        let mask = prefix.length == 0 ? 0 : UInt32.max << UInt32(32 - prefix.length)
        var data: [UInt8: [UInt8]] = [
            Code.subnetMask: bytes(IPv4Address(rawValue: mask)),
            Code.serverIdentifier: bytes(settings.ownAddress),
            Code.leaseTime: bytes(IPv4Address(rawValue: settings.leaseTime)),
        ]
        if let gateway = settings.gateway {
            data[Code.router] = bytes(gateway)
            if !prefix.contains(.v4(gateway)) {
                // GATEWAY/32 on the link, and everything else by way of it (RFC 3442).
                data[Code.classlessRoutes] = [32] + bytes(gateway) + [0, 0, 0, 0] + [0] + bytes(gateway)
            }
        }
        if let mtu = settings.mtu.map({ UInt16(clamping: $0) }) {
            data[Code.interfaceMTU] = [UInt8(mtu >> 8), UInt8(mtu & 0xFF)]
        }
        if !settings.dnsServers.isEmpty {
            data[Code.domainNameServer] = settings.dnsServers.prefix(63).flatMap(bytes)
        }
        if let name = settings.hostName, !name.isEmpty, name.utf8.count <= 255 {
            data[Code.hostName] = Array(name.utf8)
        }
        if let name = settings.fullName.flatMap({ DNSName($0) }), name.wireBytes.count <= 252 {
            // The name is encoded, and the server does no updates (RFC 4702 §2.1, §2.2).
            data[Code.clientFQDN] = [0x04, 0xFF, 0xFF] + name.wireBytes
        }
        var search: [UInt8] = []
        for name in settings.searchDomains.compactMap({ DNSName($0) }) where search.count + name.wireBytes.count <= 255
        {
            search += name.wireBytes
        }
        if !search.isEmpty { data[Code.domainSearch] = search }
        return data
    }

    private static func bytes(_ address: IPv4Address) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: address.rawValue >> $0) }
    }
}
