// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// UDP on listening sockets: the first datagrams of each client, until its own socket takes over.

internal import Glibc
public import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Policy
internal import SystemPackage

extension ForwardedPorts {
    /// Receives the datagrams that a listening socket has queued, a bounded number at a time.
    func receiveDatagrams(_ listener: Listener, now: MonotonicTime) {
        for _ in 0..<4 {
            guard case .bytes(let count) = batch.receive(listener.socket), count > 0 else { return }
            for index in 0..<count { take(index, listener, now) }
            if count < batch.capacity { return }
        }
    }

    private func take(_ index: Int, _ listener: Listener, _ now: MonotonicTime) {
        guard let peer = batch.source(index), let destination = batch.destination(index), peer.port != 0 else { return }
        var address = destination.address
        // An answer cannot come from a multicast group or a broadcast address, so the kernel chooses the source.
        if IPAddress(unmapping: address).isMulticast {
            address = address.isIPv4Mapped ? IPv6Address(mapping: .unspecified) : .unspecified
        }
        let local = Endpoint(
            address: address, port: listener.port, scope: address.isLinkLocal ? destination.interface : 0)
        let datagram = unsafe ArrivedDatagram(
            peer: peer, local: local, device: device(of: listener), listener: listener.socket,
            payload: UnsafeRawPointer(batch.payload(index)), count: batch.length(index))
        send(datagram, listener, now)
    }

    private func device(of listener: Listener) -> String? {
        let rule = rules[listener.rule]
        return rule.rule.direction == .inbound ? rule.places[listener.place].device : nil
    }

    /// Forwards a datagram that has arrived at a forwarded port.
    private func send(_ datagram: ArrivedDatagram, _ listener: Listener, _ now: MonotonicTime) {
        let rule = rules[listener.rule]
        let target = rule.target(of: listener.port)
        let peer = datagram.peer
        let local = datagram.local
        let isLoopback = IPAddress(unmapping: peer.address).isLoopback
        switch rule.rule.direction {
        case .outbound:
            guard isLoopback, IPAddress(unmapping: local.address).isLoopback,
                policy.allows(.udp, to: local.address, port: target)
            else { return }
            relay(datagram, to: Endpoint(address: local.address, port: target), .outbound, now)
        case .inbound where !policy.allows(client: peer): return
        case .inbound where isLoopback && options.splicesInbound:
            guard let address = rule.rule.targetAddress?.asIPv6 ?? spliceTarget(at: local.address, from: peer) else {
                return
            }
            relay(datagram, to: Endpoint(address: address, port: target), .inbound, now)
        case .inbound:
            handOver(datagram, to: target, at: rule.rule.targetAddress, now)
        }
    }

    // MARK: By the tap

    /// Hands a datagram to the data path, with a socket for its client unless the data path has that already.
    private func handOver(
        _ datagram: ArrivedDatagram, to port: UInt16, at address: IPAddress?, _ now: MonotonicTime
    ) {
        guard let tapFlows else { return }
        let client = RecentClients.Client(peer: datagram.peer, local: datagram.local)
        var socket: CInt?
        if !handedOver.contains(client, now: now) {
            do throws(Errno) {
                socket = try ClientSocket.make(for: datagram, queuesErrors: true)
                handedOver.insert(client, now: now)
            } catch {
                // Try once more when a flow has been evicted and its descriptor is free.
                guard error.meansNoDescriptors, mayMakeRoom else { return }
                let copy = datagram.copy
                let ports = LoopBound(self, on: loop)
                tapFlows.makeRoom { ports.perform { $0.sendWithRoom(copy) } }
                return
            }
        }
        arrivals.datagrams.append(
            ForwardedDatagram(datagram: datagram.copy, socket: socket, port: port, address: address))
    }

    /// Forwards a datagram for the last time, after room was made for it.
    private func sendWithRoom(_ datagram: ReceivedDatagram) {
        mayMakeRoom = false
        sendAgain([HeldDatagram(direction: .inbound, datagram: datagram)], now: .now)
        mayMakeRoom = true
    }

    /// Takes back datagrams that the data path cannot deliver.
    ///
    /// - Parameters:
    ///   - datagrams: datagrams that arrived on the host's side.
    ///   - hasFlow: true if they arrived at the socket of another client; false if their client has no flow and needs a
    ///     new socket.
    public func takeBack(_ datagrams: [ReceivedDatagram], hasFlow: Bool) {
        let now = MonotonicTime.now
        for datagram in datagrams where !hasFlow {
            handedOver.remove(.init(peer: datagram.peer, local: datagram.local))
        }
        sendAgain(datagrams.map { HeldDatagram(direction: .inbound, datagram: $0) }, now: now)
    }

    /// Forwards datagrams as if they had arrived at the listening socket now.
    func sendAgain(_ datagrams: [HeldDatagram], now: MonotonicTime) {
        for held in datagrams {
            let listener = listener(held.direction, at: held.datagram.local)
            guard listener != nil || held.target != nil else { continue }
            unsafe held.datagram.bytes.withUnsafeBytes { bytes in
                // An empty datagram has no bytes, and its address is never used.
                let start = unsafe bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)
                guard let start = unsafe start else { return }
                let datagram = unsafe ArrivedDatagram(
                    peer: held.datagram.peer, local: held.datagram.local, device: listener.flatMap { device(of: $0) },
                    listener: listener?.socket ?? -1, payload: start, count: bytes.count)
                if let listener {
                    send(datagram, listener, now)
                } else if let target = held.target {
                    // The rule was removed, but datagrams that its client had sent before are still forwarded.
                    relay(datagram, to: target, held.direction, now)
                }
            }
        }
    }

    /// The listening socket for an address and port.
    private func listener(_ direction: ForwardDirection, at local: Endpoint) -> Listener? {
        var wildcard: Listener?
        for index in listeners.indices where listeners[index].port == local.port {
            let rule = rules[listeners[index].rule]
            guard rule.rule.direction == direction, rule.rule.transport == .udp else { continue }
            let address = rule.places[listeners[index].place].address
            if address == local.address { return listeners[index] }
            if address.map({ IPAddress(unmapping: $0).isUnspecified && $0.isIPv4Mapped == local.address.isIPv4Mapped })
                ?? true
            {
                wildcard = wildcard ?? listeners[index]
            }
        }
        return wildcard
    }

    // MARK: Spliced

    /// The two sockets of a relay.
    private typealias RelaySockets = (client: CInt, server: CInt)

    /// Forwards a datagram to the other namespace; makes sockets for its client if there are none yet.
    private func relay(
        _ datagram: ArrivedDatagram, to target: Endpoint, _ direction: ForwardDirection, _ now: MonotonicTime
    ) {
        let key = Relays.Key(direction: direction, peer: datagram.peer, local: datagram.local, target: target)
        if relays.send(key, datagram, now: now) { return }
        for _ in 0..<5 {
            do throws(Errno) {
                guard let sockets = try makeRelaySockets(datagram, to: target, direction) else {
                    return held.add(datagram.copy, direction, to: target)
                }
                relays.add(key, client: sockets.client, server: sockets.server, now: now)
                _ = relays.send(key, datagram, now: now)
                return
            } catch {
                guard error.meansNoDescriptors else { return }
                // The two clients that have been silent for longest are evicted for their descriptors.
                for _ in 0..<2 { relays.evict() }
                pool.forgetFailures()
            }
        }
    }

    /// A socket towards the client, in its namespace, and one towards the target, in the other.
    ///
    /// - Returns: The sockets; nil if there is no socket of the namespace now.
    /// - Throws: The error of the first call that failed.
    private func makeRelaySockets(
        _ datagram: ArrivedDatagram, to target: Endpoint, _ direction: ForwardDirection
    ) throws(Errno) -> RelaySockets? {
        let clientKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: datagram.peer.family == .v4)
        let serverKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: target.family == .v4)
        guard let fromPool = try pool.take(direction == .inbound ? serverKind : clientKind) else { return nil }
        var fromHost: CInt = -1
        do throws(Errno) {
            fromHost = try (direction == .inbound ? clientKind : serverKind).request.open().rawValue
            let sockets: RelaySockets = direction == .inbound ? (fromHost, fromPool) : (fromPool, fromHost)
            try ClientSocket.connect(sockets.client, toSenderOf: datagram)
            // The server sees the client's port where that is free, and its address from loopback to loopback. The
            // target's own port is never used: if no server has it, the socket would be connected to itself.
            if datagram.peer.family == target.family, datagram.peer.port != target.port {
                let address = IPAddress(unmapping: target.address).isLoopback ? datagram.peer.address : target.address
                try? Endpoint(address: address, port: datagram.peer.port).bind(sockets.server)
            }
            try target.connect(sockets.server)
            HostSocket.empty(sockets.server)
            return sockets
        } catch {
            HostSocket.close(fromPool)
            if fromHost >= 0 { HostSocket.close(fromHost) }
            throw error
        }
    }
}
