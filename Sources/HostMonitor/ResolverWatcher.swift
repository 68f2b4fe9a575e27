// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// After start-up, the engine has an empty root and cannot fork a process that sees the host's files. So two helpers are
// forked before that: the watcher, which reads resolv.conf, and the reserve, which only waits.
//
//     engine ──fork──▶ watcher ──fork──▶ reserve
//       ▲ ▲              │                  │
//       │ └── reports ───┘                  │
//       └──────────── "ready" ──────────────┘
//
// When the watcher ends (because it was killed), its socket reports that. The engine reaps it and orders the reserve to
// watch; with the order it sends the socket of the next reserve, which the new watcher forks. When the watcher ends,
// the reserve becomes the engine's own child, because the engine is a "child subreaper" (prctl(2)). When the reserve
// ends, the engine has the watcher reap it and fork another one. Only if both end at the same time is no process left
// to watch.
//
// syscalls: setup(main): socketpair clone close
// syscalls: running(control): recvfrom sendmsg shutdown socketpair close

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A process that watches resolv.conf from the host's mount namespace, with another one in reserve.
///
/// Both have no capabilities, no controlling terminal (so Ctrl-C and Ctrl-Z do not reach them) and only the descriptors
/// that they need, and they end with this value. Between changes, neither they nor the engine wake up.
public final class ResolverWatcher {
    /// The result of receiving.
    public enum Reception: Hashable, Sendable {
        /// A report.
        case report(ResolverReport)
        /// Nothing is there.
        case empty
        /// The watcher has ended; the last report stays in force.
        case ended
    }

    /// A helper, as the engine holds it.
    private final class Helper {
        let socket: OwnedFileDescriptor
        var process: Int32?

        init(_ socket: consuming OwnedFileDescriptor, _ process: Int32? = nil) {
            self.socket = socket
            self.process = process
        }
    }

    private let processes: HelperProcesses
    private var active: Helper?
    private var reserve: Helper?

    /// Takes over the socket of a watcher; without a reserve, the watcher is not started again.
    init(taking socket: consuming OwnedFileDescriptor, processes: HelperProcesses = HelperProcesses()) {
        self.processes = processes
        active = Helper(socket)
    }

    private init(_ active: Helper, _ reserve: Helper, _ processes: HelperProcesses) {
        self.active = active
        self.reserve = reserve
        self.processes = processes
    }

    deinit {
        release(&active)
        release(&reserve)
    }

    /// Forks the watcher; the program must have one thread only.
    ///
    /// - Parameters:
    ///   - path: The absolute path to watch.
    ///   - diesWithParent: Whether the watcher is killed when the calling thread ends, beside ending when the socket is
    ///     closed. Pass false if the program goes to the background by forking later.
    ///   - processes: Records the helpers, for the end of the program.
    ///   - restrict: Runs in the first watcher before it watches; what it restricts holds for its successors, too.
    /// - Returns: The watcher; its first report arrives at once.
    /// - Throws: The error of socketpair(2) or fork(2).
    public static func fork(
        watching path: String = ResolverFile.standardPath, diesWithParent: Bool = true, processes: HelperProcesses,
        restrict: () -> Void = {}
    ) throws(SystemCallError) -> ResolverWatcher {
        HelperProcesses.adopt()
        let ends = try socketPair()
        let reserveEnds = try socketPair()
        let process = Glibc.fork()
        if process < 0 { throw SystemCallError("fork", "watching \(path)", currentErrno) }
        if process == 0 {
            ResolverHelper.begin(
                watching: path, ends.child.rawValue, reserve: reserveEnds.child.rawValue, diesWithParent, restrict)
        }
        processes.add(process: process, channel: ends.parent.rawValue, isGroupLeader: true)
        processes.add(channel: reserveEnds.parent.rawValue)
        let reserve = Helper(reserveEnds.parent)
        return ResolverWatcher(Helper(ends.parent, process), reserve, processes)
    }

    // MARK: The watcher

    /// The watcher's process; nil if there is none.
    public var processID: Int32? { active?.process }

    /// The descriptor to watch for readability; nil if there is no watcher.
    public var descriptor: FileDescriptor? { active?.socket.descriptor }

    /// Receives the newest report, without waiting.
    public func receive() -> Reception {
        guard let active else { return .ended }
        return Self.receive(from: active.socket.rawValue)
    }

    /// Replaces a watcher that has ended by the reserve, and has that fork another reserve.
    ///
    /// - Returns: Whether there is a watcher again; it has another descriptor.
    public func restart() -> Bool {
        release(&active, hasEnded: true)
        guard let next = reserve, send(.watch, to: next) else { return false }
        active = next
        return true
    }

    // MARK: The reserve

    /// The reserve's descriptor to watch for readability; nil if there is none.
    public var reserveDescriptor: FileDescriptor? { reserve?.socket.descriptor }

    /// Receives the reserve's message: that it is ready, or that its socket is closed.
    ///
    /// - Returns: Whether the reserve still exists.
    public func receiveFromReserve() -> Bool {
        guard let reserve else { return false }
        var bytes = [UInt8](repeating: 0, count: 8)
        let number = reserve.socket.rawValue
        let result = transferring {
            unsafe bytes.withUnsafeMutableBytes { unsafe recv(number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT)) }
        }
        switch result {
        case .wouldBlock: return true
        case .bytes(let count) where count > 0:
            if let process = ResolverHelper.process(inReadyMessage: bytes[..<count]) {
                reserve.process = process
                processes.add(process: process)
            }
            return true
        case .bytes, .failed: return false
        }
    }

    /// Has the watcher reap a reserve that has ended and fork another.
    ///
    /// - Returns: Whether there is a reserve again; it has another descriptor.
    public func renewReserve() -> Bool {
        // It is the watcher's child and cannot be waited for here.
        if let reserve { forget(reserve) }
        reserve = nil
        guard let active else { return false }
        return send(.reserve, to: active)
    }

    // MARK: Both

    /// Sends an order to a helper, with the socket of a new reserve that it should fork, which becomes ``reserve``.
    private func send(_ order: ResolverHelper.Order, to helper: Helper) -> Bool {
        reserve = nil
        do throws(SystemCallError) {
            let ends = try Self.socketPair()
            guard tapas_send_word(helper.socket.rawValue, order.rawValue, ends.child.rawValue) == 0 else {
                throw SystemCallError("sendmsg", "the process that watches resolv.conf", currentErrno)
            }
            processes.add(channel: ends.parent.rawValue)
            reserve = Helper(ends.parent)
            return true
        } catch {
            return false
        }
    }

    /// Ends a helper, unless its socket has reported its end, and reaps it.
    private func release(_ helper: inout Helper?, hasEnded: Bool = false) {
        guard let released = helper else { return }
        helper = nil
        forget(released)
        guard let process = released.process else { return }
        if hasEnded { processes.reap(process) } else { processes.end(process) }
    }

    private func forget(_ helper: Helper) {
        processes.forget(channel: helper.socket.rawValue)
        shutdown(helper.socket.rawValue, CInt(SHUT_RDWR))
    }

    // MARK: The socket

    /// The two ends of a socket for reports.
    struct ReportSockets: ~Copyable {
        var parent: OwnedFileDescriptor
        var child: OwnedFileDescriptor
    }

    static func socketPair() throws(SystemCallError) -> ReportSockets {
        var pair: [CInt] = [-1, -1]
        let type = CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
        try retrying("socketpair", "SOCK_SEQPACKET") {
            unsafe pair.withUnsafeMutableBufferPointer { unsafe socketpair(AF_UNIX, type, 0, $0.baseAddress) }
        }
        return ReportSockets(parent: OwnedFileDescriptor(taking: pair[0]), child: OwnedFileDescriptor(taking: pair[1]))
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

    /// Parses a watcher's message; nil if it is not a report.
    init?(datagram: ArraySlice<UInt8>) {
        switch datagram.first {
        case Tag.text: self = .text(Array(datagram.dropFirst()))
        case Tag.absent: self = .absent
        case Tag.unreadable: self = .unreadable(errno: Int32(datagram.dropFirst().first ?? 0))
        default: return nil
        }
    }
}
