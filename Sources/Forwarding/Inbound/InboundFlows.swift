// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Flows that are opened on the host: forwarded ports hand over what they have accepted or received. A UDP client comes
// with a socket of its own, connected to it and bound to the destination of its datagrams. From then on the flow is
// like one that the namespace has opened.

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import NetworkModel
public import NetworkTypes
internal import SystemPackage
internal import Wire

extension Forwarder {
    /// Starts a flow to the namespace for a connection that was accepted on the host.
    ///
    /// - Parameters:
    ///   - socket: the accepted socket, which the data path owns from now on.
    ///   - peer: the client.
    ///   - port: the port in the namespace.
    ///   - address: the address in the namespace; nil for the one that it uses.
    /// - Returns: False if the flow cannot be opened; the socket is reset then.
    @discardableResult
    public func accept(_ socket: CInt, from peer: Endpoint, to port: UInt16, at address: IPAddress?) -> Bool {
        let isOpen = withPath {
            $0.now = .now
            return $0.openForwarded(socket, from: peer, to: port, at: address)
        }
        if !isOpen { HostSocket.abort(socket) }
        return isOpen
    }

    /// Passes a datagram that was received on the host to its flow.
    ///
    /// - Parameters:
    ///   - datagram: the datagram.
    ///   - socket: a socket for its client, which the data path owns from now on, and which opens the flow anew; nil if
    ///     the flow has one. If that flow no longer exists, the datagram comes back as a stray.
    ///   - port: the port in the namespace.
    ///   - address: the address in the namespace; nil for the one that it uses.
    public func deliver(_ datagram: ReceivedDatagram, socket: CInt?, to port: UInt16, at address: IPAddress?) {
        withPath {
            $0.now = .now
            $0.deliver(datagram, socket: socket, to: port, at: address)
        }
    }

    /// Evicts the flow that has been idle for longest, for its descriptor.
    public func evictFlow() {
        withPath {
            $0.now = .now
            _ = $0.evict(at: .descriptors)
        }
    }
}

extension DataPath {
    /// The destinations of flows that are opened on the host now.
    var inbound: InboundTranslator { InboundTranslator(rules: translator.rules, seen: seen) }

    /// The key of a flow from a client of the host; nil if the namespace has no address for it, or could not answer.
    private mutating func forwardedKey(
        _ peer: Endpoint, to port: UInt16, at address: IPAddress?, _ transport: IPProtocol
    ) -> FlowKey? {
        let translator = inbound
        // The family of the host's socket is the flow's, since translation does not change it.
        let family = peer.family
        guard let source = translator.source(of: peer.address),
            let target = address?.asIPv6 ?? translator.target(for: source, family),
            address.map({ $0.family == family }) ?? true
        else { return nil }
        // What answers from there is not the namespace's own address.
        if address != nil { seen.exclude(target) }
        return FlowKey(
            family: family, guest: target, remote: source, guestPort: port, remotePort: peer.port, transport: transport)
    }

    /// Starts a flow for an accepted connection; false if that is impossible.
    mutating func openForwarded(_ socket: CInt, from peer: Endpoint, to port: UInt16, at address: IPAddress?) -> Bool {
        guard var key = forwardedKey(peer, to: port, at: address, .tcp) else { return false }
        if key.remote != peer.address {
            // Several clients behind one address may use the same port; then any free port will do.
            var attempts = 0
            while table.find(key, hash: key.hash) != nil, attempts < 32 {
                key.remotePort = UInt16.random(in: 1024...UInt16.max)
                attempts += 1
            }
        }
        return openInbound(socket, key: key)
    }

    /// Passes a datagram to its flow, or opens the flow with the datagram's socket.
    mutating func deliver(_ datagram: ReceivedDatagram, socket: CInt?, to port: UInt16, at address: IPAddress?) {
        guard let key = forwardedKey(datagram.peer, to: port, at: address, .udp) else {
            if let socket { HostSocket.close(socket) }
            return counters.drop(.noHostAddress)
        }
        let hash = key.hash
        let known = table.find(key, hash: hash)
        guard let socket else {
            guard let known, table[known].flags.contains(.inbound), joins(known, datagram) else {
                if !strays.add(StrayDatagram(datagram: datagram, hasFlow: false)) { counters.drop(.unknownFlow) }
                return
            }
            return deliver(datagram, known)
        }
        // The namespace has sent to this client before, or the client has sent to another of our ports. The latest
        // datagram shows where answers are expected.
        if let known { closeFlow(known) }
        guard let index = addFlow(key, hash: hash, as: .inboundQuestion) else { return HostSocket.close(socket) }
        table[index].state = .datagram
        table[index].flags.insert(.inbound)
        // From here on the flow owns the socket.
        guard watch(index, socket: socket) else { return closeFlow(index) }
        table[index].local = datagram.local.address
        deliver(datagram, index)
    }

    /// Whether a flow's socket is bound and connected to both ends of a datagram.
    private func joins(_ index: Int, _ datagram: ReceivedDatagram) -> Bool {
        let number = table[index].socket
        guard let own = HostSocket.localEndpoint(number), let peer = HostSocket.peerEndpoint(number) else {
            return false
        }
        return own.address == datagram.local.address && own.port == datagram.local.port
            && peer.address == datagram.peer.address && peer.port == datagram.peer.port
    }

    /// Sends a datagram to the guest.
    private mutating func deliver(_ datagram: ReceivedDatagram, _ index: Int) {
        let count = datagram.bytes.count
        if table[index].flags.contains(.answered) { table[index].flags.insert(.stream) }
        table[index].flags.insert(.answered)
        touchDatagram(index)
        let key = table[index].key
        let ip = IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .udp, hopLimit: 64)
        guard count <= Self.largestDatagram(isIPv4: key.isIPv4) else { return counters.drop(.notSent) }
        table[index].countToGuest(count)
        // The memory has room for the headers; such datagrams are few, so one more copy does not matter.
        let payload = unsafe scratch + Size.headroom
        unsafe datagram.bytes.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { unsafe payload.copyMemory(from: start, byteCount: bytes.count) }
        }
        sendPacket(ip, headerLength: UDPHeader.length, unsafe Payload(payload, count: count)) { span, offset in
            UDPHeader(sourcePort: key.remotePort, destinationPort: key.guestPort, payloadLength: count)
                .write(into: &span, at: offset, ip: ip)
        }
    }
}
