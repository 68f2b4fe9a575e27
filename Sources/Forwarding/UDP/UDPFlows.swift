// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// UDP: one connected host socket for each flow. That of a flow to a multicast group is not connected
// (`Flow.Flags.group`): answers come from the members of the group, and reach the namespace with their own sources.
//
// From the namespace, equal consecutive datagrams of one flow are sent with one call (UDP_SEGMENT), and so is a
// super-frame (USO). Towards it, many datagrams are received at once (recvmmsg), and equal ones become one super-frame.
// An error of the host's kernel about a datagram (no route, too big, port unreachable, TTL exceeded) reaches the
// namespace as the ICMP error that it would have received.
//
// syscalls: running(data-path): sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

extension DataPath {
    /// A UDP datagram or super-frame from the namespace.
    @inline(__always)
    mutating func receiveUDP(
        _ summary: FrameSummary, header: VirtioNetHeader, frame: UnsafeMutableRawPointer, count: Int
    ) {
        guard options.forwardsUDP else { return counters.drop(.protocolOff) }
        let isSuper = header.segmentation.kind == .udp && header.segmentSize > 0
        // If it were sent piece by piece, one frame could occupy the event loop for 65,000 calls.
        if isSuper, summary.payloadLength > Int(header.segmentSize) * Size.largestSegmentCount {
            return counters.drop(.tooManySegments)
        }
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination, guestPort: summary.sourcePort,
            remotePort: summary.destinationPort, transport: .udp)
        var index = -1
        if gather.flow >= 0 && gather.segmentSize != 0 && table[gather.flow].key == key {
            index = gather.flow
        } else {
            let hash = key.hash
            if let known = table.find(key, hash: hash) {
                index = known
            } else {
                unsafe index = openUDP(summary, key: key, hash: hash, frame: frame, count: count)
                if index < 0 { return }
            }
        }
        // The address has stood for the host's resolvers, and no longer does.
        if table[index].flags.contains(.dns) { return closeFlow(index) }
        if table[index].flags.contains(.answered), !table[index].flags.contains(.returned) {
            table[index].flags.formUnion([.returned, .stream])
            table.file(index, as: .exchange)
        }
        pace.countOutbound(1)
        table[index].countFromGuest(summary.payloadLength)
        touchDatagram(index)
        if table[index].ttl != summary.hopLimit { setHopLimit(index, summary.hopLimit) }
        let size = isSuper ? Int(header.segmentSize) : summary.payloadLength
        unsafe gatherDatagram(
            index, payload: frame + summary.payloadOffset, count: summary.payloadLength, size: size, isSuper: isSuper)
    }

    /// Adds a datagram to the run, or ends the run and starts another.
    private mutating func gatherDatagram(
        _ index: Int, payload: UnsafeMutableRawPointer, count: Int, size: Int, isSuper: Bool
    ) {
        let fits =
            gather.flow == index && !gather.isClosed && !isSuper && count > 0 && count <= gather.segmentSize
            && gather.count < 64 && gather.bytes + count <= 65000
        if !fits {
            flushGathered()
            guard table[index].state == .datagram else { return }
            gather.flow = index
            gather.segmentSize = max(size, 1)
            // Empty datagrams and super-frames are runs of their own.
            gather.isClosed = isSuper || count == 0
        } else if count < gather.segmentSize {
            gather.isClosed = true
        }
        unsafe gatherVectors[gather.count] = unsafe iovec(iov_base: payload, iov_len: count)
        gather.count += 1
        gather.bytes += count
    }

    /// Sends a run of datagrams, with one call if there are several.
    mutating func flushUDP(_ run: Gather) {
        let index = run.flow
        guard table[index].state == .datagram else { return }
        if run.bytes > run.segmentSize {
            switch sendVectors(index, from: 0, count: run.count, segmentSize: run.segmentSize) {
            case .bytes, .wouldBlock: return
            case .failed(let error):
                // The path does not accept it in one piece, or there is no such offload: one by one.
                guard error == .invalidArgument || error == .messageTooLong || error == .ioError else {
                    datagramRefused(index, error, at: 0)
                    return
                }
                if run.count == 1 { return splitSuperFrame(index, run) }
            }
        }
        for position in 0..<run.count {
            if case .failed(let error) = sendVectors(index, from: position, count: 1, segmentSize: 0) {
                datagramRefused(index, error, at: position)
                if table[index].state != .datagram { return }
            }
        }
    }

    /// Sends the pieces of one super-frame separately.
    private mutating func splitSuperFrame(_ index: Int, _ run: Gather) {
        let whole = unsafe gatherVectors[0]
        var offset = 0
        while offset < run.bytes {
            let length = min(run.segmentSize, run.bytes - offset)
            unsafe gatherVectors[0] = unsafe iovec(iov_base: whole.iov_base + offset, iov_len: length)
            if case .failed(let error) = sendVectors(index, from: 0, count: 1, segmentSize: 0) {
                datagramRefused(index, error, at: 0)
                return
            }
            offset += length
        }
    }

    private mutating func sendVectors(_ index: Int, from first: Int, count: Int, segmentSize: Int) -> IOResult {
        var message = unsafe msghdr()
        unsafe message.msg_iov = unsafe gatherVectors + first
        unsafe message.msg_iovlen = count
        let number = table[index].socket
        guard table[index].flags.contains(.group) else {
            return unsafe Self.send(number, &message, segmentSize: segmentSize)
        }
        guard let group = group(of: index) else { return .failed(.networkUnreachable) }
        return unsafe group.withSockaddr { name, length in
            unsafe message.msg_name = UnsafeMutableRawPointer(mutating: name)
            unsafe message.msg_namelen = length
            return unsafe Self.send(number, &message, segmentSize: segmentSize)
        }
    }

    /// The destination of a flow to a multicast group, on the link of the present template.
    private func group(of index: Int) -> Endpoint? {
        let key = table[index].key
        guard
            case .host(let group, _, _) = translator.outbound(
                to: key.remoteAddress, port: key.remotePort, transport: .udp)
        else { return nil }
        return group
    }

    @inline(__always)
    private static func send(_ number: CInt, _ message: inout msghdr, segmentSize: Int) -> IOResult {
        var control: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        return unsafe withUnsafeMutableBytes(of: &control) { bytes in
            if segmentSize > 0 {
                unsafe message.msg_control = bytes.baseAddress
                unsafe message.msg_controllen = tapas_cmsg_space(2)
                if let header = unsafe tapas_cmsg_first(&message) {
                    unsafe header.pointee.cmsg_level = CInt(IPPROTO_UDP)
                    unsafe header.pointee.cmsg_type = CInt(TAPAS_UDP_SEGMENT)
                    unsafe header.pointee.cmsg_len = tapas_cmsg_length(2)
                    unsafe tapas_cmsg_data(header).storeBytes(of: UInt16(segmentSize), as: UInt16.self)
                }
            }
            var result = transferring { unsafe tapas_sendmsg(number, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            if case .failed(.connectionRefused) = result {
                // The error belongs to an earlier datagram; it is reported to the namespace from the error queue.
                result = transferring { unsafe tapas_sendmsg(number, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            }
            return result
        }
    }

    /// Reports to the namespace why the host's kernel did not accept a datagram.
    private mutating func datagramRefused(_ index: Int, _ error: Errno, at position: Int) {
        counters.drop(.notSent)
        let length = unsafe gatherVectors[position].iov_len
        let flow = table[index]
        if let refusal = Self.refusal(error, flow.key.family) {
            reportDatagram(flow, refusal, length: length)
            return
        }
        switch error {
        case .messageTooLong:
            let level = flow.key.isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6)
            let mtu = HostSocket.get(flow.socket, level, flow.key.isIPv4 ? IP_MTU : IPV6_MTU) ?? 1280
            reportDatagram(flow, .packetTooBig(flow.key.family, mtu: UInt32(clamping: mtu)), length: length)
        default:
            break
        }
    }

    /// The ICMP error that makes a datagram socket in the namespace return the errno that send(2) returned here.
    ///
    /// On the host such a call fails at once. The usual "unreachable" codes 0 and 1 (IPv6: 0 and 3) are soft errors,
    /// which Linux does not report to datagram sockets. These are the hard errors with the same or the nearest errno:
    /// network unknown (ENETUNREACH), host administratively prohibited (EHOSTUNREACH), and for IPv6 reject route
    /// (EACCES).
    private static func refusal(_ error: Errno, _ family: AddressFamily) -> ICMPError? {
        let code: UInt8
        switch error {
        case .networkUnreachable, .networkDown, .addressNotAvailable: code = 6
        case .noRouteToHost, .hostIsDown: code = family == .v4 ? 10 : 6
        case .permissionDenied, .notPermitted: return .administrativelyProhibited(family)
        default: return nil
        }
        return ICMPError(
            family, type: family == .v4 ? ICMPv4Type.destinationUnreachable : ICMPv6Type.destinationUnreachable,
            code: code)
    }

    // MARK: Flows

    /// Opens a flow for a datagram; returns -1 if that is impossible.
    private mutating func openUDP(
        _ summary: FrameSummary, key: FlowKey, hash: UInt32, frame: UnsafeMutableRawPointer, count: Int
    ) -> Int {
        if gate != nil, !passesGate(key, summary, frame: unsafe Self.bytes(frame, count)) { return -1 }
        let target: Endpoint
        var source: IPAddress?
        var device: String?
        switch translator.outbound(to: key.remoteAddress, port: key.remotePort, transport: .udp) {
        case .host(let endpoint, let address, let name):
            target = endpoint
            source = address
            device = name
        case .resolver(let endpoint):
            // Queries over UDP have gone to their service already; this is DNS over QUIC (port 853), a flow like any
            // other.
            target = endpoint
        case .noResolver:
            counters.drop(.notSent)
            return -1
        case .refused(let reason):
            counters.drop(reason)
            return -1
        }
        guard let index = addFlow(key, hash: hash, as: .question) else { return -1 }
        beginAtGate(index)
        table[index].state = .datagram
        let isGroup = key.remoteAddress.isMulticast
        if isGroup { table[index].flags.insert(.group) }
        let number: CInt
        do throws(Errno) {
            number = try connectHost(
                index, to: target, type: HostSocket.datagram, source: source,
                sourcePort: isGroup ? 0 : key.guestPort, device: device)
        } catch {
            counters.drop(.socket)
            refuseOpening(error, summary, frame: unsafe Self.bytes(frame, count))
            closeFlow(index)
            return -1
        }
        guard watch(index, socket: number) else {
            closeFlow(index)
            return -1
        }
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
        guard openedAtGate(index) else { return -1 }
        setDeadline(index, milliseconds: options.udpTimeout)
        return index
    }

    /// Reports to the namespace that a flow cannot be opened, according to the errno of connect(2).
    private mutating func refuseOpening(_ error: Errno, _ summary: FrameSummary, frame: Span<UInt8>) {
        guard ICMPError.mayAnswer(summary) else { return }
        guard let message = Self.refusal(error, summary.family) else { return }
        let mac = gatewayMAC
        let source = errorSource(summary.family, instead: summary.destination)
        sendFrame { span, _ in
            message.writeFrame(into: &span, about: frame, summary: summary, from: source, sourceMAC: mac)
        }
    }

    /// Moves the deadline of a datagram flow.
    @inline(__always)
    mutating func touchDatagram(_ index: Int) {
        table[index].activity = now.nanoseconds
        let timeout = table[index].flags.contains(.stream) ? options.udpStreamTimeout : options.udpTimeout
        setDeadline(index, milliseconds: timeout)
    }

    /// Copies the TTL of the namespace's packets, so that traceroute(8) works.
    mutating func setHopLimit(_ index: Int, _ hopLimit: UInt8) {
        table[index].ttl = hopLimit
        let isIPv4 = table[index].key.isIPv4
        HostSocket.setIfPossible(
            table[index].socket, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_TTL : IPV6_UNICAST_HOPS,
            CInt(max(hopLimit, 1)))
    }

    // MARK: Towards the namespace

    /// A UDP flow's host socket is ready.
    mutating func udpReady(_ index: Int, _ readiness: Readiness) {
        if table[index].flags.contains(.dns) { return answerReady(index, readiness) }
        if readiness.contains(.error) {
            readErrors(index)
            guard table[index].state == .datagram else { return }
        }
        guard readiness.contains(.readable) else { return }
        for _ in 0..<16 {
            let number = table[index].socket
            let count: Int
            let isForwarded = table[index].flags.contains(.inbound)
            let isGroup = table[index].flags.contains(.group)
            switch isForwarded || isGroup ? datagrams.receiveWithSources(number) : datagrams.receive(number) {
            case .bytes(let received): count = received
            case .wouldBlock: return
            case .failed:
                // The error is reported and cleared; there may be datagrams behind it.
                readErrors(index)
                guard table[index].state == .datagram else { return }
                continue
            }
            guard count > 0 else { return }
            if count > 1 || table[index].flags.contains(.answered) { table[index].flags.insert(.stream) }
            if !table[index].flags.contains(.answered) {
                table[index].flags.insert(.answered)
                table.file(index, as: .exchange)
            }
            pace.countInbound(count)
            touchDatagram(index)
            if isGroup {
                forwardAnswers(index, count: count)
            } else if isForwarded, !isFromClient(index, count: count) {
                forwardSorted(index, count: count)
            } else {
                forwardDatagrams(index, first: 0, count: count)
            }
            if count < datagrams.capacity { return }
        }
        // The socket is watched edge-triggered, so what is left must be read later.
        table[index].flags.insert(.readable)
        enqueue(index)
    }

    /// Sends received datagrams to the guest; equal consecutive ones become one super-frame.
    mutating func forwardDatagrams(_ index: Int, first: Int, count: Int) {
        var first = first
        let end = first + count
        while first < end {
            let size = datagrams.length(first)
            var last = first
            var total = size
            if link.capabilities.contains(.udpSegmentation) && size > 0 {
                while last + 1 < end && last - first < 63 {
                    let next = datagrams.length(last + 1)
                    if next == 0 || next > size || total + next > 65000 { break }
                    total += next
                    last += 1
                    if next < size { break }
                }
            }
            sendDatagrams(index, table[index].key, first: first, last: last, total: total, size: size)
            first = last + 1
        }
    }

    /// Sends the datagrams that arrived at the socket of a flow to a group to the guest, each with its own source.
    @inline(never)
    private mutating func forwardAnswers(_ index: Int, count: Int) {
        let translator = inbound
        for position in 0..<count {
            guard let sender = datagrams.source(position), let source = translator.source(of: sender.address) else {
                counters.drop(.notSent)
                continue
            }
            var key = table[index].key
            key.remote = source
            key.remotePort = sender.port
            let size = datagrams.length(position)
            sendDatagrams(index, key, first: position, last: position, total: size, size: size)
        }
    }

    private mutating func sendDatagrams(
        _ index: Int, _ key: FlowKey, first: Int, last: Int, total: Int, size: Int
    ) {
        let ip = IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .udp, hopLimit: 64)
        guard total <= Self.largestDatagram(isIPv4: key.isIPv4) else { return counters.drop(.notSent) }
        table[index].countToGuest(total)
        var data = unsafe Payload(datagrams.payload(first), count: size)
        if first < last {
            data.furtherPieces = last - first
            data.furtherBytes = total - size
            data.segmentation = .udp
            data.segmentSize = size
            for position in first + 1...last {
                unsafe peekVectors[position - first] = unsafe iovec(
                    iov_base: datagrams.payload(position), iov_len: datagrams.length(position))
            }
        }
        sendPacket(ip, headerLength: UDPHeader.length, data) { span, offset in
            UDPHeader(sourcePort: key.remotePort, destinationPort: key.guestPort, payloadLength: total)
                .write(into: &span, at: offset, ip: ip)
        }
    }
}
