// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// ICMP errors for the namespace: those that the host's kernel queues on a socket (IP_RECVERR, ip(7)), with the address
// of the router or host that sent them, and those made here from an errno.
//
// syscalls: running(data-path): recvmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage
internal import Wire

/// Why the other end of a flow cannot be reached.
enum Unreachable: UInt8 {
    case network
    case host
    case prohibited
}

extension DataPath {
    /// The source address of our own errors.
    func errorSource(_ family: AddressFamily, instead: IPv6Address) -> IPv6Address {
        translator.rules.families[family].ownAddress?.asIPv6 ?? instead
    }

    /// Reports to the namespace that the other end of a TCP or echo flow cannot be reached, and quotes the flow's first
    /// packet.
    mutating func reportUnreachable(_ flow: Flow, _ reason: Unreachable) {
        let family = flow.key.family
        let message: ICMPError
        switch reason {
        case .network: message = .networkUnreachable(family)
        case .host: message = .hostUnreachable(family)
        case .prohibited: message = .administrativelyProhibited(family)
        }
        let packet = IPHeader(
            flow.key.family, source: flow.key.guest, destination: flow.key.remote, ipProtocol: flow.key.transport,
            hopLimit: flow.ttl)
        // The kernel reads these parts of the quote: ports and sequence number, or type and identifier.
        var quote: [20 of UInt8] = .init(repeating: 0)
        if flow.key.transport == .tcp {
            Self.store(flow.key.guestPort, &quote, 0)
            Self.store(flow.key.remotePort, &quote, 2)
            let sequence = flow.receiveNext &- 1
            Self.store(UInt16(truncatingIfNeeded: sequence >> 16), &quote, 4)
            Self.store(UInt16(truncatingIfNeeded: sequence), &quote, 6)
            quote[12] = 5 << 4
            quote[13] = TCPFlags.syn.rawValue
        } else {
            quote[0] = family == .v4 ? ICMPv4Type.echoRequest : ICMPv6Type.echoRequest
            Self.store(flow.key.guestPort, &quote, 4)
        }
        let source = errorSource(family, instead: flow.key.remote)
        let guest = guestMAC
        let mac = gatewayMAC
        sendFrame { span, _ in
            message.writeFrame(
                into: &span, aboutPacket: packet, transport: quote.span, transportLength: 20, from: source, to: guest,
                from: mac)
        }
    }

    private static func store(_ value: UInt16, _ bytes: inout [20 of UInt8], _ offset: Int) {
        bytes[offset] = UInt8(value >> 8)
        bytes[offset + 1] = UInt8(value & 0xFF)
    }

    /// Reports to the namespace an error about a datagram that it sent.
    mutating func reportDatagram(
        _ flow: Flow, _ message: ICMPError, length: Int, offender: IPv6Address? = nil, payload: Span<UInt8> = Span()
    ) {
        let source = offender ?? errorSource(flow.key.family, instead: flow.key.remote)
        let packet = IPHeader(
            flow.key.family, source: flow.key.guest, destination: flow.key.remote, ipProtocol: .udp, hopLimit: flow.ttl)
        let guest = guestMAC
        let mac = gatewayMAC
        sendFrame { span, _ in
            message.writeFrame(
                into: &span, aboutDatagram: packet, sourcePort: flow.key.guestPort,
                destinationPort: flow.key.remotePort, payload: payload, payloadLength: max(length, payload.count),
                from: source, to: guest, from: mac)
        }
    }

    // MARK: The error queue

    /// Relays the errors that are queued on a socket.
    mutating func readErrors(_ index: Int) {
        for _ in 0..<16 {
            guard let error = readError(index) else { break }
            relay(index, error)
            guard table[index].state == .datagram else { return }
        }
        // Otherwise the pending error of the socket would make the next call fail.
        _ = HostSocket.takeError(table[index].socket)
    }

    /// An entry of the error queue.
    private struct QueuedError {
        var origin: UInt8
        var type: UInt8
        var code: UInt8
        var info: UInt32
        var errno: Errno
        var offender: IPv6Address?
        /// The quoted bytes of the datagram, in the scratch memory.
        var quoted: Int
    }

    /// The address of the quoted payload: behind the memory that `sendFrame` uses.
    private var quotePlace: UnsafeMutableRawPointer { unsafe scratch + Size.segment - 4096 }

    private func readError(_ index: Int) -> QueuedError? {
        var control: [64 of UInt64] = .init(repeating: 0)
        var vector = unsafe iovec(iov_base: quotePlace, iov_len: 2048)
        let number = table[index].socket
        return unsafe withUnsafeMutablePointer(to: &vector) { vector in
            unsafe withUnsafeMutableBytes(of: &control) { bytes -> QueuedError? in
                var message = unsafe msghdr()
                unsafe message.msg_iov = unsafe vector
                unsafe message.msg_iovlen = 1
                unsafe message.msg_control = bytes.baseAddress
                unsafe message.msg_controllen = bytes.count
                let flags = CInt(MSG_ERRQUEUE | MSG_DONTWAIT)
                guard case .bytes(let count) = transferring({ unsafe recvmsg(number, &message, flags) }) else {
                    return nil
                }
                var header = unsafe tapas_cmsg_first(&message)
                while let present = unsafe header {
                    let level = unsafe present.pointee.cmsg_level
                    let type = unsafe present.pointee.cmsg_type
                    let isError =
                        (level == CInt(IPPROTO_IP) && type == IP_RECVERR)
                        || (level == CInt(IPPROTO_IPV6) && type == IPV6_RECVERR)
                    if isError, let data = unsafe tapas_cmsg_data(present) {
                        return unsafe Self.parse(data, quoted: count)
                    }
                    unsafe header = tapas_cmsg_next(&message, present)
                }
                return nil
            }
        }
    }

    /// Reads `struct sock_extended_err` and the offender's address behind it (SO_EE_OFFENDER).
    private static func parse(_ data: UnsafeMutableRawPointer, quoted: Int) -> QueuedError {
        let error = unsafe data.loadUnaligned(as: sock_extended_err.self)
        // The address is a sockaddr_in or a sockaddr_in6, the longer of the two.
        var storage = sockaddr_storage()
        unsafe withUnsafeMutableBytes(of: &storage) { bytes in
            let address = unsafe UnsafeRawBufferPointer(
                start: data + MemoryLayout<sock_extended_err>.stride, count: MemoryLayout<sockaddr_in6>.size)
            unsafe bytes.copyMemory(from: address)
        }
        return QueuedError(
            origin: error.ee_origin, type: error.ee_type, code: error.ee_code, info: error.ee_info,
            errno: Errno(rawValue: CInt(bitPattern: error.ee_errno)),
            offender: unsafe Endpoint(&storage)?.address, quoted: quoted)
    }

    private mutating func relay(_ index: Int, _ error: QueuedError) {
        let flow = table[index]
        let family = flow.key.family
        let message: ICMPError
        switch CInt(error.origin) {
        case CInt(SO_EE_ORIGIN_ICMP), CInt(SO_EE_ORIGIN_ICMP6):
            message = ICMPError(family, type: error.type, code: error.code, mtu: Self.mtu(family, error))
        default:
            // The host itself has raised the error.
            switch error.errno {
            case .messageTooLong: message = .packetTooBig(family, mtu: error.info)
            case .noRouteToHost: message = .hostUnreachable(family)
            case .networkUnreachable: message = .networkUnreachable(family)
            default: return
            }
        }
        var offender = error.offender
        // The namespace knows the peer by the flow's address, and loopback by no other address.
        if let address = offender {
            let plain = IPAddress(unmapping: address)
            if plain.isLoopback || plain.isUnspecified || error.errno == .connectionRefused {
                offender = flow.key.remote
            }
        }
        if flow.key.transport == .udp {
            unsafe reportDatagram(
                flow, message, length: error.quoted, offender: offender, payload: Self.bytes(quotePlace, error.quoted))
        } else {
            reportEcho(flow, message, offender: offender ?? flow.key.remote, quoted: error.quoted)
        }
    }

    /// The MTU of a "too big" error; 0 for other errors.
    private static func mtu(_ family: AddressFamily, _ error: QueuedError) -> UInt32 {
        let isTooBig =
            family == .v4
            ? error.type == ICMPv4Type.destinationUnreachable && error.code == 4
            : error.type == ICMPv6Type.packetTooBig
        return isTooBig ? error.info : 0
    }

    /// Relays an error about an echo request, with the identifier that the namespace used.
    private mutating func reportEcho(_ flow: Flow, _ message: ICMPError, offender: IPv6Address, quoted: Int) {
        let place = unsafe quotePlace
        // A ping socket returns the whole message, with the kernel's identifier in it.
        if quoted >= ICMPHeader.length {
            unsafe place.storeBytes(of: flow.key.guestPort.bigEndian, toByteOffset: 4, as: UInt16.self)
        }
        let packet = IPHeader(
            flow.key.family, source: flow.key.guest, destination: flow.key.remote, ipProtocol: flow.key.transport,
            hopLimit: flow.ttl)
        let guest = guestMAC
        let mac = gatewayMAC
        sendFrame { span, _ in
            message.writeFrame(
                into: &span, aboutPacket: packet, transport: unsafe Self.bytes(place, quoted), transportLength: quoted,
                from: offender, to: guest, from: mac)
        }
    }
}
