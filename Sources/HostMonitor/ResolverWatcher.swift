// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(main): socketpair clone close
// syscalls: running(control): recvfrom close
// syscalls: running(resolver-watcher): capset chdir close_range dup2 openat prctl sendto setsid

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A process that watches resolv.conf from the host's mount namespace and tells of changes.
///
/// It has no capabilities, no controlling terminal (so that Ctrl-C and Ctrl-Z pass it by), no descriptor but its end of
/// a socket, and ends with this value. Between changes neither it nor the engine wakes up.
public struct ResolverWatcher: ~Copyable, Sendable {
    private let socket: OwnedFileDescriptor
    /// The process, to be reaped by whoever reaps this program's children.
    public let processID: Int32

    /// What receiving came to.
    public enum Reception: Hashable, Sendable {
        /// A report.
        case report(ResolverReport)
        /// Nothing is there.
        case empty
        /// The watcher is gone: what was reported last holds on.
        case ended
    }

    init(taking socket: consuming OwnedFileDescriptor, processID: Int32) {
        self.socket = socket
        self.processID = processID
    }

    /// Forks the process; only from a program that has one thread.
    ///
    /// - Parameters:
    ///   - path: The absolute path to watch.
    ///   - diesWithParent: Whether it is killed when the calling thread ends, besides ending when the socket closes.
    ///     Give false if the program goes to the background by forking later.
    /// - Returns: The watcher; its first report arrives at once.
    /// - Throws: The error of socketpair(2) or fork(2).
    public static func fork(
        watching path: String = ResolverFile.standardPath, diesWithParent: Bool = true
    ) throws(SystemCallError) -> ResolverWatcher {
        let ends = try socketPair()
        let process = Glibc.fork()
        if process < 0 { throw SystemCallError("fork", "watching \(path)", currentErrno) }
        if process == 0 { runChild(path, ends.child.rawValue, diesWithParent) }
        return ResolverWatcher(taking: ends.parent, processID: process)
    }

    /// The descriptor to watch for readability, lent.
    public var descriptor: FileDescriptor { socket.descriptor }

    /// Takes the newest report, without waiting.
    public borrowing func receive() -> Reception {
        Self.receive(from: socket.rawValue)
    }

    // MARK: The socket

    /// The two ends of a socket for reports.
    struct Ends: ~Copyable {
        var parent: OwnedFileDescriptor
        var child: OwnedFileDescriptor
    }

    static func socketPair() throws(SystemCallError) -> Ends {
        var pair: [CInt] = [-1, -1]
        let type = CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
        try retrying("socketpair", "SOCK_SEQPACKET") {
            unsafe pair.withUnsafeMutableBufferPointer { unsafe socketpair(AF_UNIX, type, 0, $0.baseAddress) }
        }
        return Ends(parent: OwnedFileDescriptor(taking: pair[0]), child: OwnedFileDescriptor(taking: pair[1]))
    }

    static func receive(from number: CInt) -> Reception {
        var newest = Reception.empty
        var buffer = [UInt8](repeating: 0, count: ResolverFile.maximumByteCount + 1)
        while true {
            let result = transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe recv(number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT))
                }
            }
            switch result {
            case .bytes(let count) where count > 0:
                if let report = ResolverReport(datagram: buffer[..<min(count, buffer.count)]) {
                    newest = .report(report)
                }
            case .wouldBlock:
                return newest
            case .bytes, .failed:
                return newest == .empty ? .ended : newest
            }
        }
    }

    // MARK: The child

    /// What the forked process does: renounce everything, watch, end.
    private static func runChild(_ path: String, _ socket: CInt, _ diesWithParent: Bool) {
        let kept: CInt = 3
        _ = setsid()
        // Lest it keeps a file system busy.
        _ = unsafe chdir("/")
        if socket != kept, dup2(socket, kept) < 0 { _exit(1) }
        let nothing = unsafe Glibc.open("/dev/null", O_RDWR)
        for number: CInt in 0..<3 where nothing < 0 || dup2(nothing, number) < 0 { close(number) }
        tapas_close_range(UInt32(kept) + 1, .max)
        if unsafe tapas_renounce_privileges("tapas-resolver", diesWithParent ? 1 : 0) < 0 { _exit(1) }
        var loop = ResolverWatchLoop(path: path, output: kept)
        loop.run()
        _exit(0)
    }
}

extension ResolverReport {
    private enum Tag {
        static let text: UInt8 = 0
        static let absent: UInt8 = 1
        static let unreadable: UInt8 = 2
    }

    /// The report as the watcher sends it: a tag, then the text or the error number.
    var datagram: [UInt8] {
        switch self {
        case .text(let text): [Tag.text] + text
        case .absent: [Tag.absent]
        case .unreadable(let errno): [Tag.unreadable, UInt8(truncatingIfNeeded: errno)]
        }
    }

    /// Reads what a watcher sent; nil if it is no report.
    init?(datagram: ArraySlice<UInt8>) {
        switch datagram.first {
        case Tag.text: self = .text(Array(datagram.dropFirst()))
        case Tag.absent: self = .absent
        case Tag.unreadable: self = .unreadable(errno: Int32(datagram.dropFirst().first ?? 0))
        default: return nil
        }
    }
}
