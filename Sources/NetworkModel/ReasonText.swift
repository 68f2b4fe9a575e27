// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

extension Reason.Cause {
    /// The sentence for people, without the family; only this function makes it.
    ///
    /// - Parameter family: the family that the reason concerns.
    /// - Returns: the sentence, without a full stop.
    public func text(_ family: AddressFamily?) -> String {
        switch self {
        case .off(let isAskedFor):
            isAskedFor ? "off: the namespace's kernel has no \(family?.description ?? "")" : "off: not asked for"
        case .mode(let mode): "mode \(mode)"
        case .interfaceName(let name, .option): "interface name \(name): given with -I"
        case .interfaceName(let name, .template(let family)): "interface name \(name): the \(family) template's"
        case .interfaceName(let name, .fallback): "interface name \(name): there is no template"
        case .interfaceName(let name, .mirrored): "interface name \(name): the mirrored interface's"
        case .interfaceName(let name, .constant): "interface name \(name): the same with any host"
        case .lookupInconclusive, .defaultRefused, .candidate, .noCandidate, .mirrors, .namedInterface, .templateAbsent,
            .outboundUnusable, .outboundAbsent:
            templateText(family)
        case .gateway, .noGateway, .ownAddress, .address, .onlyLinkLocalAddress, .addressLeftOut, .sourceIsEmpty,
            .addressesBeyondLimit, .lingers,
            .unusualGuestAddress, .guestIsGateway:
            addressText
        case .routeCopied, .routeLeftOut, .routeAdded, .routerRouteAdded, .routeUnreachable, .moreRoutes: routeText
        case .queriesGoTo, .forwardsDNS, .forwardsDNSAlways, .mappedAddressIsGuest, .noResolverToAnnounce,
            .dhcpRoutesDropped,
            .advertisementDropped:
            serviceText
        }
    }

    private func templateText(_ family: AddressFamily?) -> String {
        switch self {
        case .lookupInconclusive(let gap): return "\(gap.text); the main table decides"
        case .defaultRefused(let errno):
            return "the host refuses the default (errno \(errno)): no interface is copied until it is back, "
                + "lest the one below a VPN is shown"
        case .candidate(let candidate): return candidate.text(family)
        case .noCandidate: return "no host interface has a route that is not link-local"
        case .mirrors(let name, .absent): return "\(name) is absent: the namespace has nothing"
        case .mirrors(let name, .fit): return "\(name) is mirrored"
        case .mirrors(let name, let fitness): return "\(name) is mirrored; \(fitness.text(family))"
        case .namedInterface(let name, let option, let fitness):
            switch fitness {
            case .fit: return "template \(name): named with \(option)"
            case .absent: return "\(name) (\(option)) is absent"
            case .noCarrier: return "\(name) (\(option)) has no carrier"
            default: return "\(name) (\(option)): \(fitness.text(family))"
            }
        case .templateAbsent(let name): return "interface \(name) of -i is not there now"
        case .outboundUnusable(let name):
            return "interface \(name) of --outbound-if\(family == .v4 ? 4 : 6) is not usable now"
        case .outboundAbsent(let address):
            return "the host does not have \(address) (-o) now: new connections leave from the address that it chooses"
        default: return ""
        }
    }

    private var addressText: String {
        switch self {
        case .gateway(let address, .option): return "gateway \(address): given with -g"
        case .gateway(let address, .template(let name)): return "gateway \(address): that of \(name)'s default route"
        case .gateway(let address, .local): return "gateway \(address): the local one"
        case .gateway(let address, .constant): return "gateway \(address): the same with any host"
        case .noGateway(let name, hasDefault: true):
            return "no gateway: \(name)'s default route has none of this family"
        case .noGateway(let name, hasDefault: false): return "no gateway: \(name) has no default route"
        case .ownAddress(let address): return "tapas speaks from \(address) on the link"
        case .address(let prefix, let origin): return "address \(prefix)\(origin.text)"
        case .onlyLinkLocalAddress: return "no address but the kernel's own link-local one"
        case .addressLeftOut(let prefix, let defect): return "address \(prefix) is not copied: \(defect.text)"
        case .sourceIsEmpty(let name, let fitness):
            let lack = fitness == .absent || fitness == .noCarrier ? "\(fitness.text(nil))" : "no usable one"
            return "no address of \(name) (-a): \(lack)"
        case .addressesBeyondLimit(let limit):
            return "addresses beyond \(limit) are left out: name fewer interfaces with -a"
        case .lingers(let address, let count):
            let flows = count == 1 ? "one flow that uses it" : "\(count) flows that use it"
            return "address \(address) is not planned any more and stays for \(flows)"
        case .unusualGuestAddress(let guest, let isBroadcast, let example):
            let kind =
                isBroadcast
                ? "broadcast address"
                : guest.family == .v4 ? "network address" : "network address (subnet-router anycast)"
            var advice = example.map { "; a usable one would be \($0)" } ?? ""
            if let example, !isBroadcast, example.isSlirpGuest {
                advice += ", which slirp makes of it (--slirp \(guest.network))"
            }
            return "guest address \(guest.address) is the \(kind) of \(guest.network): used as given\(advice)"
        case .guestIsGateway(let address): return "guest address and gateway are both \(address)"
        default: return ""
        }
    }

    private var routeText: String {
        switch self {
        case .routeCopied(let route, let template):
            return "route \(route.text) is copied" + (template.map { " with the next hops that are on \($0)" } ?? "")
        case .routeLeftOut(let route, let defect): return "route \(route.text) is left out: \(defect.text)"
        case .routeAdded(let route): return "route \(route.text) is made"
        case .routerRouteAdded(let router):
            return "router \(router) is outside the namespace's networks: it is made one on the link"
        case .routeUnreachable(let route, let name):
            return "route \(route.text) of \(name) is skipped: its gateway is unreachable"
        case .moreRoutes(let count, .copied, let name): return "and \(count) more routes of \(name) are copied"
        case .moreRoutes(let count, .leftOut, let name): return "and \(count) more routes of \(name) are left out"
        case .moreRoutes(let count, .unreachable, let name):
            return "and \(count) more routes of \(name) are skipped: their gateways are unreachable"
        default: return ""
        }
    }

    private var serviceText: String {
        switch self {
        case .queriesGoTo(let servers, let areGiven):
            guard !servers.isEmpty else { return "no resolver on the host: forwarded queries fail at once" }
            let list = servers.map { server in "\(server.address)" + (server.zone.map { "%\($0)" } ?? "") }
            return "forwarded queries go to \(list.joined(separator: ", ")): "
                + (areGiven ? "given with --dns-host" : "the host's resolvers")
        case .forwardsDNS(let address, let hidden?):
            return "DNS to \(address) is forwarded: the host's resolver is \(hidden)"
        case .forwardsDNS(let address, nil): return "DNS to \(address) is forwarded: given with --dns-forward"
        case .forwardsDNSAlways(let address): return "DNS to \(address) is forwarded: the same with any host"
        case .mappedAddressIsGuest(let address, let mapping):
            return "\(address) stands for \(mapping.text) but is the namespace's own address: "
                + "nothing sent to it leaves the namespace"
        case .noResolverToAnnounce(isSuppressed: true): return "--dhcp-dns announces no resolver: -D none is given"
        case .noResolverToAnnounce(isSuppressed: false):
            return "--dhcp-dns announces no resolver: the host has none that the namespace can reach"
        case .dhcpRoutesDropped(let count, let all):
            return "\(count) of \(all) routes do not fit the DHCP option and are not told"
        case .advertisementDropped(let count):
            return "\(count) prefixes and routes do not fit a Router Advertisement and are not told"
        default: return ""
        }
    }
}

extension Prefix {
    /// Whether slirp gives a guest this address in the address's network (`--slirp`).
    fileprivate var isSlirpGuest: Bool {
        guard case .v4(let guest) = address, (8...27).contains(length) else { return false }
        return guest.rawValue & ~Self.mask4(length) == 0x20F & ~Self.mask4(length)
    }
}

extension Reason.LookupGap {
    /// The words for people.
    fileprivate var text: String {
        switch self {
        case .notAsked: "the kernel was not asked for its way out"
        case .noRoute: "the kernel knows no way out"
        case .refusedByOwnRoute(let probe): "a route of its own refuses \(probe)"
        case .isLocal(let probe): "the kernel's answer for \(probe) is not a way out"
        case .ownRoute(let probe): "a route of its own leads to \(probe)"
        }
    }
}

extension Reason.Rank {
    /// The words for people: why an interface is considered.
    public var text: String {
        switch self {
        case .kernel(let route):
            "the kernel sends packets to everywhere through it" + (route.map { ", \($0.text)" } ?? "")
        case .defaultRoute(let route): route.text
        case .otherRoute(let destination): "no default, route to \(destination)"
        }
    }
}

extension Reason.DefaultRoute {
    fileprivate var text: String { "default route\(source.map { " from \($0)" } ?? ""), metric \(metric)" }
}

extension Reason.Fitness {
    /// The words for people: what an interface lacks; empty for one that is fit.
    public func text(_ family: AddressFamily?) -> String {
        switch self {
        case .fit: ""
        case .absent: "absent"
        case .noCarrier: "no carrier"
        case .tentative: "its addresses are still tentative"
        case .noAddress: "it has no \(family?.description ?? "") address"
        case .noUsableAddress: "it has no usable \(family?.description ?? "") address"
        }
    }
}

extension Reason.Candidate {
    fileprivate func text(_ family: AddressFamily?) -> String {
        switch outcome {
        case .judged(.fit): "template \(name): \(rank.text)"
        case .judged(let fitness): "\(name) is not the template (\(rank.text)): \(fitness.text(family))"
        case .outranked(let first): "\(name) is not the template (\(rank.text)): \(first) comes first"
        }
    }
}

extension Reason.AddressOrigin {
    /// What follows the address.
    fileprivate var text: String {
        switch self {
        case .option(.given): ": given with -a, its length as given"
        case .option(.addressClass): ": given with -a, its length by the address's class"
        case .option(.usual): ": given with -a, its length the usual one"
        case .local: ": the local one"
        case .constant: ": the same with any host"
        case .mirroredLink: " is the link's own, as on the host"
        case .onlyOneOf(let name): ": the one of \(name), others are not to be copied"
        case .template(let name, let isLengthGiven, let isGuest):
            " is copied from \(name)\(isLengthGiven ? ", its length as given with -n" : "")"
                + (isGuest ? "; it is the guest address" : "")
        }
    }
}

extension Reason.AddressDefect {
    fileprivate var text: String {
        switch self {
        case .linkLocal: "link-local"
        case .tentative: "tentative"
        case .duplicate: "duplicate detection failed"
        case .deprecated: "deprecated"
        case .temporary: "temporary"
        case .notUnicast: "not a unicast address"
        case .embedsIPv4: "stands for an IPv4 address"
        case .scopeHost: "scope host"
        case .scopeLink: "scope link"
        }
    }
}

extension Reason.RouteDefect {
    fileprivate var text: String {
        switch self {
        case .shadowed: "the kernel uses another one in its place"
        case .deadNextHops: "its next hops are dead"
        case .ofEveryLink: "every link has its own"
        case .foreignSource: "it is for sources that the namespace does not have"
        case .madeWithAddress: "the kernel makes it with the address"
        case .ofAddressLeftOut: "it belongs to an address that is not copied"
        }
    }
}

extension Reason.Mapping {
    fileprivate var text: String {
        switch self {
        case .hostLoopback: "the host's loopback"
        case .hostAddress: "the host's own address"
        case .dnsForwarding: "DNS forwarding"
        }
    }
}
