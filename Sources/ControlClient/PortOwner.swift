// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): close openat read

internal import Control
internal import LinuxSystem
internal import NetworkTypes

/// The process that has a port which an instance was refused.
///
/// The instance cannot find it, because it has no /proc; the client has one, and often the rights of the same user.
enum PortOwner {
    /// `; it belongs to nginx, process 1234`; empty if that is not known, or the message has it already.
    static func remark(_ error: ControlError) -> String {
        guard let port = error.portInUse, !error.message.hasPart("belongs to"), let owner = find(port) else {
            return ""
        }
        return "; it belongs to \(owner.description.escapingControlCharacters)"
    }

    private static func find(_ port: ControlError.PortInUse) -> SocketOwner? {
        for file in [port.transport, port.transport + "6"] {
            guard let bytes = try? SmallFile.read("/proc/net/\(file)", limit: 16 << 20) else { continue }
            for inode in inodes(String(decoding: bytes, as: UTF8.self), port) {
                if let owner = SocketOwner(of: inode) { return owner }
            }
        }
        return nil
    }

    /// The sockets that are bound to a port and have no peer, in the text of /proc/net/tcp and the like (proc(5)).
    static func inodes(_ text: String, _ port: ControlError.PortInUse) -> [UInt32] {
        // TCP_LISTEN, and TCP_CLOSE, which an unconnected UDP socket is in.
        let state = port.transport == "tcp" ? "0A" : "07"
        return text.split(separator: "\n").dropFirst().compactMap { line in
            let words = line.split(separator: " ")
            guard words.count > 9, words[3] == state, let hexadecimal = words[1].split(separator: ":").last,
                UInt16(hexadecimal, radix: 16) == port.number
            else { return nil }
            return UInt32(words[9])
        }
    }
}
