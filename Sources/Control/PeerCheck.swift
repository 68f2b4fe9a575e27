// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(control): getsockopt geteuid

internal import CLinux
internal import Glibc
internal import SystemPackage

/// Who is at the other end of a UNIX socket (unix(7), `SO_PEERCRED`).
enum PeerCheck {
    /// What the kernel says for users that a user namespace does not have (user_namespaces(7)).
    private static let overflowUser: uid_t = 65534

    /// Whether the peer is this program's user or root.
    ///
    /// In a user namespace of our own the machine's root is a user that the namespace does not have. The mode of the
    /// socket's file keeps all other such users away.
    static func isOwnerOrRoot(_ socket: FileDescriptor) -> Bool {
        var user = uid_t.max
        var process: pid_t = 0
        guard unsafe tapas_peer_credentials(socket.rawValue, &user, &process) == 0 else { return false }
        return user == geteuid() || user == 0 || user == overflowUser
    }

    /// The network namespace that a socket belongs to; nil where the kernel cannot tell (before Linux 5.14).
    ///
    /// An accepted UNIX socket belongs to the namespace of the process that has connected.
    static func networkNamespace(of socket: FileDescriptor) -> UInt64? {
        var cookie: UInt64 = 0
        return unsafe tapas_network_namespace_cookie(socket.rawValue, &cookie) == 0 ? cookie : nil
    }
}
