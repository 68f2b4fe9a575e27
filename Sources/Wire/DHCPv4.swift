// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A DHCP message for IPv4 over Ethernet (RFC 2131), or the BOOTP message that it extends.
public struct DHCPv4Message: Hashable, Sendable {
    /// The server's UDP port.
    public static let serverPort: UInt16 = 67
    /// The client's UDP port.
    public static let clientPort: UInt16 = 68

    /// The kind of a message (RFC 2132 §9.6).
    public enum Kind: UInt8, Hashable, Sendable {
        /// The client looks for servers.
        case discover = 1
        /// A server offers this configuration.
        case offer = 2
        /// The client requests or renews a lease.
        case request = 3
        /// The address is in use.
        case decline = 4
        /// The server grants the request.
        case acknowledgment = 5
        /// The server refuses the request.
        case negativeAcknowledgment = 6
        /// The address is no longer needed.
        case release = 7
        /// The client requests settings without a lease.
        case inform = 8
        /// The client must renew now (RFC 3203).
        case forceRenew = 9
    }

    /// The numbers of options (RFC 2132 and later).
    public enum OptionCode {
        /// Subnet mask.
        public static let subnetMask: UInt8 = 1
        /// Routers.
        public static let router: UInt8 = 3
        /// DNS servers.
        public static let domainNameServer: UInt8 = 6
        /// Host name.
        public static let hostName: UInt8 = 12
        /// The interface's MTU.
        public static let interfaceMTU: UInt8 = 26
        /// The address that is asked for.
        public static let requestedAddress: UInt8 = 50
        /// The lease's time in seconds.
        public static let leaseTime: UInt8 = 51
        /// The kind of the message.
        public static let messageType: UInt8 = 53
        /// The server's address.
        public static let serverIdentifier: UInt8 = 54
        /// The options that the client wants.
        public static let parameterRequestList: UInt8 = 55
        /// The longest message that the client takes, in bytes (RFC 2132 §9.10).
        public static let maximumMessageSize: UInt8 = 57
        /// When to renew, in seconds.
        public static let renewalTime: UInt8 = 58
        /// When to ask any server, in seconds.
        public static let rebindingTime: UInt8 = 59
        /// The kind of the client (RFC 2132 §9.13).
        public static let vendorClass: UInt8 = 60
        /// The client's identifier (RFC 2132 §9.14).
        public static let clientIdentifier: UInt8 = 61
        /// Authentication (RFC 3118).
        public static let authentication: UInt8 = 90
        /// The algorithms by which the client authenticates a FORCERENEW (RFC 6704 §3.1.1).
        public static let forceRenewNonceCapable: UInt8 = 145
        /// An acknowledgment may come at once (RFC 4039).
        public static let rapidCommit: UInt8 = 80
        /// The client's full name (RFC 4702).
        public static let clientFQDN: UInt8 = 81
        /// Domains to search (RFC 3397).
        public static let domainSearch: UInt8 = 119
        /// Routes (RFC 3442).
        public static let classlessRoutes: UInt8 = 121

        static let pad: UInt8 = 0
        static let end: UInt8 = 255
    }

    /// Field offsets.
    private enum Offset {
        static let hardwareType = 1
        static let hardwareLength = 2
        static let transactionID = 4
        static let flags = 10
        static let clientAddress = 12
        static let yourAddress = 16
        static let serverAddress = 20
        static let relayAddress = 24
        static let hardwareAddress = 28
        static let cookie = 236
        static let options = 240
    }

    private static let ethernet: UInt8 = 1
    private static let hardwareLength: UInt8 = 6
    private static let cookie: UInt32 = 0x6382_5363
    private static let broadcastFlag: UInt16 = 0x8000
    /// The message has at least this length, options with their end included: BOOTP messages have 300 bytes (RFC 951,
    /// RFC 1542 §2.1).
    private static let minimumOptionsLength = 60
    /// The greatest length of all options in bytes, without their end, that a client of 576-byte packets accepts.
    public static let maximumOptionsLength = 307

    /// An option.
    public struct Option: Hashable, Sendable {
        /// Its number.
        public var code: UInt8
        /// Its data, at most 255 bytes.
        public var data: [UInt8]

        /// Makes an option.
        public init(_ code: UInt8, _ data: [UInt8]) {
            self.code = code
            self.data = data
        }
    }

    /// Whether this is from a server.
    public var isReply: Bool
    /// The number that reply and request share.
    public var transactionID: UInt32
    /// Whether the client takes replies by broadcast only.
    public var wantsBroadcast: Bool
    /// The address that the client has (`ciaddr`).
    public var clientAddress: IPv4Address
    /// The address that the client gets (`yiaddr`).
    public var yourAddress: IPv4Address
    /// The next server (`siaddr`).
    public var serverAddress: IPv4Address
    /// The relay (`giaddr`).
    public var relayAddress: IPv4Address
    /// The client's hardware address (`chaddr`).
    public var clientMAC: MACAddress
    /// The options in their order.
    public var options: [Option]

    /// Makes the reply to a message, with no address and no options yet.
    public init(replyTo request: DHCPv4Message) {
        isReply = true
        transactionID = request.transactionID
        wantsBroadcast = request.wantsBroadcast
        clientAddress = request.clientAddress
        yourAddress = .unspecified
        serverAddress = .unspecified
        relayAddress = request.relayAddress
        clientMAC = request.clientMAC
        options = []
    }

    /// Makes a client's message.
    public init(request kind: Kind, transactionID: UInt32, clientMAC: MACAddress, options: [Option] = []) {
        isReply = false
        self.transactionID = transactionID
        wantsBroadcast = false
        clientAddress = .unspecified
        yourAddress = .unspecified
        serverAddress = .unspecified
        relayAddress = .unspecified
        self.clientMAC = clientMAC
        self.options = [Option(OptionCode.messageType, [kind.rawValue])] + options
    }

    /// Reads a message; parts of an option that comes more than once are joined (RFC 3396).
    ///
    /// - Parameter message: the payload of a UDP datagram.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType`` (operation, hardware, or no options),
    ///   ``ParseError/badLength`` (an option).
    public init(_ message: Span<UInt8>) throws(ParseError) {
        guard message.count >= Offset.options else { throw .truncated }
        guard (1...2).contains(message[0]), message[Offset.hardwareType] == Self.ethernet,
            message[Offset.hardwareLength] == Self.hardwareLength,
            message.bigEndian32(at: Offset.cookie) == Self.cookie
        else { throw .badType }
        isReply = message[0] == 2
        transactionID = message.bigEndian32(at: Offset.transactionID)
        wantsBroadcast = message.bigEndian16(at: Offset.flags) & Self.broadcastFlag != 0
        clientAddress = message.ipv4Address(at: Offset.clientAddress)
        yourAddress = message.ipv4Address(at: Offset.yourAddress)
        serverAddress = message.ipv4Address(at: Offset.serverAddress)
        relayAddress = message.ipv4Address(at: Offset.relayAddress)
        clientMAC = message.macAddress(at: Offset.hardwareAddress)
        options = []
        var offset = Offset.options
        while offset < message.count, message[offset] != OptionCode.end {
            let code = message[offset]
            offset += 1
            if code == OptionCode.pad { continue }
            guard offset < message.count else { throw .badLength }
            let length = Int(message[offset])
            guard length < message.count - offset else { throw .badLength }
            append(code, message.extracting(offset + 1..<offset + 1 + length))
            offset += 1 + length
        }
    }

    private mutating func append(_ code: UInt8, _ data: Span<UInt8>) {
        var bytes: [UInt8] = []
        for index in data.indices { bytes.append(data[index]) }
        if let index = options.firstIndex(where: { $0.code == code }) {
            options[index].data += bytes
        } else {
            options.append(Option(code, bytes))
        }
    }

    /// The data of an option; nil if it is absent.
    public subscript(code: UInt8) -> [UInt8]? {
        options.first { $0.code == code }?.data
    }

    /// The address in an option of four bytes.
    public func address(_ code: UInt8) -> IPv4Address? {
        guard let data = self[code], data.count == 4 else { return nil }
        return IPv4Address(data[0], data[1], data[2], data[3])
    }

    /// The kind of the message; nil for BOOTP and for unknown kinds.
    public var kind: Kind? {
        guard let data = self[OptionCode.messageType], data.count == 1 else { return nil }
        return Kind(rawValue: data[0])
    }

    /// The greatest length of an answer's options in bytes.
    ///
    /// It is what the client accepts (RFC 2132 §9.10), at least ``maximumOptionsLength`` and at most what fits an
    /// Ethernet frame.
    public var answersOptionsLimit: Int {
        guard let data = self[OptionCode.maximumMessageSize], data.count == 2 else { return Self.maximumOptionsLength }
        let size = Int(data[0]) << 8 | Int(data[1])
        // The IP and UDP headers are part of the size; the end option takes a byte.
        return min(max(size - 28 - Offset.options - 1, Self.maximumOptionsLength), 1200)
    }

    /// The message's bytes: the payload of a UDP datagram.
    ///
    /// Options that do not fit, or whose data is longer than 255 bytes, are left out.
    public var bytes: [UInt8] { bytes(optionsUpTo: Self.maximumOptionsLength) }

    /// The message's bytes, with options up to a given length.
    ///
    /// - Parameter optionsLimit: the greatest length of all options, in bytes.
    /// - Returns: The payload of a UDP datagram; options that do not fit are left out.
    public func bytes(optionsUpTo optionsLimit: Int) -> [UInt8] {
        var writer = MessageWriter()
        writer.append([isReply ? 2 : 1, Self.ethernet, Self.hardwareLength, 0])
        writer.append(transactionID)
        writer.append(UInt16(0))
        writer.append(wantsBroadcast ? Self.broadcastFlag : 0)
        writer.append(clientAddress)
        writer.append(yourAddress)
        writer.append(serverAddress)
        writer.append(relayAddress)
        writer.append(clientMAC)
        writer.appendZeros(Offset.cookie - writer.count)
        writer.append(Self.cookie)
        let limit = Offset.options + optionsLimit
        for option in options where option.data.count <= 255 && option.data.count + 2 <= limit - writer.count {
            writer.append([option.code, UInt8(option.data.count)])
            writer.append(option.data)
        }
        writer.append(OptionCode.end)
        writer.appendZeros(Offset.options + Self.minimumOptionsLength - writer.count)
        return writer.bytes
    }
}
