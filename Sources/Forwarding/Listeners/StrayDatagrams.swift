// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The socket of a single UDP client is bound to the very address and port that the client has written to, and then
// connected to it: two calls, and between them it is the socket that fits best whatever anybody sends there. A datagram
// of another client that the kernel has looked up a socket for in that moment is queued on this one, or will be. It must
// neither pass for the first client's nor be lost; whoever reads the sockets of clients therefore looks at the sources
// and puts aside what is somebody else's, and the port forwarder takes it back as if it had come to the listening
// socket.
//
// syscalls: getpeername getsockname

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A datagram that has come to the socket of another client.
struct StrayDatagram {
    /// Which side listens.
    var direction: ForwardDirection
    /// Who sent it.
    var peer: Endpoint
    /// What it was sent to, as far as answers can leave from there.
    var local: Endpoint
    /// ``DataPath/Size/headroom`` bytes, then the datagram.
    var bytes: [UInt8]

    init(
        direction: ForwardDirection, peer: Endpoint, local: Endpoint, payload: UnsafeMutableRawPointer, count: Int
    ) {
        self.direction = direction
        self.peer = peer
        self.local = local
        bytes = [UInt8](repeating: 0, count: DataPath.Size.headroom)
        unsafe bytes.append(contentsOf: UnsafeRawBufferPointer(start: payload, count: count))
    }
}

/// Stray datagrams that wait to be taken back.
struct StrayDatagrams {
    /// How many wait at most; there are as many as others send within a microsecond.
    private static let limit = 256

    private var waiting: [StrayDatagram] = []

    var isEmpty: Bool { waiting.isEmpty }

    /// Puts one aside; false if there is no room.
    mutating func add(_ datagram: StrayDatagram) -> Bool {
        guard waiting.count < Self.limit else { return false }
        waiting.append(datagram)
        return true
    }

    /// All of them, which are the caller's then.
    mutating func take() -> [StrayDatagram] {
        defer { waiting = [] }
        return waiting
    }
}

extension DataPath {
    /// Whether all datagrams of a batch were sent by the client of a flow.
    func isFromClient(_ index: Int, count: Int) -> Bool {
        let key = table[index].key
        for position in 0..<count {
            guard let source = datagrams.source(position), source.port == key.remotePort, source.address == key.remote
            else { return false }
        }
        return true
    }

    /// Writes a batch of a forwarded flow to the tap, less what has strayed to it or seems so.
    @inline(never)
    mutating func forwardSorted(_ index: Int, count: Int) {
        let number = table[index].socket
        let peer = HostSocket.peerEndpoint(number)
        // The first of a run of the client's own, whose address may be another than the one that the namespace is shown.
        var first = 0
        for position in 0..<count {
            guard let peer, let source = datagrams.source(position),
                source.port != peer.port || source.address != peer.address
            else { continue }
            forwardDatagrams(index, first: first, count: position - first)
            first = position + 1
            guard let local = HostSocket.localEndpoint(number),
                strays.add(
                    unsafe StrayDatagram(
                        direction: .inbound, peer: source, local: local, payload: datagrams.payload(position),
                        count: datagrams.length(position)))
            else {
                counters.drop(.socket)
                continue
            }
        }
        forwardDatagrams(index, first: first, count: count - first)
    }
}

extension PortForwarder {
    /// Sends datagrams that have come to the socket of another client on their own ways.
    func takeBack(_ datagrams: [StrayDatagram], now: MonotonicTime) {
        for var datagram in datagrams {
            guard let listener = listener(datagram.direction, at: datagram.local) else { continue }
            let device = datagram.direction == .inbound ? entries[listener.entry].places[listener.place].device : nil
            unsafe datagram.bytes.withUnsafeMutableBytes { bytes in
                guard let start = bytes.baseAddress else { return }
                let forwarded = unsafe ForwardedDatagram(
                    peer: datagram.peer, local: datagram.local, device: device, listener: listener.socket,
                    payload: start + DataPath.Size.headroom, count: bytes.count - DataPath.Size.headroom)
                send(forwarded, listener, now)
            }
        }
    }

    /// The socket that datagrams to an address and port come to.
    private func listener(_ direction: ForwardDirection, at local: Endpoint) -> Listener? {
        var wildcard: Listener?
        for index in listeners.indices where listeners[index].socket >= 0 && listeners[index].port == local.port {
            let entry = entries[listeners[index].entry]
            guard entry.rule.direction == direction, entry.rule.transport == .udp else { continue }
            let address = entry.places[listeners[index].place].address
            if address == local.address { return listeners[index] }
            if address.map({ IPAddress(unmapping: $0).isUnspecified && $0.isIPv4Mapped == local.address.isIPv4Mapped })
                ?? true
            {
                wildcard = wildcard ?? listeners[index]
            }
        }
        return wildcard
    }
}
