// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Isolation takes two steps, since files have to be opened in between. First, with one thread only, the process gets a
// mount namespace of its own from which nothing propagates back. Later, when everything is open, an empty read-only
// tmpfs becomes its root and everything else is unmounted. Threads share root and working folder, so the second step
// affects all threads.
// syscalls: setup(main): chdir chroot mount pivot_root umount2 unshare

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// Isolation from the file system and from the other things that processes share by name.
public enum MountIsolation {
    /// Folders on which the empty file system can be mounted; the first that exists is used.
    private static let folders = ["/tmp", "/proc", "/dev"]

    /// Enters new mount, IPC and UTS namespaces.
    ///
    /// The process must have one thread only. It does not enter a PID namespace: only a child would be in it, and the
    /// caller waits for this very process and signals it.
    ///
    /// - Throws: The error of unshare(2) or mount(2).
    public static func makePrivate() throws(SystemCallError) {
        try retrying("unshare", "CLONE_NEWNS") { tapas_unshare(CInt(TAPAS_NEW_MOUNT)) }
        for (name, kind) in [("CLONE_NEWIPC", TAPAS_NEW_IPC), ("CLONE_NEWUTS", TAPAS_NEW_UTS)] {
            do throws(SystemCallError) {
                try retrying("unshare", name) { tapas_unshare(CInt(kind)) }
            } catch {
                // A kernel without the kind (CONFIG_IPC_NS, CONFIG_UTS_NS) has nothing to isolate.
                guard error.errno == .invalidArgument else { throw error }
            }
        }
        try retrying("mount", "/, MS_SLAVE") { tapas_mounts_make_slave() }
    }

    /// Makes an empty, read-only file system the root of all threads and drops the old one.
    ///
    /// - Parameter fallback: whether chroot(2) will do where pivot_root(2) is refused, as on an initial ramfs
    ///   (`--chroot-fallback`); the old root then stays mounted, out of reach.
    /// - Throws: The error of mount(2) or pivot_root(2).
    public static func enterEmptyRoot(fallback: Bool) throws(SystemCallError) {
        let folder = try mountEmpty()
        if unsafe tapas_pivot_into(folder) == 0 { return }
        let error = SystemCallError("pivot_root", folder, currentErrno)
        guard fallback else { throw error }
        try retrying("chroot", folder) { unsafe tapas_move_into(folder) }
    }

    private static func mountEmpty() throws(SystemCallError) -> String {
        var error = SystemCallError("mount", "tmpfs", .noSuchFileOrDirectory)
        for folder in folders {
            if unsafe tapas_mount_empty(folder) == 0 { return folder }
            error = SystemCallError("mount", "tmpfs on \(folder)", currentErrno)
            if error.errno != .noSuchFileOrDirectory && error.errno != .notDirectory { break }
        }
        throw error
    }
}
