// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close lseek memfd_create read
// syscalls: running(data-path, control, ports, namespace, resolver-watcher): seccomp

internal import CLinux
internal import CSeccomp
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// A compiled filter of system calls (seccomp(2)), to be loaded once by the thread or process that it is for.
public struct SystemCallFilter: Sendable {
    /// What a call does that no rule allows.
    public enum Violation: Sendable {
        /// It ends the process with SIGSYS.
        case ends
        /// The kernel's audit log tells it, and it goes on (`--seccomp-log`).
        case isLogged
    }

    /// The instructions, each a `struct sock_filter`.
    public let program: [UInt64]

    /// Compiles a filter with libseccomp.
    ///
    /// - Parameters:
    ///   - subject: whose calls are filtered.
    ///   - processes: the process ids, negative for groups, that it may send signals to.
    ///   - violation: what happens at a call that is not allowed.
    /// - Throws: The error of libseccomp.
    public init(
        for subject: FilteredSubject, signalling processes: [Int32] = [], violation: Violation = .ends
    ) throws(SystemCallError) {
        let rules = SystemCallRules(for: subject, signalling: processes)
        let action = violation == .ends ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_LOG
        guard let context = unsafe seccomp_init(action) else {
            throw SystemCallError("seccomp_init", subject.name, .noMemory)
        }
        defer { unsafe seccomp_release(context) }
        // A search instead of a walk. Versions that do not know it walk.
        unsafe seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)
        for (name, alternatives) in rules.allowed.sorted(by: { $0.key < $1.key }) {
            for conditions in alternatives {
                try unsafe Self.add(context, name, SCMP_ACT_ALLOW, conditions)
            }
        }
        for (name, errno) in rules.refused.sorted(by: { $0.key < $1.key }) {
            try unsafe Self.add(context, name, tapas_seccomp_errno(UInt16(errno)), [])
        }
        program = try unsafe Self.export(context)
    }

    /// Loads the filter for the calling thread.
    ///
    /// What it starts later inherits it. It cannot be taken off.
    ///
    /// - Throws: The error of seccomp(2).
    public func load() throws(SystemCallError) {
        try retrying("seccomp") {
            unsafe program.withUnsafeBufferPointer { unsafe tapas_load_filter($0.baseAddress, $0.count) }
        }
    }

    /// Adds a rule; a name that the machine's architecture does not have is left out.
    private static func add(
        _ context: scmp_filter_ctx, _ name: String, _ action: UInt32, _ conditions: [SystemCallRules.Condition]
    ) throws(SystemCallError) {
        let number = unsafe seccomp_syscall_resolve_name(name)
        guard number >= 0 else { return }
        let arguments = conditions.map { condition in
            scmp_arg_cmp(
                arg: condition.argument, op: SCMP_CMP_MASKED_EQ, datum_a: condition.mask, datum_b: condition.value)
        }
        let result = unsafe seccomp_rule_add_array(context, action, number, UInt32(arguments.count), arguments)
        guard result == 0 else { throw SystemCallError("seccomp_rule_add", name, Errno(rawValue: -result)) }
    }

    /// The compiled program, by way of a file in memory, which is what the library writes to.
    private static func export(_ context: scmp_filter_ctx) throws(SystemCallError) -> [UInt64] {
        let file = OwnedFileDescriptor(
            taking: try retrying("memfd_create") { tapas_open_memory() })
        let result = unsafe seccomp_export_bpf(context, file.rawValue)
        guard result == 0 else { throw SystemCallError("seccomp_export_bpf", "", Errno(rawValue: -result)) }
        let length = lseek(file.rawValue, 0, CInt(SEEK_END))
        var program = [UInt64](repeating: 0, count: max(Int(length), 0) / MemoryLayout<UInt64>.size)
        let number = file.rawValue
        guard lseek(number, 0, CInt(SEEK_SET)) == 0 else { throw SystemCallError("lseek", "filter", currentErrno) }
        let size = program.count * MemoryLayout<UInt64>.size
        let outcome = transferring { unsafe Glibc.read(number, &program, size) }
        guard size > 0, outcome == .bytes(size) else { throw SystemCallError("read", "filter", .ioError) }
        return program
    }
}
