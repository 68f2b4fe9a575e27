// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Each file declares the system calls that it makes while the program runs, by thread (`// syscalls:`), and a test
// compares that with the code. contrib/dev/system-calls collects the declarations in DeclaredSystemCalls.swift. Here
// they become the rules of a filter:
//   - the runtime's own calls (memory, futexes, the end of a thread) are added;
//   - arguments are compared where a call could do more than it has to: sockets by family and type, ioctl(2) by request,
//     mmap(2) without PROT_EXEC, kill(2) by process;
//   - openat(2) is answered with ENOENT in the engine. The engine's root is empty, and the C library opens files by
//     itself (malloc reads /proc/sys/vm/overcommit_memory when a heap shrinks), so it must not die of that.
// Whatever is not in the rules ends the process.
//
// syscalls: setup(main): getpid

internal import CLinux
internal import Glibc

/// What a filter allows, and on which arguments.
struct SystemCallRules: Hashable, Sendable {
    /// A condition on one argument: (argument & mask) == value.
    struct Condition: Hashable, Sendable {
        /// The position of the argument, from 0.
        var argument: UInt32
        var mask: UInt64
        var value: UInt64

        /// A condition on an `int`, of which the kernel takes 32 bits.
        init(_ argument: UInt32, _ value: some BinaryInteger, mask: UInt64 = 0xFFFF_FFFF) {
            self.argument = argument
            self.mask = mask
            self.value = UInt64(truncatingIfNeeded: value) & mask
        }
    }

    /// The allowed calls by name, each with alternatives; an alternative is a list of conditions that all must hold.
    private(set) var allowed: [String: [[Condition]]] = [:]
    /// The calls that fail with an error number instead of ending the process.
    private(set) var refused: [String: Int32] = [:]

    /// Makes the rules for a thread or process.
    ///
    /// - Parameters:
    ///   - subject: the thread or process.
    ///   - processes: the process ids, negative for groups, that it may send signals to.
    init(for subject: FilteredSubject, signalling processes: [Int32]) {
        for name in Self.runtime + subject.calls { allowed[name] = [[]] }
        // The end of a thread that is not the first.
        if subject != .dataPath { allowed["exit"] = [[]] }
        // What the C library does in the child of fork(3).
        if subject == .resolverWatcher { allowed["set_robust_list"] = [[]] }
        // The filter is loaded before it is in force.
        allowed["seccomp"] = nil
        if subject.isEngine {
            allowed["openat"] = nil
            refused["openat"] = ENOENT
        }
        // Newer versions of the C library try this one first and then clone(2), of which the flags can be compared.
        if allowed["clone"] != nil { refused["clone3"] = ENOSYS }
        restrictArguments(subject, processes)
    }

    /// The number of system calls that are allowed.
    var count: Int { allowed.count }

    /// The calls of the C library's and Swift's runtime, which no source file declares.
    static let runtime = [
        "brk", "clock_gettime", "exit_group", "futex", "getrandom", "gettid", "madvise", "mmap", "mprotect",
        "mremap", "munmap", "restart_syscall", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "tgkill",
    ]

    private mutating func restrictArguments(_ subject: FilteredSubject, _ processes: [Int32]) {
        let executable = UInt64(PROT_EXEC)
        restrict("mmap", [[Condition(2, 0, mask: executable)]])
        restrict("mprotect", [[Condition(2, 0, mask: executable)]])
        restrict("tgkill", [[Condition(0, getpid())]])
        // The init has its own process namespace, which is the command's.
        if subject != .commandInit && subject != .commandInitWithResolver {
            restrict("kill", processes.map { [Condition(0, $0)] })
        }
        restrict("socket", subject.sockets.map { [Condition(0, $0.family), Condition(1, $0.type, mask: 0xF)] })
        restrict("socketpair", [[Condition(0, AF_UNIX)]])
        var requests = subject.requests.map { [Condition(1, $0)] }
        // The family of interfaces, on sockets of the command's namespace; the filter of the command reports these calls.
        if subject == .nativeSockets { requests.append([Condition(1, 0x8900, mask: 0xFFFF_FF00)]) }
        restrict("ioctl", requests)
        restrict("prctl", subject.processOptions.map { [Condition(0, $0)] })
        restrict(
            "fcntl",
            [F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, CInt(TAPAS_F_SETPIPE_SZ)].map { [Condition(1, $0)] })
        // fcntl(F_GETOWN) of the C library.
        if subject == .nativeSockets { allowed["fcntl"]?.append([Condition(1, TAPAS_F_GETOWN_EX)]) }
        // No new namespaces.
        restrict("clone", [[Condition(0, 0, mask: UInt64(TAPAS_CLONE_NEW_NAMESPACES))]])
    }

    /// Allows a call only with these alternatives, if it is allowed at all; without any it is not allowed any more.
    private mutating func restrict(_ name: String, _ alternatives: [[Condition]]) {
        guard allowed[name] != nil else { return }
        allowed[name] = alternatives.isEmpty ? nil : alternatives
    }
}

/// A thread of the engine or a process beside it, which has a filter of its own.
public enum FilteredSubject: CaseIterable, Hashable, Sendable {
    /// The main thread.
    case dataPath
    /// The control loop.
    case control
    /// The loop of the forwarded ports.
    case ports
    /// The thread in the target network namespace.
    case namespace
    /// The process that watches resolv.conf, and its reserve.
    case resolverWatcher
    /// Process 1 of the wrapped command's namespace, after it has started the command.
    case commandInit
    /// The same, where it also keeps a resolv.conf of the command's own mounted.
    case commandInitWithResolver
    /// The supervisor of native sockets.
    case nativeSockets

    /// The name, as it is in messages and in `// syscalls:` lines.
    public var name: String {
        switch self {
        case .dataPath: "data-path"
        case .control: "control"
        case .ports: "ports"
        case .namespace: "namespace"
        case .resolverWatcher: "resolver-watcher"
        case .commandInit: "init"
        case .commandInitWithResolver: "init, with a resolv.conf"
        case .nativeSockets: "native-sockets"
        }
    }

    /// Whether it is a thread of the engine, which has an empty root.
    var isEngine: Bool {
        switch self {
        case .dataPath, .control, .ports, .namespace: true
        case .resolverWatcher, .commandInit, .commandInitWithResolver, .nativeSockets: false
        }
    }

    /// The calls that the sources declare.
    var calls: [String] {
        switch self {
        case .dataPath: DeclaredSystemCalls.dataPath
        case .control: DeclaredSystemCalls.control
        case .ports: DeclaredSystemCalls.ports
        case .namespace: DeclaredSystemCalls.namespace
        case .resolverWatcher: DeclaredSystemCalls.resolverWatcher
        case .nativeSockets: DeclaredSystemCalls.nativeSockets
        // Its set-up and the start of the command are over.
        case .commandInit: Self.callsOfWaitingInit
        case .commandInitWithResolver: Self.callsOfWaitingInit + Self.callsForResolver
        }
    }

    /// What the loop of `run_init` in CLinux/namespace.c calls: the declared calls less those of the set-up.
    private static let callsOfWaitingInit = [
        "close", "kill", "rt_sigtimedwait", "sendto", "waitid",
    ]

    /// What `keep_resolver` there calls.
    private static let callsForResolver = [
        "inotify_add_watch", "move_mount", "open_tree", "openat", "read", "readlink", "statx",
    ]

    /// The families and types of the sockets that it makes.
    fileprivate var sockets: [(family: Int32, type: UInt32)] {
        let (stream, datagram) = (SOCK_STREAM.rawValue, SOCK_DGRAM.rawValue)
        let internet = [AF_INET, AF_INET6].flatMap { [($0, stream), ($0, datagram)] }
        switch self {
        case .dataPath, .ports:
            // if_nametoindex(3) asks by any socket.
            return internet + [(AF_UNIX, datagram), (AF_UNIX, stream)]
        case .namespace: return internet
        // A question about a route (`explain`).
        case .control: return [(AF_NETLINK, SOCK_RAW.rawValue)]
        // The list of sockets.
        case .nativeSockets: return [(AF_INET, stream), (AF_INET6, stream), (AF_NETLINK, SOCK_RAW.rawValue)]
        case .resolverWatcher, .commandInit, .commandInitWithResolver: return []
        }
    }

    /// The ioctl(2) requests that it makes.
    fileprivate var requests: [UInt] {
        switch self {
        case .dataPath:
            // The carrier of the tap and whether its interface runs, the index of an interface, the terminal's foreground.
            [
                UInt(TAPAS_TUNSETCARRIER), UInt(SIOCGIFFLAGS), UInt(SIOCGIFINDEX), UInt(TIOCGPGRP), UInt(TIOCSPGRP),
            ]
        case .ports: [UInt(SIOCGIFINDEX)]
        case .nativeSockets:
            [
                TAPAS_NOTIFICATION_RECEIVE, TAPAS_NOTIFICATION_SEND, TAPAS_NOTIFICATION_WAITS, TAPAS_NOTIFICATION_ADD,
                TAPAS_NOTIFICATION_SET_FLAGS,
            ].map { UInt(truncatingIfNeeded: $0) & 0xFFFF_FFFF }
        case .control, .namespace, .resolverWatcher, .commandInit, .commandInitWithResolver: []
        }
    }

    /// The prctl(2) options that it sets.
    fileprivate var processOptions: [Int] {
        switch self {
        case .dataPath, .control, .ports, .namespace: [TAPAS_PR_SET_NAME, TAPAS_PR_SET_TIMERSLACK]
        case .resolverWatcher:
            [
                TAPAS_PR_SET_NAME, TAPAS_PR_SET_NO_NEW_PRIVS, TAPAS_PR_SET_DUMPABLE, TAPAS_PR_SET_PDEATHSIG,
            ]
        case .nativeSockets: [TAPAS_PR_SET_TIMERSLACK]
        case .commandInit, .commandInitWithResolver: []
        }
    }
}
