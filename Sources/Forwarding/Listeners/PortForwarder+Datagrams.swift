// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// UDP on listening sockets: the first datagrams of each client, until a socket of its own takes over.

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

extension PortForwarder {
    /// Receives what waits on a listening socket, a bounded amount at a time.
    func receiveDatagrams(_ listener: Listener, now: MonotonicTime) {
        for _ in 0..<4 {
            guard case .bytes(let count) = batch.receive(listener.socket), count > 0 else { return }
            for index in 0..<count { take(index, listener, now) }
            if count < batch.capacity { return }
        }
    }

    private func take(_ index: Int, _ listener: Listener, _ now: MonotonicTime) {
        guard let peer = batch.source(index), let destination = batch.destination(index), peer.port != 0 else { return }
        let entry = entries[listener.entry]
        let place = entry.places[listener.place]
        var address = destination.address
        // An answer cannot come from a group or from everybody: the kernel chooses.
        if IPAddress(unmapping: address).isMulticast {
            address = address.isIPv4Mapped ? IPv6Address(mapping: .unspecified) : .unspecified
        }
        let local = Endpoint(
            address: address, port: listener.port, scope: address.isLinkLocal ? destination.interface : 0)
        let datagram = unsafe ForwardedDatagram(
            peer: peer, local: local, device: entry.rule.direction == .inbound ? place.device : nil,
            listener: listener.socket, payload: batch.payload(index), count: batch.length(index))
        send(datagram, listener, now)
    }

    /// Sends a datagram that has come to a forwarded port on its way.
    func send(_ datagram: ForwardedDatagram, _ listener: Listener, _ now: MonotonicTime) {
        let entry = entries[listener.entry]
        let target = entry.target(of: listener.port)
        let peer = datagram.peer
        let local = datagram.local
        let isLoopback = IPAddress(unmapping: peer.address).isLoopback
        switch entry.rule.direction {
        case .outbound:
            guard isLoopback, IPAddress(unmapping: local.address).isLoopback else { return }
            relay(datagram, to: Endpoint(address: local.address, port: target), .outbound, now)
        case .inbound where isLoopback && options.splicesInbound && entry.rule.targetAddress == nil:
            guard let address = relayTarget(local.address, from: peer) else { return }
            relay(datagram, to: Endpoint(address: address, port: target), .inbound, now)
        case .inbound:
            forwarder?.forward(datagram, to: target, at: entry.rule.targetAddress)
        }
    }

    private func relayTarget(_ local: IPv6Address, from peer: Endpoint) -> IPv6Address? {
        guard options.hostLoopbackToNamespaceLoopback else {
            return forwarder?.inbound.spliceTarget(isIPv4: peer.family == .v4)
        }
        if IPAddress(unmapping: local).isLoopback { return local }
        return peer.family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
    }

    /// Sends a datagram on to the other namespace, with sockets made for its client if there are none yet.
    private func relay(
        _ datagram: ForwardedDatagram, to target: Endpoint, _ direction: ForwardDirection, _ now: MonotonicTime
    ) {
        let key = Relays.Key(direction: direction, peer: datagram.peer, local: datagram.local, target: target)
        if relays.send(key, datagram, now: now) { return }
        var sockets = relaySockets(datagram, to: target, direction)
        var attempts = 0
        while sockets == nil, attempts < 4, DatagramSocket.lacksDescriptors(for: 2) {
            // Of two clients that have been silent for long: the pool may keep some.
            for _ in 0..<2 { relays.evict() }
            sockets = relaySockets(datagram, to: target, direction)
            attempts += 1
        }
        guard let (client, server) = sockets else { return }
        relays.add(key, client: client, server: server, now: now)
        _ = relays.send(key, datagram, now: now)
    }

    /// A socket towards the client, in its namespace, and one towards the target, in the other.
    private func relaySockets(
        _ datagram: ForwardedDatagram, to target: Endpoint, _ direction: ForwardDirection
    ) -> (client: CInt, server: CInt)? {
        let clientKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: datagram.peer.family == .v4)
        let serverKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: target.family == .v4)
        guard let client = direction == .inbound ? hostSocket(clientKind) : pool.take(clientKind) else { return nil }
        guard DatagramSocket.lend(client, datagram),
            let server = direction == .inbound ? pool.take(serverKind) : hostSocket(serverKind)
        else {
            HostSocket.close(client)
            return nil
        }
        // The client's port is kept where it is free; so is its address from loopback to loopback.
        // The target's own port is left alone: where nobody has it yet, we would be talking to ourselves.
        if datagram.peer.family == target.family, datagram.peer.port != target.port {
            let address = IPAddress(unmapping: target.address).isLoopback ? datagram.peer.address : target.address
            _ = Endpoint(address: address, port: datagram.peer.port).bind(server)
        }
        guard target.connect(server) == 0 else {
            HostSocket.close(client)
            HostSocket.close(server)
            return nil
        }
        HostSocket.empty(server)
        return (client, server)
    }

    private func hostSocket(_ kind: NamespaceSocketPool.Kind) -> CInt? {
        guard case .success(let descriptor) = kind.request.open() else { return nil }
        return descriptor.rawValue
    }
}
