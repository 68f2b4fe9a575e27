// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A frame taken apart slowly and obviously, with no code of the rooms under test: what packet checks look at.
public struct DecodedPacket: Sendable {
    /// What went wrong in taking it apart; empty if nothing did.
    public var problems: [String] = []
    /// The whole frame.
    public var frame: [UInt8]
    /// Where the frame comes from.
    public var sourceMAC = MACAddress.zero
    /// Where it goes.
    public var destinationMAC = MACAddress.zero
    /// The type in the Ethernet header.
    public var etherType = 0
    /// The ARP message.
    public var arp: [UInt8] = []
    /// The source address of IP.
    public var source: IPAddress?
    /// The destination address of IP.
    public var destination: IPAddress?
    /// TTL or hop limit.
    public var hopLimit = 0
    /// The protocol above IP, behind extension headers.
    public var ipProtocol = -1
    /// The transport header and its payload.
    public var transport: [UInt8] = []
    /// What follows the transport's header; for ICMP its eight bytes.
    public var payload: [UInt8] = []
    /// The checksum of the transport is right.
    public var hasRightTransportChecksum = false

    /// Takes a frame apart.
    public init(_ frame: [UInt8]) {
        self.frame = frame
        guard frame.count >= 14 else {
            problems.append("no Ethernet header in \(frame.count) bytes")
            return
        }
        destinationMAC = Self.mac(frame, 0)
        sourceMAC = Self.mac(frame, 6)
        etherType = Self.number(frame, 12, 2)
        let packet = Array(frame[14...])
        switch etherType {
        case 0x0800: decodeIPv4(packet)
        case 0x86DD: decodeIPv6(packet)
        case 0x0806: arp = packet
        default: problems.append("EtherType 0x\(String(etherType, radix: 16))")
        }
    }

    /// A number of some bytes in network order.
    public static func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
        guard offset >= 0, offset + count <= bytes.count else { return -1 }
        return bytes[offset..<offset + count].reduce(0) { $0 << 8 | Int($1) }
    }

    /// The hardware address at an offset.
    public static func mac(_ bytes: [UInt8], _ offset: Int) -> MACAddress {
        MACAddress(rawValue: UInt64(max(0, number(bytes, offset, 6))))
    }

    /// The IPv4 address at an offset.
    public static func ipv4(_ bytes: [UInt8], _ offset: Int) -> IPv4Address {
        IPv4Address(rawValue: UInt32(max(0, number(bytes, offset, 4))))
    }

    /// The IPv6 address at an offset.
    public static func ipv6(_ bytes: [UInt8], _ offset: Int) -> IPv6Address {
        func half(_ offset: Int) -> UInt64 {
            UInt64(max(0, number(bytes, offset, 4))) << 32 | UInt64(max(0, number(bytes, offset + 4, 4)))
        }
        return IPv6Address(high: half(offset), low: half(offset + 8))
    }

    /// The Internet checksum of bytes, word by word (RFC 1071).
    public static func checksum(_ bytes: [UInt8]) -> Int {
        var sum = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += Int(bytes[index]) << 8 | (index + 1 < bytes.count ? Int(bytes[index + 1]) : 0)
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
        return ~sum & 0xFFFF
    }

    private mutating func decodeIPv4(_ packet: [UInt8]) {
        guard packet.count >= 20, packet[0] >> 4 == 4 else { return problems.append("no IPv4 header") }
        let headerLength = Int(packet[0] & 15) * 4
        let total = Self.number(packet, 2, 2)
        guard headerLength >= 20, total >= headerLength, total <= packet.count else {
            return problems.append("IPv4 header of \(headerLength), total \(total), of \(packet.count) bytes")
        }
        if Self.checksum(Array(packet[..<headerLength])) != 0 { problems.append("wrong IPv4 header checksum") }
        hopLimit = Int(packet[8])
        ipProtocol = Int(packet[9])
        source = .v4(Self.ipv4(packet, 12))
        destination = .v4(Self.ipv4(packet, 16))
        decodeTransport(Array(packet[headerLength..<total]), addresses: Array(packet[12..<20]))
    }

    private mutating func decodeIPv6(_ packet: [UInt8]) {
        guard packet.count >= 40, packet[0] >> 4 == 6 else { return problems.append("no IPv6 header") }
        let length = Self.number(packet, 4, 2)
        guard length <= packet.count - 40 else { return problems.append("IPv6 payload of \(length) bytes") }
        hopLimit = Int(packet[7])
        ipProtocol = Int(packet[6])
        source = .v6(Self.ipv6(packet, 8))
        destination = .v6(Self.ipv6(packet, 24))
        var rest = Array(packet[40..<40 + length])
        while [0, 43, 60].contains(ipProtocol), rest.count >= 8, rest.count >= (Int(rest[1]) + 1) * 8 {
            ipProtocol = Int(rest[0])
            rest.removeFirst((Int(rest[1]) + 1) * 8)
        }
        decodeTransport(rest, addresses: Array(packet[8..<40]))
    }

    private mutating func decodeTransport(_ bytes: [UInt8], addresses: [UInt8]) {
        transport = bytes
        var header = 8
        if ipProtocol == 6 {
            guard bytes.count >= 20 else { return problems.append("no TCP header") }
            header = Int(bytes[12] >> 4) * 4
        }
        guard [1, 6, 17, 58].contains(ipProtocol) else { return }
        guard header <= bytes.count else { return problems.append("transport header of \(header) bytes") }
        payload = Array(bytes[header...])
        if ipProtocol == 17, Self.number(bytes, 4, 2) != bytes.count { problems.append("wrong UDP length") }
        let pseudo =
            ipProtocol == 1
            ? []
            : addresses + [0, UInt8(ipProtocol)] + [bytes.count >> 24, bytes.count >> 16].map { UInt8($0 & 255) }
                + [UInt8(bytes.count >> 8 & 255), UInt8(bytes.count & 255)]
        hasRightTransportChecksum = Self.checksum(pseudo + bytes) == 0
    }

    /// A TCP option's data; nil if it is not there.
    public func tcpOption(_ kind: UInt8) -> [UInt8]? {
        guard ipProtocol == 6, transport.count >= 20 else { return nil }
        var options = transport[20..<transport.count - payload.count]
        while let first = options.first, first != 0 {
            if first == 1 {
                options = options.dropFirst()
                continue
            }
            guard let length = options.dropFirst().first.map({ Int($0) }), length >= 2, length <= options.count else {
                return nil
            }
            if first == kind { return Array(options.dropFirst(2).prefix(length - 2)) }
            options = options.dropFirst(length)
        }
        return nil
    }
}
