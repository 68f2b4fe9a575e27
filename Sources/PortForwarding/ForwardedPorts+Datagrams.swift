// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// UDP on listening sockets: the first datagrams of each client, until a socket of its own takes over.

internal import Glibc
public import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

extension ForwardedPorts {
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
        var address = destination.address
        // An answer cannot come from a group or from everybody: the kernel chooses.
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

    /// Sends a datagram that has come to a forwarded port on its way.
    private func send(_ datagram: ArrivedDatagram, _ listener: Listener, _ now: MonotonicTime) {
        let rule = rules[listener.rule]
        let target = rule.target(of: listener.port)
        let peer = datagram.peer
        let local = datagram.local
        let isLoopback = IPAddress(unmapping: peer.address).isLoopback
        switch rule.rule.direction {
        case .outbound:
            guard isLoopback, IPAddress(unmapping: local.address).isLoopback else { return }
            relay(datagram, to: Endpoint(address: local.address, port: target), .outbound, now)
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

    /// Hands a datagram to the data path, with a socket for its client unless that has been handed over already.
    private func handOver(
        _ datagram: ArrivedDatagram, to port: UInt16, at address: IPAddress?, _ now: MonotonicTime
    ) {
        guard let tapFlows else { return }
        let client = RecentClients.Client(peer: datagram.peer, local: datagram.local)
        var socket: CInt?
        if !handedOver.contains(client, now: now) {
            switch ClientSocket.make(for: datagram, queuesErrors: true) {
            case .success(let number):
                socket = number
                handedOver.insert(client, now: now)
            case .failure(let error):
                // Once more when a flow has given its descriptor up.
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

    /// Sends a datagram on its way for the last time: room was made for it.
    private func sendWithRoom(_ datagram: ReceivedDatagram) {
        mayMakeRoom = false
        sendAgain([HeldDatagram(direction: .inbound, datagram: datagram)], now: .now)
        mayMakeRoom = true
    }

    /// Takes back datagrams that the data path cannot deliver.
    ///
    /// - Parameters:
    ///   - datagrams: what came to the host's side.
    ///   - hasFlow: true if they strayed to the socket of another client; false if their client has no flow, and needs
    ///     a new socket.
    public func takeBack(_ datagrams: [ReceivedDatagram], hasFlow: Bool) {
        let now = MonotonicTime.now
        for datagram in datagrams where !hasFlow {
            handedOver.remove(.init(peer: datagram.peer, local: datagram.local))
        }
        sendAgain(datagrams.map { HeldDatagram(direction: .inbound, datagram: $0) }, now: now)
    }

    /// Sends datagrams on their ways as if they had come to the listening socket now.
    func sendAgain(_ datagrams: [HeldDatagram], now: MonotonicTime) {
        for held in datagrams {
            let listener = listener(held.direction, at: held.datagram.local)
            guard listener != nil || held.target != nil else { continue }
            unsafe held.datagram.bytes.withUnsafeBytes { bytes in
                // An empty datagram has no bytes, and no address that anybody looks at.
                let start = unsafe bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)
                guard let start = unsafe start else { return }
                let datagram = unsafe ArrivedDatagram(
                    peer: held.datagram.peer, local: held.datagram.local, device: listener.flatMap { device(of: $0) },
                    listener: listener?.socket ?? -1, payload: start, count: bytes.count)
                if let listener {
                    send(datagram, listener, now)
                } else if let target = held.target {
                    // The rule is gone; what its client had sent before is not.
                    relay(datagram, to: target, held.direction, now)
                }
            }
        }
    }

    /// The socket that datagrams to an address and port come to.
    private func listener(_ direction: ForwardDirection, at local: Endpoint) -> Listener? {
        var wildcard: Listener?
        for index in listeners.indices where listeners[index].socket >= 0 && listeners[index].port == local.port {
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

    /// What making the two sockets of a relay came to.
    private enum RelaySockets {
        case made(client: CInt, server: CInt)
        /// One of them will be there later.
        case later
        case failed(Errno)
    }

    /// Sends a datagram on to the other namespace, with sockets made for its client if there are none yet.
    private func relay(
        _ datagram: ArrivedDatagram, to target: Endpoint, _ direction: ForwardDirection, _ now: MonotonicTime
    ) {
        let key = Relays.Key(direction: direction, peer: datagram.peer, local: datagram.local, target: target)
        if relays.send(key, datagram, now: now) { return }
        var sockets = makeRelaySockets(datagram, to: target, direction)
        var attempts = 0
        while case .failed(let error) = sockets, error.meansNoDescriptors, attempts < 4 {
            // Those of two clients that have been silent for long.
            for _ in 0..<2 { relays.evict() }
            pool.forgetFailures()
            sockets = makeRelaySockets(datagram, to: target, direction)
            attempts += 1
        }
        switch sockets {
        case .failed: return
        case .later: held.add(datagram.copy, direction, to: target)
        case .made(let client, let server):
            relays.add(key, client: client, server: server, now: now)
            _ = relays.send(key, datagram, now: now)
        }
    }

    /// A socket towards the client, in its namespace, and one towards the target, in the other.
    private func makeRelaySockets(
        _ datagram: ArrivedDatagram, to target: Endpoint, _ direction: ForwardDirection
    ) -> RelaySockets {
        let clientKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: datagram.peer.family == .v4)
        let serverKind = NamespaceSocketPool.Kind(isStream: false, isIPv4: target.family == .v4)
        let fromPool: CInt
        switch pool.take(direction == .inbound ? serverKind : clientKind) {
        case .socket(let number): fromPool = number
        case .later: return .later
        case .failed(let error): return .failed(error)
        }
        let fromHost: CInt
        switch (direction == .inbound ? clientKind : serverKind).request.open() {
        case .success(let descriptor): fromHost = descriptor.rawValue
        case .failure(let error):
            HostSocket.close(fromPool)
            return .failed(error)
        }
        let (client, server) = direction == .inbound ? (fromHost, fromPool) : (fromPool, fromHost)
        guard ClientSocket.connect(client, toSenderOf: datagram) else { return discard(client, server) }
        // The client's port is kept where it is free; so is its address from loopback to loopback.
        // The target's own port is left alone: where nobody has it yet, we would be talking to ourselves.
        if datagram.peer.family == target.family, datagram.peer.port != target.port {
            let address = IPAddress(unmapping: target.address).isLoopback ? datagram.peer.address : target.address
            _ = Endpoint(address: address, port: datagram.peer.port).bind(server)
        }
        guard target.connect(server) == 0 else { return discard(client, server) }
        HostSocket.empty(server)
        return .made(client: client, server: server)
    }

    private func discard(_ client: CInt, _ server: CInt) -> RelaySockets {
        let error = currentErrno
        HostSocket.close(client)
        HostSocket.close(server)
        return .failed(error)
    }
}
