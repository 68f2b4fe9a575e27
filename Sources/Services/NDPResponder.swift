// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Answers Neighbour and Router Solicitations (RFC 4861).
public enum NDPResponder {
    /// The hop limit of all NDP messages; a forwarded message has a smaller one (RFC 4861 §7.1.1).
    private static let hopLimit: UInt8 = 255

    /// Answers a solicitation.
    ///
    /// A Neighbour Solicitation with a specified source is answered for any target except the namespace's own
    /// addresses; one from `::` is duplicate detection and is not answered. A Router Solicitation is answered if there
    /// is an advertisement.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/icmpv6``; the caller has verified the checksum.
    ///   - settings: the namespace's addresses and ours.
    ///   - neighbours: the host's neighbours.
    ///   - advertisement: the Router Advertisement; nil if none are sent.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, settings: ServiceSettings,
        neighbours: NeighbourTable = .init(), advertisement: RouterAdvertiser.Advertisement?,
        into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard settings.v6.isEnabled, summary.kind == .icmpv6, summary.hopLimit == hopLimit,
            !summary.source.isMulticast, !summary.sourceMAC.isMulticast,
            summary.transportLength <= frame.count - summary.transportOffset
        else { return 0 }
        let end = summary.transportOffset + summary.transportLength
        let message = frame.extracting(summary.transportOffset..<end)
        switch summary.icmpType {
        case ICMPv6Type.neighborSolicitation:
            guard settings.services.contains(.neighborDiscovery),
                let target = try? NeighborSolicitation(message).target, !summary.source.isUnspecified,
                !target.isUnspecified, !settings.v6.guestAddresses.contains(target)
            else { return 0 }
            let mac = neighbours.hardwareAddress(of: .v6(target), settings)
            let parts = NeighborAdvertisement(target: target, targetLinkAddress: mac).parts
            return parts.header.writeFrame(
                into: &reply, body: parts.body.span,
                ip: IPHeader(
                    .v6, source: settings.v6.ownAddress ?? target, destination: summary.source, ipProtocol: .icmpv6,
                    hopLimit: hopLimit),
                to: summary.sourceMAC, from: settings.gatewayMAC)
        case ICMPv6Type.routerSolicitation:
            guard let advertisement, (try? RouterSolicitation(message)) != nil else { return 0 }
            let toAll = summary.source.isUnspecified
            return write(
                advertisement, to: toAll ? .allNodes : summary.source,
                at: toAll ? .multicast(for: .allNodes) : summary.sourceMAC, from: settings.gatewayMAC, into: &reply)
        default: return 0
        }
    }

    /// Writes a Router Advertisement.
    ///
    /// - Parameters:
    ///   - advertisement: the content and the source address.
    ///   - destination: the receiver; all nodes for an unsolicited one.
    ///   - destinationMAC: its hardware address.
    ///   - mac: our hardware address.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if it does not fit.
    public static func write(
        _ advertisement: RouterAdvertiser.Advertisement, to destination: IPv6Address = .allNodes,
        at destinationMAC: MACAddress = .multicast(for: .allNodes), from mac: MACAddress,
        into frame: inout MutableSpan<UInt8>
    ) -> Int {
        let parts = advertisement.content.parts
        return parts.header.writeFrame(
            into: &frame, body: parts.body.span,
            ip: IPHeader(
                .v6, source: advertisement.source, destination: destination, ipProtocol: .icmpv6, hopLimit: hopLimit),
            to: destinationMAC, from: mac)
    }

    /// Asks for the guest address, so that the namespace learns our hardware address and we learn its.
    ///
    /// - Parameters:
    ///   - settings: the addresses.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if an address is missing.
    public static func solicitation(settings: ServiceSettings, into frame: inout MutableSpan<UInt8>) -> Int {
        guard settings.v6.isEnabled, settings.services.contains(.neighborDiscovery),
            let own = settings.v6.ownAddress, let guest = settings.v6.guestAddress?.address.v6
        else { return 0 }
        let group = guest.solicitedNode
        let parts = NeighborSolicitation(target: guest, sourceLinkAddress: settings.gatewayMAC).parts
        return parts.header.writeFrame(
            into: &frame, body: parts.body.span,
            ip: IPHeader(.v6, source: own, destination: group, ipProtocol: .icmpv6, hopLimit: hopLimit),
            to: .multicast(for: group), from: settings.gatewayMAC)
    }

    /// Announces the hardware address of an address without a request (RFC 4861 §7.2.6).
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - mac: its hardware address.
    ///   - isRouter: whether it is a router's.
    ///   - settings: our addresses.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if it does not fit.
    public static func announcement(
        of address: IPv6Address, at mac: MACAddress, isRouter: Bool, settings: ServiceSettings,
        into frame: inout MutableSpan<UInt8>
    ) -> Int {
        let parts = NeighborAdvertisement(
            target: address, targetLinkAddress: mac, isRouter: isRouter, isSolicited: false
        ).parts
        return parts.header.writeFrame(
            into: &frame, body: parts.body.span,
            ip: IPHeader(
                .v6, source: settings.v6.ownAddress ?? address, destination: .allNodes, ipProtocol: .icmpv6,
                hopLimit: hopLimit),
            to: .multicast(for: .allNodes), from: settings.gatewayMAC)
    }
}
