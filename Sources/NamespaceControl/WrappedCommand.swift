// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The Swift side of the init in CLinux/namespace.c, where the theory of operation is.
// syscalls: setup(main): access clone close getpgrp ioctl openat recvfrom recvmsg sendto socketpair uname
// syscalls: running(data-path): close getpid ioctl kill recvfrom rt_sigprocmask wait4
// syscalls: running(init): access close close_range dup3 execve fchmod fcntl inotify_add_watch inotify_init1 kill
// syscalls: running(init): mount move_mount open_tree openat prctl read readlink recvfrom rt_sigaction rt_sigprocmask
// syscalls: running(init): landlock_create_ruleset landlock_restrict_self rt_sigtimedwait seccomp sendmsg sendto
// syscalls: running(init): sethostname socket statfs statx umount2 vfork waitid write
// syscalls: running(init): writev

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// A command in namespaces of its own, behind a minimal init, held until ``release()``.
public final class WrappedCommand {
    /// What to run, and how.
    public struct Specification {
        /// The program, looked up in `PATH` if it has no slash.
        public var file: String
        /// Its arguments, of which the first is the name that it is called by.
        public var arguments: [String]
        /// The position of the arguments in this program's own, if they are there; then those bytes are passed on, even
        /// if they are no UTF-8.
        public var argumentIndex: Int?
        /// The host name in the new namespace; nil for the host's.
        public var hostName: String?
        /// The text of a resolv.conf(5) of the command's own; nil leaves it the host's.
        public var resolverText: String?
        /// The channel to the supervisor of native sockets and the filter that reports to it; it is closed here once the
        /// init has it.
        public var supervision: Supervision?

        /// The supervision of the command's calls.
        public struct Supervision: Sendable {
            /// The channel for the init.
            public var channel: CInt
            /// The instructions of the command's filter.
            public var filter: [UInt64]

            /// Makes a supervision.
            public init(channel: CInt, filter: [UInt64]) {
                self.channel = channel
                self.filter = filter
            }
        }

        /// Makes a specification.
        public init(file: String, arguments: [String], argumentIndex: Int? = nil, hostName: String? = nil) {
            self.file = file
            self.arguments = arguments
            self.argumentIndex = argumentIndex
            self.hostName = hostName
        }

        /// A login shell: `$SHELL` or /bin/sh, called by its path with a dash in front.
        public static func shell() -> Specification {
            var path = "/bin/sh"
            if let named = unsafe getenv("SHELL") {
                let text = unsafe String(cString: named)
                if !text.isEmpty { path = text }
            }
            return Specification(file: path, arguments: ["-" + path])
        }
    }

    /// A report of the init.
    public enum Report: Hashable, Sendable {
        /// A step of the set-up failed; the command runs nevertheless.
        case stepFailed(Step, Errno)
        /// The init has finished and waits for ``WrappedCommand/release()``.
        case ready
        /// The command was stopped by a signal, as by Ctrl-Z on a terminal.
        case stopped(signal: Int32)
        /// The command was ended by a signal; ``ended`` follows.
        case killed(signal: Int32)
        /// The init has ended or is about to; ``WrappedCommand/waitForExit()`` returns at once.
        case ended
    }

    /// Steps of the set-up that may fail.
    public enum Step: Hashable, Sendable {
        /// Making the mounts slaves of the host's.
        case propagation
        /// Mounting /proc.
        case proc
        /// Mounting /sys.
        case sys
        /// Setting the host name.
        case hostName
        /// Setting `net.ipv4.ping_group_range`.
        case pingGroupRange
        /// Mounting the command's own resolv.conf.
        case resolver
        /// A step that this version does not know.
        case unknown(Int32)

        init(_ number: Int32) {
            switch number {
            case Int32(TAPAS_STEP_PROPAGATION.rawValue): self = .propagation
            case Int32(TAPAS_STEP_PROC.rawValue): self = .proc
            case Int32(TAPAS_STEP_SYS.rawValue): self = .sys
            case Int32(TAPAS_STEP_HOST_NAME.rawValue): self = .hostName
            case Int32(TAPAS_STEP_PING_GROUP_RANGE.rawValue): self = .pingGroupRange
            case Int32(TAPAS_STEP_RESOLVER.rawValue): self = .resolver
            default: self = .unknown(number)
            }
        }

        /// The effect of the failed step, for a warning; nil if it needs no warning.
        public var consequence: String? {
            switch self {
            case .propagation: "mounts of the command may reach the host"
            case .proc: "/proc shows the host's processes"
            case .sys: nil
            case .hostName: "the host name is the host's"
            case .pingGroupRange: "ping may need privileges in the namespace (net.ipv4.ping_group_range)"
            case .resolver: "the command's /etc/resolv.conf is the host's, not one for --dns-forward"
            case .unknown(let number): "step \(number) failed"
            }
        }
    }

    /// The init's process id.
    public let process: Int32
    private let channel: OwnedFileDescriptor
    private let terminal: CInt?
    /// The process group of this process.
    private let group = getpgrp()
    private var isReaped = false

    /// Clones the init into new network, process, mount, host name and IPC namespaces.
    ///
    /// The process must have one thread only. The init dies with the calling thread.
    ///
    /// - Parameters:
    ///   - specification: what to run.
    ///   - signalMask: the signal mask that the command starts with.
    ///   - filter: the system call filter of the init, which the command does not inherit.
    /// - Throws: The error of clone(2) with its remedy.
    public init(
        _ specification: Specification, signalMask: SignalMask, filter: [UInt64] = []
    ) throws(NamespaceError) {
        let namespaces = TAPAS_NEW_NETWORK | TAPAS_NEW_PID | TAPAS_NEW_MOUNT | TAPAS_NEW_UTS | TAPAS_NEW_IPC
        var channelNumber: CInt = -1
        let supervisor = specification.supervision?.channel ?? -1
        let supervised = specification.supervision?.filter ?? []
        defer { if supervisor >= 0 { close(supervisor) } }
        let displayName = specification.file.escapingControlCharacters
        let process = unsafe withArguments(specification) { file, arguments in
            unsafe withOptionalCString(specification.hostName) { hostName in
                unsafe withOptionalCString(specification.resolverText) { resolverText in
                    unsafe displayName.withCString { displayName in
                        unsafe withUnsafePointer(to: signalMask.set) { mask in
                            unsafe filter.withUnsafeBufferPointer { filter in
                                unsafe supervised.withUnsafeBufferPointer { supervised in
                                    var command = unsafe tapas_command(
                                        file: file, display_name: displayName, arguments: arguments,
                                        host_name: hostName, resolver_text: resolverText,
                                        namespaces: CInt(namespaces), signal_mask: mask, filter: filter.baseAddress,
                                        filter_length: filter.count, supervisor: supervisor,
                                        supervised_filter: supervised.baseAddress,
                                        supervised_filter_length: supervised.count)
                                    return unsafe tapas_clone_init(&command, &channelNumber)
                                }
                            }
                        }
                    }
                }
            }
        }
        guard process >= 0 else {
            let cause = SystemCallError("clone", "", currentErrno)
            let remedy: String? =
                switch cause.errno {
                case .notPermitted:
                    "with --netns-only CAP_SYS_ADMIN is needed; otherwise a security policy restricts "
                        + "user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns)"
                case .noSpace, .tooManyUsers:
                    "a limit is reached: raise sysctl user.max_net_namespaces and its like"
                default: nil
                }
            throw NamespaceError("cannot create the namespaces", cause, remedy: remedy)
        }
        self.process = process
        channel = OwnedFileDescriptor(taking: channelNumber)
        terminal = Self.foregroundTerminal()
    }

    /// Ends the init and every process in its process namespace, unless it has been reaped.
    deinit {
        end()
    }

    /// Ends the init, and with it every process in its process namespace, and reaps it, unless that has been done.
    public func end() {
        guard !isReaped else { return }
        isReaped = true
        _ = kill(process, SIGKILL)
        while waitpid(process, nil, 0) < 0 && currentErrno == .interrupted {}
        takeTerminalBack()
    }

    /// Readable when a report is there.
    public var descriptor: FileDescriptor { channel.descriptor }

    /// Reads one report.
    ///
    /// - Parameter waits: whether to wait for one.
    /// - Returns: The report; nil if there is none.
    public func nextReport(waits: Bool) -> Report? {
        var report = tapas_report()
        switch unsafe tapas_read_report(channel.rawValue, waits ? 1 : 0, &report) {
        case 1: break
        case 0: return .ended
        default: return currentErrno == .resourceTemporarilyUnavailable ? nil : .ended
        }
        switch report.kind {
        case Int32(TAPAS_REPORT_STEP_FAILED.rawValue):
            return .stepFailed(Step(report.value), Errno(rawValue: report.error))
        case Int32(TAPAS_REPORT_READY.rawValue): return .ready
        case Int32(TAPAS_REPORT_STOPPED.rawValue): return .stopped(signal: report.value)
        case Int32(TAPAS_REPORT_KILLED.rawValue): return .killed(signal: report.value)
        default: return nil
        }
    }

    /// The network namespace of the init.
    ///
    /// The init sends it as its first message, so call this once, before any report is read.
    ///
    /// - Throws: If the init has ended or could not open it.
    public func networkNamespace() throws(NamespaceError) -> NamespaceFile {
        let path = "/proc/\(process)/ns/net"
        let number = tapas_receive_namespace(channel.rawValue)
        guard number >= 0 else {
            throw NamespaceError(
                "cannot open the network namespace of the command", SystemCallError("open", path, currentErrno),
                remedy: "is /proc mounted?")
        }
        return NamespaceFile(network: OwnedFileDescriptor(taking: number), path: path)
    }

    /// Waits until the init has finished the set-up.
    ///
    /// - Returns: The steps that failed.
    /// - Throws: If the init has ended.
    public func waitUntilReady() throws(NamespaceError) -> [(step: Step, errno: Errno)] {
        var failures: [(step: Step, errno: Errno)] = []
        while true {
            switch nextReport(waits: true) {
            case .ready: return failures
            case .stepFailed(let step, let errno): failures.append((step, errno))
            case .ended: throw NamespaceError("the init of the namespaces ended before its time")
            case .stopped, .killed, nil: continue
            }
        }
    }

    /// Starts the command.
    ///
    /// - Throws: If the init has ended.
    public func release() throws(NamespaceError) {
        if tapas_release_command(channel.rawValue) < 0 {
            throw NamespaceError("the init of the namespaces is gone", SystemCallError("send", "", currentErrno))
        }
    }

    /// Sends a signal to the init, which passes it on to the command.
    public func signal(_ number: Int32) {
        guard !isReaped else { return }
        // ESRCH cannot occur: the process has not been reaped.
        _ = kill(process, number)
    }

    /// Stops this process with the signal that stopped the command, so that the waiting shell notices.
    ///
    /// It returns when the process is continued.
    public func stopLikeTheCommand() {
        _ = kill(getpid(), SIGSTOP)
    }

    /// Reaps the init.
    ///
    /// - Returns: The exit status: the command's, or 128+N for signal N.
    public func waitForExit() -> Int32 {
        var status: CInt = 0
        while unsafe waitpid(process, &status, 0) < 0 {
            if currentErrno != .interrupted { return 1 }
        }
        isReaped = true
        takeTerminalBack()
        let signal = status & 0x7F
        return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
    }

    // MARK: Terminal

    /// The first of 0, 1 and 2 that is the controlling terminal with this process in the foreground.
    private static func foregroundTerminal() -> CInt? {
        (0...2).first { tcgetpgrp($0) == getpgrp() }
    }

    /// Makes this process the terminal's foreground again.
    ///
    /// A shell with job control leaves the terminal to its own process group, which has no number outside its process
    /// namespace. The shell that started us in the foreground expects to find us there.
    private func takeTerminalBack() {
        guard let terminal, tcgetpgrp(terminal) != group else { return }
        var blocked = SignalMask(of: [SIGTTOU])
        let previous = blocked.block()
        _ = tcsetpgrp(terminal, group)
        previous.restore()
    }
}

extension WrappedCommand {
    /// `pasta-` and the host's name, cut off at the system's limit: the namespace's default host name.
    public static func defaultHostName() -> String {
        let maximum = 64
        var bytes = [CChar](repeating: 0, count: maximum + 1)
        guard unsafe gethostname(&bytes, maximum) == 0 else { return "pasta" }
        let host = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(decoding: Array("pasta-\(host)".utf8.prefix(maximum)), as: UTF8.self)
    }
}

/// Passes the program and its arguments as C strings, NULL-terminated, to a closure.
@unsafe
private func withArguments<Result>(
    _ specification: WrappedCommand.Specification,
    _ body: (UnsafePointer<CChar>, UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    if let index = specification.argumentIndex, index < Int(CommandLine.argc) {
        // The program's own arguments are NULL-terminated and live as long as the program does.
        let own = unsafe CommandLine.unsafeArgv + index
        if let file = unsafe own.pointee { return unsafe body(file, own) }
    }
    let copies = unsafe specification.arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe copies.forEach { unsafe free($0) } }
    return unsafe specification.file.withCString { file in
        unsafe copies.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("the list has its terminator") }
            return unsafe body(file, base)
        }
    }
}

@unsafe
private func withOptionalCString<Result>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
    guard let text else { return body(nil) }
    return unsafe text.withCString { unsafe body($0) }
}
