// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Some frames are not for a flow but for the link itself: ARP, neighbour discovery, DHCP, DHCPv6, queries for the
// address that stands for the host's resolvers. This is the one place that knows them. `service(for:)` says from the
// summary alone which service a frame belongs to, and `serve` hands the frame to it. Only what is left over may open or
// reach a flow.
//
// A host that has no address yet sends from 0.0.0.0 or `::`. Each service says for itself whether it takes such a frame
// (`LinkService.takesUnspecifiedSource`); every other frame with such a source is dropped and counted here.
//
// A new service is a case of `LinkService`, a line in `service(for:)` and one in `serve`.
//
// What the services send unasked, because the settings have changed or the time has come, goes out in `sendDue`. A
// client whose lease is no longer right may have to see the link go: `CarrierToggle`.

internal import LinuxSystem
internal import Logging
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
    /// DHCP and DHCPv6 (RFC 2131, RFC 8415).
    case configuration
    /// Queries over UDP for the host's resolvers (`--dns-forward`).
    case dns

    /// Whether the service takes frames from 0.0.0.0 or `::`: duplicate address detection, Router Solicitations and
    /// DHCP requests come from there.
    var takesUnspecifiedSource: Bool {
        switch self {
        case .arp, .neighborDiscovery, .configuration: true
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
        case .udp:
            switch summary.destinationPort {
            case 53: isForResolvers(summary) ? .dns : nil
            // Upstream keeps these, too, whatever their destination and even when the server is off.
            case DHCPv4Message.serverPort: summary.family.isIPv4 ? .configuration : nil
            case DHCPv6Message.serverPort: summary.family.isIPv4 ? nil : .configuration
            default: nil
            }
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
        if summary.kind != .arp && !summary.hasUnspecifiedSource && !admits(summary) { return }
        switch service {
        case .arp: unsafe serveLink(summary, frame: frame, count: count)
        case .neighborDiscovery:
            // RFC 6980 §5: such messages do not come in fragments.
            guard !isReassembled else { return counters.drop(FlowDropReason.fragment) }
            unsafe serveLink(summary, frame: frame, count: count)
        case .configuration: unsafe serveLink(summary, frame: frame, count: count)
        case .dns:
            guard options.forwardsUDP else { return counters.drop(.protocolOff) }
            unsafe receiveQuery(summary, frame: frame, count: count)
        }
    }

    private mutating func serveLink(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        let now = now.milliseconds
        sendFrame(of: { services, span in
            services.reply(to: unsafe Self.bytes(frame, count), summary: summary, now: now, into: &span)
        })
        if summary.kind == .udp { tellRemarks() }
    }

    private mutating func tellRemarks() {
        for remark in services.takeRemarks() { options.logger.warning("\(remark)") }
    }

    // MARK: Unasked

    /// Takes what the services tell from now on, and conveys the difference at once.
    mutating func adopt(_ settings: ServiceSettings) {
        let conveyance = services.update(settings, now: now.milliseconds)
        sendDue()
        guard announces, conveyance.togglesCarrier else { return }
        carrier.begin(link, now: now, logger: options.logger)
    }

    /// Sends what the services have due.
    mutating func sendDue() {
        guard announces else { return }
        let now = now.milliseconds
        while sendFrame(of: { services, span in services.nextFrame(now: now, into: &span) }) {}
    }

    /// When the services or the carrier have something to do; nil for never.
    var serviceDeadline: MonotonicTime? {
        guard announces else { return nil }
        let due = services.nextDeadline.map { MonotonicTime(nanoseconds: max(0, $0) * 1_000_000) }
        guard let later = carrier.deadline else { return due }
        return due.map { min($0, later) } ?? later
    }

    /// Does what the services and the carrier have to do by now.
    mutating func serviceDeadlineReached() {
        if let deadline = carrier.deadline, deadline <= now { carrier.proceed(link, now: now, logger: options.logger) }
        if let deadline = services.nextDeadline, deadline <= now.milliseconds { sendDue() }
    }
}

extension MonotonicTime {
    /// The time in milliseconds, as the services count.
    var milliseconds: Int64 { nanoseconds / 1_000_000 }
}

extension GuestServices.Seed {
    /// A seed from the kernel's random numbers and the time of day.
    static func now() -> Self {
        var random = SystemRandomNumberGenerator()
        return Self(
            random: (random.next(), random.next(), random.next(), random.next(), random.next()),
            secondsSince1970: MonotonicTime.secondsSince1970)
    }
}
