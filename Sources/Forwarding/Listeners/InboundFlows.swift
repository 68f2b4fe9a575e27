// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Forwarded ports by way of the tap: what was accepted or received on the host becomes a flow of the data path.
//
// A UDP client gets a socket of its own, connected to it and bound to the very address and port that it has written
// to; from then on the flow is like one that the namespace has opened. The clients' sockets share the port among them
// (SO_REUSEADDR), the listening one with them for the moment of bind(2) only, so that nobody else can.
//
// syscalls: socket setsockopt bind connect getsockname getpeername close

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage
internal import Wire

/// A datagram that has come to a forwarded port.
@safe
struct ForwardedDatagram {
    /// Who sent it.
    var peer: Endpoint
    /// What it was sent to, as far as answers can leave from there.
    var local: Endpoint
    /// The device that the port is bound to.
    var device: String?
    /// The socket that listens on the port.
    var listener: CInt
    /// Where it lies, with ``DataPath/Size/headroom`` bytes free before it.
    var payload: UnsafeMutableRawPointer
    /// Its length in bytes.
    var count: Int
}

extension Forwarder {
    /// Starts a flow to the namespace for a connection accepted on the host; false if there can be none, and the
    /// socket is still the caller's.
    func accept(_ socket: CInt, from peer: Endpoint, to port: UInt16, at address: IPAddress?) -> Bool {
        withPath { $0.openForwarded(socket, from: peer, to: port, at: address) }
    }

    /// Hands a datagram to the namespace, opening its flow if there is none.
    func forward(_ datagram: ForwardedDatagram, to port: UInt16, at address: IPAddress?) {
        withPath { $0.forward(datagram, to: port, at: address) }
    }

    /// Gives up the flow that has been idle longest, for its descriptor.
    func evictFlow() {
        withPath { _ = $0.evict(at: .descriptors) }
    }

    /// Where flows that are opened on the host go now.
    var inbound: InboundTranslator { withPath { $0.inbound } }
}

extension DataPath {
    /// Where flows that are opened on the host go now.
    var inbound: InboundTranslator { InboundTranslator(rules: translator.rules, seen: seen) }

    /// The key of a flow from a client of the host; nil if the namespace has no address for it, or could not answer.
    private func forwardedKey(
        _ peer: Endpoint, to port: UInt16, at address: IPAddress?, _ transport: IPProtocol
    ) -> FlowKey? {
        let translator = inbound
        // The family of the host's socket is the flow's: translation keeps it.
        let family = peer.family
        guard let source = translator.source(of: peer.address),
            let target = address?.asIPv6 ?? translator.target(for: source, family),
            address.map({ $0.family == family }) ?? true
        else { return nil }
        return FlowKey(
            family: family, guest: target, remote: source, guestPort: port, remotePort: peer.port, transport: transport)
    }

    /// Starts a flow for an accepted connection; false if there can be none.
    mutating func openForwarded(_ socket: CInt, from peer: Endpoint, to port: UInt16, at address: IPAddress?) -> Bool {
        guard var key = forwardedKey(peer, to: port, at: address, .tcp) else { return false }
        if key.remote != peer.address {
            // Several clients behind one address may use the same port: any free one will do then.
            var attempts = 0
            while table.find(key, hash: key.hash) != nil, attempts < 32 {
                key.remotePort = UInt16.random(in: 1024...UInt16.max)
                attempts += 1
            }
        }
        return openInbound(socket, key: key)
    }

    /// Hands a datagram to its flow, opening one if there is none.
    mutating func forward(_ datagram: ForwardedDatagram, to port: UInt16, at address: IPAddress?) {
        guard let key = forwardedKey(datagram.peer, to: port, at: address, .udp) else {
            return counters.drop(.noHostAddress)
        }
        let hash = key.hash
        if let index = table.find(key, hash: hash) {
            let socket = table[index].socket
            if table[index].flags.contains(.inbound), DatagramSocket.joins(socket, datagram.local, datagram.peer) {
                return deliver(datagram, index)
            }
            // The namespace has spoken to this client before, or the client has spoken to another port of ours: what
            // came last says where answers are awaited.
            closeFlow(index)
        }
        guard let index = addFlow(key, hash: hash, as: .inboundQuestion) else { return }
        table[index].state = .datagram
        table[index].flags.insert(.inbound)
        var socket = DatagramSocket.lend(datagram, queuesErrors: true)
        if socket == nil, DatagramSocket.lacksDescriptors(for: 1), evict(sparing: index, at: .descriptors) {
            socket = DatagramSocket.lend(datagram, queuesErrors: true)
        }
        guard let number = socket else {
            counters.drop(.socket)
            return closeFlow(index)
        }
        guard watch(index, socket: number) else { return closeFlow(index) }
        table[index].local = datagram.local.address
        deliver(datagram, index)
    }

    /// Writes a datagram to the tap.
    private mutating func deliver(_ datagram: ForwardedDatagram, _ index: Int) {
        if table[index].flags.contains(.answered) { table[index].flags.insert(.stream) }
        table[index].flags.insert(.answered)
        touchDatagram(index)
        let key = table[index].key
        let ip = IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .udp, hopLimit: 64)
        let headers = EthernetHeader.length + ip.length + UDPHeader.length
        guard datagram.count <= Self.largestDatagram(isIPv4: key.isIPv4) else { return counters.drop(.notSent) }
        let frame = unsafe datagram.payload - headers
        var span = unsafe MutableSpan(
            _unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: headers + datagram.count)
        let offset = ip.writeFrame(
            into: &span, to: guestMAC, from: gatewayMAC, payloadLength: UDPHeader.length + datagram.count)
        let owed = UDPHeader(
            sourcePort: key.remotePort, destinationPort: key.guestPort, payloadLength: datagram.count
        ).write(into: &span, at: offset, ip: ip)
        var header = VirtioNetHeader()
        if leavesChecksums {
            header = owed.leaveToReceiver(in: &span)
        } else {
            owed.finish(in: &span, payloadLength: datagram.count)
        }
        unsafe transmit(frame, count: headers + datagram.count, header: header)
    }
}

/// Sockets of single UDP clients.
enum DatagramSocket {
    /// A socket of the host that is connected to a datagram's sender, bound to what the datagram was sent to.
    static func lend(_ datagram: ForwardedDatagram, queuesErrors: Bool) -> CInt? {
        let isIPv4 = datagram.peer.family == .v4
        let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let number = socket(isIPv4 ? AF_INET : AF_INET6, HostSocket.datagram | flags, 0)
        guard number >= 0 else { return nil }
        if queuesErrors {
            HostSocket.set(
                number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_RECVERR : IPV6_RECVERR, 1)
        }
        if lend(number, datagram) { return number }
        HostSocket.close(number)
        return nil
    }

    /// Binds a socket to what a datagram was sent to, beside the socket that listens there, and connects it to the
    /// datagram's sender.
    static func lend(_ number: CInt, _ datagram: ForwardedDatagram) -> Bool {
        if let device = datagram.device, !ListeningPlace.mayBind(number, toDevice: device) { return false }
        HostSocket.set(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 1)
        HostSocket.set(number, SOL_SOCKET, SO_REUSEADDR, 1)
        let isIPv4 = datagram.local.family == .v4
        // The address may be one that the host is about to lose, or has not finished to get.
        HostSocket.set(number, isIPv4 ? CInt(IPPROTO_IP) : CInt(IPPROTO_IPV6), isIPv4 ? IP_FREEBIND : IPV6_FREEBIND, 1)
        let isBound = datagram.local.bind(number) == 0
        HostSocket.set(datagram.listener, SOL_SOCKET, SO_REUSEADDR, 0)
        return isBound && datagram.peer.connect(number) == 0
    }

    /// Whether `count` more sockets cannot be made for want of descriptors.
    static func lacksDescriptors(for count: Int) -> Bool {
        let number = socket(AF_INET, HostSocket.datagram | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { return currentErrno.meansNoDescriptors }
        defer { HostSocket.close(number) }
        return count > 1 && lacksDescriptors(for: count - 1)
    }

    /// Whether a socket is bound and connected to these two.
    static func joins(_ number: CInt, _ local: Endpoint, _ peer: Endpoint) -> Bool {
        guard let own = HostSocket.localEndpoint(number), let other = HostSocket.peerEndpoint(number) else {
            return false
        }
        return own.address == local.address && own.port == local.port && other.address == peer.address
            && other.port == peer.port
    }
}
