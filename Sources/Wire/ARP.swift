// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// An ARP message for IPv4 over Ethernet (RFC 826).
public struct ARPMessage: Hashable, Sendable {
    /// The length of the message in bytes.
    public static let length = 28
    /// The length of a frame with the message in bytes, before padding.
    public static let frameLength = EthernetHeader.length + length

    /// The kind of the message.
    public enum Operation: UInt16, Hashable, Sendable {
        /// Who has the target address?
        case request = 1
        /// The sender address is at the sender's hardware address.
        case reply = 2
    }

    /// Field offsets from the start of the message.
    enum Offset {
        static let protocolType = 2
        static let lengths = 4
        static let operation = 6
        static let senderMAC = 8
        static let senderAddress = 14
        static let targetMAC = 18
        static let targetAddress = 24
    }

    /// Hardware type 1 is Ethernet; lengths are 6 and 4.
    private static let ethernet: UInt16 = 1
    private static let lengths: UInt16 = 0x0604

    /// What the message is.
    public var operation: Operation
    /// The sender's hardware address.
    public var senderMAC: MACAddress
    /// The sender's address; unspecified in a probe (RFC 5227 §1.1).
    public var senderAddress: IPv4Address
    /// The target's hardware address; zero in a request.
    public var targetMAC: MACAddress
    /// The target's address.
    public var targetAddress: IPv4Address

    /// Makes a message.
    public init(
        _ operation: Operation, senderMAC: MACAddress, senderAddress: IPv4Address, targetMAC: MACAddress = .zero,
        targetAddress: IPv4Address
    ) {
        self.operation = operation
        self.senderMAC = senderMAC
        self.senderAddress = senderAddress
        self.targetMAC = targetMAC
        self.targetAddress = targetAddress
    }

    /// Whether this asks whether an address is free (RFC 5227 §1.1).
    public var isProbe: Bool { operation == .request && senderAddress.isUnspecified }

    /// Whether this announces the sender's own address (RFC 5227 §1.1).
    public var isAnnouncement: Bool { senderAddress == targetAddress && !senderAddress.isUnspecified }

    /// Whether a frame that has an ARP type holds a message of this kind.
    static func isWellFormed(_ frame: Span<UInt8>) -> Bool {
        let start = EthernetHeader.length
        return frame.count >= frameLength && frame.bigEndian16(at: start) == ethernet
            && frame.bigEndian16(at: start + Offset.protocolType) == EtherType.ipv4.rawValue
            && frame.bigEndian16(at: start + Offset.lengths) == lengths
    }

    /// Reads the message of an Ethernet frame.
    ///
    /// - Parameter frame: the frame, Ethernet header included.
    /// - Throws: ``ParseError/truncated``, ``ParseError/badType`` (not for IPv4 over Ethernet), ``ParseError/badValue``
    ///   (operation).
    public init(frame: Span<UInt8>) throws(ParseError) {
        guard frame.count >= Self.frameLength else { throw .truncated }
        guard Self.isWellFormed(frame) else { throw .badType }
        let start = EthernetHeader.length
        guard let operation = Operation(rawValue: frame.bigEndian16(at: start + Offset.operation)) else {
            throw .badValue
        }
        self.operation = operation
        senderMAC = frame.macAddress(at: start + Offset.senderMAC)
        senderAddress = frame.ipv4Address(at: start + Offset.senderAddress)
        targetMAC = frame.macAddress(at: start + Offset.targetMAC)
        targetAddress = frame.ipv4Address(at: start + Offset.targetAddress)
    }

    /// Writes a frame with the message; ``frameLength`` bytes must be in bounds.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - destination: where the frame goes on the link; it comes from ``senderMAC``.
    /// - Returns: ``frameLength``.
    @discardableResult
    public func write(into frame: inout MutableSpan<UInt8>, to destination: MACAddress) -> Int {
        EthernetHeader(destination: destination, source: senderMAC, type: .arp).write(into: &frame)
        let start = EthernetHeader.length
        frame.store(Self.ethernet, at: start)
        frame.store(EtherType.ipv4.rawValue, at: start + Offset.protocolType)
        frame.store(Self.lengths, at: start + Offset.lengths)
        frame.store(operation.rawValue, at: start + Offset.operation)
        frame.store(senderMAC, at: start + Offset.senderMAC)
        frame.store(senderAddress, at: start + Offset.senderAddress)
        frame.store(targetMAC, at: start + Offset.targetMAC)
        frame.store(targetAddress, at: start + Offset.targetAddress)
        return Self.frameLength
    }
}
