// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation: see DataPath.swift. The event loop and the control plane reach the data path only through this
// class. It belongs to the loop's thread and is not Sendable.

public import LinuxSystem
public import NetworkModel
public import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

/// The data path, as the event loop sees it.
public final class Forwarder: EventSink {
    private var path: DataPath
    /// Called when the link is gone: the tap's interface was deleted or its namespace has ended.
    public var linkDidEnd: (() -> Void)?
    /// Called with datagrams of forwarded ports that cannot be delivered.
    public var didStray: (([StrayDatagram]) -> Void)?
    /// Called when the namespace's addresses for spliced connections change: IPv4 (mapped), and IPv6 that is not
    /// link-local.
    public var guestAddressesDidChange: ((_ v4: IPv6Address?, _ v6: IPv6Address?) -> Void)? {
        didSet { reportGuestAddresses() }
    }
    private var reportedGuestAddresses: (v4: IPv6Address?, v6: IPv6Address?) = (nil, nil)

    /// Starts to forward.
    ///
    /// - Parameters:
    ///   - tap: the tap, which is watched from now on.
    ///   - rules: the first translation rules.
    ///   - services: the first settings of the services.
    ///   - options: the options, which never change.
    ///   - loop: the event loop of this thread.
    ///   - capture: where to record all frames.
    /// - Throws: The error of epoll_ctl(2).
    public convenience init(
        tap: consuming TapDevice, rules: TranslationRules, services: ServiceSettings, options: ForwardingOptions,
        loop: EventLoop, capture: consuming FrameCapture? = nil
    ) throws(SystemCallError) {
        try self.init(
            link: .tap(tap), rules: rules, services: services, options: options, loop: loop, capture: capture)
    }

    /// Starts to forward over what the guest is reached by, which is watched from now on.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public convenience init(
        source: consuming LinkSource, rules: TranslationRules, services: ServiceSettings, options: ForwardingOptions,
        loop: EventLoop, capture: consuming FrameCapture? = nil
    ) throws(SystemCallError) {
        try self.init(
            link: source.link(), rules: rules, services: services, options: options, loop: loop, capture: capture)
    }

    /// Starts to forward over any link.
    init(
        link: consuming GuestLink, rules: TranslationRules, services: ServiceSettings, options: ForwardingOptions,
        loop: EventLoop, capture: consuming FrameCapture? = nil
    ) throws(SystemCallError) {
        try link.watch(on: loop)
        path = DataPath(loop: loop, link: link, rules: rules, services: services, options: options, now: .now)
        path.capture = capture
        path.followCarrier()
    }

    /// Begins to send announcements and Router Advertisements, now and when they are due.
    public func beginAnnouncing() {
        path.now = .now
        path.announces = true
        path.sendDue()
    }

    /// Sets the host's neighbours, and announces new ones.
    public func publish(neighbours: [IPAddress: MACAddress]) {
        path.now = .now
        path.services.update(neighbours: NeighbourTable(neighbours))
        path.sendDue()
    }

    /// Sets the rules for flows that are opened from now on.
    ///
    /// - Parameters:
    ///   - rules: The rules.
    ///   - services: The settings of the services, if they may have changed: the change is announced at once.
    ///   - unplanned: Addresses of the namespace that are no longer planned; no new flow may go there.
    public func publish(
        _ rules: TranslationRules, services: ServiceSettings? = nil, unplanned: Set<IPAddress> = []
    ) {
        let hasOtherResolvers = rules.dnsServers != path.translator.rules.dnsServers
        var rules = rules
        if let address = path.gatewayStandIn { rules.gatewayMAC = address }
        path.translator = Translator(rules: rules)
        path.gatewayMAC = rules.gatewayMAC
        path.now = .now
        path.seen.adopt(rules)
        path.seen.exclude(unplanned, rules: rules)
        path.followCarrier()
        path.adoptSurroundings()
        reportGuestAddresses()
        if let services { path.adopt(services) }
        if hasOtherResolvers { path.restartQueries() }
    }

    /// Applies a change of the host to existing flows.
    ///
    /// - Returns: The number of flows that were ended or moved.
    @discardableResult
    public func apply(_ adjustments: FlowAdjustments) -> Int {
        path.now = .now
        let gone = Set(adjustments.gone.map(\.asIPv6))
        // Two of them may have the same form: an IPv4 address and an IPv6 one that maps it.
        let pinned = Dictionary(adjustments.pinned.map { ($0.key.asIPv6, $0.value) }) { first, _ in first }
        if !pinned.isEmpty { path.pinFlows(pinned) }
        let present = adjustments.present.map { Set($0.map(\.asIPv6)) }
        return gone.isEmpty && present == nil ? 0 : path.endOrMoveFlows(at: gone, present: present)
    }

    /// Has the namespace's ends of connections that a predecessor of this process had look at their state.
    ///
    /// The kernel answers a segment that does not fit with an acknowledgement (RFC 9293, section 3.10.7.4). That belongs
    /// to no flow, and is answered with a reset that fits, so that programs connect anew at once.
    ///
    /// - Parameter connections: the ends: the namespace's address and port, and those of the other end.
    public func challenge(
        _ connections: [(guest: IPv6Address, guestPort: UInt16, remote: IPv6Address, remotePort: UInt16)]
    ) {
        path.now = .now
        for ends in connections {
            path.sendChallenge(ends.guest, ends.guestPort, from: ends.remote, ends.remotePort)
        }
    }

    /// Counts the flows that keep addresses of the namespace that are no longer planned.
    ///
    /// These are established TCP connections that can still carry data. Those that have been idle are probed: if its
    /// end in the namespace is gone, a connection is reset and is not counted the next time. New flows that are opened
    /// on the host no longer go to these addresses.
    ///
    /// - Parameters:
    ///   - unplanned: The addresses.
    ///   - now: The time.
    /// - Returns: The number of flows of each address; no entry for an address without any.
    public func connectionCounts(_ unplanned: Set<IPAddress>, now: MonotonicTime = .now) -> [IPAddress: Int] {
        path.now = now
        path.seen.exclude(unplanned, rules: path.translator.rules)
        guard !unplanned.isEmpty else { return [:] }
        let counts = path.connectionCounts(Set(unplanned.map(\.asIPv6)))
        return Dictionary(uniqueKeysWithValues: counts.map { (IPAddress(unmapping: $0.key), $0.value) })
    }

    /// Ends all flows of an address of the namespace.
    ///
    /// - Returns: The number of flows.
    @discardableResult
    public func resetFlows(guestAddress: IPAddress) -> Int {
        path.now = .now
        return path.resetFlows { $0.key.guest == guestAddress.asIPv6 }
    }

    /// The addresses that the namespace uses although no address source gave them; the one seen last is at the end.
    public var observedAddresses: [IPAddress] { path.seen.observedAddresses }

    /// Forgets addresses that the namespace no longer has.
    public func forgetObserved(_ addresses: Set<IPAddress>) {
        path.seen.forget(addresses, rules: path.translator.rules)
        reportGuestAddresses()
    }

    /// The counters so far.
    public var counters: Counters { path.counters }

    /// The rules for new flows.
    public var rules: TranslationRules { path.translator.rules }

    /// The number of flows.
    public var flowCount: Int { path.table.count }

    // MARK: EventSink

    /// A descriptor of the data path is ready.
    public func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        path.now = now
        if token.kind == TokenKind.link {
            path.counters.linkEvents &+= 1
            path.link.ready(token, readiness)
            readLink()
        } else {
            path.flowReady(token, readiness)
        }
    }

    /// Does the remaining work of this turn.
    public func batchEnded(now: MonotonicTime) {
        path.now = now
        path.serveQueue()
        if !path.strays.isEmpty { giveBack() }
        if path.seen.v4 != reportedGuestAddresses.v4 || path.seen.v6 != reportedGuestAddresses.v6 {
            reportGuestAddresses()
        }
        path.rest = path.pace.endTurn(now.nanoseconds)
        path.logEvictions()
        path.link.flush()
    }

    /// A rest during a fast stream of datagrams.
    public var rest: Int64 { path.rest }

    /// The earliest deadline of a flow; at once while flows have work left.
    public var deadline: MonotonicTime? {
        if path.queueHead >= 0 && path.link.canTransmit || path.link.hasMore { return MonotonicTime(nanoseconds: 0) }
        var earliest = path.wheel.nextDeadline
        if let later = path.seen.deadline { earliest = earliest.map { min($0, later) } ?? later }
        if let later = path.serviceDeadline { earliest = earliest.map { min($0, later) } ?? later }
        guard path.evictions.deadline != .max else { return earliest }
        let line = MonotonicTime(nanoseconds: path.evictions.deadline)
        return earliest.map { min($0, line) } ?? line
    }

    /// Flows have reached their deadlines.
    public func deadlineReached(now: MonotonicTime) {
        path.now = now
        path.expireFlows()
        path.seen.expire(path.translator.rules, now: now)
        path.serviceDeadlineReached()
        path.logEvictions()
        if path.link.hasMore { readLink() }
        path.link.flush()
    }

    /// Handles the link's frames; ends the flows of a guest that is gone, and everything with a link that is gone.
    private func readLink() {
        // Checked before the frames of the next guest, and again after those of a guest that disconnects now.
        if path.link.takeLostGuest() { path.loseGuest() }
        if path.link.takeNewGuest() { path.meetGuest() }
        let isThere = path.readLink()
        if path.link.takeLostGuest() { path.loseGuest() }
        if !isThere {
            path.link.unwatch(on: path.loop)
            linkDidEnd?()
        }
    }

    // MARK: Forwarded ports

    private func giveBack() {
        let strays = path.strays.take()
        didStray?(strays)
    }

    private func reportGuestAddresses() {
        reportedGuestAddresses = (path.seen.v4, path.seen.v6)
        guestAddressesDidChange?(path.seen.v4, path.seen.v6)
    }

    /// Runs a closure on the data path.
    func withPath<Result>(_ body: (inout DataPath) -> Result) -> Result { body(&path) }
}

extension DataPath {
    /// Sets the link's carrier to that of the rules.
    mutating func followCarrier() {
        carrier.follow(translator.rules.hasCarrier, link, logger: options.logger)
    }

    /// A flow's host socket is ready.
    @inline(__always)
    mutating func flowReady(_ token: EventToken, _ readiness: Readiness) {
        let index = Int(token.index)
        guard table.isCurrent(index, generation: token.generation) else { return }
        switch table[index].key.transport {
        case .tcp:
            counters.tcpEvents &+= 1
            tcpReady(index, readiness)
        case .udp:
            counters.udpEvents &+= 1
            udpReady(index, readiness)
        default:
            counters.echoEvents &+= 1
            echoReady(index, readiness)
        }
    }

    /// Handles the flows whose deadline has passed.
    mutating func expireFlows() {
        expired.removeAll(keepingCapacity: true)
        wheel.expire(now: now, into: &expired)
        for position in 0..<expired.count {
            let index = Int(expired[position])
            switch table[index].state {
            case .free: break
            case .datagram where table[index].flags.contains(.dns): queryDeadline(index)
            case .datagram: closeFlow(index)
            default: tcpDeadline(index)
            }
        }
        serveQueue()
    }
}
