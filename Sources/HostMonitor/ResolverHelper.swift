// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What the helpers of ResolverWatcher.swift do after their fork. They have one thread, like the program that forked
// them, so Swift code may run in them.
//
// syscalls: running(resolver-watcher): capset chdir clone close close_range dup2 fcntl getpid openat prctl recvmsg
// syscalls: running(resolver-watcher): sendto setsid

internal import CLinux
internal import Glibc
internal import LinuxSystem

/// The life of a helper process: it watches resolv.conf, or waits until it must.
enum ResolverHelper {
    /// What the engine orders a helper to do; a socket is sent with each order.
    enum Order: CInt {
        /// Become the watcher, and fork a reserve that gets this socket.
        case watch = 1
        /// Reap the reserve that has ended, and fork one that gets this socket.
        case reserve = 2
    }

    /// The tag of the message by which a reserve reports that it is ready; reports have other tags.
    private static let readyTag: UInt8 = 3
    /// The descriptor on which a helper keeps its socket.
    private static let socketNumber: CInt = 3

    /// The process id in a reserve's message that it is ready; nil for any other message.
    static func process(inReadyMessage bytes: ArraySlice<UInt8>) -> Int32? {
        guard bytes.count == 5, bytes.first == readyTag else { return nil }
        return Int32(bitPattern: bytes.dropFirst().reduce(0) { $0 << 8 | UInt32($1) })
    }

    /// Begins the first watcher: drops all privileges, watches, and ends.
    ///
    /// It does not return.
    static func begin(
        watching path: String, _ socket: CInt, reserve: CInt, _ diesWithParent: Bool, _ restrict: () -> Void
    ) {
        _ = setsid()
        // The working folder would keep a file system busy.
        _ = unsafe chdir("/")
        let (socket, reserve) = (tapas_dup_cloexec(socket, 10), tapas_dup_cloexec(reserve, 10))
        if dup2(socket, socketNumber) < 0 || dup2(reserve, socketNumber + 1) < 0 { _exit(1) }
        let nothing = unsafe Glibc.open("/dev/null", O_RDWR)
        for number: CInt in 0..<3 where nothing < 0 || dup2(nothing, number) < 0 { close(number) }
        tapas_close_range(UInt32(socketNumber) + 2, .max)
        watch(path, reserve: socketNumber + 1, diesWithParent, restrict)
    }

    private static func watch(
        _ path: String, reserve: CInt, _ diesWithParent: Bool, _ restrict: () -> Void = {}
    ) -> Never {
        if unsafe tapas_renounce_privileges("tapas-resolver", diesWithParent ? 1 : 0) < 0 { _exit(1) }
        restrict()
        var loop = ResolverWatchLoop(path: path, output: socketNumber, reserve: reserve < 0 ? nil : reserve)
        loop.run()
        _exit(0)
    }

    /// Forks a reserve that uses `socket`, which is closed here.
    ///
    /// - Returns: The reserve's process id, or -1.
    static func forkReserve(watching path: String, _ socket: CInt) -> Int32 {
        let process = fork()
        if process != 0 {
            close(socket)
            return process
        }
        if dup2(socket, socketNumber) < 0 { _exit(1) }
        tapas_close_range(UInt32(socketNumber) + 1, .max)
        // The reserve does not die with the watcher, which it is to replace; it ends when its socket is closed.
        if unsafe tapas_renounce_privileges("tapas-reserve", 0) < 0 { _exit(1) }
        let number = UInt32(bitPattern: getpid())
        let message = [readyTag] + stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: number >> $0) }
        guard unsafe send(socketNumber, message, message.count, CInt(MSG_NOSIGNAL)) == message.count else { _exit(0) }
        var (word, next): (CInt, CInt) = (0, -1)
        guard unsafe tapas_receive_word(socketNumber, &word, &next) == 1, Order(rawValue: word) == .watch else {
            _exit(0)
        }
        watch(path, reserve: next, false)
    }
}
