// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Answers ARP for every address on the link except the namespace's own.
public enum ARPResponder {
    /// Answers a request.
    ///
    /// Announcements, requests for the namespace's own addresses, and probes are not answered. A probe is answered if
    /// its target is one of our addresses or a real neighbour's, because another machine would then have a conflict
    /// (RFC 5227 §2.1.1).
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/arp``.
    ///   - settings: the namespace's addresses and ours.
    ///   - neighbours: the host's neighbours.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, settings: ServiceSettings,
        neighbours: NeighbourTable = .init(), into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard settings.v4.isEnabled, reply.count >= ARPMessage.frameLength,
            let request = try? ARPMessage(frame: frame), request.operation == .request, !request.isAnnouncement,
            !summary.sourceMAC.isMulticast
        else { return 0 }
        let target = request.targetAddress
        guard !target.isUnspecified, !target.isMulticast, !target.isBroadcast,
            !settings.v4.guestAddresses.contains(target)
        else { return 0 }
        if request.isProbe, !settings.v4.ownAddresses.contains(target), neighbours.addresses[.v4(target)] == nil {
            return 0
        }
        return ARPMessage(
            .reply, senderMAC: neighbours.hardwareAddress(of: .v4(target), settings), senderAddress: target,
            targetMAC: request.senderMAC, targetAddress: request.senderAddress
        ).write(into: &reply, to: summary.sourceMAC)
    }

    /// Asks for the guest address, so that the namespace learns our hardware address and we learn its.
    ///
    /// - Parameters:
    ///   - settings: the addresses.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if an address is missing.
    public static func solicitation(settings: ServiceSettings, into frame: inout MutableSpan<UInt8>) -> Int {
        guard settings.v4.isEnabled, frame.count >= ARPMessage.frameLength, let own = settings.v4.serverAddress,
            let guest = settings.v4.guestAddress?.address.v4, own != guest
        else { return 0 }
        return ARPMessage(.request, senderMAC: settings.gatewayMAC, senderAddress: own, targetAddress: guest)
            .write(into: &frame, to: .broadcast)
    }

    /// Announces an address on the link (RFC 5227 §3).
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - mac: its hardware address.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if it does not fit.
    public static func announcement(
        of address: IPv4Address, at mac: MACAddress, into frame: inout MutableSpan<UInt8>
    ) -> Int {
        guard frame.count >= ARPMessage.frameLength else { return 0 }
        return ARPMessage(.request, senderMAC: mac, senderAddress: address, targetAddress: address)
            .write(into: &frame, to: .broadcast)
    }
}
