// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): rt_sigaction rt_sigprocmask signalfd4
// syscalls: running(data-path): close getpid kill read rt_sigaction rt_sigprocmask

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A set of signals, as the mask of a thread.
public struct SignalMask: Sendable {
    var set = sigset_t()

    /// Makes a set of signals.
    public init(of signals: [Int32]) {
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
    }

    /// All signals.
    public static var all: SignalMask {
        var mask = SignalMask(of: [])
        unsafe sigfillset(&mask.set)
        return mask
    }

    /// Also blocks these signals in the calling thread and in the threads that it will start.
    ///
    /// - Returns: The mask before.
    @discardableResult
    public mutating func block() -> SignalMask {
        var previous = SignalMask(of: [])
        unsafe pthread_sigmask(SIG_BLOCK, &set, &previous.set)
        return previous
    }

    /// Makes this the mask of the calling thread.
    public func restore() {
        var set = set
        unsafe pthread_sigmask(SIG_SETMASK, &set, nil)
    }
}

/// Ending the process by a signal.
public enum SignalDeath {
    /// Ends the process as the signal's default action does, so that its parent sees that.
    public static func end(by number: Int32) -> Never {
        Glibc.signal(number, SIG_DFL)
        var mask = SignalMask(of: [number])
        unsafe pthread_sigmask(SIG_UNBLOCK, &mask.set, nil)
        _ = kill(getpid(), number)
        // This is not reached for a signal whose default action is to end the process.
        exit(128 + number)
    }
}

/// Signals that can be read (signalfd(2)).
public struct SignalDescriptor: ~Copyable {
    /// A signal that has been read.
    public struct Received: Hashable, Sendable {
        /// Its number.
        public var number: Int32
        /// Whether a process sent it (kill(2)); a signal from the terminal has reached the whole foreground group.
        public var isSentByProcess: Bool
    }

    /// Signals that are passed on to a wrapped command.
    public static let forwarded: [Int32] = [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH,
    ]
    /// Signals that end the program with status 0 when it is attached.
    public static let ending: [Int32] = [SIGTERM, SIGQUIT]
    /// Signals that end an attached program, after it has cleaned up, unless they are ignored.
    public static let interrupting: [Int32] = [SIGINT, SIGHUP]

    /// The mask that the thread had before.
    public let previousMask: SignalMask
    private let file: OwnedFileDescriptor

    /// Blocks signals in the calling thread, and in the threads that it will start, and makes them readable.
    ///
    /// - Parameters:
    ///   - signals: the signals to read in any case.
    ///   - unlessIgnored: the signals to read unless the program was started with them ignored.
    ///
    /// SIGCHLD gets its default action: a parent that ignores it must not hide how the command ended.
    ///
    /// - Throws: The error of signalfd(2).
    public init(of signals: [Int32], unlessIgnored: [Int32] = []) throws(SystemCallError) {
        Glibc.signal(SIGCHLD, SIG_DFL)
        // A blocked signal is queued even if it is ignored, as under nohup(1).
        var mask = SignalMask(of: signals + unlessIgnored.filter { !Self.isIgnored($0) })
        previousMask = mask.block()
        file = OwnedFileDescriptor(
            taking: try retrying("signalfd") {
                unsafe signalfd(-1, &mask.set, CInt(SFD_CLOEXEC | SFD_NONBLOCK))
            })
    }

    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard unsafe sigaction(number, nil, &action) == 0 else { return false }
        return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1  // SIG_IGN
    }

    /// Readable when a signal is there.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Reads one signal; nil if none is pending.
    public borrowing func next() -> Received? {
        var information = signalfd_siginfo()
        let number = file.rawValue
        let size = MemoryLayout<signalfd_siginfo>.size
        guard case .bytes(size) = transferring({ unsafe read(number, &information, size) }) else { return nil }
        return Received(number: Int32(information.ssi_signo), isSentByProcess: information.ssi_code <= 0)
    }
}
