// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// How TCP flows begin and end.
//
// A SYN from the namespace starts a connection of a host socket and is answered only with its outcome: SYN-ACK, a
// reset for "refused", an ICMP error for "unreachable", nothing for a time-out, so that the namespace's programs see
// the errno that they would see on the host. A connection accepted on the host (a forwarded port) starts with a SYN to
// the namespace.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    // MARK: From the namespace

    /// A SYN for which there is no flow.
    mutating func openOutbound(_ summary: FrameSummary, key: FlowKey, hash: UInt32, options: TCPOptions) {
        let target: Endpoint
        var source: IPAddress?
        var device: String?
        switch translator.outbound(to: key.remoteAddress, port: key.remotePort, transport: .tcp) {
        case .host(let endpoint, let address, let name):
            target = endpoint
            source = address
            device = name
        case .resolver:
            openQueryStream(summary, key: key, hash: hash, options: options)
            return
        case .noResolver:
            refuseSegment(summary)
            return
        case .refused(let reason):
            counters.drop(reason)
            return
        }
        guard let index = addFlow(key, hash: hash, as: .handshake) else { return }
        begin(index, options: options)
        table[index].state = .connecting
        table[index].receiveNext = summary.tcpSequence &+ 1
        table[index].receiveEdge = table[index].receiveNext
        table[index].sendWindow = UInt32(summary.tcpWindow)
        let start = connectHost(index, to: target, type: HostSocket.stream, source: source, device: device)
        guard case .socket(let number) = start, watch(index, socket: number) else {
            if case .failed(let error) = start { connectionFailed(index, error) } else { closeFlow(index) }
            return
        }
        // Known already, and needed if the address goes before there is an answer.
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
    }

    // MARK: Queries over TCP

    /// A SYN to the address that stands for the host's resolvers.
    private mutating func openQueryStream(
        _ summary: FrameSummary, key: FlowKey, hash: UInt32, options: TCPOptions
    ) {
        guard let index = addFlow(key, hash: hash, as: .handshake) else { return }
        begin(index, options: options)
        table[index].state = .connecting
        table[index].flags.insert(.dns)
        table[index].receiveNext = summary.tcpSequence &+ 1
        table[index].receiveEdge = table[index].receiveNext
        table[index].sendWindow = UInt32(summary.tcpWindow)
        if !connectNextResolver(index) { connectionFailed(index, .connectionRefused) }
    }

    /// Connects to the resolver after the one that failed; false if there is none left.
    private mutating func connectNextResolver(_ index: Int) -> Bool {
        let servers = resolvers(port: table[index].key.remotePort)
        while Int(table[index].retries) < servers.count {
            let server = servers[Int(table[index].retries)]
            table[index].retries += 1
            if table[index].socket >= 0 {
                HostSocket.close(table[index].socket)
                table[index].socket = -1
            }
            guard
                case .socket(let number) = connectHost(
                    index, to: server, type: HostSocket.stream, source: nil, device: nil),
                watch(index, socket: number)
            else { continue }
            setDeadline(index, milliseconds: 2 * DNSRelay.patience)
            return true
        }
        return false
    }

    /// Sets what both kinds of opening share.
    private mutating func begin(_ index: Int, options: TCPOptions) {
        let initial = initialSequence(table[index].key)
        table[index].sendUnacknowledged = initial
        table[index].sendNext = initial
        table[index].sendHighest = initial
        adopt(index, options: options)
    }

    /// Takes over what the namespace's SYN or SYN-ACK offers.
    private mutating func adopt(_ index: Int, options: TCPOptions) {
        // A segment of 0 bytes would never get anywhere; 88 is the least that Linux accepts (TCP_MIN_MSS). More than
        // fits a packet must not get into one.
        let most = UInt16(Self.largestPayload(isIPv4: table[index].key.isIPv4))
        table[index].mss = min(max(options.maximumSegmentSize ?? 536, 88), most)
        if let scale = options.windowScale {
            table[index].windowScale = scale
            table[index].flags.insert(.scales)
        } else {
            table[index].windowScale = 0
            table[index].flags.remove(.scales)
        }
    }

    /// An initial sequence number that others cannot guess and that grows with time (RFC 6528).
    private func initialSequence(_ key: FlowKey) -> UInt32 {
        key.hash &* 0x9E37_79B1 &+ UInt32(truncatingIfNeeded: now.nanoseconds >> 12)
    }

    /// The maximum segment size that we offer, from the MTU that the namespace was given.
    private func offeredSegmentSize(_ key: FlowKey) -> UInt16 {
        let mtu = Int(translator.rules.mtu ?? 65520)
        let size = mtu - (key.isIPv4 ? IPv4Header.length : IPv6Header.length) - TCPHeader.length
        return UInt16(clamping: max(size, 88))
    }

    /// The host socket of a connecting flow has news.
    mutating func connectReady(_ index: Int, _ readiness: Readiness) {
        guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
        if let error = HostSocket.takeError(table[index].socket) {
            connectionFailed(index, error)
            return
        }
        guard readiness.contains(.writable), !readiness.contains(.hangUp) else { return }
        hostConnected(index)
        // There is no other edge for what has come with this one.
        note(index, readiness)
        table[index].state = .synReceived
        // For a resolver it has counted those that were tried.
        table[index].retries = 0
        sendSynAck(index)
        setDeadline(index, milliseconds: TCPTime.handshake)
    }

    /// What is to be known and set of a socket that is connected.
    mutating func hostConnected(_ index: Int) {
        let number = table[index].socket
        // Urgent bytes are bytes of the stream: a hole in it would put the peek offset out of step.
        HostSocket.set(number, SOL_SOCKET, SO_OOBINLINE, 1)
        if !HostSocket.set(number, SOL_SOCKET, SO_PEEK_OFF, 0) { table[index].flags.insert(.peeksFromStart) }
        guard table[index].local.isUnspecified, let local = HostSocket.localEndpoint(number) else { return }
        table[index].local = local.address
    }

    mutating func sendSynAck(_ index: Int) {
        var options = TCPOptions(maximumSegmentSize: offeredSegmentSize(table[index].key))
        if table[index].flags.contains(.scales) { options.windowScale = Size.windowScale }
        let sequence = table[index].sendUnacknowledged
        table[index].sendNext = sequence &+ 1
        table[index].sendHighest = sequence &+ 1
        sendControl(index, flags: [.syn, .ack], sequence: sequence, options: options)
    }

    /// Tells the namespace why there is no connection, as the host's kernel would have told its program.
    mutating func connectionFailed(_ index: Int, _ error: Errno) {
        if table[index].flags.contains(.dns), connectNextResolver(index) { return }
        let flow = table[index]
        switch error {
        case .networkUnreachable, .addressNotAvailable, .networkDown:
            reportUnreachable(flow, .network)
        case .noRouteToHost, .hostIsDown:
            reportUnreachable(flow, .host)
        case .permissionDenied, .notPermitted:
            reportUnreachable(flow, .prohibited)
        case .timedOut:
            // The namespace's own SYN time-out ends at about the same time.
            break
        case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .noMemory:
            // The namespace tries again by itself.
            counters.drop(.socket)
        default:
            sendControl(index, flags: [.rst, .ack], sequence: 0)
        }
        closeFlow(index)
    }

    // MARK: From the host

    /// Starts a flow for a connection that was accepted on the host: `key` is as the namespace is to see it.
    mutating func openInbound(_ socket: CInt, key: FlowKey) -> Bool {
        let hash = key.hash
        if table.find(key, hash: hash) != nil { return false }
        guard let index = addFlow(key, hash: hash, as: .inboundHandshake) else { return false }
        begin(index, options: TCPOptions())
        table[index].state = .synSent
        table[index].flags.insert(.inbound)
        HostSocket.set(socket, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        guard watch(index, socket: socket) else {
            table[index].socket = -1
            closeFlow(index)
            return false
        }
        hostConnected(index)
        sendSyn(index)
        setDeadline(index, milliseconds: TCPTime.handshake)
        return true
    }

    mutating func sendSyn(_ index: Int) {
        let options = TCPOptions(
            maximumSegmentSize: offeredSegmentSize(table[index].key), windowScale: Size.windowScale)
        let sequence = table[index].sendUnacknowledged
        table[index].sendNext = sequence &+ 1
        table[index].sendHighest = sequence &+ 1
        table[index].receiveNext = 0
        table[index].receiveEdge = 65535
        sendControl(index, flags: .syn, sequence: sequence, options: options)
    }

    /// The namespace's answer to our SYN.
    mutating func answered(_ index: Int, _ summary: FrameSummary, options: TCPOptions) {
        let flags = summary.tcpFlags
        guard flags.contains(.ack), summary.tcpAcknowledgment == table[index].sendNext else {
            if !flags.contains(.rst) { refuseSegment(summary) }
            return
        }
        if flags.contains(.rst) {
            abortFlow(index)
            return
        }
        guard flags.contains(.syn) else { return }
        adopt(index, options: options)
        table[index].receiveNext = summary.tcpSequence &+ 1
        table[index].receiveEdge = table[index].receiveNext
        table[index].sendUnacknowledged = summary.tcpAcknowledgment
        table[index].sendWindow = UInt32(summary.tcpWindow)
        establish(index)
        table[index].flags.insert(.owesAck)
    }

    /// The handshake is complete.
    mutating func establish(_ index: Int) {
        table[index].state = .established
        table.file(index, as: .connection)
        table[index].retries = 0
        table[index].flags.insert(.readable)
        setDeadline(index, milliseconds: TCPTime.keepalive)
        enqueue(index)
    }

    // MARK: Ends

    /// The host socket is in error: the namespace's side is reset.
    mutating func hostFailed(_ index: Int, _ error: Errno) {
        if table[index].state == .connecting {
            connectionFailed(index, error)
            return
        }
        // Not `sendNext`, which may have gone back: the namespace ignores a reset before what it has received.
        sendControl(index, flags: [.rst, .ack], sequence: table[index].sendHighest)
        closeFlow(index)
    }

    /// Gives a flow up on both sides.
    mutating func resetBothSides(_ index: Int) {
        if table[index].state == .connecting {
            sendControl(index, flags: [.rst, .ack], sequence: 0)
        } else {
            sendControl(index, flags: [.rst, .ack], sequence: table[index].sendHighest)
        }
        abortFlow(index)
    }

    /// Ends a flow when both directions have: FIN passed on, FIN acknowledged.
    mutating func closeIfFinished(_ index: Int) {
        guard table[index].flags.isSuperset(of: [.shutDown, .finAcknowledged]) else { return }
        if table[index].flags.contains(.owesAck) { sendAcknowledgment(index) }
        discardAcknowledged(index)
        closeFlow(index)
    }
}
