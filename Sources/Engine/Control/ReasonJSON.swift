// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import JSON
internal import NetworkModel
internal import NetworkTypes

extension Reason {
    /// The reason for programs: family, rule and the sentence.
    var json: JSONValue {
        ["family": JSONValue(family?.word), "rule": JSONValue(cause.rule), "text": JSONValue(text)]
    }
}

extension Reason.Cause {
    /// The rule's word in the protocol (docs/control.md).
    var rule: String {
        switch self {
        case .off: "off"
        case .mode: "mode"
        case .interfaceName: "interface-name"
        case .lookupInconclusive: "lookup-silent"
        case .defaultRefused: "default-refused"
        case .candidate(let candidate): candidate.outcome.word
        case .noCandidate: "no-candidate"
        case .namedInterface(_, _, let fitness), .mirrors(_, let fitness), .sourceIsEmpty(_, let fitness): fitness.word
        case .gateway, .noGateway: "gateway"
        case .ownAddress: "own-address"
        case .address, .onlyLinkLocalAddress: "address"
        case .addressLeftOut: "address-left-out"
        case .addressesBeyondLimit: "addresses-beyond-limit"
        case .lingers: "address-lingers"
        case .unusualGuestAddress: "unusual-guest-address"
        case .guestIsGateway: "guest-is-gateway"
        case .routeCopied, .moreRoutes(_, .copied, _): "route-copied"
        case .routeLeftOut, .moreRoutes(_, .leftOut, _): "route-left-out"
        case .routeAdded: "route-made"
        case .routerRouteAdded: "router-on-link"
        case .routeUnreachable, .moreRoutes(_, .unreachable, _): "route-unreachable"
        case .queriesGoTo, .forwardsDNS, .forwardsDNSAlways: "dns"
        case .mappedAddressIsGuest: "mapped-address-is-guest"
        case .noResolverToAnnounce: "no-resolver-to-announce"
        case .dhcpRoutesDropped, .advertisementDropped: "not-told"
        case .templateAbsent: "absent"
        case .outboundUnusable: "outbound-unusable"
        case .outboundAbsent: "outbound-absent"
        }
    }

    /// Whether it is about something that the namespace does not get.
    var isOmission: Bool {
        switch self {
        case .queriesGoTo(let servers, _): servers.isEmpty
        case .forwardsDNS, .forwardsDNSAlways: false
        default: true
        }
    }
}

extension Reason.Fitness {
    /// The word of the protocol.
    var word: String {
        switch self {
        case .fit: "template"
        case .absent: "absent"
        case .noCarrier: "no-carrier"
        case .tentative: "tentative"
        case .noAddress: "no-address"
        case .noUsableAddress: "no-usable-address"
        }
    }
}

extension Reason.Candidate.Outcome {
    /// The word of the protocol.
    var word: String {
        switch self {
        case .judged(let fitness): fitness.word
        case .outranked: "outranked"
        }
    }
}

extension Reason.Rank {
    /// The word of the protocol.
    var word: String {
        switch self {
        case .kernel: "kernel"
        case .defaultRoute: "default-route"
        case .otherRoute: "other-route"
        }
    }

    /// The metric of the default route, if there is one.
    var metric: UInt32? {
        switch self {
        case .kernel(let route): route?.metric
        case .defaultRoute(let route): route.metric
        case .otherRoute: nil
        }
    }
}
