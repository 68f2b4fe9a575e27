// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// One decision of a plan with its cause, as the log, `tapasctl status` and `tapasctl explain` show it.
///
/// A reason is data: the family, the rule that decided, and the values that it used. ReasonText.swift alone makes its
/// text.
public struct Reason: Hashable, Sendable, CustomStringConvertible {
    /// The family it concerns, if one.
    public var family: AddressFamily?
    /// The rule that decided, with the object and the values.
    public var cause: Cause
    /// Where it is shown.
    public var placement: Placement

    /// Makes a reason.
    public init(_ family: AddressFamily?, _ cause: Cause, _ placement: Placement = .detail) {
        self.family = family
        self.cause = cause
        self.placement = placement
    }

    /// Where a reason is shown.
    public enum Placement: Hashable, Sendable {
        /// The cause of a family's mode: part of the family's line of the summary.
        case mode
        /// Something that a user may miss in the namespace, with its cause: a line of its own in the summary.
        case remark
        /// Everything else.
        case detail
        /// An address that stays although it is not planned, with the number of its flows: added to the plan's reasons
        /// later, never by `plan()`.
        case lingering
    }

    /// The sentence, without the family.
    public var text: String { cause.text(family) }

    /// The family and the sentence.
    public var description: String { family.map { "\($0): \(text)" } ?? text }
}

extension Reason {
    /// The rules of planning, with the values that they decided by.
    public enum Cause: Hashable, Sendable {
        // MARK: Families and the interface

        /// The family is not used: the namespace's kernel lacks it, or it was not asked for.
        case off(isAskedFor: Bool)
        /// The mode of the family.
        case mode(FamilyMode)
        /// The name of the namespace's interface.
        case interfaceName(String, from: NameOrigin)

        // MARK: The template interface

        /// The kernel's lookup of the probe does not show the default route; the main table decides.
        case lookupInconclusive(LookupGap)
        /// The host refuses all packets that have no more specific route; no interface is copied instead.
        case defaultRefused(errno: Int32)
        /// A host interface through which some route leads, and the result of considering it.
        case candidate(Candidate)
        /// No host interface has a route that is not link-local.
        case noCandidate
        /// The interface of `--mode transparent`, and what it lacks.
        case mirrors(String, Fitness)
        /// The interface that an option names, and the result of considering it.
        case namedInterface(String, option: String, Fitness)

        // MARK: Router and addresses

        /// The namespace's router.
        case gateway(IPAddress, from: GatewayOrigin)
        /// There is no router: the template has a default route without one, or no default route.
        case noGateway(template: String, hasDefault: Bool)
        /// The address that tapas uses on the link.
        case ownAddress(IPAddress)
        /// An address of the namespace.
        case address(Prefix, from: AddressOrigin)
        /// IPv6 without the host's network: only the kernel's link-local address.
        case onlyLinkLocalAddress
        /// An address of the template that the namespace does not get.
        case addressLeftOut(Prefix, AddressDefect)
        /// An interface that `-a` names has no address for the namespace.
        case sourceIsEmpty(String, Fitness)
        /// Sources give a family more addresses than this; the others are left out.
        case addressesBeyondLimit(Int)
        /// An address that is no longer planned and stays for connections.
        case lingers(IPAddress, flowCount: Int)
        /// The guest address is the network or broadcast address of its subnet; `example` is a usable one.
        case unusualGuestAddress(Prefix, isBroadcast: Bool, example: Prefix?)
        /// The guest's address equals the router's.
        case guestIsGateway(IPAddress)

        // MARK: Routes

        /// A route of the template that the namespace gets; `onlyHopsOf` names the template if other next hops were
        /// removed.
        case routeCopied(Route, onlyHopsOf: String?)
        /// A route of the template that the namespace does not get.
        case routeLeftOut(Route, RouteDefect)
        /// A route that the host does not have.
        case routeAdded(Route)
        /// A router outside the namespace's networks gets a route of its own.
        case routerRouteAdded(IPAddress)
        /// A route of an interface cannot work.
        case routeUnreachable(Route, of: String)
        /// Routes that are counted instead of being reported one by one.
        case moreRoutes(Int, MoreRoutes, of: String)

        // MARK: Translation and services

        /// The servers that forwarded queries go to; empty if there are none.
        case queriesGoTo([ResolverConfiguration.Server], areGiven: Bool)
        /// The address whose DNS ports are forwarded: as given by the user, or for a resolver that the namespace cannot
        /// reach.
        case forwardsDNS(at: IPAddress, for: IPAddress?)
        /// The address whose DNS ports are forwarded, independent of the host (`--mode opaque`).
        case forwardsDNSAlways(at: IPAddress)
        /// A mapped address is also the namespace's own.
        case mappedAddressIsGuest(IPAddress, Mapping)
        /// `--dhcp-dns` has nothing to announce.
        case noResolverToAnnounce(isSuppressed: Bool)
        /// Routes that do not fit a DHCP option.
        case dhcpRoutesDropped(Int, of: Int)
        /// Prefixes and routes that do not fit a Router Advertisement.
        case advertisementDropped(Int)

        // MARK: Options

        /// The interface of `-i` is absent.
        case templateAbsent(String)
        /// The interface of `--outbound-if4` or `--outbound-if6` cannot be used.
        case outboundUnusable(String)
        /// The host does not have the address of `-o`.
        case outboundAbsent(IPAddress)
    }

    /// Where the name of the namespace's interface comes from.
    public enum NameOrigin: Hashable, Sendable {
        /// `-I`.
        case option
        /// The template of a family.
        case template(AddressFamily)
        /// There is no template.
        case fallback
        /// `--mode transparent`: that of the interface, present or not.
        case mirrored
        /// `--mode opaque`: a constant name.
        case constant
    }

    /// Why the kernel's answer for the probe (``HostSnapshot/probe(_:)``) does not show the default route.
    public enum LookupGap: Hashable, Sendable {
        /// There is no answer.
        case notAsked
        /// `ENETUNREACH`.
        case noRoute
        /// A route to the probe's own network refuses it.
        case refusedByOwnRoute(IPAddress)
        /// The answer is the host itself.
        case isLocal(IPAddress)
        /// The answer is a route to the probe's own network.
        case ownRoute(IPAddress)
    }

    /// The properties of a default route by which candidates are ranked.
    public struct DefaultRoute: Hashable, Sendable {
        /// The source prefix that the route applies to; nil for all.
        public var source: Prefix?
        /// The metric.
        public var metric: UInt32

        /// Makes a description.
        public init(source: Prefix?, metric: UInt32) {
            self.source = source
            self.metric = metric
        }
    }

    /// Why an interface is considered as a template.
    public enum Rank: Hashable, Sendable {
        /// The kernel's lookup of the probe leads through it; with its default route in the main table, if it has one.
        case kernel(DefaultRoute?)
        /// It has a default route in the main table.
        case defaultRoute(DefaultRoute)
        /// There is no default route at all, and it has this one.
        case otherRoute(to: Prefix)
    }

    /// Whether an interface can be a template.
    public enum Fitness: Hashable, Sendable {
        /// It can.
        case fit
        /// It does not exist.
        case absent
        /// It has no carrier.
        case noCarrier
        /// Its addresses are still tentative.
        case tentative
        /// It has no address of the family.
        case noAddress
        /// It has addresses of the family, none of which is usable.
        case noUsableAddress
    }

    /// A host interface that was considered as the template of a family.
    public struct Candidate: Hashable, Sendable {
        /// The interface's name.
        public var name: String
        /// Why it was considered.
        public var rank: Rank
        /// The result.
        public var outcome: Outcome

        /// Makes a candidate.
        public init(_ name: String, _ rank: Rank, _ outcome: Outcome) {
            self.name = name
            self.rank = rank
            self.outcome = outcome
        }

        /// The result of considering a candidate.
        public enum Outcome: Hashable, Sendable {
            /// It was judged by itself; ``Fitness/fit`` makes it the template.
            case judged(Fitness)
            /// Another candidate with a better rank is fit.
            case outranked(by: String)
        }
    }

    /// Where the router comes from.
    public enum GatewayOrigin: Hashable, Sendable {
        /// `-g`.
        case option
        /// The default route of the template.
        case template(String)
        /// tapas itself, without the host's network.
        case local
        /// tapas itself, independent of the host (`--mode opaque`).
        case constant
    }

    /// Where an address comes from.
    public enum AddressOrigin: Hashable, Sendable {
        /// `-a`, with the length given or inferred.
        case option(LengthOrigin)
        /// tapas itself, without the host's network.
        case local
        /// tapas itself, with any host (`--mode opaque`).
        case constant
        /// The mirrored interface has it as its link-local address.
        case mirroredLink
        /// The template, of which only this address is copied (`--no-copy-addrs`).
        case onlyOneOf(String)
        /// The template, or another interface that is a source.
        case template(String, isLengthGiven: Bool, isGuest: Bool)

        /// Where the prefix length of `-a` comes from.
        public enum LengthOrigin: Hashable, Sendable {
            /// `/LEN` or `-n`.
            case given
            /// The class of an IPv4 address.
            case addressClass
            /// 64, the usual length of IPv6.
            case usual
        }
    }

    /// Why an address of the host is not used.
    public enum AddressDefect: Hashable, Sendable {
        /// It is in 169.254.0.0/16, on a link that the user has not named.
        case linkLocal
        /// Duplicate detection still runs.
        case tentative
        /// Duplicate detection failed.
        case duplicate
        /// It is deprecated.
        case deprecated
        /// It is temporary (RFC 8981).
        case temporary
        /// It is unspecified, loopback or multicast.
        case notUnicast
        /// It contains an IPv4 address (mapped or compatible).
        case embedsIPv4
        /// It is of scope host.
        case scopeHost
        /// It is of scope link.
        case scopeLink
    }

    /// Why a route of the template is left out.
    public enum RouteDefect: Hashable, Sendable {
        /// The kernel uses another one in its place.
        case shadowed
        /// Its next hops are dead.
        case deadNextHops
        /// Every link has its own (link-local and multicast routes).
        case ofEveryLink
        /// It is for sources that the namespace does not have.
        case foreignSource
        /// The namespace's kernel makes it with the address.
        case madeWithAddress
        /// It belongs to an address that is not copied.
        case ofAddressLeftOut
    }

    /// The routes that are counted because there are too many to report one by one.
    public enum MoreRoutes: Hashable, Sendable {
        /// They are copied.
        case copied
        /// They are left out.
        case leftOut
        /// They are skipped: their gateways are unreachable.
        case unreachable
    }

    /// The meaning of a mapped address.
    public enum Mapping: Hashable, Sendable {
        /// The host's loopback (`--map-host-loopback`).
        case hostLoopback
        /// The host's own address (`--map-guest-addr`).
        case hostAddress
        /// The host's resolvers (`--dns-forward`).
        case dnsForwarding
    }
}
