// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes
public import Testing

/// One check of a packet; failures are sentences.
public struct PacketCheck: Sendable {
    let problems: @Sendable (DecodedPacket) -> [String]

    /// Makes a check from a function that returns the failures.
    public init(_ problems: @escaping @Sendable (DecodedPacket) -> [String]) {
        self.problems = problems
    }

    fileprivate static func differ<T: Equatable>(_ what: String, _ found: T, _ wanted: T?) -> [String] {
        guard let wanted, found != wanted else { return [] }
        return ["\(what) is \(found), not \(wanted)"]
    }
}

extension PacketCheck {
    /// The Ethernet header; nil leaves a field.
    public static func ethernet(from source: MACAddress? = nil, to destination: MACAddress? = nil) -> PacketCheck {
        PacketCheck { packet in
            differ("source MAC", packet.sourceMAC, source)
                + differ("destination MAC", packet.destinationMAC, destination)
        }
    }

    /// An ARP message for IPv4 over Ethernet.
    public static func arp(
        operation: Int, senderMAC: MACAddress? = nil, sender: IPv4Address? = nil, targetMAC: MACAddress? = nil,
        target: IPv4Address? = nil
    ) -> PacketCheck {
        PacketCheck { packet in
            guard packet.arp.count >= 28 else { return ["no ARP message"] }
            return differ("ARP types", Array(packet.arp[..<6]), [0, 1, 8, 0, 6, 4])
                + differ("ARP operation", DecodedPacket.number(packet.arp, 6, 2), operation)
                + differ("sender MAC", DecodedPacket.mac(packet.arp, 8), senderMAC)
                + differ("sender", DecodedPacket.ipv4(packet.arp, 14), sender)
                + differ("target MAC", DecodedPacket.mac(packet.arp, 18), targetMAC)
                + differ("target", DecodedPacket.ipv4(packet.arp, 24), target)
        }
    }

    /// The IP header of either family; nil leaves a field.
    public static func ip(
        from source: IPAddress? = nil, to destination: IPAddress? = nil, hopLimit: Int? = nil
    ) -> PacketCheck {
        PacketCheck { packet in
            guard let foundSource = packet.source, let foundDestination = packet.destination else {
                return ["no IP header"]
            }
            return differ("source", foundSource, source) + differ("destination", foundDestination, destination)
                + differ("hop limit", packet.hopLimit, hopLimit)
        }
    }

    /// A TCP segment; nil leaves a field.
    ///
    /// Flags are FIN 1, SYN 2, RST 4, PSH 8, ACK 16; an absent option is 0 (size) or 255 (scale).
    public static func tcp(
        from source: Int? = nil, to destination: Int? = nil, sequence: UInt32? = nil, acknowledgment: UInt32? = nil,
        flags: UInt8? = nil, window: Int? = nil, maximumSegmentSize: Int? = nil, windowScale: UInt8? = nil
    ) -> PacketCheck {
        PacketCheck { packet in
            guard packet.ipProtocol == 6, packet.transport.count >= 20 else { return ["no TCP header"] }
            let bytes = packet.transport
            func word(_ offset: Int) -> UInt32 { UInt32(DecodedPacket.number(bytes, offset, 4)) }
            var problems = differ("source port", DecodedPacket.number(bytes, 0, 2), source)
            problems += differ("destination port", DecodedPacket.number(bytes, 2, 2), destination)
            problems += differ("sequence", word(4), sequence)
            problems += differ("acknowledgment", word(8), acknowledgment)
            problems += differ("flags", bytes[13], flags)
            problems += differ("window", DecodedPacket.number(bytes, 14, 2), window)
            let size = packet.tcpOption(2).map { DecodedPacket.number($0, 0, 2) } ?? 0
            problems += differ("maximum segment size", size, maximumSegmentSize)
            problems += differ("window scale", packet.tcpOption(3)?.first ?? .max, windowScale)
            return problems
        }
    }

    /// A UDP datagram; nil leaves a field.
    public static func udp(from source: Int? = nil, to destination: Int? = nil) -> PacketCheck {
        PacketCheck { packet in
            guard packet.ipProtocol == 17 else { return ["no UDP header"] }
            return differ("source port", DecodedPacket.number(packet.transport, 0, 2), source)
                + differ("destination port", DecodedPacket.number(packet.transport, 2, 2), destination)
        }
    }

    /// An ICMP message of the packet's family; `rest` is its second word.
    public static func icmp(type: UInt8, code: UInt8 = 0, rest: UInt32? = nil) -> PacketCheck {
        PacketCheck { packet in
            guard packet.transport.count >= 8, packet.ipProtocol == (packet.etherType == 0x0800 ? 1 : 58) else {
                return ["no ICMP message"]
            }
            return differ("ICMP type", packet.transport[0], type) + differ("ICMP code", packet.transport[1], code)
                + differ("ICMP second word", UInt32(DecodedPacket.number(packet.transport, 4, 4)), rest)
        }
    }

    /// The transport's payload.
    public static func payload(_ bytes: [UInt8]) -> PacketCheck {
        PacketCheck { packet in
            packet.payload == bytes ? [] : ["payload is\n\(hexDump(packet.payload))\nnot\n\(hexDump(bytes))"]
        }
    }

    /// The length of the transport's payload in bytes.
    public static func payloadLength(_ count: Int) -> PacketCheck {
        PacketCheck { packet in differ("payload length", packet.payload.count, count) }
    }

    /// The transport's checksum is right (as it is not where it is left to the receiver).
    public static var transportChecksum: PacketCheck {
        PacketCheck { packet in packet.hasRightTransportChecksum ? [] : ["wrong transport checksum"] }
    }
}

/// Expects a frame to be well formed and to pass all checks; records what does not hold, with the frame.
///
/// - Parameters:
///   - frame: the Ethernet frame, without virtio header.
///   - checks: what to hold of it.
///   - sourceLocation: where the test says so.
public func expectPacket(
    _ frame: some Sequence<UInt8>, _ checks: PacketCheck..., sourceLocation: SourceLocation = #_sourceLocation
) {
    let packet = DecodedPacket(Array(frame))
    let problems = packet.problems + checks.flatMap { $0.problems(packet) }
    guard !problems.isEmpty else { return }
    Issue.record(
        "\(problems.joined(separator: "; ")) in\n\(hexDump(packet.frame))", sourceLocation: sourceLocation)
}
