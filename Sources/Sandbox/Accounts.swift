// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close connect newfstatat openat read socket

internal import Glibc

/// Names of users and groups (getpwnam(3), getgrnam(3)); looked up only for `--runas` with a name.
public enum Accounts {
    /// The ids of a user: its own and that of its primary group; nil if there is none of that name.
    public static func user(named name: String) -> Identity? {
        guard let entry = unsafe getpwnam(name) else { return nil }
        return unsafe Identity(user: entry.pointee.pw_uid, group: entry.pointee.pw_gid)
    }

    /// The id of a group; nil if there is none of that name.
    public static func group(named name: String) -> UInt32? {
        guard let entry = unsafe getgrnam(name) else { return nil }
        return unsafe entry.pointee.gr_gid
    }
}
