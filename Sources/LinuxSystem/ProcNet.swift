// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The files of /proc/net that list sockets (`tcp`, `tcp6`, `udp`, `udp6`; proc(5)).
public enum ProcNet {
    /// A socket that can be connected to.
    public struct Entry: Hashable, Sendable {
        /// Its port.
        public var port: UInt16
        /// The user that it belongs to.
        public var user: UInt32
        /// Its number.
        public var inode: UInt32
    }

    /// Parses such a file for the sockets that can be connected to.
    ///
    /// - Parameters:
    ///   - text: the file's content; lines that are damaged are passed over.
    ///   - isTCP: whether it lists TCP sockets, of which those count that listen; of UDP, those without a peer.
    /// - Returns: the sockets in the order of the file.
    public static func parse(_ text: some StringProtocol, isTCP: Bool) -> [Entry] {
        var sockets: [Entry] = []
        // TCP_LISTEN, and TCP_CLOSE, which an unconnected UDP socket is in.
        let wanted = isTCP ? "0A" : "07"
        for line in text.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ")
            guard words.count > 9, words[3] == wanted, let hex = words[1].split(separator: ":").last,
                let port = UInt16(hex, radix: 16), let user = UInt32(words[7]), let inode = UInt32(words[9])
            else { continue }
            sockets.append(Entry(port: port, user: user, inode: inode))
        }
        return sockets
    }
}
