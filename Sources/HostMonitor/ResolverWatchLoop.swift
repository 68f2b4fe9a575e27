// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// After start-up the engine has an empty root, so the process that watches resolv.conf must stay outside. It is a small
// process that is forked before that and keeps the host's mount namespace and nothing else. It sends the file's text
// over a socket, one datagram for each report, whenever it differs from the last report. It ends when the other side
// closes the socket.
//
// inotify(7) reports changes in every directory that contains, or should contain, a link of the chain or the file, and
// of the file itself, which may be a mount of its own that its directory does not report on. After any event, the file
// is read again. The watches are derived from the path each time, since a rename or another link changes the chain. The
// order is watch, then read, so that no change is missed. Only if inotify is not available, the file is read every 5 s.
//
// syscalls: running(resolver-watcher): close inotify_add_watch inotify_init1 inotify_rm_watch poll read recvmsg
// syscalls: running(resolver-watcher): sendmsg sendto socketpair wait4

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The loop of the process that watches resolv.conf.
struct ResolverWatchLoop: ~Copyable {
    /// The interval at which the file is read when inotify is not available, in milliseconds.
    static let fallbackMilliseconds: CInt = 5000

    private let path: String
    private let output: CInt
    private let inotify: OwnedFileDescriptor
    private let hasInotify: Bool
    /// The socket of a reserve that has yet to be forked.
    private var pendingReserve: CInt?
    private var reserve: Int32?
    private var watches: [CInt] = []
    private var sent: ResolverReport?
    private var isBlind = true

    /// Prepares to watch.
    ///
    /// - Parameters:
    ///   - path: The absolute path of resolv.conf.
    ///   - output: A datagram socket, which must stay open while the loop runs.
    ///   - reserve: The socket of a reserve that must be forked after the first report; nil for none.
    init(path: String, output: CInt, reserve: CInt? = nil) {
        self.path = path
        self.output = output
        pendingReserve = reserve
        // inotify instances can run out (EMFILE); then the file is read periodically.
        let number = inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK))
        hasInotify = number >= 0
        inotify = OwnedFileDescriptor(taking: number)
    }

    /// Watches until the other side closes the socket.
    mutating func run() {
        while true {
            rewatch()
            guard send(ResolverFile.read(path)) else { break }
            forkReserve()
            guard wait() else { break }
        }
        // The engine waits for this process, and the kernel for 10 to 20 ms when an inotify instance is closed.
        _ = tapas_close_after_exit(inotify.rawValue)
    }

    /// Sends the report if it differs from the last one; false once the other side is closed.
    private mutating func send(_ report: ResolverReport) -> Bool {
        guard report != sent else { return true }
        let datagram = report.datagram
        let number = output
        do throws(SystemCallError) {
            try retrying("send") {
                unsafe datagram.withUnsafeBytes {
                    unsafe Glibc.send(number, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                }
            }
        } catch {
            return false
        }
        sent = report
        return true
    }

    /// Forks the reserve that was ordered.
    private mutating func forkReserve() {
        guard let socket = pendingReserve else { return }
        pendingReserve = nil
        if let reserve {
            // It has ended, as the engine has noticed, or is about to: the engine has closed its socket.
            while waitpid(reserve, nil, 0) < 0 && currentErrno == .interrupted {}
        }
        let process = ResolverHelper.forkReserve(watching: path, socket)
        reserve = process < 0 ? nil : process
    }

    /// Waits for an event, or for a while if there can be none; false once the other side is closed.
    private mutating func wait() -> Bool {
        var entries = [
            pollfd(fd: output, events: Int16(POLLIN), revents: 0),
            pollfd(fd: inotify.rawValue, events: Int16(POLLIN), revents: 0),
        ]
        let timeout = isBlind ? Self.fallbackMilliseconds : -1
        let count = unsafe entries.withUnsafeMutableBufferPointer { unsafe poll($0.baseAddress, 2, timeout) }
        if count < 0 { return currentErrno == .interrupted }
        if entries[0].revents & Int16(POLLIN) != 0 {
            var (word, socket): (CInt, CInt) = (0, -1)
            guard unsafe tapas_receive_word(output, &word, &socket) == 1 else { return false }
            if ResolverHelper.Order(rawValue: word) == .reserve, socket >= 0 { pendingReserve = socket }
        } else if entries[0].revents != 0 {
            return false
        }
        if entries[1].revents != 0 {
            let number = inotify.rawValue
            // The kind of event does not matter, so the buffer is only emptied.
            var buffer = [UInt8](repeating: 0, count: 4096)
            while unsafe buffer.withUnsafeMutableBytes({ unsafe Glibc.read(number, $0.baseAddress, $0.count) }) > 0 {}
        }
        return true
    }

    /// Makes the watches that the chain needs now.
    private mutating func rewatch() {
        guard hasInotify else { return }
        let number = inotify.rawValue
        let chain = ResolverFile.chain(path, node: ResolverFile.node)
        let names =
            IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB
            | IN_DELETE_SELF | IN_MOVE_SELF
        var wanted: [(path: String, mask: Int32)] = chain.directories.keys.map { ($0, names | IN_ONLYDIR) }
        if let file = chain.file {
            wanted.append((file, IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF))
        }
        let old = watches
        watches = []
        isBlind = false
        for (path, mask) in wanted {
            let watch = unsafe inotify_add_watch(number, path, UInt32(bitPattern: mask))
            if watch >= 0 {
                watches.append(watch)
            } else if currentErrno != .noSuchFileOrDirectory {
                // There are no watches left, or the directory may be searched but not read.
                isBlind = true
            }
        }
        // A directory that is watched already keeps its number.
        for watch in old where !watches.contains(watch) { inotify_rm_watch(number, watch) }
    }
}
