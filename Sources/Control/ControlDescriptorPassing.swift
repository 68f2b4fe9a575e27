// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): sendmsg

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// Sends a descriptor together with a request (unix(7), `SCM_RIGHTS`).
public enum ControlDescriptorPassing {
    /// Sends a line with a descriptor, which stays open here.
    ///
    /// - Throws: The error of sendmsg(2), or EMSGSIZE if the socket did not take the whole line.
    public static func send(
        _ line: [UInt8], with descriptor: FileDescriptor, to socket: FileDescriptor
    ) throws(SystemCallError) {
        let count = try retrying("sendmsg", "a request with a descriptor") {
            unsafe tapas_send_with_descriptor(socket.rawValue, line, line.count, descriptor.rawValue)
        }
        guard count == line.count else { throw SystemCallError("sendmsg", "a request", .messageTooLong) }
    }
}
