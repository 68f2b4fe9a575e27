// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The engine's root is empty and its filters let it open nothing, but it keeps the folders of its control sockets open,
// to remove these when it ends. Landlock (landlock(7)) makes sure that nothing else can be done there, on kernels that
// have it. Signals are not scoped: the command's init and the process that watches resolv.conf were started before, and
// would be out of reach; the filters name them. TCP is not restricted: connecting anywhere is the program's purpose.
//
// syscalls: setup(main, namespace): landlock_create_ruleset landlock_add_rule landlock_restrict_self close

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// The file system given up by Landlock.
public enum Landlock {
    /// The version of Landlock's interface that the kernel has; 0 if it has none, or does not use it.
    public static var version: Int32 { max(tapas_landlock_version(), 0) }

    /// Gives up the file system and the abstract UNIX sockets of others, for the calling thread and those that it starts.
    ///
    /// Without Landlock in the kernel, nothing happens.
    ///
    /// - Parameter folders: the folders in which files may be removed.
    /// - Throws: The error of landlock_create_ruleset(2), landlock_add_rule(2) or landlock_restrict_self(2).
    public static func restrictThread(removingIn folders: [FileDescriptor] = []) throws(SystemCallError) {
        let version = version
        guard version > 0 else { return }
        let numbers = folders.map(\.rawValue)
        try retrying("landlock_restrict_self") {
            unsafe tapas_landlock_restrict(version, numbers, numbers.count)
        }
    }
}
