// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Some frames are not for a flow but for the link itself: ARP, neighbour discovery, DHCP, DHCPv6, and queries for the
// address that stands for the host's resolvers. Only this file knows them. `service(for:)` determines from the summary
// alone to which service a frame belongs, and `serve` passes the frame to it. Only the remaining frames may open or
// reach a flow.
//
// A host without an address sends from 0.0.0.0 or `::`. Each service declares whether it accepts such a frame
// (`LinkService.takesUnspecifiedSource`); every other frame with such a source is dropped and counted here.
//
// A new service is a case of `LinkService`, a line in `service(for:)` and one in `serve`.
//
// Unsolicited messages of the services, sent because the settings have changed or a deadline has passed, go out in
// `sendDue`. A client with a wrong lease may have to see its link go down: `CarrierToggle`.

internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import Wire

/// The services of the link, which come before the flows.
enum LinkService {
    /// Hardware addresses for IPv4 (RFC 826).
    case arp
    /// Neighbour and Router Solicitations and the other messages of Neighbour Discovery (RFC 4861).
    case neighborDiscovery
    /// DHCP and DHCPv6 (RFC 2131, RFC 8415).
    case configuration
    /// Queries over UDP for the host's resolvers (`--dns-forward`).
    case dns

    /// Whether the service accepts frames from 0.0.0.0 or `::`.
    ///
    /// Duplicate address detection, Router Solicitations and DHCP requests come from there.
    var takesUnspecifiedSource: Bool {
        switch self {
        case .arp, .neighborDiscovery, .configuration: true
        case .dns: false
        }
    }
}

extension DataPath {
    /// The service that a frame belongs to; nil if it belongs to a flow.
    @inline(__always)
    func service(for summary: FrameSummary) -> LinkService? {
        switch summary.kind {
        case .arp: .arp
        case .icmpv6:
            (ICMPv6Type.routerSolicitation...ICMPv6Type.redirect).contains(summary.icmpType) ? .neighborDiscovery : nil
        case .udp:
            switch summary.destinationPort {
            case 53: isForResolvers(summary) ? .dns : nil
            // Upstream also treats these as its own, whatever their destination and even if the server is off.
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

    /// Passes a frame to its service; `isReassembled` says whether it was reassembled from fragments.
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
            // RFC 6980 §5: such messages must not be fragmented.
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
        if summary.kind == .udp { reportRemarks() }
    }

    private mutating func reportRemarks() {
        for remark in services.takeRemarks() { options.logger.warning("\(remark)") }
    }

    // MARK: Unsolicited messages

    /// Sets what the services announce from now on, and announces the difference at once.
    mutating func adopt(_ settings: ServiceSettings) {
        var settings = settings
        if let address = gatewayStandIn { settings.gatewayMAC = address }
        let conveyance = services.update(settings, now: now.milliseconds)
        sendDue()
        guard announces, conveyance.togglesCarrier else { return }
        carrier.begin(link, now: now, logger: options.logger)
    }

    /// Sends the messages of the services that are due.
    mutating func sendDue() {
        guard announces else { return }
        let now = now.milliseconds
        while sendFrame(of: { services, span in services.nextFrame(now: now, into: &span) }) {}
    }

    /// When the services or the carrier need to act; nil for never.
    var serviceDeadline: MonotonicTime? {
        guard announces else { return nil }
        let due = services.nextDeadline.map { MonotonicTime(nanoseconds: max(0, $0) * 1_000_000) }
        guard let later = carrier.deadline else { return due }
        return due.map { min($0, later) } ?? later
    }

    /// Lets the services and the carrier do what is due.
    mutating func serviceDeadlineReached() {
        if let deadline = carrier.deadline, deadline <= now { carrier.proceed(link, now: now, logger: options.logger) }
        if let deadline = services.nextDeadline, deadline <= now.milliseconds { sendDue() }
    }
}

extension MonotonicTime {
    /// The time in milliseconds, the unit of the services.
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
