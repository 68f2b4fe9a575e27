// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes
public import Wire

/// Answers ARP: everything on the link is at our hardware address, except what the namespace has itself.
public enum ARPResponder {
    /// Answers a request.
    ///
    /// Not answered are announcements, requests for the guest address, and probes for addresses that are not ours:
    /// who probes wants the address for itself (RFC 5227 §2.1.1).
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/arp``.
    ///   - rules: the translation rules.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        let family = rules.families.v4
        guard family.isEnabled, reply.count >= ARPMessage.frameLength, let request = try? ARPMessage(frame: frame),
            request.operation == .request, !request.isAnnouncement, !summary.sourceMAC.isMulticast
        else { return 0 }
        let target = IPAddress.v4(request.targetAddress)
        guard !target.isUnspecified, !target.isMulticast, !target.isBroadcast, target != family.guestAddress else {
            return 0
        }
        if request.isProbe, !family.owns(target) { return 0 }
        return ARPMessage(
            .reply, senderMAC: rules.gatewayMAC, senderAddress: request.targetAddress, targetMAC: request.senderMAC,
            targetAddress: request.senderAddress
        ).write(into: &reply, to: summary.sourceMAC)
    }

    /// Asks for the guest address, so that the namespace learns ours and we its hardware address.
    ///
    /// - Parameters:
    ///   - rules: the translation rules.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes, or 0 if an address is missing.
    public static func solicitation(rules: TranslationRules, into frame: inout MutableSpan<UInt8>) -> Int {
        let family = rules.families.v4
        guard family.isEnabled, frame.count >= ARPMessage.frameLength, let own = family.ownAddress?.v4,
            let guest = family.guestAddress?.v4
        else { return 0 }
        return ARPMessage(.request, senderMAC: rules.gatewayMAC, senderAddress: own, targetAddress: guest)
            .write(into: &frame, to: .broadcast)
    }
}
