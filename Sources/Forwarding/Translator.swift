// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Wire

/// The destination on the host of a new flow from the namespace, by the published rules (tapas(1), "Addresses").
///
/// It is evaluated for each new flow, never for an existing one, so that `--map-guest-addr` and the resolvers follow
/// the host.
struct Translator {
    /// The result for a new flow.
    enum Outcome: Equatable {
        /// A host socket to this endpoint; bound to an address or device, if given.
        case host(Endpoint, source: IPAddress?, device: String?)
        /// A query for the host's resolvers, of which there is at least one.
        case resolver(Endpoint)
        /// A query, but the host has no resolver.
        case noResolver
        /// The flow is refused.
        case refused(FlowDropReason)
    }

    var rules: TranslationRules

    /// Finds the outcome for a destination as the namespace sees it.
    func outbound(to address: IPAddress, port: UInt16, transport: IPProtocol) -> Outcome {
        let family = rules.families[address.family]
        guard family.isEnabled else { return .refused(.familyOff) }
        if address == family.dnsForward, port == 53 || port == 853, transport == .udp || transport == .tcp {
            guard let server = rules.dnsServers.first else { return .noResolver }
            // The relay chooses the server; the flow only begins here.
            return .resolver(Endpoint(address: server.address.asIPv6, port: port))
        }
        if address.isUnspecified || address.isLoopback { return .refused(.martian) }
        if transport == .tcp && (address.isMulticast || address.isBroadcast) { return .refused(.martian) }
        if address.isBroadcast { return .refused(.broadcast) }
        // A router that is the resolver, too: its DNS ports are its own, not the host's loopback's.
        let asksRouter = family.hostLoopbackIsResolver && (port == 53 || port == 853)
        if address == family.hostLoopback, !asksRouter {
            let loopback: IPv6Address = address.family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
            return .host(Endpoint(address: loopback, port: port), source: nil, device: nil)
        }
        var target = address
        if address == family.mappedGuestAddress {
            guard let host = family.hostAddress else { return .refused(.noHostAddress) }
            target = host
        }
        var scope: UInt32 = 0
        if Self.needsScope(target) {
            guard let interface = family.linkLocalScope else { return .refused(.noScope) }
            scope = interface.rawValue
        }
        return .host(
            Endpoint(address: target.asIPv6, port: port, scope: scope), source: family.outboundAddress,
            device: family.outboundInterface)
    }

    /// Whether an address has no meaning without an interface: link-local ones and groups of the link (RFC 4291 §2.7).
    private static func needsScope(_ address: IPAddress) -> Bool {
        guard case .v6(let v6) = address else { return false }
        return v6.isLinkLocal || (v6.isMulticast && v6.high >> 48 & 0xF <= 2)
    }
}
