// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// With `--persist` the program is two processes. The supervisor is the one that was started: it has the process id that
// others know, and holds what must outlive the engine: the namespaces, the tap, the listening sockets, the control
// sockets with their files, the log, the capture, and the command, whose init is its child. The engine is a child that
// executes the same program with the same arguments; it does all that is done with bytes of the namespace, of the network
// and of clients.
//
//     caller ──▶ supervisor ──fork, exec──▶ engine (its threads, filters, empty root, watcher of resolv.conf)
//                  │     ◀── a socket: descriptors by name, "ready", "ended", "upgrade" ──▶
//                  └──clone──▶ init ──▶ command
//
// The supervisor sets up what is made once (the user namespace, the command's namespaces, sockets with files), and gives
// each engine all descriptors by SCM_RIGHTS, each under a name. The engine makes the rest: the first one makes the tap and
// listens; it sends these descriptors back, and says when a listening socket is closed. A later one finds them, and goes
// on with them instead of making new ones: the tap's interface stays, and connections wait in the backlog of the listening
// sockets. What else an engine must know of its predecessor is in memory that the supervisor keeps without looking at it
// (StateFile.swift): changed rules of forwarded ports and added rules on what may leave, and what of the namespace's configuration is ours.
//
// An engine that ends by a signal, or without having said that it ends, is followed by another one, at most five times
// within a minute. SIGKILL does not count if the engine had served for half a second: it comes from outside, and says
// nothing of the next engine. The flows of the old engine are lost. The kernel closes their sockets, so remote ends know;
// the new engine lists the namespace's connections and has their ends look at their state, which ends in a reset
// (`Forwarder.challenge`).
//
// Trust: an engine is hostile when it has been taken over. The supervisor reads messages of at most 512 bytes from it,
// with a byte for the kind and a name; it replaces only the tap and listening sockets, and executes nothing but the
// program that it was started from, or with `upgrade` what is at that program's path. It parses nothing else. It keeps
// few capabilities, which are ambient so that the engine has them after execve(2); the engine drops them as usual. It
// has neither a filter nor an empty root, because an engine would inherit these and could not set itself up.
//
// Ends: signals, the end of the command or of the namespace's name, and `--exit-fd` are the supervisor's, as without
// `--persist` (Server.swift). It then closes the channel, and the engine ends. If the supervisor is killed, the kernel
// kills the engine (PR_SET_PDEATHSIG), and the command's init.
//
// syscalls: setup(main): access clone close close_range execveat fcntl getpid kill openat pidfd_open poll prctl
// syscalls: setup(main): dup3 readlinkat wait4 waitid

internal import CLinux
internal import Diagnostics
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import Options
internal import SystemPackage

/// Holds what must outlive the engine, and starts engines.
final class Supervisor {
    /// The most restarts within ``period``.
    private static let mostRestarts = 5
    /// In nanoseconds.
    private static let period: Int64 = 60_000_000_000
    /// An engine that has served so long, in nanoseconds, works.
    private static let proof: Int64 = 500_000_000
    /// The most descriptors that are kept, and the longest name.
    private static let greatestCount = 140_000
    private static let greatestName = 128
    /// How long an engine may take to end, in milliseconds, before it is killed.
    private static let patience: CInt = 2_000

    private struct EngineProcess {
        var process: pid_t
        var channel: HandoverChannel
        var source: EventLoop.SourceID
        /// When it was ready.
        var ready: MonotonicTime?
        /// The status that it has said it ends with.
        var status: Int32?
    }

    private let server: Server
    private let logger: Logger
    private let log: Log
    private let command: WrappedCommand?
    private var program: EngineProgram
    /// The program before an upgrade, until the new one is ready.
    private var formerProgram: EngineProgram?
    private var kept: [String: OwnedNumber] = [:]
    private var engine: EngineProcess?
    private var restarts: UInt32 = 0
    private var restartTimes: [MonotonicTime] = []
    private var cause = ""
    private var isEnding = false
    /// Called once, when the first engine is ready.
    private var firstReady: (() throws -> Void)?
    /// Why the first engine's readiness could not be made known.
    private(set) var failure: (any Error)?

    /// A descriptor that is closed with its owner.
    private final class OwnedNumber {
        let file: OwnedFileDescriptor

        init(_ file: consuming OwnedFileDescriptor) {
            self.file = file
        }
    }

    /// Makes a supervisor without an engine.
    ///
    /// - Parameters:
    ///   - server: the ends of the program.
    ///   - log: the log.
    ///   - command: the wrapped command.
    ///   - program: what engines execute.
    ///   - ready: called once, when the namespace is connected.
    init(
        server: Server, log: Log, command: WrappedCommand?, program: EngineProgram, ready: @escaping () throws -> Void
    ) {
        self.server = server
        self.log = log
        logger = log.logger
        self.command = command
        self.program = program
        firstReady = ready
    }

    /// Keeps a descriptor for engines.
    func keep(_ name: String, _ file: consuming OwnedFileDescriptor) {
        kept[name] = OwnedNumber(file)
    }

    /// The tap, lent, if there is one.
    var tap: FileDescriptor? { kept[Handover.Name.tap]?.file.descriptor }

    // MARK: Starting

    /// Starts an engine.
    ///
    /// - Throws: The error of socketpair(2) or fork(2), or that of a message.
    func startEngine() throws(SystemCallError) {
        var far: OwnedFileDescriptor?
        let near = try HandoverChannel.pair(&far)
        guard let far = far.take() else { return }
        let process = try program.start(channel: far)
        let source: EventLoop.SourceID
        do throws(SystemCallError) {
            for (name, file) in kept { try near.send(.given(name), with: file.file.descriptor) }
            try near.send(.begin(restarts: restarts, instance: getpid(), cause: cause))
            source = try server.loop.watch(near.descriptor) { [unowned self] _ in takeMessage() }
        } catch {
            guard error.errno == .brokenPipe else {
                Self.end(process)
                throw error
            }
            // It has ended already, which the watch would have told.
            source = try server.loop.watch(near.descriptor) { [unowned self] _ in takeMessage() }
        }
        engine = EngineProcess(process: process, channel: near, source: source)
    }

    // MARK: Messages

    private func takeMessage() {
        // One at a time: an engine that never stops must not keep the supervisor from signals and from the command's end.
        guard let channel = engine?.channel else { return }
        switch channel.receive() {
        case .nothing, .nonsense: return
        case .ended: engineDidEnd()
        case .message(let message, let descriptor):
            take(message, descriptor.map { OwnedFileDescriptor(taking: $0) })
        }
    }

    private func take(_ message: HandoverMessage, _ file: consuming OwnedFileDescriptor?) {
        switch message {
        case .keep(let name):
            guard Self.mayBeReplaced(name), kept.count < Self.greatestCount || kept[name] != nil,
                let file = file.take()
            else { return }
            keep(name, file)
            if name == Handover.Name.tap { server.tap = tap }
        case .release(let name):
            if Self.mayBeReplaced(name) || name == Handover.Name.device { kept[name] = nil }
        case .ready: engineIsReady()
        case .upgrade: upgrade()
        case .ended(let status): engine?.status = status
        case .given, .begin, .refused: return
        }
    }

    private static func mayBeReplaced(_ name: String) -> Bool {
        name.utf8.count <= greatestName && (name == Handover.Name.tap || name.hasPrefix(Handover.Name.listeners))
    }

    private func engineIsReady() {
        engine?.ready = .now
        formerProgram = nil
        guard let ready = firstReady else { return }
        firstReady = nil
        do {
            try ready()
        } catch {
            failure = error
            server.end(.status(Engine.failureStatus))
        }
    }

    // MARK: Ends

    private func engineDidEnd() {
        guard let ended = removeEngine() else { return }
        let death = Self.end(ended.process, patience: Self.patience)
        reapOthers()
        if isEnding { return }
        if let status = ended.status { return server.end(.status(status)) }
        // A first engine that could not set itself up has said why.
        if firstReady != nil, case .exit(let status) = death { return server.end(.status(status == 0 ? 1 : status)) }
        if firstReady != nil {
            log.destinations.write(.error, "the engine was ended by \(death) while it started")
            return server.end(.status(Engine.failureStatus))
        }
        cause = "the engine was ended by \(death)"
        if let former = formerProgram {
            cause = "the new program was ended by \(death) while it started, and the former one takes its place"
            program = former
            formerProgram = nil
        }
        let now = MonotonicTime.now
        let served = ended.ready.map { now.nanoseconds - $0.nanoseconds } ?? 0
        if case .signal(SIGKILL) = death, served >= Self.proof { return restartUncounted() }
        restart(now)
    }

    private func restart(_ now: MonotonicTime) {
        restartTimes.removeAll { now.nanoseconds - $0.nanoseconds > Self.period }
        guard restartTimes.count < Self.mostRestarts else {
            return giveUp("\(cause), and was started anew \(Self.mostRestarts) times within a minute")
        }
        restartTimes.append(now)
        restartUncounted()
    }

    private func restartUncounted() {
        restarts &+= 1
        do throws(SystemCallError) {
            try startEngine()
        } catch {
            giveUp("\(cause), and cannot be started anew: \(error)")
        }
    }

    private func giveUp(_ reason: String) {
        let consequence = command == nil ? "tapas ends" : "tapas ends, and the command with it"
        log.destinations.followOthers()
        log.destinations.write(.error, "\(reason): \(consequence)")
        server.end(.status(Engine.failureStatus))
    }

    private func removeEngine() -> EngineProcess? {
        guard let engine = engine.take() else { return nil }
        server.loop.unwatch(engine.source)
        return engine
    }

    /// Ends the engine, and waits for its end.
    func stopEngine() {
        isEnding = true
        guard let ended = removeEngine() else { return }
        ended.channel.close()
        _ = Self.end(ended.process, patience: Self.patience)
        reapOthers()
    }

    /// Replaces the engine by the program that is at the program's path now.
    private func upgrade() {
        guard let engine, engine.ready != nil else { return }
        let newest: EngineProgram
        do throws(SystemCallError) {
            newest = try program.newest()
        } catch {
            try? engine.channel.send(.refused("upgrade: \(error)"))
            return
        }
        guard let ended = removeEngine() else { return }
        ended.channel.close()
        _ = Self.end(ended.process, patience: Self.patience)
        reapOthers()
        formerProgram = program
        program = newest
        cause = "upgrade"
        restartUncounted()
    }

    /// How an engine has ended.
    private enum Death: CustomStringConvertible {
        case exit(Int32)
        case signal(Int32)

        var description: String {
            switch self {
            case .exit(let status): "exit with status \(status)"
            case .signal(let number):
                "signal \(number) (\(unsafe strsignal(number).map { unsafe String(cString: $0) } ?? "?"))"
            }
        }
    }

    /// Reaps an engine; kills it first if it has not ended within so many milliseconds.
    @discardableResult
    private static func end(_ process: pid_t, patience: CInt = 0) -> Death {
        if tapas_wait_for_end(process, patience) != 1 { _ = kill(process, SIGKILL) }
        var status: CInt = 0
        while unsafe waitpid(process, &status, 0) < 0 && currentErrno == .interrupted {}
        let signal = status & 0x7F
        return signal == 0 ? .exit((status >> 8) & 0xFF) : .signal(signal)
    }

    /// Reaps helpers of engines, which become children of this process (``HelperProcesses/adopt()``).
    private func reapOthers() {
        while tapas_reap_other(command?.process ?? -1, engine?.process ?? -1) > 0 {}
    }
}

/// The program that engines execute.
final class EngineProgram {
    /// Opened before the program gives up any right: it can be executed even if its path is out of reach.
    private let file: OwnedFileDescriptor
    /// Where the newest version is.
    private let path: String

    private init(_ file: consuming OwnedFileDescriptor, path: String) {
        self.file = file
        self.path = path
    }

    /// This program.
    ///
    /// - Throws: If /proc is not mounted.
    static func own() throws(SystemCallError) -> EngineProgram {
        let number = try retrying("open", "/proc/self/exe") { tapas_open_own_program() }
        let file = OwnedFileDescriptor(taking: number)
        guard let path = SymbolicLink.target("/proc/self/exe") else {
            throw SystemCallError("readlink", "/proc/self/exe", currentErrno)
        }
        return EngineProgram(file, path: path)
    }

    /// What is at the program's path now.
    ///
    /// - Throws: The error of open(2), with the path; EACCES if it cannot be executed.
    func newest() throws(SystemCallError) -> EngineProgram {
        let number = try retrying("open", path) { unsafe tapas_open_program(path) }
        let file = OwnedFileDescriptor(taking: number)
        try retrying("execute", path) { unsafe access(path, X_OK) }
        return EngineProgram(file, path: path)
    }

    /// Starts it with the arguments of this program.
    ///
    /// - Parameter channel: the engine's end of the channel.
    /// - Returns: its process id.
    /// - Throws: The error of fork(2).
    func start(channel: consuming OwnedFileDescriptor) throws(SystemCallError) -> pid_t {
        var variables: [UnsafeMutablePointer<CChar>?] = unsafe [
            strdup("\(Handover.variable)=\(Handover.channelNumber)")
        ]
        defer { unsafe free(variables[0]) }
        var position = unsafe environ
        while let variable = unsafe position.pointee {
            unsafe variables.append(variable)
            unsafe position += 1
        }
        unsafe variables.append(nil)
        let number = channel.rawValue
        return try retrying("fork") {
            unsafe tapas_start_program(file.rawValue, CommandLine.unsafeArgv, variables, number)
        }
    }
}
