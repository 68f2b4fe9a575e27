// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close getegid geteuid openat unshare write

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The user namespace that is made for a wrapped command (user_namespaces(7)).
public enum UserNamespace {
    /// Enters a new user namespace in which the present user and group are root.
    ///
    /// The process must have one thread only. The process itself enters the namespace, not only its child. So it has
    /// all capabilities over the network namespace that the child makes, while its own sockets stay in the host's.
    ///
    /// - Throws: The error of unshare(2) with its remedy, or that of writing a map.
    public static func create() throws(NamespaceError) {
        let (user, group) = (geteuid(), getegid())
        do {
            try retrying("unshare", "CLONE_NEWUSER") { tapas_unshare(CInt(TAPAS_NEW_USER)) }
        } catch {
            throw .userNamespace(error)
        }
        do {
            // The order matters: an unprivileged group map requires that setgroups(2) is denied first.
            try write("deny", to: "/proc/self/setgroups")
            try write("0 \(group) 1", to: "/proc/self/gid_map")
            try write("0 \(user) 1", to: "/proc/self/uid_map")
        } catch {
            throw NamespaceError(
                "cannot map user \(user) and group \(group) in the user namespace: \(error.operand)", error,
                remedy: error.errno == .notPermitted || error.errno == .permissionDenied
                    ? "a security policy restricts user namespaces "
                        + "(sysctl kernel.apparmor_restrict_unprivileged_userns)" : nil)
        }
    }

    private static func write(_ text: String, to path: String) throws(SystemCallError) {
        let file = try OwnedFileDescriptor.open(path, .writeOnly)
        let number = file.rawValue
        var text = text
        try retrying("write", path) { text.withUTF8 { unsafe Glibc.write(number, $0.baseAddress, $0.count) } }
    }
}
