// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Answers Neighbour and Router Solicitations (RFC 4861).
public enum NDPResponder {
    /// The hop limit of all NDP messages; one that was forwarded has less (RFC 4861 §7.1.1).
    private static let hopLimit: UInt8 = 255

    /// Answers a solicitation.
    ///
    /// A Neighbour Solicitation with a specified source is answered for any target but the guest address; one from
    /// `::` is duplicate detection and is not. A Router Solicitation is answered if there is an advertisement.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/icmpv6``; its checksum has been seen to.
    ///   - rules: the translation rules.
    ///   - routerAdvertisement: the advertisement; nil if none are sent.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules,
        routerAdvertisement: RouterAdvertisement?, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard rules.families.v6.isEnabled, summary.kind == .icmpv6, summary.hopLimit == hopLimit,
            !summary.source.isMulticast, !summary.sourceMAC.isMulticast,
            summary.transportLength <= frame.count - summary.transportOffset
        else { return 0 }
        let end = summary.transportOffset + summary.transportLength
        let message = frame.extracting(summary.transportOffset..<end)
        switch summary.icmpType {
        case ICMPv6Type.neighborSolicitation:
            guard let solicitation = try? NeighborSolicitation(message) else { return 0 }
            return advertise(solicitation.target, to: summary, rules: rules, into: &reply)
        case ICMPv6Type.routerSolicitation:
            guard let routerAdvertisement, (try? RouterSolicitation(message)) != nil else { return 0 }
            let toAll = summary.source.isUnspecified
            return advertise(
                routerAdvertisement, to: toAll ? .allNodes : summary.source,
                at: toAll ? .multicast(for: .allNodes) : summary.sourceMAC, rules: rules, into: &reply)
        default: return 0
        }
    }

    private static func advertise(
        _ target: IPv6Address, to summary: FrameSummary, rules: TranslationRules, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard !summary.source.isUnspecified, !target.isUnspecified, .v6(target) != rules.families.v6.guestAddress else {
            return 0
        }
        let parts = NeighborAdvertisement(target: target, targetLinkAddress: rules.gatewayMAC).parts
        let own = rules.families.v6.ownAddress?.v6 ?? target
        return parts.header.writeFrame(
            into: &reply, body: parts.body.span,
            ip: IPHeader(.v6, source: own, destination: summary.source, ipProtocol: .icmpv6, hopLimit: hopLimit),
            to: summary.sourceMAC, from: rules.gatewayMAC)
    }

    /// Writes a Router Advertisement from our link-local address.
    ///
    /// - Parameters:
    ///   - advertisement: what to say.
    ///   - destination: to whom; all nodes when nobody asked.
    ///   - destinationMAC: the hardware address of that.
    ///   - rules: the translation rules.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if it does not fit or we have no link-local address.
    public static func advertise(
        _ advertisement: RouterAdvertisement, to destination: IPv6Address = .allNodes,
        at destinationMAC: MACAddress = .multicast(for: .allNodes), rules: TranslationRules,
        into frame: inout MutableSpan<UInt8>
    ) -> Int {
        guard rules.families.v6.isEnabled, let own = rules.families.v6.ownAddress?.v6, own.isLinkLocal else { return 0 }
        let parts = advertisement.parts
        return parts.header.writeFrame(
            into: &frame, body: parts.body.span,
            ip: IPHeader(.v6, source: own, destination: destination, ipProtocol: .icmpv6, hopLimit: hopLimit),
            to: destinationMAC, from: rules.gatewayMAC)
    }

    /// Asks for the guest address, so that the namespace learns ours and we its hardware address.
    ///
    /// - Parameters:
    ///   - rules: the translation rules.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if an address is missing.
    public static func solicitation(rules: TranslationRules, into frame: inout MutableSpan<UInt8>) -> Int {
        let family = rules.families.v6
        guard family.isEnabled, let own = family.ownAddress?.v6, let guest = family.guestAddress?.v6 else { return 0 }
        let group = guest.solicitedNode
        let parts = NeighborSolicitation(target: guest, sourceLinkAddress: rules.gatewayMAC).parts
        return parts.header.writeFrame(
            into: &frame, body: parts.body.span,
            ip: IPHeader(.v6, source: own, destination: group, ipProtocol: .icmpv6, hopLimit: hopLimit),
            to: .multicast(for: group), from: rules.gatewayMAC)
    }
}
