// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): prctl prlimit64

internal import CLinux
internal import Glibc
public import LinuxSystem

/// What the process gives up or allows itself as a whole.
public enum ProcessLimits {
    /// No program executed from now on gains privileges (`PR_SET_NO_NEW_PRIVS`); threads started later inherit it.
    ///
    /// - Throws: The error of prctl(2).
    public static func forbidNewPrivileges() throws(SystemCallError) {
        try retrying("prctl", "PR_SET_NO_NEW_PRIVS") { tapas_set_no_new_privileges() }
    }

    /// Nobody but a privileged process may trace us or read our memory (`PR_SET_DUMPABLE` 0).
    ///
    /// - Throws: The error of prctl(2).
    public static func forbidTracing() throws(SystemCallError) {
        try retrying("prctl", "PR_SET_DUMPABLE") { tapas_set_dumpable(0) }
    }

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
