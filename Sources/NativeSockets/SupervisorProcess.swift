// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The engine's side of the supervisor: it is forked before the command's init, in the command's user namespace.
//
// syscalls: setup(main): clone close close_range dup2 fcntl getpid kcmp landlock_create_ruleset openat pidfd_open prctl
// syscalls: setup(main): sendto setsid socketpair
// syscalls: running(control): close poll recvfrom sendto shutdown

internal import CLinux
internal import Glibc
package import JSON
package import LinuxSystem
package import SystemPackage

/// The supervisor of native sockets, as the engine holds it.
package final class SupervisorProcess: Sendable {
    /// Its process id.
    package let process: Int32
    private let channel: OwnedFileDescriptor

    private init(process: Int32, channel: consuming OwnedFileDescriptor) {
        self.process = process
        self.channel = channel
    }

    /// What the kernel lacks for native sockets; nil if it has all.
    package static var lack: (what: String, errno: Errno)? {
        var what: UnsafePointer<CChar>?
        let error = unsafe tapas_native_lack(&what)
        guard error != 0, let what = unsafe what else { return nil }
        return (unsafe String(cString: what), Errno(rawValue: error))
    }

    /// The instructions of the command's filter.
    package static func commandFilter() -> [UInt64] {
        unsafe [UInt64](unsafeUninitializedCapacity: 256) { buffer, count in
            count = unsafe tapas_command_filter(buffer.baseAddress)
        }
    }

    /// Forks the supervisor; the program must have one thread only.
    ///
    /// - Parameters:
    ///   - processes: records it, for the end of the program.
    ///   - restrict: runs in the supervisor before it serves: takes the file system and system calls away.
    /// - Returns: the supervisor, and the end of the channel for the command's init.
    /// - Throws: the error of socketpair(2), open(2) or fork(2).
    package static func fork(
        processes: HelperProcesses, restrict: () -> Void
    ) throws(SystemCallError) -> (supervisor: SupervisorProcess, command: CInt) {
        HelperProcesses.adopt()
        let (ours, engine) = try pair()
        let (command, theirs) = try pair()
        let proc = try OwnedFileDescriptor.open("/proc", .readOnly, options: .directory).release().rawValue
        let process = tapas_fork()
        if process < 0 { throw SystemCallError("fork", "native sockets", currentErrno) }
        if process == 0 { serve(engine: engine, command: theirs, proc: proc, restrict) }
        for number in [engine, theirs, proc] { close(number) }
        processes.add(process: process, channel: ours, standsAlone: true)
        return (SupervisorProcess(process: process, channel: OwnedFileDescriptor(taking: ours)), command)
    }

    private static func pair() throws(SystemCallError) -> (CInt, CInt) {
        var pair: [CInt] = [-1, -1]
        let type = CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
        try retrying("socketpair", "SOCK_SEQPACKET") {
            unsafe pair.withUnsafeMutableBufferPointer { unsafe socketpair(AF_UNIX, type, 0, $0.baseAddress) }
        }
        // A message is the list of a host's addresses at most.
        for number in pair { HostSocket.setIfPossible(number, SOL_SOCKET, SO_SNDBUF, 1 << 20) }
        return (pair[0], pair[1])
    }

    /// The supervisor's life.
    private static func serve(engine: CInt, command: CInt, proc: CInt, _ restrict: () -> Void) -> Never {
        // Ctrl-C is for the command.
        _ = setsid()
        tapas_set_parent_death_signal(SIGKILL)
        _ = unsafe tapas_set_thread_name("tapas-sockets")
        let kept = [engine, command, proc].map { tapas_dup_cloexec($0, 10) }
        for (position, number) in kept.enumerated() where dup2(number, CInt(3 + position)) < 0 { _exit(1) }
        let nothing = unsafe Glibc.open("/dev/null", O_RDWR)
        for number: CInt in 0..<3 where nothing < 0 || dup2(nothing, number) < 0 { close(number) }
        tapas_close_range(6, .max)
        restrict()
        do throws(SystemCallError) {
            try Supervisor(engine: 3, command: 4, proc: 5).run()
        } catch {
            _exit(1)
        }
        _exit(0)
    }

    // MARK: The channel

    /// The channel's descriptor, readable when a message is there or the supervisor has ended.
    package var descriptor: FileDescriptor { channel.descriptor }

    /// Publishes settings.
    ///
    /// A supervisor whose channel stays full for a second is ended: it must not go on with old settings.
    /// One that hangs before that is not noticed.
    ///
    /// - Returns: false if it is gone.
    package func publish(_ settings: NativeSettings) -> Bool {
        send(["settings": settings.json])
    }

    /// Sends a message.
    package func send(_ message: JSONValue) -> Bool {
        let bytes = Array(message.compactText.utf8)
        let number = channel.rawValue
        while true {
            let result = transferring {
                unsafe Glibc.send(number, bytes, bytes.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL))
            }
            switch result {
            case .bytes: return true
            case .wouldBlock:
                var poll = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
                if unsafe Glibc.poll(&poll, 1, 1000) > 0 { continue }
                fallthrough
            case .failed:
                shutdown(number, CInt(SHUT_RDWR))
                return false
            }
        }
    }

    /// What has been received.
    package enum Reception {
        /// A message.
        case message(JSONValue)
        /// Nothing is there.
        case empty
        /// The supervisor has ended.
        case ended
    }

    /// Receives a message without waiting.
    package func receive() -> Reception {
        var bytes = [UInt8](repeating: 0, count: 1 << 18)
        let number = channel.rawValue
        let result = transferring {
            unsafe bytes.withUnsafeMutableBytes { unsafe recv(number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT)) }
        }
        switch result {
        case .bytes(let count) where count > 0:
            return (try? JSONValue(parsing: Array(bytes.prefix(count)))).map { .message($0) } ?? .empty
        case .wouldBlock: return .empty
        case .bytes, .failed: return .ended
        }
    }
}
