// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): close fcntl fstat getdents64 newfstatat openat read readlinkat

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
            let text = String(decoding: bytes, as: UTF8.self)
            for socket in ProcNet.parse(text, isTCP: port.transport == "tcp") where socket.port == port.number {
                if let owner = SocketOwner(of: socket.inode) { return owner }
            }
        }
        return nil
    }
}
