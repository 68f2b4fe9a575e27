// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A golden frame: bytes that a real program sent.
public struct Capture: Sendable, CustomStringConvertible {
    /// What it is.
    public let name: String
    /// The Ethernet frame.
    public let frame: [UInt8]

    /// Makes a golden frame of annotated hexadecimal digits.
    public init(_ name: String, _ digits: String) {
        self.name = name
        frame = hex(digits)
    }

    /// The name.
    public var description: String { name }

    /// All of them.
    public static let all: [Capture] = [
        .arpRequest, .arpReply, .echoRequest4, .echoReply4, .echoRequest6, .echoReply6, .laterFragment4,
        .laterFragment6, .tcpSYN4, .tcpSYNACK4, .tcpData4, .tcpFIN4, .tcpReset4, .tcpSYN6, .tcpData6, .udp4, .udp6,
        .udpWithExtensions, .udpLite, .portUnreachable4, .portUnreachable6, .duplicateDetection,
        .neighborSolicitation, .neighborAdvertisement, .routerSolicitation, .routerAdvertisement, .listenerReport,
        .dnsQuery, .dhcpDiscover, .dhcpOffer, .dhcpRequest, .dhcpAck, .dhcpv6Solicit, .dhcpv6Advertise,
        .dhcpv6Request, .dhcpv6Reply,
    ]
}
