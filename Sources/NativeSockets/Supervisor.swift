// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The command runs with a filter that reports calls which decide where a socket leads (CLinux/command_filter.c). Here, in
// a process of its own on the host's network, each reported call gets its answer:
//
//     command ──connect──▶ kernel ──notification──▶ supervisor: looks at the caller's socket and copies the address
//        ▲                                             │ makes a socket of the host, connects it
//        └─ returns ◀── answer ◀── descriptor replaced ─┘
//
// What is true at every point, whatever the command's threads do meanwhile:
//
//  1. A call is never judged by one thing and carried out on another. The supervisor takes a descriptor of the caller's
//     socket (pidfd_getfd(2)) and one copy of its arguments (process_vm_readv(2)). For TCP it makes the call itself, on
//     that descriptor with that copy. Exchanging the descriptor or the memory changes nothing.
//  2. The kernel carries a call out only where (1) does not matter: on sockets that are not TCP. If the caller exchanges
//     the descriptor by a switched socket just then, connect(2) and bind(2) are denied by Landlock, which denies them to
//     the command for all of TCP. listen(2), setsockopt(2) and ioctl(2) have no such second line: they are left to the
//     kernel only for processes with one thread, which cannot exchange anything behind a waiting call, since descriptors
//     are shared by the threads of a process only (the filter denies all other ways).
//  3. A thread whose number has been given to another one is noticed: its descriptor is of the old one, and memory that
//     was read counts only if the notification still waits afterwards.
//  4. A socket of the host (SO_NETNS_COOKIE) in the command's hands is connected by the supervisor only, and only to a
//     destination that leaves the host as it is (`NativeSettings.verdict`). It is never bound, made to listen, given
//     options that lead it elsewhere, or asked about interfaces.
//
// The supervisor keeps no descriptor of a switched socket: otherwise the command could not close it. When the host loses
// an address, the supervisor looks for its sockets among the descriptors of the command's processes, and ends them.
//
// A call that waits (connect(2) of a blocking socket) is answered later: the descriptor has been replaced by then, the
// supervisor waits for its own, and calls connect(2) again for the result, as the kernel does inside. If a signal
// interrupts the caller, its notification goes away, and a repeated call finds the same socket connecting.
//
// If the supervisor ends, the listener closes: waiting calls and all later ones fail with ENOSYS. Nothing hangs.
//
// syscalls: running(native-sockets): close getsockopt ioctl listen recvfrom recvmsg sendto

internal import CLinux
internal import Glibc
internal import JSON
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// Answers the reported calls of the command.
final class Supervisor {
    /// The answer to a call.
    enum Answer: Equatable {
        /// It returns a value.
        case returns(Int64)
        /// It fails.
        case fails(Errno)
        /// The kernel carries it out.
        case continues
        /// It is answered later, or its caller has gone.
        case nothing
    }

    /// The folder /proc, which outlives the file system that it was mounted in.
    let proc: CInt
    let loop: EventLoop
    private let engine: CInt
    private let command: CInt
    /// The listener of the command's filter.
    private(set) var listener: CInt = -1
    /// A netlink socket of the command's network namespace.
    private(set) var namespaceSocket: CInt = -1
    private var namespaceCookie: UInt64 = 0
    private var hostCookie: UInt64 = 0
    private var routeSequence: UInt32 = 0
    /// What the engine published last.
    private(set) var settings = NativeSettings()
    /// The threads that have made calls, until they end.
    private var callers: [pid_t: (caller: Caller, watch: EventLoop.SourceID)] = [:]
    private static let mostCallers = 1024
    /// The number of epoll instances that the command has made.
    private(set) var epollGeneration: UInt64 = 0
    var waiting: [UInt64: WaitingCall] = [:]
    var switched = SwitchedSockets()
    /// Whether it is scheduled to look at the calls that wait.
    var willCheck = false

    /// Makes a supervisor of descriptors that live as long as it does.
    init(engine: CInt, command: CInt, proc: CInt) throws(SystemCallError) {
        self.engine = engine
        self.command = command
        self.proc = proc
        loop = try EventLoop()
    }

    /// Serves until the engine ends.
    func run() throws(SystemCallError) {
        guard let probe = try? HostSocket.open(.v4, type: HostSocket.stream) else { return }
        _ = unsafe tapas_network_namespace_cookie(probe, &hostCookie)
        close(probe)
        _ = try loop.watch(FileDescriptor(rawValue: engine)) { [unowned self] _ in receiveFromEngine() }
        var commandWatch: EventLoop.SourceID?
        commandWatch = try loop.watch(FileDescriptor(rawValue: command)) { [unowned self] _ in
            if !receiveFromCommand(), let id = commandWatch { loop.unwatch(id) }
        }
        try loop.run(sink: NoEvents())
    }

    // MARK: Messages

    /// Receives the descriptors that the init and the command send; false once both are there, or none will come.
    private func receiveFromCommand() -> Bool {
        var error: CInt = 0
        var count: CInt = 0
        var received: [CInt] = [-1, -1]
        let length = unsafe tapas_receive_descriptors(command, &error, MemoryLayout<CInt>.size, &received, 2, &count)
        if length < 0 { return currentErrno == .resourceTemporarilyUnavailable }
        guard length > 0 else { return false }
        // A word without its descriptor: the next one would be taken for it. Calls fail then, instead of waiting.
        guard count == 1 else {
            loop.stop()
            return false
        }
        guard namespaceSocket >= 0 else {
            namespaceSocket = received[0]
            _ = unsafe tapas_network_namespace_cookie(namespaceSocket, &namespaceCookie)
            return true
        }
        listener = received[0]
        tapas_listener_hand_over(listener)
        var watch: EventLoop.SourceID?
        watch = try? loop.watch(FileDescriptor(rawValue: listener)) { [unowned self] readiness in
            if readiness.contains(.readable) {
                receiveNotification()
            } else if let id = watch {
                // No process has the filter any more.
                loop.unwatch(id)
            }
        }
        if watch == nil { loop.stop() }
        return false
    }

    private func receiveFromEngine() {
        while true {
            var bytes = [UInt8](repeating: 0, count: 1 << 18)
            let length = unsafe recv(engine, &bytes, bytes.count, CInt(MSG_DONTWAIT))
            if length < 0 && currentErrno == .resourceTemporarilyUnavailable { return }
            guard length > 0 else { return loop.stop() }
            // What cannot be read makes nothing eligible.
            let message = try? JSONValue(parsing: Array(bytes.prefix(length)))
            if let question = message?["question"]?.integer {
                let ended = message?["end"]?.array.map { Set($0.compactMap { $0.string.flatMap { UInt64($0) } }) }
                answer(question: question, ending: ended)
            } else {
                settings = message?["settings"].flatMap(NativeSettings.init) ?? NativeSettings()
                endSocketsOfLostAddresses()
            }
        }
    }

    /// Sends the engine a message; if the engine does not read, it is lost.
    func tell(_ message: JSONValue) {
        let bytes = Array(message.compactText.utf8)
        _ = unsafe send(engine, bytes, bytes.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL))
    }

    // MARK: Notifications

    private func receiveNotification() {
        var notification = tapas_notification()
        guard unsafe tapas_notification_receive(listener, &notification) == 0 else { return }
        give(answer(notification), to: notification.id)
    }

    /// Answers a call; false if its caller has gone.
    @discardableResult
    func give(_ answer: Answer, to id: UInt64) -> Bool {
        switch answer {
        case .returns(let value): tapas_notification_answer(listener, id, value, 0) == 0
        case .fails(let error): tapas_notification_answer(listener, id, 0, error.rawValue) == 0
        case .continues: tapas_notification_continue(listener, id) == 0
        case .nothing: true
        }
    }

    private func answer(_ call: tapas_notification) -> Answer {
        if call.call == CInt(TAPAS_CALL_EPOLL_CREATE.rawValue) {
            epollGeneration += 1
            return .continues
        }
        // A thread of a process namespace that we do not see.
        guard call.thread > 0 else { return .fails(.notPermitted) }
        let caller: Caller
        do throws(Errno) {
            caller = try self.caller(call.thread)
            let socket = try socket(CInt(truncatingIfNeeded: call.arguments.0), of: caller.descriptor.rawValue)
            return try answer(call, of: caller, on: socket)
        } catch {
            // What is no socket has no interfaces.
            let isRequest = call.call == CInt(TAPAS_CALL_IOCTL.rawValue)
            return .fails(isRequest && error == .notSocket ? Errno(rawValue: ENOTTY) : error)
        }
    }

    /// Takes a socket of a thread.
    func socket(_ number: CInt, of thread: CInt) throws(Errno) -> CallerSocket {
        try CallerSocket(number, of: thread, host: hostCookie, namespace: namespaceCookie)
    }

    private func answer(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        switch call.call {
        case CInt(TAPAS_CALL_CONNECT.rawValue): try connect(call, of: caller, on: socket)
        case CInt(TAPAS_CALL_BIND.rawValue): try bind(call, of: caller, on: socket)
        case CInt(TAPAS_CALL_LISTEN.rawValue): listen(call, of: caller, on: socket)
        case CInt(TAPAS_CALL_GETSOCKNAME.rawValue): try name(call, of: caller, on: socket)
        case CInt(TAPAS_CALL_SETSOCKOPT.rawValue): try setOption(call, of: caller, on: socket)
        case CInt(TAPAS_CALL_IOCTL.rawValue): try control(call, of: caller, on: socket)
        default: .fails(.notPermitted)
        }
    }

    /// The thread of a number; a new one if that of the last call has ended.
    private func caller(_ thread: pid_t) throws(Errno) -> Caller {
        if let known = callers[thread] {
            if !known.caller.hasEnded { return known.caller }
            loop.unwatch(known.watch)
            callers[thread] = nil
        }
        let caller = try Caller(thread)
        if callers.count >= Self.mostCallers {
            for (_, known) in callers { loop.unwatch(known.watch) }
            callers = [:]
        }
        // Without the watch, the thread is only not remembered.
        let watch = try? loop.watch(caller.descriptor.descriptor) { [unowned self] _ in
            guard let known = callers.removeValue(forKey: thread) else { return }
            loop.unwatch(known.watch)
        }
        if let watch { callers[thread] = (caller, watch) }
        return caller
    }

    // MARK: Routes

    /// Whether the command's network namespace sends packets for a destination to the engine: not if it has another
    /// route there, such as that to a bridge of its own.
    func leavesByEngine(_ destination: IPv6Address) -> Bool {
        let index = unsafe tapas_interface_index(namespaceSocket, settings.interface)
        guard index > 0 else { return false }
        let found =
            switch IPAddress(unmapping: destination) {
            case .v4(let v4):
                unsafe withUnsafeBytes(of: v4.rawValue.bigEndian) { bytes in
                    unsafe tapas_route_interface(namespaceSocket, bytes.baseAddress, bytes.count, &routeSequence)
                }
            case .v6(let v6):
                unsafe withUnsafeBytes(of: (v6.high.bigEndian, v6.low.bigEndian)) { bytes in
                    unsafe tapas_route_interface(namespaceSocket, bytes.baseAddress, bytes.count, &routeSequence)
                }
            }
        return found == index
    }
}
