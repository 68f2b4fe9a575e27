// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Capabilities belong to a thread: libcap's calls change those of the calling thread, and a new thread inherits those
// of its creator. So one thread keeps the capabilities that reprogramming the namespace needs, while all others have
// none.
// syscalls: setup(main, namespace): capget capset prctl

internal import CCap
internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// A capability (capabilities(7)).
public struct Capability: RawRepresentable, Hashable, Sendable {
    /// The kernel's number.
    public var rawValue: Int32

    /// Makes a capability from the kernel's number.
    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    /// Configures interfaces, addresses and routes, makes a tap (`CAP_NET_ADMIN`).
    public static let networkAdministration = Capability(rawValue: CAP_NET_ADMIN)
    /// Binds ports below 1024 (`CAP_NET_BIND_SERVICE`).
    public static let bindPrivilegedPorts = Capability(rawValue: CAP_NET_BIND_SERVICE)
    /// Enters namespaces, mounts (`CAP_SYS_ADMIN`).
    public static let systemAdministration = Capability(rawValue: CAP_SYS_ADMIN)
    /// Empties the bounding set (`CAP_SETPCAP`).
    public static let capabilitySets = Capability(rawValue: CAP_SETPCAP)
    /// Changes the root folder (`CAP_SYS_CHROOT`).
    public static let rootFolder = Capability(rawValue: CAP_SYS_CHROOT)

    /// What an engine needs that is started by a supervisor (`--persist`).
    public static let ofStartingEngine: [Capability] = [
        .networkAdministration, .bindPrivilegedPorts, .systemAdministration, .capabilitySets, .rootFolder,
    ]
}

/// The capability sets of the calling thread.
public enum Capabilities {
    /// Keeps only `kept` of the permitted capabilities, permitted and effective.
    ///
    /// It empties the inheritable set. That empties the ambient set, too, because an ambient capability must be
    /// inheritable (capabilities(7)).
    ///
    /// - Throws: The error of capset(2) or prctl(2).
    public static func restrictThread(to kept: [Capability] = []) throws(SystemCallError) {
        let held = kept.filter(isPermitted)
        unsafe try set { (capabilities) throws(SystemCallError) in
            unsafe try check("cap_clear", cap_clear(capabilities))
            for capability in held {
                var value = capability.rawValue
                for flag in [CAP_PERMITTED, CAP_EFFECTIVE] {
                    unsafe try check("cap_set_flag", cap_set_flag(capabilities, flag, 1, &value, CAP_SET))
                }
            }
        }
    }

    /// Keeps what the supervisor of native sockets needs: access to the command's processes, and, permitted only, the
    /// capabilities over the command's network that callers may have.
    ///
    /// - Throws: The error of capset(2).
    public static func restrictToSupervisor() throws(SystemCallError) {
        emptyBoundingSet()
        let own = UInt64(TAPAS_CAPABILITY_PTRACE)
        try retrying("capset") { tapas_limit_capabilities(own | UInt64(TAPAS_CAPABILITIES_NETWORK)) }
        try retrying("capset") { tapas_set_effective(own) }
    }

    /// Makes all permitted capabilities effective again, after a change of the user id.
    ///
    /// - Throws: The error of capset(2).
    public static func raiseEffective() throws(SystemCallError) {
        unsafe try set { (capabilities) throws(SystemCallError) in
            unsafe try check(
                "cap_fill_flag", cap_fill_flag(capabilities, CAP_EFFECTIVE, capabilities, CAP_PERMITTED))
        }
    }

    /// Lets a program that is executed from now on have the permitted capabilities, whatever its user is: they become
    /// inheritable and ambient (capabilities(7)).
    ///
    /// - Throws: The error of capset(2).
    public static func leaveToExecutedPrograms() throws(SystemCallError) {
        unsafe try set { (capabilities) throws(SystemCallError) in
            unsafe try check(
                "cap_fill_flag", cap_fill_flag(capabilities, CAP_INHERITABLE, capabilities, CAP_PERMITTED))
        }
        // The loop ends at the first number that the kernel does not know. One that is not permitted stays out.
        var value: Int32 = 0
        while cap_get_ambient(value) >= 0 {
            _ = cap_set_ambient(value, CAP_SET)
            value += 1
        }
    }

    /// Empties the bounding set, so that no program executed later could gain a capability.
    ///
    /// Without `CAP_SETPCAP` it does nothing; then no capability can be gained through the bounding set either.
    public static func emptyBoundingSet() {
        // The loop ends at the first number that the kernel does not know (EINVAL) or the first refusal (EPERM).
        var value: Int32 = 0
        while cap_drop_bound(value) == 0 { value += 1 }
    }

    /// Whether the calling thread is permitted a capability.
    public static func isPermitted(_ capability: Capability) -> Bool {
        guard let capabilities = unsafe cap_get_proc() else { return false }
        defer { _ = unsafe cap_free(UnsafeMutableRawPointer(capabilities)) }
        var value = CAP_CLEAR
        return unsafe cap_get_flag(capabilities, capability.rawValue, CAP_PERMITTED, &value) == 0 && value == CAP_SET
    }

    private static func set(_ change: (cap_t) throws(SystemCallError) -> Void) throws(SystemCallError) {
        guard let capabilities = unsafe cap_get_proc() else { throw SystemCallError("capget", "", currentErrno) }
        defer { _ = unsafe cap_free(UnsafeMutableRawPointer(capabilities)) }
        unsafe try change(capabilities)
        unsafe try check("capset", cap_set_proc(capabilities))
    }

    private static func check(_ call: StaticString, _ result: CInt) throws(SystemCallError) {
        if result != 0 { throw SystemCallError("\(call)", "", currentErrno) }
    }
}
