// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes
public import Wire

/// All services on the link as one value: frames and time in, frames and the next deadline out.
///
/// Theory of operation. The owner passes in each frame for the link itself (ARP, neighbour discovery, DHCP, DHCPv6),
/// new settings with each plan, and the host's neighbours. After each of these, and when ``nextDeadline`` has come, it
/// calls ``nextFrame(now:into:)`` until there is no frame. Messages are parsed and built with allocations, since they
/// are few; frames of flows never come here.
///
/// Time is in milliseconds of any monotonic clock.
public struct GuestServices: Sendable {
    /// What a change of the settings requires of the owner.
    public struct Conveyance: Equatable, Sendable {
        /// Whether to toggle the carrier, so that a client with a wrong lease asks again.
        public var togglesCarrier = false
    }

    /// Unpredictable numbers and the time of day, for identifiers and secrets.
    public struct Seed: Sendable {
        /// Unpredictable numbers.
        public var random: (UInt64, UInt64, UInt64, UInt64, UInt64)
        /// The seconds since 1970.
        public var secondsSince1970: Int64

        /// Makes a seed.
        public init(random: (UInt64, UInt64, UInt64, UInt64, UInt64), secondsSince1970: Int64) {
            self.random = random
            self.secondsSince1970 = secondsSince1970
        }
    }

    /// A frame that is sent without a request.
    private enum Pending: Sendable {
        case ask(AddressFamily)
        case announce(IPAddress)
        case forceRenew(DHCPv4Message)
        case reconfigure(DHCPv6Message)
    }

    /// The greatest number of announcements of neighbours that wait.
    private static let mostPending = 64

    /// The current settings.
    public private(set) var settings: ServiceSettings
    private var neighbours = NeighbourTable()
    private var dhcpv4: DHCPv4Server
    private var dhcpv6: DHCPv6Server
    private var advertiser: RouterAdvertiser
    private var pending: [Pending] = []

    /// Makes services that ask for the namespace's addresses, announce the gateway and advertise the router at once.
    ///
    /// - Parameters:
    ///   - settings: what to announce.
    ///   - seed: for identifiers and secrets.
    ///   - now: the time.
    public init(settings: ServiceSettings, seed: Seed, now: Int64) {
        self.settings = settings
        let counter = UInt64(truncatingIfNeeded: seed.secondsSince1970) << 24
        dhcpv4 = DHCPv4Server(
            settings: settings, key: ReconfigurationKey(random: (seed.random.0, seed.random.1), counter: counter))
        dhcpv6 = DHCPv6Server(
            settings: settings,
            identifier: DHCPv6Server.identifier(mac: settings.gatewayMAC, secondsSince1970: seed.secondsSince1970),
            key: ReconfigurationKey(random: (seed.random.2, seed.random.3), counter: counter))
        advertiser = RouterAdvertiser(settings: settings, random: seed.random.4, now: now)
        pending = [.ask(.v4), .ask(.v6)] + gateways(of: settings).map { .announce($0) }
    }

    /// Answers a frame.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary; a frame of another kind is not answered.
    ///   - now: the time.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if there is none.
    public mutating func reply(
        to frame: Span<UInt8>, summary: FrameSummary, now: Int64, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        switch summary.kind {
        case .arp:
            ARPResponder.reply(
                to: frame, summary: summary, settings: settings, neighbours: neighbours, into: &reply)
        case .icmpv6:
            NDPResponder.reply(
                to: frame, summary: summary, settings: settings, neighbours: neighbours,
                advertisement: advertiser.solicited(now: now), into: &reply)
        case .udp where summary.isIPv4: dhcpv4.reply(to: frame, summary: summary, now: now, into: &reply)
        case .udp: dhcpv6.reply(to: frame, summary: summary, now: now, into: &reply)
        default: 0
        }
    }

    /// Forgets all clients, and begins anew with the same settings and neighbours: another guest has come.
    ///
    /// - Parameters:
    ///   - seed: for identifiers and secrets.
    ///   - now: the time.
    public mutating func forgetGuest(seed: Seed, now: Int64) {
        let table = neighbours
        self = GuestServices(settings: settings, seed: seed, now: now)
        neighbours = table
    }

    // MARK: Changes

    /// Takes new settings, and prepares all messages that announce the change.
    ///
    /// - Parameters:
    ///   - new: what to announce from now on.
    ///   - now: the time.
    /// - Returns: What else the owner must do.
    public mutating func update(_ new: ServiceSettings, now: Int64) -> Conveyance {
        let old = settings
        settings = new
        let lease = dhcpv4.update(new, now: now)
        if let message = lease.message { pending.append(.forceRenew(message)) }
        let addresses = dhcpv6.update(new, now: now)
        if let message = addresses.message { pending.append(.reconfigure(message)) }
        advertiser.update(new, now: now)
        let known = gateways(of: old)
        for gateway in gateways(of: new) where !known.contains(gateway) || old.gatewayMAC != new.gatewayMAC {
            pending.append(.announce(gateway))
        }
        pending.removeFirst(max(0, pending.count - Self.mostPending))
        var conveyance = Conveyance()
        let isWrong = lease.change == .lease || addresses.change == .lease
        // A client that has not sent anything yet may wait for the link, unless tapas programs the namespace.
        let isUnknown = !new.configuresNamespace && dhcpv4.clientMAC == nil && old.v4.differs(from: new.v4)
        let servesLeases = !new.services.isDisjoint(with: [.dhcpv4, .dhcpv6])
        conveyance.togglesCarrier = new.togglesCarrier && servesLeases && (isWrong || isUnknown)
        return conveyance
    }

    /// Takes the host's neighbours, and prepares announcements of new ones.
    ///
    /// - Parameter new: the table.
    public mutating func update(neighbours new: NeighbourTable) {
        for address in new.changes(from: neighbours, settings).suffix(Self.mostPending) {
            pending.append(.announce(address))
        }
        pending.removeFirst(max(0, pending.count - Self.mostPending))
        neighbours = new
    }

    private func gateways(of settings: ServiceSettings) -> [IPAddress] {
        var result: [IPAddress] = []
        if settings.v4.isEnabled, let server = settings.v4.serverAddress { result.append(.v4(server)) }
        if settings.v6.isEnabled, let own = settings.v6.ownAddress { result.append(.v6(own)) }
        return result
    }

    // MARK: Unsolicited frames

    /// When to call ``nextFrame(now:into:)`` next; nil for never.
    public var nextDeadline: Int64? { pending.isEmpty ? advertiser.nextDeadline : .min }

    /// Writes the next frame that is due.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - frame: where to write the frame.
    /// - Returns: the length of the frame in bytes; 0 if no frame is due.
    public mutating func nextFrame(now: Int64, into frame: inout MutableSpan<UInt8>) -> Int {
        while !pending.isEmpty {
            let length = write(pending.removeFirst(), into: &frame)
            if length > 0 { return length }
        }
        while let advertisement = advertiser.next(now: now) {
            let length = NDPResponder.write(advertisement, from: settings.gatewayMAC, into: &frame)
            if length > 0 { return length }
        }
        return 0
    }

    private func write(_ pending: Pending, into frame: inout MutableSpan<UInt8>) -> Int {
        switch pending {
        case .ask(.v4): return ARPResponder.solicitation(settings: settings, into: &frame)
        case .ask(.v6): return NDPResponder.solicitation(settings: settings, into: &frame)
        case .announce(let address):
            let mac = neighbours.hardwareAddress(of: address, settings)
            switch address {
            case .v4(let v4):
                guard settings.v4.isEnabled, !settings.v4.guestAddresses.contains(v4) else { return 0 }
                return ARPResponder.announcement(of: v4, at: mac, into: &frame)
            case .v6(let v6):
                guard settings.v6.isEnabled, settings.services.contains(.neighborDiscovery),
                    !settings.v6.guestAddresses.contains(v6)
                else { return 0 }
                return NDPResponder.announcement(
                    of: v6, at: mac, isRouter: v6 == settings.v6.gateway || v6 == settings.v6.ownAddress,
                    settings: settings, into: &frame)
            }
        case .forceRenew(let message):
            guard let mac = dhcpv4.clientMAC else { return 0 }
            return dhcpv4.write(message, to: mac, into: &frame)
        case .reconfigure(let message): return dhcpv6.write(toHolder: message, into: &frame)
        }
    }

    /// Messages for the user that have not been reported yet, one line each.
    public mutating func takeRemarks() -> [String] { dhcpv4.takeRemarks() + dhcpv6.takeRemarks() }
}

extension ServiceSettings.IPv4 {
    /// Whether a lease with these settings would be wrong under others.
    fileprivate func differs(from new: ServiceSettings.IPv4) -> Bool {
        guestAddress != new.guestAddress || router != new.router || routes != new.routes
    }
}
