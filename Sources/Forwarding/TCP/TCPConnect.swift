// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The sockets of new TCP flows; TCPHandshakeSteps.swift decides what to do, and when.

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
        if gate != nil, !passesGate(key, summary, frame: Span()) { return }
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
        beginAtGate(index)
        table[index].countFromGuest(summary.payloadLength)
        table[index].beginOutbound(
            TCPSegment(summary), options: options, initial: table[index].initialSequence(at: now.nanoseconds))
        let number: CInt
        do throws(Errno) {
            number = try connectHost(index, to: target, type: HostSocket.stream, source: source, device: device)
        } catch {
            return hostFailed(index, error)
        }
        guard watch(index, socket: number) else { return closeFlow(index) }
        // The address is known already, and is needed if it goes before there is an answer.
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
        _ = openedAtGate(index)
    }

    // MARK: Queries over TCP

    /// A SYN to the address that stands for the host's resolvers.
    private mutating func openQueryStream(
        _ summary: FrameSummary, key: FlowKey, hash: UInt32, options: TCPOptions
    ) {
        guard let index = addFlow(key, hash: hash, as: .handshake) else { return }
        table[index].countFromGuest(summary.payloadLength)
        table[index].beginOutbound(
            TCPSegment(summary), options: options, initial: table[index].initialSequence(at: now.nanoseconds))
        table[index].flags.insert(.dns)
        dns.statistics.streams &+= 1
        hostFailed(index, .connectionRefused)
    }

    /// Connects to the resolver after the one that failed; false if none is left.
    mutating func connectNextResolver(_ index: Int) -> Bool {
        let servers = resolvers(port: table[index].key.remotePort)
        while Int(table[index].retries) < servers.count {
            let server = servers[Int(table[index].retries)]
            table[index].retries += 1
            if table[index].socket >= 0 {
                HostSocket.close(table[index].socket)
                table[index].socket = -1
            }
            guard
                let number = try? connectHost(
                    index, to: server, type: HostSocket.stream, source: nil,
                    device: translator.rules.resolverInterface),
                watch(index, socket: number)
            else { continue }
            setDeadline(index, milliseconds: 2 * DNSRelay.patience)
            return true
        }
        return false
    }

    /// The maximum segment size that we offer, from the MTU that the namespace was given.
    private func offeredSegmentSize(_ key: FlowKey) -> UInt16 {
        let mtu = Int(translator.rules.mtu ?? 65520)
        let size = mtu - (key.isIPv4 ? IPv4Header.length : IPv6Header.length) - TCPHeader.length
        return UInt16(clamping: max(size, 88))
    }

    /// The options of our SYN or SYN-ACK: a SYN offers window scaling, a SYN-ACK only if the namespace has offered it.
    func handshakeOptions(_ index: Int, _ flags: TCPFlags) -> TCPOptions {
        var options = TCPOptions(maximumSegmentSize: offeredSegmentSize(table[index].key))
        if !flags.contains(.ack) || table[index].flags.contains(.scales) { options.windowScale = TCPWindow.scale }
        return options
    }

    /// The host socket of a connecting flow is ready.
    mutating func connectReady(_ index: Int, _ readiness: Readiness) {
        guard !readiness.isDisjoint(with: [.writable, .error, .hangUp]) else { return }
        if let error = HostSocket.takeError(table[index].socket) {
            hostFailed(index, error)
            return
        }
        guard readiness.contains(.writable), !readiness.contains(.hangUp) else { return }
        prepareConnected(index)
        // No other edge will report what has arrived with this one.
        table[index].noteEnds(of: readiness)
        carryOut(table[index].hostConnected(), for: index)
    }

    /// Sets the options of a connected socket, and determines its address.
    private mutating func prepareConnected(_ index: Int) {
        let number = table[index].socket
        // Urgent bytes belong to the stream: a gap in it would make the peek offset wrong.
        HostSocket.setIfPossible(number, SOL_SOCKET, SO_OOBINLINE, 1)
        do throws(Errno) {
            try HostSocket.set(number, SOL_SOCKET, SO_PEEK_OFF, 0)
        } catch {
            table[index].flags.insert(.peeksFromStart)
        }
        guard table[index].local.isUnspecified, let local = HostSocket.localEndpoint(number) else { return }
        table[index].local = local.address
    }

    // MARK: From the host

    /// Starts a flow for a connection that was accepted on the host; `key` is what the namespace will see.
    mutating func openInbound(_ socket: CInt, key: FlowKey) -> Bool {
        let hash = key.hash
        if table.find(key, hash: hash) != nil { return false }
        guard let index = addFlow(key, hash: hash, as: .inboundHandshake) else { return false }
        let steps = table[index].beginInbound(initial: table[index].initialSequence(at: now.nanoseconds))
        HostSocket.setIfPossible(socket, CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        guard watch(index, socket: socket) else {
            table[index].socket = -1
            closeFlow(index)
            return false
        }
        prepareConnected(index)
        carryOut(steps, for: index)
        return true
    }
}
