// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Assigns the namespace its one IPv6 address (RFC 8415).
///
/// Theory of operation. As with ``DHCPv4Server``, there is one guest and one lease. A client with addresses that are
/// gone loses them with the next answer (lifetime 0) and gets the new one in the same answer. It is notified of a
/// change at once if it accepts RECONFIGURE (RFC 8415 §20.4). Without an address to assign, the server still answers,
/// so that a namespace whose host has lost its network loses its address, too.
///
/// Time is in milliseconds of any monotonic clock.
public struct DHCPv6Server: Sendable {
    private typealias Code = DHCPv6Message.OptionCode
    typealias Association = DHCPv6Message.IdentityAssociation
    typealias Option = DHCPv6Message.Option

    /// The holder of the lease, and the configuration that it was sent.
    private struct Lease {
        var client: Client
        /// The source of the client's messages: its link-local address.
        var source: IPv6Address
        var address: IPv6Address
        var details: [Option]
        /// When the lease ends; nil for never.
        var end: Int64?
        var takesReconfigure: Bool
    }

    /// A client, by its identifier (DUID) and its hardware address.
    private struct Client {
        var identifier: [UInt8]
        var mac: MACAddress

        func isSame(as other: Client) -> Bool { identifier == other.identifier || mac == other.mac }
    }

    /// The greatest length of a client's identifier that is accepted, in bytes.
    private static let maximumIdentifierLength = 130

    private let serverIdentifier: [UInt8]
    private var settings: ServiceSettings
    private var lease: Lease?
    private var key: ReconfigurationKey
    private var hasWarned = false
    private var remarks = Remarks()

    /// Makes a server.
    ///
    /// - Parameters:
    ///   - settings: what to announce.
    ///   - identifier: the server's identifier, constant for the program's life.
    ///   - key: the secret for RECONFIGURE.
    public init(settings: ServiceSettings, identifier: [UInt8], key: ReconfigurationKey) {
        self.settings = settings
        serverIdentifier = identifier
        self.key = key
    }

    /// The identifier of a server: link-layer address plus time (DUID-LLT, RFC 8415 §11.2).
    ///
    /// - Parameters:
    ///   - mac: the server's hardware address.
    ///   - secondsSince1970: when the program started.
    /// - Returns: the identifier's bytes.
    public static func identifier(mac: MACAddress, secondsSince1970: Int64) -> [UInt8] {
        var writer = MessageWriter()
        writer.append(UInt16(1))
        writer.append(UInt16(1))
        // Counted from 2000-01-01 UTC.
        writer.append(UInt32(truncatingIfNeeded: secondsSince1970 &- 946_684_800))
        writer.append(mac)
        return writer.bytes
    }

    private var isOn: Bool { settings.v6.isEnabled && settings.services.contains(.dhcpv6) }
    private var guest: IPv6Address? { settings.v6.guestAddress?.address.v6 }

    // MARK: Answers

    /// Answers a message.
    ///
    /// - Parameters:
    ///   - request: the client's message.
    ///   - mac: the client's hardware address.
    ///   - source: the client's address.
    ///   - now: the time.
    /// - Returns: the answer; nil if none is due.
    /// - Throws: as ``DHCPv6Message/identityAssociations()``.
    public mutating func answer(
        to request: DHCPv6Message, mac: MACAddress, source: IPv6Address, now: Int64
    ) throws(ParseError) -> DHCPv6Message? {
        guard isOn, let identifier = request[Code.clientIdentifier], !identifier.isEmpty,
            identifier.count <= Self.maximumIdentifierLength
        else { return nil }
        let associations = try request.identityAssociations()
        let server = request[Code.serverIdentifier]
        let isForUs = server == serverIdentifier
        guard server == nil || isForUs else { return nil }
        let hasOthers = associations.contains { $0.addresses.contains { $0.address != guest } }
        if request.kind == .informationRequest {
            guard associations.isEmpty else { return nil }
            return reply(to: request, .reply, information(refreshes: true))
        }
        let client = Client(identifier: identifier, mac: mac)
        guard mayServe(client, now: now) else { return nil }
        switch request.kind {
        case .solicit where server == nil:
            guard request[Code.rapidCommit] != nil, guest != nil else {
                return reply(to: request, .advertise, grants(associations, withdrawing: false))
            }
            return bind(client, source, request, [Option(Code.rapidCommit, [])] + grants(associations), now)
        case .request where isForUs:
            guard !hasOthers || guest == nil else {
                return reply(
                    to: request, .reply,
                    associations.map { Association(identifier: $0.identifier, status: .notOnLink).option })
            }
            return bind(client, source, request, grants(associations), now)
        case .renew where isForUs, .rebind where server == nil:
            return bind(client, source, request, grants(associations, withdrawing: true), now)
        case .confirm where server == nil:
            // Without addresses there is nothing to confirm (RFC 8415 §18.3.3).
            guard associations.contains(where: { !$0.addresses.isEmpty }) else { return nil }
            return reply(to: request, .reply, [.init(status: hasOthers ? .notOnLink : .success)])
        case .release where isForUs, .decline where isForUs:
            if request.kind == .decline {
                remarks.add("the DHCPv6 client \(mac) says that its address is in use in the namespace")
            }
            lease = nil
            let unknown = associations.filter { $0.addresses.contains { $0.address != guest } }
            return reply(
                to: request, .reply,
                unknown.map { Association(identifier: $0.identifier, status: .noBinding).option }
                    + [.init(status: .success)])
        default: return nil
        }
    }

    /// Whether a client may have the lease: it has it already, or there is none.
    private mutating func mayServe(_ client: Client, now: Int64) -> Bool {
        if let end = lease?.end, end <= now { lease = nil }
        guard let holder = lease?.client, !holder.isSame(as: client) else { return true }
        if !hasWarned {
            hasWarned = true
            remarks.add(
                "the DHCPv6 client \(client.mac) is not answered: the namespace has one address, and \(holder.mac) has "
                    + "it")
        }
        return false
    }

    /// Assigns the address to the first association and nothing to others; the client's other addresses may be
    /// withdrawn.
    private func grants(_ asked: [Association], withdrawing: Bool = false) -> [Option] {
        let time = settings.leaseTime
        let forever = time == ServiceSettings.infinite
        return asked.enumerated().map { index, association in
            let given = index == 0 ? guest.map { [Association.Address($0, lifetime: time)] } ?? [] : []
            let withdrawn = association.addresses.filter { address in
                withdrawing && !given.contains { $0.address == address.address }
            }.map { Association.Address($0.address, lifetime: 0) }
            guard !given.isEmpty || !withdrawn.isEmpty else {
                return Association(identifier: association.identifier, status: .noAddressesAvailable).option
            }
            return Association(
                identifier: association.identifier, renewalTime: forever ? time : time / 2,
                rebindingTime: forever ? time : UInt32(UInt64(time) * 4 / 5), addresses: given + withdrawn
            ).option
        }
    }

    /// A reply that gives the address, if there is one.
    private mutating func bind(
        _ client: Client, _ source: IPv6Address, _ request: DHCPv6Message, _ answers: [Option], _ now: Int64
    ) -> DHCPv6Message {
        let takesReconfigure = request[Code.reconfigureAccept] != nil
        var options = answers
        if takesReconfigure {
            options.append(Option(Code.reconfigureAccept, []))
            options.append(Option(Code.authentication, key.offer()))
        }
        if let guest {
            let time = settings.leaseTime
            lease = Lease(
                client: client, source: source, address: guest, details: information(refreshes: false),
                end: time == ServiceSettings.infinite ? nil : now + Int64(time) * 1000,
                takesReconfigure: takesReconfigure)
        } else {
            lease = nil
        }
        return reply(to: request, .reply, options)
    }

    private func reply(
        to request: DHCPv6Message, _ kind: DHCPv6Message.Kind, _ answers: [Option]
    ) -> DHCPv6Message {
        let identifiers = [
            Option(Code.serverIdentifier, serverIdentifier),
            Option(Code.clientIdentifier, request[Code.clientIdentifier] ?? []),
        ]
        let tells = request.kind != .informationRequest && request.kind != .release && request.kind != .decline
        return DHCPv6Message(
            kind, transactionID: request.transactionID,
            options: identifiers + answers + (tells ? information(refreshes: false) : []))
    }

    private func information(refreshes: Bool) -> [Option] {
        var options: [Option] = []
        if !settings.v6.dnsServers.isEmpty {
            var writer = MessageWriter()
            for server in settings.v6.dnsServers { writer.append(server) }
            options.append(.init(Code.dnsServers, writer.bytes))
        }
        let names = settings.searchDomains.compactMap { DNSName($0) }.flatMap(\.wireBytes)
        if !names.isEmpty { options.append(.init(Code.searchList, names)) }
        if refreshes { options.append(.init(Code.informationRefreshTime, DHCPv4Options.bytes(settings.leaseTime))) }
        if let name = settings.fullName.flatMap({ DNSName($0) }) {
            options.append(.init(Code.clientFQDN, [0] + name.wireBytes))
        }
        return options
    }

    // MARK: Changes

    /// Takes new settings.
    ///
    /// - Parameters:
    ///   - new: what to announce from now on.
    ///   - now: the time.
    /// - Returns: How much of the lease is wrong, and the RECONFIGURE for a client that accepts it.
    public mutating func update(
        _ new: ServiceSettings, now: Int64
    ) -> (change: DHCPv4Server.Change, message: DHCPv6Message?) {
        let before = (address: guest, details: information(refreshes: false))
        settings = new
        if let end = lease?.end, end <= now { lease = nil }
        guard isOn, let lease else { return (.nothing, nil) }
        let details = information(refreshes: false)
        // A lease that was wrong before this change, and still is, has been reported already.
        let isNew = before.address != guest || before.details != details
        if !isNew || lease.address == guest && lease.details == details { return (.nothing, nil) }
        let isWrong = lease.address != guest && before.address != guest
        return (isWrong ? .lease : .details, lease.takesReconfigure ? reconfigure(lease) : nil)
    }

    /// The message that makes the client renew at once (RFC 8415 §18.3.11), signed with the client's key.
    private mutating func reconfigure(_ lease: Lease) -> DHCPv6Message {
        let unsigned = key.unsigned()
        var message = DHCPv6Message(
            .reconfigure, transactionID: 0,
            options: [
                .init(Code.serverIdentifier, serverIdentifier), .init(Code.clientIdentifier, lease.client.identifier),
                .init(Code.reconfigureMessage, [DHCPv6Message.Kind.renew.rawValue]),
                .init(Code.authentication, unsigned),
            ])
        let signed = key.signed(unsigned, of: message.bytes)
        message.options[message.options.count - 1].data = signed
        return message
    }

    /// Messages for the user that have not been reported yet.
    mutating func takeRemarks() -> [String] { remarks.take() }
}

extension DHCPv6Server {
    /// Answers a client's message in a frame.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/udp`` over IPv6 to port 547.
    ///   - now: the time.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public mutating func reply(
        to frame: Span<UInt8>, summary: FrameSummary, now: Int64, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard summary.kind == .udp, !summary.isIPv4, summary.destinationPort == DHCPv6Message.serverPort,
            summary.destination.isMulticast, !summary.source.isMulticast, !summary.source.isUnspecified,
            summary.payloadLength <= frame.count - summary.payloadOffset
        else { return 0 }
        let end = summary.payloadOffset + summary.payloadLength
        guard let request = try? DHCPv6Message(frame.extracting(summary.payloadOffset..<end)),
            let answer = try? answer(to: request, mac: summary.sourceMAC, source: summary.source, now: now)
        else { return 0 }
        return write(answer, to: summary.source, at: summary.sourceMAC, into: &reply)
    }

    /// Writes a message to the client that has the lease in a frame.
    func write(toHolder message: DHCPv6Message, into frame: inout MutableSpan<UInt8>) -> Int {
        guard let lease else { return 0 }
        return write(message, to: lease.source, at: lease.client.mac, into: &frame)
    }

    private func write(
        _ message: DHCPv6Message, to destination: IPv6Address, at mac: MACAddress, into frame: inout MutableSpan<UInt8>
    ) -> Int {
        guard let own = settings.v6.ownAddress else { return 0 }
        return UDPHeader.writeFrame(
            message.bytes.span, from: DHCPv6Message.serverPort, to: DHCPv6Message.clientPort,
            ip: IPHeader(.v6, source: own, destination: destination, ipProtocol: .udp), to: mac,
            from: settings.gatewayMAC,
            into: &frame)
    }
}
