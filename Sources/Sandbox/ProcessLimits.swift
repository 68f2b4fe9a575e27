// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): prctl prlimit64

internal import CLinux
internal import Glibc
public import LinuxSystem

/// Restrictions and limits of the whole process.
public enum ProcessLimits {
    /// Forbids programs executed from now on to gain privileges (`PR_SET_NO_NEW_PRIVS`); later threads inherit it.
    ///
    /// - Throws: The error of prctl(2).
    public static func forbidNewPrivileges() throws(SystemCallError) {
        try retrying("prctl", "PR_SET_NO_NEW_PRIVS") { tapas_set_no_new_privileges() }
    }

    /// Forbids unprivileged processes to trace this one or read its memory (`PR_SET_DUMPABLE` 0).
    ///
    /// - Throws: The error of prctl(2).
    public static func forbidTracing() throws(SystemCallError) {
        try retrying("prctl", "PR_SET_DUMPABLE") { tapas_set_dumpable(0) }
    }

    /// The number of open files that the program needs to serve a few connections: some twenty of its own.
    public static let neededOpenFiles: UInt64 = 24
    /// The address space in bytes that the program needs: it starts with some 130 MB, mostly for the stacks and
    /// the allocator of its threads.
    public static let neededAddressSpace: UInt64 = 160 << 20

    /// The resource whose limit is too low, as a message; nil if none is.
    ///
    /// Check it first: later the shortage would appear as another failure, when the command runs already.
    public static var lack: String? {
        let files = hardLimit(RLIMIT_NOFILE)
        if files < neededOpenFiles {
            return "the limit of open files is \(files): at least \(neededOpenFiles) are needed, and one more for each "
                + "connection (see ulimit -Hn)"
        }
        let space = softLimit(RLIMIT_AS)
        if space < neededAddressSpace {
            return
                "the limit of address space is \(space >> 10) KiB: at least \(neededAddressSpace >> 10) KiB are needed "
                + "(see ulimit -v)"
        }
        return nil
    }

    private static func limits(_ resource: __rlimit_resource) -> rlimit {
        var limit = rlimit(rlim_cur: .max, rlim_max: .max)
        _ = unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
        return limit
    }

    private static func softLimit(_ resource: __rlimit_resource) -> UInt64 { UInt64(limits(resource).rlim_cur) }
    private static func hardLimit(_ resource: __rlimit_resource) -> UInt64 { UInt64(limits(resource).rlim_max) }

    /// The limit of open files in force.
    public static var openFiles: UInt64 { softLimit(RLIMIT_NOFILE) }

    /// Raises the limit of open files to the highest permitted: each flow has a socket.
    ///
    /// - Returns: The limit in force afterwards.
    @discardableResult
    public static func raiseOpenFiles() -> UInt64 {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
        if limit.rlim_cur < limit.rlim_max {
            let present = limit.rlim_cur
            limit.rlim_cur = limit.rlim_max
            if unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 { limit.rlim_cur = present }
        }
        return UInt64(limit.rlim_cur)
    }
}
