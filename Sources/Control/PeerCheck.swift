// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(control): getsockopt geteuid

internal import CLinux
internal import Glibc
internal import SystemPackage

/// Identifies the process at the other end of a UNIX socket (unix(7), `SO_PEERCRED`).
enum PeerCheck {
    /// The id that the kernel reports for users without a mapping in the user namespace (user_namespaces(7)).
    private static let overflowUser: uid_t = 65534

    /// Whether the peer is this program's user or root.
    ///
    /// In a user namespace of our own, the machine's root is a user without a mapping. The mode of the socket's file
    /// excludes all other such users.
    static func isOwnerOrRoot(_ socket: FileDescriptor) -> Bool {
        var user = uid_t.max
        var process: pid_t = 0
        guard unsafe tapas_peer_credentials(socket.rawValue, &user, &process) == 0 else { return false }
        return user == geteuid() || user == 0 || user == overflowUser
    }

    /// The network namespace that a socket belongs to; nil if the kernel cannot tell (before Linux 5.14).
    ///
    /// An accepted UNIX socket belongs to the namespace of the process that has connected.
    static func networkNamespace(of socket: FileDescriptor) -> UInt64? {
        var cookie: UInt64 = 0
        return unsafe tapas_network_namespace_cookie(socket.rawValue, &cookie) == 0 ? cookie : nil
    }
}
