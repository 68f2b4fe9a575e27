// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Some frames are not for a flow but for the link itself: ARP, neighbour discovery, queries for the address that
// stands for the host's resolvers. This is the one place that knows them. `service(for:)` says from the summary alone
// which service a frame belongs to, and `serve` hands the frame to it. Only what is left over may open or reach a flow.
//
// A host that has no address yet sends from 0.0.0.0 or `::`. Each service says for itself whether it takes such a frame
// (`LinkService.takesUnspecifiedSource`); every other frame with such a source is dropped and counted here.
//
// A new service is a case of `LinkService`, a line in `service(for:)` and one in `serve`.

internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import Wire

/// The services of the link, which stand in front of the flows.
enum LinkService {
    /// Hardware addresses for IPv4 (RFC 826).
    case arp
    /// Neighbour and Router Solicitations and whatever else is Neighbour Discovery (RFC 4861).
    case neighborDiscovery
    /// Queries over UDP for the host's resolvers (`--dns-forward`).
    case dns

    /// Whether the service takes frames from 0.0.0.0 or `::`: duplicate address detection and Router Solicitations come
    /// from there.
    var takesUnspecifiedSource: Bool {
        switch self {
        case .arp, .neighborDiscovery: true
        case .dns: false
        }
    }
}

extension DataPath {
    /// The service that a frame is for; nil if it is for a flow.
    @inline(__always)
    func service(for summary: FrameSummary) -> LinkService? {
        switch summary.kind {
        case .arp: .arp
        case .icmpv6:
            (ICMPv6Type.routerSolicitation...ICMPv6Type.redirect).contains(summary.icmpType) ? .neighborDiscovery : nil
        case .udp: summary.destinationPort == 53 && isForResolvers(summary) ? .dns : nil
        case .tcp, .icmpv4, .fragment, .otherProtocol: nil
        }
    }

    /// Whether a frame goes to the address that stands for the host's resolvers.
    @inline(never)
    private func isForResolvers(_ summary: FrameSummary) -> Bool {
        let rules = translator.rules.families[summary.family]
        return rules.isEnabled && IPAddress(summary.family, summary.destination) == rules.dnsForward
    }

    /// Hands a frame to its service; `isReassembled` says whether it was put together of fragments.
    @inline(never)
    mutating func serve(
        _ service: LinkService, _ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int,
        isReassembled: Bool
    ) {
        if summary.hasUnspecifiedSource && !service.takesUnspecifiedSource { return counters.drop(.martian) }
        if summary.kind != .arp { learnSource(summary) }
        switch service {
        case .arp:
            reply { span, rules in
                ARPResponder.reply(to: unsafe Self.bytes(frame, count), summary: summary, rules: rules, into: &span)
            }
        case .neighborDiscovery:
            guard options.answersNeighborDiscovery else { return counters.drop(.protocolOff) }
            // RFC 6980 §5: such messages do not come in fragments.
            guard !isReassembled else { return counters.drop(FlowDropReason.fragment) }
            let advertisement = options.advertisesRouter ? routerAdvertisement : nil
            reply { span, rules in
                NDPResponder.reply(
                    to: unsafe Self.bytes(frame, count), summary: summary, rules: rules,
                    routerAdvertisement: advertisement, into: &span)
            }
        case .dns:
            guard options.forwardsUDP else { return counters.drop(.protocolOff) }
            unsafe receiveQuery(summary, frame: frame, count: count)
        }
    }

    /// The advertisement for a namespace that is told, not programmed.
    private var routerAdvertisement: RouterAdvertisement {
        let address = translator.rules.families.v6.guestAddress.flatMap { Prefix($0, length: 64) }
        return RouterAdvertisement(rules: translator.rules, guestAddress: address, isManaged: false)
    }
}
