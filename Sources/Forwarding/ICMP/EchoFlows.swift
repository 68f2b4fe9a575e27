// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// ICMP from the namespace. Echo requests for the host's loopback are answered here, as the kernel would do. Others go
// through ping sockets (icmp(7)), which every group within net.ipv4.ping_group_range may open. Neighbour discovery has
// gone to its service already (DataPath+Services). No other ICMP message leaves the namespace.
//
// syscalls: running(data-path): sendto

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

extension DataPath {
    /// How long an echo flow may be idle, in milliseconds.
    private static var echoTimeout: Int64 { 60_000 }

    /// An ICMP message from the namespace.
    mutating func receiveICMP(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        guard options.forwardsICMP else { return counters.drop(.protocolOff) }
        let request = summary.kind == .icmpv4 ? ICMPv4Type.echoRequest : ICMPv6Type.echoRequest
        guard summary.icmpType == request, summary.icmpCode == 0 else {
            return counters.drop(FlowDropReason.unknownProtocol)
        }
        unsafe echo(summary, frame: frame, count: count)
    }

    private mutating func echo(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination,
            guestPort: summary.icmpIdentifier, remotePort: 0, transport: summary.ipProtocol)
        let hash = key.hash
        let index: Int
        if let known = table.find(key, hash: hash) {
            index = known
        } else {
            if gate != nil, !passesGate(key, summary, frame: unsafe Self.bytes(frame, count)) { return }
            switch translator.outbound(to: key.remoteAddress, port: 0, transport: summary.ipProtocol) {
            case .host(let endpoint, _, _) where IPAddress(unmapping: endpoint.address).isLoopback:
                // The answer of the kernel's own loopback.
                sendFrame { span, rules in
                    EchoResponder.reply(
                        to: unsafe Self.bytes(frame, count), summary: summary, rules: rules, into: &span)
                }
                return
            case .host(let endpoint, let source, let device):
                guard let opened = openEcho(key, hash: hash, to: endpoint, source: source, device: device) else {
                    return
                }
                index = opened
            case .resolver, .noResolver:
                return
            case .refused(let reason):
                counters.drop(reason)
                return
            }
        }
        table[index].activity = now.nanoseconds
        table[index].countFromGuest(summary.transportLength - ICMPHeader.length)
        setDeadline(index, milliseconds: Self.echoTimeout)
        if table[index].ttl != summary.hopLimit { setHopLimit(index, summary.hopLimit) }
        let number = table[index].socket
        let message = unsafe frame + summary.transportOffset
        let length = summary.transportLength
        let result = transferring { unsafe send(number, message, length, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
        if case .failed(let error) = result {
            counters.drop(.notSent)
            switch error {
            case .networkUnreachable, .addressNotAvailable: reportUnreachable(table[index], .network)
            case .noRouteToHost: reportUnreachable(table[index], .host)
            case .permissionDenied, .notPermitted: reportUnreachable(table[index], .prohibited)
            default: break
            }
        }
    }

    private mutating func openEcho(
        _ key: FlowKey, hash: UInt32, to target: Endpoint, source: IPAddress?, device: String?
    ) -> Int? {
        guard let index = addFlow(key, hash: hash, as: .echo) else { return nil }
        beginAtGate(index)
        table[index].state = .datagram
        let ipProtocol = key.isIPv4 ? CInt(IPPROTO_ICMP) : CInt(IPPROTO_ICMPV6)
        let number: CInt
        do throws(Errno) {
            number = try connectHost(
                index, to: Endpoint(address: target.address, port: 0, scope: target.scope), type: HostSocket.datagram,
                ipProtocol: ipProtocol, source: source, device: device)
        } catch {
            counters.drop(.socket)
            echoRefused(error, table[index])
            closeFlow(index)
            return nil
        }
        guard watch(index, socket: number) else {
            closeFlow(index)
            return nil
        }
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
        return openedAtGate(index) ? index : nil
    }

    private mutating func echoRefused(_ error: Errno, _ flow: Flow) {
        switch error {
        case .permissionDenied, .notPermitted:
            // A broadcast of one of the host's subnets, or a route that forbids it.
            if HostSocket.canPing(flow.key.family) { return reportUnreachable(flow, .prohibited) }
            guard !reported.contains(.ping) else { return }
            reported.insert(.ping)
            options.logger.warning(
                "cannot open a ping socket: the host's net.ipv4.ping_group_range does not include our group; ping from the namespace gets no answer"
            )
        case .networkUnreachable, .addressNotAvailable: reportUnreachable(flow, .network)
        case .noRouteToHost: reportUnreachable(flow, .host)
        default: break
        }
    }

    /// An echo flow's host socket is ready.
    mutating func echoReady(_ index: Int, _ readiness: Readiness) {
        if readiness.contains(.error) {
            readErrors(index)
            guard table[index].state == .datagram else { return }
        }
        guard readiness.contains(.readable) else { return }
        while true {
            let number = table[index].socket
            guard case .bytes(let count) = datagrams.receive(number), count > 0 else { return }
            table[index].flags.insert(.answered)
            for position in 0..<count {
                unsafe forwardReply(index, datagrams.payload(position), datagrams.length(position))
            }
            if count < datagrams.capacity { return }
        }
    }

    private mutating func forwardReply(_ index: Int, _ message: UnsafeMutableRawPointer, _ count: Int) {
        guard let received = try? ICMPHeader(unsafe Self.bytes(message, count)), count >= ICMPHeader.length else {
            return
        }
        let key = table[index].key
        table[index].countToGuest(count - ICMPHeader.length)
        let header = ICMPHeader(type: received.type, identifier: key.guestPort, sequence: received.sequence)
        let mac = gatewayMAC
        let guest = guestMAC
        let body = unsafe message + ICMPHeader.length
        sendFrame { span, _ in
            header.writeFrame(
                into: &span, body: unsafe Self.bytes(body, count - ICMPHeader.length),
                ip: IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: key.transport),
                to: guest,
                from: mac)
        }
    }
}
