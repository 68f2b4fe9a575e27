// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The messages of sock_diag(7) that list sockets, built and parsed; no calls. And what /proc/net says instead where a
// kernel has no such diagnosis.

internal import CLinux
internal import NetworkModel
internal import SystemPackage

/// A socket as the kernel lists it.
struct ListedSocket: Hashable {
    /// Its own port.
    var port: UInt16
    /// The user it belongs to.
    var user: UInt32
    /// The inode by which /proc names it.
    var inode: UInt32
}

/// Requests for the listening sockets of a namespace, and their answers.
enum SocketDiagnostics {
    /// How far an answer has come.
    enum Progress: Equatable {
        /// More messages follow.
        case more
        /// That was the last.
        case done
        /// The kernel refused.
        case failed(Errno)
    }

    private static let headerLength = 16
    /// The length of `struct inet_diag_req_v2`.
    private static let requestLength = 56
    /// The length of `struct inet_diag_msg`.
    private static let messageLength = 72

    /// The states of a socket that can be connected to, as bits: TCP listens, UDP is not connected (`TCP_LISTEN`,
    /// `TCP_CLOSE`).
    private static func states(_ transport: TransportProtocol) -> UInt32 {
        transport == .tcp ? 1 << 10 : 1 << 7
    }

    /// Builds the request for all sockets of a family (`AF_INET`, `AF_INET6`) that can be connected to.
    static func request(family: UInt8, transport: TransportProtocol, sequence: UInt32) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: headerLength + requestLength)
        store(UInt32(bytes.count), &bytes, 0)
        store(UInt16(SOCK_DIAG_BY_FAMILY), &bytes, 4)
        store(UInt16(NLM_F_REQUEST | NLM_F_DUMP), &bytes, 6)
        store(sequence, &bytes, 8)
        bytes[headerLength] = family
        bytes[headerLength + 1] = transport == .tcp ? UInt8(IPPROTO_TCP) : UInt8(IPPROTO_UDP)
        store(states(transport), &bytes, headerLength + 4)
        return bytes
    }

    /// Parses one datagram of an answer; messages of other requests are passed over.
    static func parse(_ bytes: Span<UInt8>, sequence: UInt32, into sockets: inout [ListedSocket]) -> Progress {
        var offset = 0
        while offset + headerLength <= bytes.count {
            let length = Int(load(bytes, offset) as UInt32)
            guard length >= headerLength, length <= bytes.count - offset else { return .failed(.badMessage) }
            let body = offset + headerLength
            if load(bytes, offset + 8) == sequence {
                switch CInt(load(bytes, offset + 4) as UInt16) {
                case NLMSG_DONE:
                    return .done
                case NLMSG_ERROR:
                    guard length >= headerLength + 4 else { return .failed(.badMessage) }
                    let number = CInt(bitPattern: load(bytes, body))
                    return .failed(number < 0 && number > -4096 ? Errno(rawValue: -number) : .badMessage)
                case SOCK_DIAG_BY_FAMILY where length >= headerLength + messageLength:
                    let port = UInt16(bytes[body + 4]) << 8 | UInt16(bytes[body + 5])
                    sockets.append(
                        ListedSocket(port: port, user: load(bytes, body + 64), inode: load(bytes, body + 68)))
                default:
                    break
                }
            }
            offset += (length + 3) & ~3
        }
        return .more
    }

    /// Parses a file of /proc/net (`tcp`, `tcp6`, `udp`, `udp6`; proc(5)) for the same sockets.
    static func parseProcNet(_ text: some StringProtocol, transport: TransportProtocol) -> [ListedSocket] {
        var sockets: [ListedSocket] = []
        let wanted = transport == .tcp ? "0A" : "07"
        for line in text.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ")
            guard words.count > 9, words[3] == wanted, let hex = words[1].split(separator: ":").last,
                let port = UInt16(hex, radix: 16), let user = UInt32(words[7]), let inode = UInt32(words[9])
            else { continue }
            sockets.append(ListedSocket(port: port, user: user, inode: inode))
        }
        return sockets
    }

    // Netlink headers are in the machine's byte order.

    private static var isLittleEndian: Bool { UInt16(littleEndian: 1) == 1 }

    private static func store<Number: FixedWidthInteger>(_ value: Number, _ bytes: inout [UInt8], _ offset: Int) {
        let size = Number.bitWidth / 8
        for index in 0..<size {
            let shift = (isLittleEndian ? index : size - 1 - index) * 8
            bytes[offset + index] = UInt8(truncatingIfNeeded: value >> Number(shift))
        }
    }

    private static func load<Number: FixedWidthInteger>(_ bytes: Span<UInt8>, _ offset: Int) -> Number {
        let size = Number.bitWidth / 8
        var value: Number = 0
        for index in 0..<size {
            let shift = (isLittleEndian ? index : size - 1 - index) * 8
            value |= Number(bytes[offset + index]) << Number(shift)
        }
        return value
    }
}
