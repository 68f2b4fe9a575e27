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
        var number = descriptor.rawValue
        let count = try retrying("sendmsg", "a request with a descriptor") {
            unsafe tapas_send_descriptors(socket.rawValue, line, line.count, &number, 1)
        }
        guard count == line.count else { throw SystemCallError("sendmsg", "a request", .messageTooLong) }
    }
}
