// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// What the DHCPv6 server tells the namespace.
public struct DHCPv6Settings: Hashable, Sendable {
    /// The lifetime that never ends.
    public static let infinite = UInt32.max

    /// The namespace's address.
    public var guestAddress: IPv6Address
    /// The server's identifier, constant for the program's life.
    public var serverIdentifier: [UInt8]
    /// How long the address is preferred and valid, in seconds.
    public var lifetime: UInt32
    /// The DNS servers; none to tell none.
    public var dnsServers: [IPv6Address]
    /// The domains to search; names that are none are left out.
    public var searchDomains: [String]
    /// The namespace's full name (`--fqdn`).
    public var fullName: String?

    /// Makes settings.
    public init(
        guestAddress: IPv6Address, serverIdentifier: [UInt8], lifetime: UInt32 = DHCPv6Settings.infinite,
        dnsServers: [IPv6Address] = [], searchDomains: [String] = [], fullName: String? = nil
    ) {
        self.guestAddress = guestAddress
        self.serverIdentifier = serverIdentifier
        self.lifetime = lifetime
        self.dnsServers = dnsServers
        self.searchDomains = searchDomains
        self.fullName = fullName
    }

    /// The identifier of a server: link-layer address plus time (DUID-LLT, RFC 8415 §11.2).
    ///
    /// - Parameters:
    ///   - mac: the server's hardware address.
    ///   - secondsSince1970: when the program started.
    /// - Returns: the identifier's bytes.
    public static func serverIdentifier(mac: MACAddress, secondsSince1970: Int64) -> [UInt8] {
        var writer = MessageWriter()
        writer.append(UInt16(1))
        writer.append(UInt16(1))
        // Counted from 2000-01-01 UTC.
        writer.append(UInt32(truncatingIfNeeded: secondsSince1970 &- 946_684_800))
        writer.append(mac)
        return writer.bytes
    }
}

/// Gives the namespace its one IPv6 address (RFC 8415).
public enum DHCPv6Server {
    private typealias Code = DHCPv6Message.OptionCode
    private typealias Association = DHCPv6Message.IdentityAssociation

    /// The longest identifier of a client that is accepted, in bytes.
    private static let maximumIdentifierLength = 130

    /// Answers a client's message in a frame.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/udp`` over IPv6 to port 547.
    ///   - settings: what to tell.
    ///   - rules: the translation rules, for our addresses.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, settings: DHCPv6Settings, rules: TranslationRules,
        into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard summary.kind == .udp, !summary.isIPv4, summary.destinationPort == DHCPv6Message.serverPort,
            summary.destination.isMulticast, !summary.source.isMulticast, !summary.source.isUnspecified,
            summary.payloadLength <= frame.count - summary.payloadOffset,
            let own = rules.families.v6.ownAddress?.v6
        else { return 0 }
        let end = summary.payloadOffset + summary.payloadLength
        guard let request = try? DHCPv6Message(frame.extracting(summary.payloadOffset..<end)),
            let answer = try? Self.answer(to: request, settings: settings)
        else { return 0 }
        return UDPHeader.writeFrame(
            answer.bytes.span, from: DHCPv6Message.serverPort, to: DHCPv6Message.clientPort,
            ip: IPHeader(.v6, source: own, destination: summary.source, ipProtocol: .udp), to: summary.sourceMAC,
            from: rules.gatewayMAC, into: &reply)
    }

    /// Answers a message.
    ///
    /// A REQUEST for other addresses is told that they are not on the link. RENEW and REBIND of others take those away
    /// and give ours in the same answer, so that a client whose address is gone need not wait for it to expire.
    ///
    /// - Parameters:
    ///   - request: the client's message.
    ///   - settings: what to tell.
    /// - Returns: the answer; nil if none is due.
    /// - Throws: as ``DHCPv6Message/identityAssociations()``.
    public static func answer(
        to request: DHCPv6Message, settings: DHCPv6Settings
    ) throws(ParseError) -> DHCPv6Message? {
        let associations = try request.identityAssociations()
        let server = request[Code.serverIdentifier]
        let isForUs = server == settings.serverIdentifier
        let hasOthers = associations.contains { $0.addresses.contains { $0.address != settings.guestAddress } }
        var kind = DHCPv6Message.Kind.reply
        var answers: [DHCPv6Message.Option] = []
        switch request.kind {
        case .solicit:
            guard server == nil else { return nil }
            kind = .advertise
            answers = grant(associations, settings, withdrawing: false)
        case .request:
            guard isForUs else { return nil }
            answers =
                hasOthers
                ? associations.map { Association(identifier: $0.identifier, status: .notOnLink).option }
                : grant(associations, settings, withdrawing: false)
        case .renew:
            guard isForUs else { return nil }
            answers = grant(associations, settings, withdrawing: true)
        case .rebind: answers = grant(associations, settings, withdrawing: true)
        case .confirm:
            // Without addresses there is nothing to confirm (RFC 8415 §18.3.3).
            guard server == nil, associations.contains(where: { !$0.addresses.isEmpty }) else { return nil }
            answers = [.init(status: hasOthers ? .notOnLink : .success)]
        case .informationRequest: guard associations.isEmpty, server == nil || isForUs else { return nil }
        case .advertise, .reply, .release, .decline, .reconfigure: return nil
        }
        guard let client = request[Code.clientIdentifier], !client.isEmpty, client.count <= maximumIdentifierLength
        else { return nil }
        let identifiers: [DHCPv6Message.Option] = [
            .init(Code.serverIdentifier, settings.serverIdentifier), .init(Code.clientIdentifier, client),
        ]
        return DHCPv6Message(
            kind, transactionID: request.transactionID, options: identifiers + answers + information(settings))
    }

    /// The address for the first association, nothing for others; what a client has besides may be taken away.
    private static func grant(
        _ asked: [Association], _ settings: DHCPv6Settings, withdrawing: Bool
    ) -> [DHCPv6Message.Option] {
        let forever = settings.lifetime == DHCPv6Settings.infinite
        return asked.enumerated().map { index, association in
            guard index == 0 else {
                return Association(identifier: association.identifier, status: .noAddressesAvailable).option
            }
            let given = Association.Address(settings.guestAddress, lifetime: settings.lifetime)
            let withdrawn = association.addresses.filter { withdrawing && $0.address != settings.guestAddress }
                .map { Association.Address($0.address, lifetime: 0) }
            return Association(
                identifier: association.identifier,
                renewalTime: forever ? settings.lifetime : settings.lifetime / 2,
                rebindingTime: forever ? settings.lifetime : settings.lifetime / 5 * 4, addresses: [given] + withdrawn
            ).option
        }
    }

    private static func information(_ settings: DHCPv6Settings) -> [DHCPv6Message.Option] {
        var options: [DHCPv6Message.Option] = []
        if !settings.dnsServers.isEmpty {
            var writer = MessageWriter()
            for server in settings.dnsServers { writer.append(server) }
            options.append(.init(Code.dnsServers, writer.bytes))
        }
        let names = settings.searchDomains.compactMap { DNSName($0) }.flatMap(\.wireBytes)
        if !names.isEmpty { options.append(.init(Code.searchList, names)) }
        if let name = settings.fullName.flatMap({ DNSName($0) }) {
            options.append(.init(Code.clientFQDN, [0] + name.wireBytes))
        }
        return options
    }
}
