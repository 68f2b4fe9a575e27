// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Netlink
internal import NetworkModel

/// The files of /proc/net that list sockets (`tcp`, `tcp6`, `udp`, `udp6`; proc(5)).
enum ProcNet {
    /// Parses a file of /proc/net (`tcp`, `tcp6`, `udp`, `udp6`; proc(5)) for the sockets that can be connected to.
    static func parse(_ text: some StringProtocol, transport: TransportProtocol) -> [ListedSocket] {
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
}
