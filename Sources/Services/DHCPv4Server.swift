// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Assigns the namespace its one IPv4 address (RFC 2131).
///
/// Theory of operation. There is one guest, so there is one lease, and the server remembers its client. A client is the
/// holder of the lease if either its identifier or its hardware address matches. Other clients are not answered while
/// the lease lasts, because two machines behind the link (a bridge in the namespace) cannot have one address.
///
/// The server is authoritative for its link: a client that requests another address is refused at once (NAK), so that
/// it starts again. The refusal names the server that the client has its lease from, which may be a former address of
/// tapas: busybox's udhcpc ignores the refusal of a server that it does not know.
///
/// A change of the host makes the lease wrong. ``update(_:now:)`` determines which part is wrong, and makes the message
/// for clients that accept FORCERENEW with a nonce (RFC 6704).
///
/// Time is in milliseconds of any monotonic clock.
public struct DHCPv4Server: Sendable {
    private typealias Code = DHCPv4Message.OptionCode

    /// How much of a lease is wrong.
    public enum Change: Comparable, Sendable {
        /// Nothing is wrong, or there is no lease.
        case nothing
        /// Resolvers, names or times.
        case details
        /// The address, the prefix, the router, the routes or the MTU.
        case lease
    }

    /// The holder of the lease, and the configuration that it was sent.
    private struct Lease {
        var client: Client
        var address: IPv4Address
        /// The server, as the client knows it.
        var server: IPv4Address
        /// The number of the client's last exchange: dhcpcd takes no FORCERENEW with another one.
        var transactionID: UInt32
        var announced: [UInt8: [UInt8]]
        /// When the lease ends; nil for never.
        var end: Int64?
        var takesForceRenew: Bool
    }

    /// A client, by its identifier (RFC 2132 §9.14) and its hardware address.
    private struct Client {
        var identifier: [UInt8]?
        var mac: MACAddress

        init(_ message: DHCPv4Message) {
            identifier = message[Code.clientIdentifier]
            mac = message.clientMAC
        }

        func isSame(as other: Client) -> Bool {
            mac == other.mac || identifier != nil && identifier == other.identifier
        }
    }

    /// How busybox's udhcpc begins its vendor class: "udhcp 1.35.0".
    private static let udhcpcClass = Array("udhcp ".utf8)
    /// The algorithm of the nonce: HMAC-MD5.
    private static let nonceAlgorithm: UInt8 = 1
    /// The options whose change needs a new lease, not only a new answer.
    private static let essentials = [Code.subnetMask, Code.router, Code.classlessRoutes, Code.interfaceMTU]
    /// The greatest number of former server addresses that are remembered.
    private static let mostFormerServers = 8

    private var settings: ServiceSettings
    private var lease: Lease?
    /// The holder of the lease that ended last, and the server as that client knows it.
    private var last: (client: Client, server: IPv4Address)?
    private var key: ReconfigurationKey
    /// The server's former addresses; a client that accepts an offer from one is refused.
    private var formerServers: [IPv4Address] = []
    private var hasWarned = false
    /// Messages for the user, each once.
    private var remarks = Remarks()

    /// Makes a server.
    ///
    /// - Parameters:
    ///   - settings: what to announce.
    ///   - key: the secret for FORCERENEW.
    public init(settings: ServiceSettings, key: ReconfigurationKey) {
        self.settings = settings
        self.key = key
    }

    /// The hardware address of the client that has the lease; nil if there is none.
    public var clientMAC: MACAddress? { lease?.client.mac }

    private var isOn: Bool { settings.v4.isEnabled && settings.services.contains(.dhcpv4) }

    // MARK: Answers

    /// Answers a message.
    ///
    /// A DISCOVER is offered the address, or granted it at once if the client allows that (RFC 4039). A REQUEST is
    /// granted if it names the address or none, refused if it names another one, and not answered if it is meant for
    /// another server. INFORM is answered with the settings, without a lease (RFC 2131 §4.3.5). RELEASE and DECLINE end
    /// the lease. BOOTP clients are granted the address.
    ///
    /// - Parameters:
    ///   - request: the client's message.
    ///   - now: the time.
    /// - Returns: the answer; nil if none is due.
    public mutating func answer(to request: DHCPv4Message, now: Int64) -> DHCPv4Message? {
        guard isOn, !request.isReply, let address = settings.v4.guestAddress?.address.v4,
            let server = settings.v4.serverAddress
        else { return nil }
        if request.kind == .inform { return information(for: request) }
        let client = Client(request)
        guard mayServe(client, now: now) else { return nil }
        let named = request.address(Code.serverIdentifier)
        switch request.kind {
        case .discover:
            let isRapid = request[Code.rapidCommit] != nil
            return grant(isRapid ? .acknowledgment : .offer, isRapid: isRapid, address, to: client, request, now)
        case .request:
            if let named, named != server {
                return formerServers.contains(named) ? refusal(of: request, by: named) : nil
            }
            let wanted = request.address(Code.requestedAddress) ?? request.clientAddress
            guard wanted.isUnspecified || wanted == address else {
                return refusal(of: request, by: named ?? known(by: client) ?? server)
            }
            return grant(.acknowledgment, isRapid: false, address, to: client, request, now)
        case .decline where named == server:
            let declined = request.address(Code.requestedAddress)?.description ?? "its address"
            remarks.add("the DHCP client \(client.mac) says that \(declined) is in use in the namespace")
            lease = nil
            return nil
        case .release where named == server || named == nil:
            lease = nil
            return nil
        case nil where request[Code.messageType] == nil:
            return grant(.acknowledgment, isRapid: false, address, to: client, request, now)
        default: return nil
        }
    }

    /// Ends the lease if its time is over, and remembers the server for a client that comes late.
    private mutating func endLease(_ now: Int64) {
        guard let lease, let end = lease.end, end <= now else { return }
        last = (lease.client, lease.server)
        self.lease = nil
    }

    /// The server from which a client has, or had, its lease.
    private func known(by client: Client) -> IPv4Address? {
        if let lease, lease.client.isSame(as: client) { return lease.server }
        return last.flatMap { $0.client.isSame(as: client) ? $0.server : nil }
    }

    /// Whether a client may have the lease: it has it already, or there is none.
    private mutating func mayServe(_ client: Client, now: Int64) -> Bool {
        endLease(now)
        guard let holder = lease?.client, !holder.isSame(as: client) else { return true }
        if !hasWarned {
            hasWarned = true
            remarks.add(
                "the DHCP client \(client.mac) is not answered: the namespace has one address, and \(holder.mac) has it"
            )
        }
        return false
    }

    /// How long the client may have the address, in seconds.
    private func leaseTime(for request: DHCPv4Message) -> UInt32 {
        let isUdhcpc = request[Code.vendorClass]?.starts(with: Self.udhcpcClass) ?? false
        return isUdhcpc ? settings.udhcpcLeaseTime : settings.leaseTime
    }

    private mutating func grant(
        _ kind: DHCPv4Message.Kind, isRapid: Bool, _ address: IPv4Address, to client: Client,
        _ request: DHCPv4Message, _ now: Int64
    ) -> DHCPv4Message {
        let configuration = DHCPv4Options(settings: settings).configuration
        let time = leaseTime(for: request)
        var data = configuration.merging(DHCPv4Options.lease(time)) { $1 }
        data[Code.messageType] = [kind.rawValue]
        if isRapid { data[Code.rapidCommit] = [] }
        let takesForceRenew = request[Code.forceRenewNonceCapable]?.contains(Self.nonceAlgorithm) ?? false
        if takesForceRenew {
            data[Code.forceRenewNonceCapable] = [Self.nonceAlgorithm]
            if kind == .acknowledgment { data[Code.authentication] = key.offer() }
        }
        if kind == .acknowledgment {
            lease = Lease(
                client: client, address: address, server: settings.v4.serverAddress ?? address,
                transactionID: request.transactionID, announced: configuration,
                end: time == ServiceSettings.infinite ? nil : now + Int64(time) * 1000,
                takesForceRenew: takesForceRenew)
        }
        var reply = DHCPv4Message(replyTo: request)
        reply.yourAddress = address
        reply.options = DHCPv4Options.ordered(data, wanted: request[Code.parameterRequestList] ?? [])
        return reply
    }

    private func information(for request: DHCPv4Message) -> DHCPv4Message? {
        guard !request.clientAddress.isUnspecified else { return nil }
        var data = DHCPv4Options(settings: settings).configuration
        data[Code.messageType] = [DHCPv4Message.Kind.acknowledgment.rawValue]
        var reply = DHCPv4Message(replyTo: request)
        reply.options = DHCPv4Options.ordered(data, wanted: request[Code.parameterRequestList] ?? [])
        return reply
    }

    /// A refusal contains only the server's address (RFC 2131 §4.3.2 and table 3), and is broadcast unless the client
    /// renews.
    private func refusal(of request: DHCPv4Message, by server: IPv4Address) -> DHCPv4Message {
        var reply = DHCPv4Message(replyTo: request)
        reply.wantsBroadcast = true
        reply.clientAddress = .unspecified
        reply.options = [
            .init(Code.messageType, [DHCPv4Message.Kind.negativeAcknowledgment.rawValue]),
            .init(Code.serverIdentifier, DHCPv4Options.bytes(server)),
        ]
        return reply
    }

    // MARK: Changes

    /// Takes new settings.
    ///
    /// - Parameters:
    ///   - new: what to announce from now on.
    ///   - now: the time.
    /// - Returns: How much of the lease is wrong, and the FORCERENEW for a client that accepts it.
    public mutating func update(_ new: ServiceSettings, now: Int64) -> (change: Change, message: DHCPv4Message?) {
        if let old = settings.v4.serverAddress, old != new.v4.serverAddress {
            formerServers = ([old] + formerServers.filter { $0 != old }).dropLast(
                max(0, formerServers.count + 1 - Self.mostFormerServers))
        }
        let old = settings
        settings = new
        if let server = new.v4.serverAddress { formerServers.removeAll { $0 == server } }
        endLease(now)
        guard isOn, let lease else { return (.nothing, nil) }
        let address = new.v4.guestAddress?.address.v4
        let configuration = DHCPv4Options(settings: new).configuration
        let before = DHCPv4Options(settings: old).configuration
        // A lease that was wrong before this change, and still is, has been reported already.
        let isNew = old.v4.guestAddress?.address.v4 != address || before != configuration
        if !isNew || lease.address == address && lease.announced == configuration { return (.nothing, nil) }
        func differ(_ announced: [UInt8: [UInt8]]) -> Bool {
            Self.essentials.contains { announced[$0] != configuration[$0] }
        }
        let isWrong = lease.address != address || differ(lease.announced)
        let isEssential = old.v4.guestAddress?.address.v4 != address || differ(before)
        return (isWrong && isEssential ? .lease : .details, lease.takesForceRenew ? forceRenew(lease) : nil)
    }

    /// The message that makes the client renew at once (RFC 3203), signed with the client's nonce.
    private mutating func forceRenew(_ lease: Lease) -> DHCPv4Message {
        var message = DHCPv4Message(
            request: .forceRenew, transactionID: lease.transactionID, clientMAC: lease.client.mac)
        message.isReply = true
        message.clientAddress = lease.address
        let unsigned = key.unsigned()
        message.options.append(.init(Code.serverIdentifier, DHCPv4Options.bytes(lease.server)))
        message.options.append(.init(Code.authentication, unsigned))
        let signed = key.signed(unsigned, of: message.bytes)
        message.options[message.options.count - 1].data = signed
        return message
    }

    /// Messages for the user that have not been reported yet.
    mutating func takeRemarks() -> [String] { remarks.take() }
}

extension DHCPv4Server {
    /// Answers a client's message in a frame.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/udp`` over IPv4 to port 67.
    ///   - now: the time.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public mutating func reply(
        to frame: Span<UInt8>, summary: FrameSummary, now: Int64, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard summary.kind == .udp, summary.isIPv4, summary.destinationPort == DHCPv4Message.serverPort,
            summary.payloadLength <= frame.count - summary.payloadOffset
        else { return 0 }
        let end = summary.payloadOffset + summary.payloadLength
        guard let request = try? DHCPv4Message(frame.extracting(summary.payloadOffset..<end)),
            let answer = answer(to: request, now: now)
        else { return 0 }
        // A client that renews has sent from its address to ours, and listens there: dhcpcd and systemd-networkd do not
        // hear a refusal that is broadcast then.
        let isDirect =
            answer.kind == .negativeAcknowledgment && summary.destination != IPv6Address(mapping: .broadcast)
            && !request.clientAddress.isUnspecified
        return write(
            answer, optionsLimit: request.answersOptionsLimit, at: isDirect ? request.clientAddress : nil,
            to: summary.sourceMAC, into: &reply)
    }

    /// Writes a message to the client in a frame; `address` says where it listens if the message does not.
    func write(
        _ message: DHCPv4Message, optionsLimit: Int = DHCPv4Message.maximumOptionsLength,
        at address: IPv4Address? = nil, to mac: MACAddress, into frame: inout MutableSpan<UInt8>
    ) -> Int {
        guard let server = message.address(DHCPv4Message.OptionCode.serverIdentifier) else { return 0 }
        // INFORM and FORCERENEW go to the client's address.
        let target = address ?? (message.yourAddress.isUnspecified ? message.clientAddress : message.yourAddress)
        let toAll = address == nil && message.wantsBroadcast || target.isUnspecified
        return UDPHeader.writeFrame(
            message.bytes(optionsUpTo: optionsLimit).span, from: DHCPv4Message.serverPort, to: DHCPv4Message.clientPort,
            ip: IPHeader(
                .v4, source: IPv6Address(mapping: server),
                destination: IPv6Address(mapping: toAll ? .broadcast : target),
                ipProtocol: .udp),
            to: mac, from: settings.gatewayMAC, into: &frame)
    }
}
