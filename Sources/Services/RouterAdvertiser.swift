// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

/// Decides when to send which Router Advertisement (RFC 4861 §6.2).
///
/// Theory of operation. An advertisement is sent at start and at once after each change, two more soon after that, and
/// then one at random intervals of a third of the lifetimes. So nothing expires while tapas runs, and everything does
/// when it ends. Solicitations are answered at once.
///
/// What is no longer announced is withdrawn until every host that has received it has forgotten it: a prefix with
/// lifetimes of 0, so that a host deprecates its address at once and keeps it valid only as long as RFC 4862 §5.5.3 e
/// requires; resolvers, search domains and routes with a lifetime of 0; and, when tapas changes its link-local address,
/// the old one with a router lifetime of 0. Only the lifetimes of current information are repeated.
///
/// Time is in milliseconds of any monotonic clock.
public struct RouterAdvertiser: Sendable {
    /// An advertisement and the address that it comes from.
    public struct Advertisement: Hashable, Sendable {
        /// The link-local address of the router.
        public var source: IPv6Address
        /// Its content.
        public var content: RouterAdvertisement

        /// Makes an advertisement.
        public init(source: IPv6Address, content: RouterAdvertisement) {
            self.source = source
            self.content = content
        }
    }

    /// The first advertisements after a change, which follow each other closely (`MAX_INITIAL_RTR_ADVERTISEMENTS`).
    private static let initialCount = 3
    /// The longest time between these, in milliseconds (`MAX_INITIAL_RTR_ADVERT_INTERVAL`).
    private static let initialInterval: Int64 = 16_000
    /// The longest time between two unsolicited advertisements with endless lifetimes, in milliseconds.
    private static let longestInterval: Int64 = 600_000
    /// The longest time that a host keeps withdrawn information, in seconds (RFC 4862 §5.5.3 e).
    private static let longestMemory: UInt32 = 7200
    /// The greatest number of objects of a kind that are withdrawn in one advertisement.
    private static let mostWithdrawn = 8

    /// Objects that were announced, with the time until which they are withdrawn.
    private struct Withdrawn<Thing: Hashable & Sendable>: Sendable {
        private var entries: [(thing: Thing, end: Int64)] = []

        /// Records what is no longer announced, and forgets what is announced again or forgotten by the hosts.
        mutating func update(old: [Thing], new: [Thing], end: Int64, now: Int64) {
            entries.removeAll { $0.end <= now || new.contains($0.thing) || old.contains($0.thing) }
            for thing in old where !new.contains(thing) { entries.append((thing, end)) }
            entries.removeFirst(max(0, entries.count - RouterAdvertiser.mostWithdrawn))
        }

        func things(at now: Int64) -> [Thing] { entries.filter { $0.end > now }.map(\.thing) }
    }

    private var settings: ServiceSettings
    private var random: UInt64
    private var initialLeft = Self.initialCount
    private var onLink = Withdrawn<Prefix>()
    private var autonomous = Withdrawn<Prefix>()
    private var routes = Withdrawn<Prefix>()
    private var servers = Withdrawn<IPv6Address>()
    private var domains = Withdrawn<String>()
    private var routers = Withdrawn<IPv6Address>()
    /// The number of advertisements that are due and have not been sent.
    private var queue: [Advertisement] = []
    /// When the next unsolicited advertisement is due; nil if there is none.
    public private(set) var nextDeadline: Int64?

    /// Makes an advertiser whose first advertisement is due at once.
    ///
    /// - Parameters:
    ///   - settings: what to announce.
    ///   - random: an unpredictable number, for the times.
    ///   - now: the time.
    public init(settings: ServiceSettings, random: UInt64, now: Int64) {
        self.settings = settings
        self.random = random
        nextDeadline = isOn ? now : nil
    }

    private var isOn: Bool {
        settings.v6.isEnabled && settings.services.contains(.routerAdvertisements)
            && settings.v6.ownAddress?.isLinkLocal ?? false
    }

    private var isEndless: Bool { settings.leaseTime == ServiceSettings.infinite }

    // MARK: Times

    /// A random time between two advertisements, in milliseconds: a third of the lifetimes at most.
    private mutating func interval() -> Int64 {
        let most =
            isEndless
            ? Self.longestInterval : min(Self.longestInterval, max(1000, Int64(settings.leaseTime) * 1000 / 3))
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return most / 3 + Int64(random >> 33) % max(1, most - most / 3)
    }

    /// Takes new settings; an advertisement is due at once if they change what is announced.
    ///
    /// - Parameters:
    ///   - new: what to announce from now on.
    ///   - now: the time.
    public mutating func update(_ new: ServiceSettings, now: Int64) {
        let old = settings
        let wasOn = isOn
        settings = new
        guard wasOn || isOn else { return }
        let seconds = min(old.leaseTime, Self.longestMemory)
        let end = now + Int64(seconds) * 1000
        onLink.update(old: old.v6.onLinkPrefixes, new: new.v6.onLinkPrefixes, end: end, now: now)
        autonomous.update(old: old.v6.autonomousPrefixes, new: new.v6.autonomousPrefixes, end: end, now: now)
        routes.update(
            old: old.v6.routes.map(\.destination), new: new.v6.routes.map(\.destination), end: end, now: now)
        servers.update(old: old.v6.dnsServers, new: new.v6.dnsServers, end: end, now: now)
        domains.update(old: old.searchDomains, new: new.searchDomains, end: end, now: now)
        routers.update(
            old: [old.v6.ownAddress].compactMap(\.self), new: [new.v6.ownAddress].compactMap(\.self), end: end,
            now: now)
        guard isOn else {
            nextDeadline = nil
            return
        }
        guard !wasOn || old.advertised != new.advertised else { return }
        initialLeft = Self.initialCount
        nextDeadline = now
    }

    /// The next advertisement that is due; call it again until there is none.
    ///
    /// - Parameter now: the time.
    /// - Returns: the advertisement for all nodes; nil if none is due.
    public mutating func next(now: Int64) -> Advertisement? {
        if queue.isEmpty, let deadline = nextDeadline, deadline <= now {
            queue = formerRouters(now) + [current(now)].compactMap(\.self)
            initialLeft = max(0, initialLeft - 1)
            let interval = interval()
            nextDeadline = now + (initialLeft > 0 ? min(interval, Self.initialInterval) : interval)
        }
        return queue.isEmpty ? nil : queue.removeFirst()
    }

    /// The answer to a solicitation.
    ///
    /// - Parameter now: the time.
    /// - Returns: The advertisement for the solicitor; nil if none are sent.
    public func solicited(now: Int64) -> Advertisement? { current(now) }

    // MARK: Content

    private func formerRouters(_ now: Int64) -> [Advertisement] {
        routers.things(at: now).filter { $0.isLinkLocal }.map { source in
            Advertisement(
                source: source,
                content: RouterAdvertisement(routerLifetime: 0, sourceLinkAddress: settings.gatewayMAC))
        }
    }

    private func current(_ now: Int64) -> Advertisement? {
        guard isOn, let source = settings.v6.ownAddress else { return nil }
        let time = settings.leaseTime
        let servesDHCP = settings.services.contains(.dhcpv6)
        let hasAddress = settings.v6.guestAddress != nil
        var content = RouterAdvertisement(
            routerLifetime: settings.v6.isDefaultRouter ? UInt16(clamping: time) : 0,
            isManaged: servesDHCP && hasAddress, hasOtherConfiguration: servesDHCP && hasAddress,
            sourceLinkAddress: settings.gatewayMAC, mtu: settings.mtu)
        content.prefixes = prefixes(now)
        content.routes =
            settings.v6.routes.map { route(to: $0.destination, preference: $0.preference, lifetime: time) }
            + routes.things(at: now).map { route(to: $0, preference: 0, lifetime: 0) }
        content.recursiveDNS = [
            .init(servers: settings.v6.dnsServers, lifetime: time),
            .init(servers: servers.things(at: now), lifetime: 0),
        ].filter { !$0.servers.isEmpty }
        content.searchLists = [
            .init(domains: settings.searchDomains.compactMap { DNSName($0) }, lifetime: time),
            .init(domains: domains.things(at: now).compactMap { DNSName($0) }, lifetime: 0),
        ].filter { !$0.domains.isEmpty }
        return Advertisement(source: source, content: content)
    }

    private func prefixes(_ now: Int64) -> [RouterAdvertisement.PrefixInformation] {
        let goneOnLink = onLink.things(at: now)
        let goneAutonomous = autonomous.things(at: now)
        let gone = goneOnLink + goneAutonomous.filter { !goneOnLink.contains($0) }
        return gone.map { prefix in
            information(
                prefix, isOnLink: goneOnLink.contains(prefix), isAutonomous: goneAutonomous.contains(prefix),
                lifetime: 0)
        }
            + settings.v6.prefixes.map {
                information(
                    $0.prefix, isOnLink: $0.isOnLink, isAutonomous: $0.isAutonomous, lifetime: settings.leaseTime)
            }
    }

    private func information(
        _ prefix: Prefix, isOnLink: Bool, isAutonomous: Bool, lifetime: UInt32
    ) -> RouterAdvertisement.PrefixInformation {
        RouterAdvertisement.PrefixInformation(
            prefix: prefix.network.address.asIPv6, prefixLength: UInt8(prefix.length), isOnLink: isOnLink,
            isAutonomous: isAutonomous, validLifetime: lifetime, preferredLifetime: lifetime)
    }

    private func route(
        to destination: Prefix, preference: UInt8, lifetime: UInt32
    ) -> RouterAdvertisement.RouteInformation {
        RouterAdvertisement.RouteInformation(
            prefix: destination.network.address.asIPv6, prefixLength: UInt8(destination.length),
            preference: preference, lifetime: lifetime)
    }
}

extension ServiceSettings.IPv6 {
    /// The prefixes that are on the link.
    var onLinkPrefixes: [Prefix] { prefixes.filter(\.isOnLink).map(\.prefix) }
    /// The prefixes in which the namespace may form addresses.
    var autonomousPrefixes: [Prefix] { prefixes.filter(\.isAutonomous).map(\.prefix) }
}

extension ServiceSettings {
    /// The part of the settings that an advertisement contains.
    fileprivate var advertised: ServiceSettings {
        var copy = self
        copy.v4 = IPv4()
        copy.v6.guestAddresses = []
        copy.v6.mappedAddresses = []
        copy.v6.gateway = nil
        copy.neighbourLinks = .init(v4: nil, v6: nil)
        copy.hostName = nil
        copy.fullName = nil
        return copy
    }
}
