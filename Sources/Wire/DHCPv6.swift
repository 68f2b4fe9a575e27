// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A DHCPv6 message between client and server (RFC 8415 §8).
public struct DHCPv6Message: Hashable, Sendable {
    /// The server's UDP port.
    public static let serverPort: UInt16 = 547
    /// The client's UDP port.
    public static let clientPort: UInt16 = 546

    /// The kind of a message (RFC 8415 §7.3).
    public enum Kind: UInt8, Hashable, Sendable {
        /// The client looks for servers.
        case solicit = 1
        /// A server offers its service.
        case advertise = 2
        /// The client requests addresses.
        case request = 3
        /// The client asks whether its addresses are right for this link.
        case confirm = 4
        /// The client asks the server that assigned its addresses to extend them.
        case renew = 5
        /// The client asks any server to extend its addresses.
        case rebind = 6
        /// The server's answer with what it grants.
        case reply = 7
        /// The addresses are no longer needed.
        case release = 8
        /// The addresses are in use.
        case decline = 9
        /// The client must ask again.
        case reconfigure = 10
        /// The client requests settings without addresses.
        case informationRequest = 11
    }

    /// The numbers of options (RFC 8415 §21, RFC 3646, RFC 4704).
    public enum OptionCode {
        /// The client's identifier.
        public static let clientIdentifier: UInt16 = 1
        /// The server's identifier.
        public static let serverIdentifier: UInt16 = 2
        /// An association of addresses.
        public static let identityAssociation: UInt16 = 3
        /// An address in an association.
        public static let address: UInt16 = 5
        /// The options that the client wants.
        public static let optionRequest: UInt16 = 6
        /// Authentication.
        public static let authentication: UInt16 = 11
        /// A status.
        public static let status: UInt16 = 13
        /// A REPLY may come at once.
        public static let rapidCommit: UInt16 = 14
        /// The message that the client must send after a RECONFIGURE.
        public static let reconfigureMessage: UInt16 = 19
        /// RECONFIGURE is accepted, or may be sent.
        public static let reconfigureAccept: UInt16 = 20
        /// DNS servers.
        public static let dnsServers: UInt16 = 23
        /// Domains to search.
        public static let searchList: UInt16 = 24
        /// When to ask for settings again, in seconds.
        public static let informationRefreshTime: UInt16 = 32
        /// The client's full name.
        public static let clientFQDN: UInt16 = 39
    }

    /// The result in a status option (RFC 8415 §21.13).
    public enum Status: UInt16, Hashable, Sendable {
        /// Success.
        case success = 0
        /// There is no address to give.
        case noAddressesAvailable = 2
        /// The server knows of no such lease.
        case noBinding = 3
        /// An address is not right for the link.
        case notOnLink = 4
    }

    /// An option.
    public struct Option: Hashable, Sendable {
        /// Its number.
        public var code: UInt16
        /// Its data, at most 65,535 bytes.
        public var data: [UInt8]

        /// Makes an option.
        public init(_ code: UInt16, _ data: [UInt8]) {
            self.code = code
            self.data = data
        }

        /// Makes a status option without text.
        public init(status: Status) {
            code = OptionCode.status
            data = [UInt8(status.rawValue >> 8), UInt8(status.rawValue & 0xFF)]
        }

        fileprivate static func readAll(_ bytes: Span<UInt8>) throws(ParseError) -> [Option] {
            var options: [Option] = []
            var offset = 0
            while offset < bytes.count {
                guard bytes.count - offset >= 4 else { throw .badLength }
                let length = Int(bytes.bigEndian16(at: offset + 2))
                guard length <= bytes.count - offset - 4 else { throw .badLength }
                var writer = MessageWriter()
                writer.append(copying: bytes.extracting(offset + 4..<offset + 4 + length))
                options.append(Option(bytes.bigEndian16(at: offset), writer.bytes))
                offset += 4 + length
            }
            return options
        }

        fileprivate func write(to writer: inout MessageWriter) {
            writer.append(code)
            writer.append(UInt16(truncatingIfNeeded: data.count))
            writer.append(data)
        }
    }

    /// An association of addresses that are not temporary, IA_NA (RFC 8415 §21.4).
    public struct IdentityAssociation: Hashable, Sendable {
        /// An address with its lifetimes (RFC 8415 §21.6).
        public struct Address: Hashable, Sendable {
            /// The address.
            public var address: IPv6Address
            /// How long it is preferred, in seconds.
            public var preferredLifetime: UInt32
            /// How long it is valid, in seconds; 0 removes it.
            public var validLifetime: UInt32

            /// Makes an address with one lifetime.
            public init(_ address: IPv6Address, lifetime: UInt32) {
                self.address = address
                preferredLifetime = lifetime
                validLifetime = lifetime
            }
        }

        /// The client's number for the association.
        public var identifier: UInt32
        /// When to renew, in seconds.
        public var renewalTime: UInt32
        /// When to ask any server, in seconds.
        public var rebindingTime: UInt32
        /// The addresses.
        public var addresses: [Address]
        /// The status; nil for none.
        public var status: Status?

        /// Makes an association.
        public init(
            identifier: UInt32, renewalTime: UInt32 = 0, rebindingTime: UInt32 = 0, addresses: [Address] = [],
            status: Status? = nil
        ) {
            self.identifier = identifier
            self.renewalTime = renewalTime
            self.rebindingTime = rebindingTime
            self.addresses = addresses
            self.status = status
        }

        /// Reads the data of an option.
        ///
        /// - Parameter data: the option's data.
        /// - Throws: ``ParseError/truncated``, ``ParseError/badLength`` (an option inside).
        public init(_ data: Span<UInt8>) throws(ParseError) {
            guard data.count >= 12 else { throw .truncated }
            identifier = data.bigEndian32(at: 0)
            renewalTime = data.bigEndian32(at: 4)
            rebindingTime = data.bigEndian32(at: 8)
            addresses = []
            for option in try Option.readAll(data.extracting(12..<data.count)) {
                let bytes = option.data.span
                if option.code == OptionCode.address {
                    guard bytes.count >= 24 else { throw .badLength }
                    var address = Address(bytes.ipv6Address(at: 0), lifetime: bytes.bigEndian32(at: 16))
                    address.validLifetime = bytes.bigEndian32(at: 20)
                    addresses.append(address)
                } else if option.code == OptionCode.status {
                    guard bytes.count >= 2 else { throw .badLength }
                    status = Status(rawValue: bytes.bigEndian16(at: 0))
                }
            }
        }

        /// The association as an option.
        public var option: Option {
            var writer = MessageWriter()
            writer.append(identifier)
            writer.append(renewalTime)
            writer.append(rebindingTime)
            for address in addresses {
                writer.append(OptionCode.address)
                writer.append(UInt16(24))
                writer.append(address.address)
                writer.append(address.preferredLifetime)
                writer.append(address.validLifetime)
            }
            if let status { Option(status: status).write(to: &writer) }
            return Option(OptionCode.identityAssociation, writer.bytes)
        }
    }

    /// The kind of the message.
    public var kind: Kind
    /// The number that reply and request share, 24 bits.
    public var transactionID: UInt32
    /// The options in their order.
    public var options: [Option]

    /// Makes a message.
    public init(_ kind: Kind, transactionID: UInt32, options: [Option] = []) {
        self.kind = kind
        self.transactionID = transactionID & 0xFF_FFFF
        self.options = options
    }

    /// Reads a message; those of relays are refused.
    ///
    /// - Parameter message: the payload of a UDP datagram.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType``, ``ParseError/badLength`` (an option).
    public init(_ message: Span<UInt8>) throws(ParseError) {
        guard message.count >= 4 else { throw .truncated }
        guard let kind = Kind(rawValue: message[0]) else { throw .badType }
        self.kind = kind
        transactionID = message.bigEndian32(at: 0) & 0xFF_FFFF
        options = try Option.readAll(message.extracting(4..<message.count))
    }

    /// The data of the first option of a number; nil if it is absent.
    public subscript(code: UInt16) -> [UInt8]? {
        options.first { $0.code == code }?.data
    }

    /// The associations of addresses.
    ///
    /// - Returns: those in the message, in their order.
    /// - Throws: as ``IdentityAssociation/init(_:)``.
    public func identityAssociations() throws(ParseError) -> [IdentityAssociation] {
        var associations: [IdentityAssociation] = []
        for option in options where option.code == OptionCode.identityAssociation {
            associations.append(try IdentityAssociation(option.data.span))
        }
        return associations
    }

    /// The message's bytes: the payload of a UDP datagram.
    public var bytes: [UInt8] {
        var writer = MessageWriter()
        writer.append(UInt32(kind.rawValue) << 24 | transactionID)
        for option in options { option.write(to: &writer) }
        return writer.bytes
    }
}
