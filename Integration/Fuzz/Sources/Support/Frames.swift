// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

/// Frames around an input, so that a fuzzer of one message spends its time in that message.
public enum Frames {
    /// Ethernet, IPv4 and UDP from an address without a number, or from one that was given.
    public static func udpv4(_ payload: some Collection<UInt8>, from source: UInt16, to destination: UInt16) -> [UInt8]
    {
        let length = 28 + payload.count
        let addresses: [UInt8] = [0, 0, 0, 0, 255, 255, 255, 255]
        var header: [UInt8] = [0x45, 0, UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length)]
        header += [0, 0, 0, 0, 64, 17, 0, 0] + addresses
        let sum = checksum(header)
        header[10] = UInt8(truncatingIfNeeded: sum >> 8)
        header[11] = UInt8(truncatingIfNeeded: sum)
        return ethernet(0x0800) + header + udp(payload, source, destination, 0) + payload
    }

    /// Ethernet, IPv6 and UDP from a link-local address to a group of DHCPv6.
    public static func udpv6(_ payload: some Collection<UInt8>, from source: UInt16, to destination: UInt16) -> [UInt8]
    {
        ethernet(0x86DD) + ipv6(8 + payload.count, 17, [0xFF, 2] + [UInt8](repeating: 0, count: 11) + [1, 0, 2])
            + udp(payload, source, destination, 0xFFFF) + payload
    }

    /// Ethernet, IPv6 and what is given as ICMPv6, to all nodes.
    public static func icmpv6(_ message: some Collection<UInt8>) -> [UInt8] {
        ethernet(0x86DD) + ipv6(message.count, 58, [0xFF, 2] + [UInt8](repeating: 0, count: 13) + [1]) + message
    }

    /// Ethernet, IPv4 and a TCP segment with options: at most 40 bytes, filled up with zeros to a multiple of 4.
    public static func tcpv4(options: some Collection<UInt8>) -> [UInt8] {
        var options = Array(options.prefix(40))
        while options.count % 4 != 0 { options.append(0) }
        let length = 40 + options.count
        var header: [UInt8] = [0x45, 0, 0, UInt8(length), 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 15, 198, 51, 100, 1]
        let sum = checksum(header)
        header[10] = UInt8(truncatingIfNeeded: sum >> 8)
        header[11] = UInt8(truncatingIfNeeded: sum)
        let tcp: [UInt8] = [
            0x80, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, UInt8((20 + options.count) / 4) << 4, 2, 255, 255, 0, 0, 0, 0,
        ]
        return ethernet(0x0800) + header + tcp + options
    }

    private static func ethernet(_ type: UInt16) -> [UInt8] {
        [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, UInt8(type >> 8), UInt8(truncatingIfNeeded: type)]
    }

    private static func ipv6(_ length: Int, _ next: UInt8, _ destination: [UInt8]) -> [UInt8] {
        [0x60, 0, 0, 0, UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length), next, 255]
            + [0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [1] + destination
    }

    private static func udp(_ payload: some Collection<UInt8>, _ source: UInt16, _ destination: UInt16, _ sum: UInt16)
        -> [UInt8]
    {
        let length = UInt16(truncatingIfNeeded: 8 + payload.count)
        return [source, destination, length, sum].flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
    }

    private static func checksum(_ header: [UInt8]) -> UInt16 {
        var sum = 0
        for index in stride(from: 0, to: header.count, by: 2) {
            sum += Int(header[index]) << 8 | Int(header[index + 1])
        }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return ~UInt16(sum)
    }

    /// The services of a namespace with both families.
    public static let settings: ServiceSettings = {
        var settings = ServiceSettings()
        settings.services = .all
        settings.v4.isEnabled = true
        settings.v4.guestAddress = Prefix("192.0.2.15/24")
        settings.v4.serverAddress = IPv4Address("192.0.2.2")
        settings.v4.guestAddresses = [IPv4Address(192, 0, 2, 15)]
        settings.v4.ownAddresses = [IPv4Address(192, 0, 2, 2), IPv4Address(192, 0, 2, 3)]
        settings.v6.isEnabled = true
        settings.v6.guestAddress = Prefix("2001:db8::15/64")
        settings.v6.ownAddress = IPv6Address("fe80::1")
        return settings
    }()
}
