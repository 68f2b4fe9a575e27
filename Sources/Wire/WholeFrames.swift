// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// Whole frames with finished checksums in one step, for answers that are not made for each packet. Each returns the
/// length of the frame in bytes, or 0 if it does not fit into the memory or into an IP packet.

extension UDPHeader {
    /// Writes a frame with one datagram.
    ///
    /// - Parameters:
    ///   - payload: the datagram's payload.
    ///   - sourcePort: the source port.
    ///   - destinationPort: the destination port.
    ///   - ip: the IP header; its protocol must be UDP.
    ///   - destinationMAC: where the frame goes.
    ///   - sourceMAC: where it comes from.
    ///   - frame: where to write.
    /// - Returns: the frame's length in bytes, or 0 if it does not fit.
    public static func writeFrame(
        _ payload: Span<UInt8>, from sourcePort: UInt16, to destinationPort: UInt16, ip: IPHeader,
        to destinationMAC: MACAddress, from sourceMAC: MACAddress, into frame: inout MutableSpan<UInt8>
    ) -> Int {
        let total = EthernetHeader.length + ip.length + length + payload.count
        guard total <= frame.count, ip.length + length + payload.count <= 0xFFFF else { return 0 }
        let header = UDPHeader(sourcePort: sourcePort, destinationPort: destinationPort, payloadLength: payload.count)
        let offset = ip.writeFrame(
            into: &frame, to: destinationMAC, from: sourceMAC, payloadLength: length + payload.count)
        let checksum = header.write(into: &frame, at: offset, ip: ip)
        frame.store(payload, at: offset + length)
        checksum.finish(in: &frame, payloadLength: payload.count)
        return total
    }
}

extension ICMPHeader {
    /// Writes a frame with this message.
    ///
    /// - Parameters:
    ///   - frame: where to write.
    ///   - body: what follows the eight bytes of this header.
    ///   - ip: the IP header; its protocol must be the ICMP of its family.
    ///   - destinationMAC: where the frame goes.
    ///   - sourceMAC: where it comes from.
    /// - Returns: the frame's length in bytes, or 0 if it does not fit.
    public func writeFrame(
        into frame: inout MutableSpan<UInt8>, body: Span<UInt8>, ip: IPHeader, to destinationMAC: MACAddress,
        from sourceMAC: MACAddress
    ) -> Int {
        let total = EthernetHeader.length + ip.length + Self.length + body.count
        guard total <= frame.count, ip.length + Self.length + body.count <= 0xFFFF else { return 0 }
        let offset = ip.writeFrame(
            into: &frame, to: destinationMAC, from: sourceMAC, payloadLength: Self.length + body.count)
        let checksum = write(into: &frame, at: offset, ip: ip, payloadLength: body.count)
        frame.store(body, at: offset + Self.length)
        checksum.finish(in: &frame, payloadLength: body.count)
        return total
    }
}
