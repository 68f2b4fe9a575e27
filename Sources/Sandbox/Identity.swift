// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close getegid geteuid getgid getuid openat prctl read setgroups setresgid setresuid

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// A user and group to run as.
public struct Identity: Hashable, Sendable {
    /// The user id.
    public var user: UInt32
    /// The group id.
    public var group: UInt32

    /// Makes an identity.
    public init(user: UInt32, group: UInt32) {
        self.user = user
        self.group = group
    }

    /// `nobody`, by the number that all distributions agree on, so that start-up needs no name service.
    public static let nobody = Identity(user: 65534, group: 65534)

    /// The effective ids of the process.
    public static var current: Identity { Identity(user: geteuid(), group: getegid()) }

    /// Whether the process is root of the initial user namespace (user_namespaces(7)): all ids mapped to themselves.
    public static var isInitialRoot: Bool {
        guard geteuid() == 0 else { return false }
        guard let bytes = try? SmallFile.read("/proc/self/uid_map") else { return true }
        let map = String(decoding: bytes, as: UTF8.self)
        return map.split(whereSeparator: \.isWhitespace) == ["0", "0", "4294967295"]
    }

    /// Becomes this identity, and keeps the capabilities.
    ///
    /// The process must have one thread only. Supplementary groups are dropped where that is permitted. The process
    /// stays dumpable, so that it can write its own maps afterwards (proc(5), "/proc/pid").
    ///
    /// - Throws: The error of setresgid(2), setresuid(2), prctl(2) or capset(2).
    public func become() throws(SystemCallError) {
        // An ordinary user may not drop groups; they stay.
        _ = tapas_clear_groups()
        guard self != Identity.current || getuid() != user || getgid() != group else { return }
        try retrying("prctl", "PR_SET_KEEPCAPS") { tapas_set_keep_capabilities(1) }
        try retrying("setresuid", "\(user):\(group)") { tapas_set_ids(user, group) }
        try retrying("prctl", "PR_SET_KEEPCAPS") { tapas_set_keep_capabilities(0) }
        try retrying("prctl", "PR_SET_DUMPABLE") { tapas_set_dumpable(1) }
        try Capabilities.raiseEffective()
    }
}
