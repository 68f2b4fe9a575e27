// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The threads that serve flows add events to a bounded queue and never wait (Forwarding.FlowEventQueue). The control
// loop drains it: it adds the host's interface, makes the lines, and writes them. What a reader does not take at once
// (a full pipe) waits in memory, up to a bound; beyond it lines are dropped and counted, and the next line that is
// written says how many (`"event":"dropped"`). At the end of the program the main thread drains what is left.
//
// Nothing here waits: poll(2) says that a pipe has room before at most `PIPE_BUF` bytes are written to it.
//
// syscalls: running(control, data-path): poll write

internal import Forwarding
internal import Glibc
internal import JSON
internal import LinuxSystem
internal import NetworkTypes
internal import Policy
internal import Synchronization
internal import SystemPackage

/// Writes the record of flows: the log, the learned rules, and the lines that `tapasctl watch --flows` shows.
final class FlowRecorder: Sendable {
    /// The greatest number of bytes that wait for a slow reader of one output.
    static let mostWaiting = 1 << 20
    /// The greatest number of lines that are kept for clients that watch.
    static let mostLines = 4096
    /// The greatest number of learned rules.
    static let mostLearned = 16384
    /// Bytes that a pipe with room takes at once (PIPE_BUF, pipe(7)).
    private static let chunk = 4096

    /// A file or descriptor with the lines that wait for it.
    private struct Output: ~Copyable {
        var file: OwnedFileDescriptor
        var waiting: [UInt8] = []
        var lost: UInt64 = 0
    }

    private struct State: ~Copyable {
        var log: Output?
        var learned: Output?
        var known: Set<String> = []
        /// The addresses of the host with their interfaces.
        var interfaces: [IPAddress: String] = [:]
        var lines: [JSONValue] = []
        /// The number of the first of `lines`.
        var first: UInt64 = 0
        var isWatched = false
        var dropped: UInt64 = 0
    }

    private let state: Mutex<State>
    /// The queue that events come from.
    let queue: FlowEventQueue

    /// Makes a recorder.
    ///
    /// - Parameters:
    ///   - log: the flow log; nil for none.
    ///   - learned: the file of learned rules, which is empty; nil for none.
    ///   - wake: called on any thread when there is something to drain.
    init(
        log: consuming OwnedFileDescriptor?, learned: consuming OwnedFileDescriptor?,
        wake: @escaping @Sendable () -> Void
    ) {
        queue = FlowEventQueue(wake: wake)
        var state = State()
        if let file = log { state.log = Output(file: file) }
        if let file = learned {
            let header = "# tapas: the rules that would have allowed what was seen\n"
            state.learned = Output(file: file, waiting: Array(header.utf8))
        }
        self.state = Mutex(state)
    }

    /// Sets which interface of the host has which address.
    func publish(_ interfaces: [IPAddress: String]) {
        state.withLock { $0.interfaces = interfaces }
    }

    /// Takes the events of the queue and writes them as far as possible.
    ///
    /// - Returns: whether something waits for a reader, so that the call is to be repeated.
    @discardableResult
    func drain() -> Bool {
        let (events, dropped) = queue.take()
        return state.withLock { state in
            state.dropped &+= dropped
            if dropped > 0, state.log != nil { state.log?.lost &+= dropped }
            for event in events {
                var record = event.record
                if let local = event.local { record.interface = local.isLoopback ? "lo" : state.interfaces[local] }
                if state.log != nil { Self.add(record.jsonLine, to: &state.log) }
                if state.learned != nil, let rule = record.learnedRule, state.known.count < Self.mostLearned,
                    state.known.insert(rule).inserted
                {
                    Self.add(rule + "\n", to: &state.learned)
                }
                if state.isWatched {
                    state.lines.append(record.json)
                    if state.lines.count > Self.mostLines {
                        state.lines.removeFirst(Self.mostLines / 4)
                        state.first += UInt64(Self.mostLines / 4)
                    }
                }
            }
            let log = Self.write(&state.log)
            let learned = Self.write(&state.learned)
            return log || learned
        }
    }

    private static func add(_ line: String, to output: inout Output?) {
        guard let waiting = output?.waiting.count, waiting + line.utf8.count <= mostWaiting else {
            output?.lost &+= 1
            return
        }
        if let lost = output?.lost, lost > 0, waiting < mostWaiting / 2 {
            let time = "\(WallTime.now)"
            output?.waiting += "{\"time\":\"\(time)\",\"event\":\"dropped\",\"count\":\(lost)}\n".utf8
            output?.lost = 0
        }
        output?.waiting += line.utf8
    }

    /// Writes what waits, as far as the reader takes it at once.
    ///
    /// - Returns: whether something is left.
    private static func write(_ output: inout Output?) -> Bool {
        guard let number = output?.file.rawValue, var bytes = output?.waiting, !bytes.isEmpty else { return false }
        var done = 0
        var hasFailed = false
        while done < bytes.count {
            var entry = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&entry, 1, 0) == 1, entry.revents & Int16(POLLOUT) != 0 else {
                hasFailed = entry.revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0
                break
            }
            let start = done
            let length = min(chunk, bytes.count - done)
            let result = transferring {
                unsafe bytes.withUnsafeBytes { unsafe Glibc.write(number, $0.baseAddress?.advanced(by: start), length) }
            }
            guard case .bytes(let count) = result, count > 0 else {
                if case .failed = result { hasFailed = true }
                break
            }
            done += count
        }
        if hasFailed {
            // The reader is gone, or the disk is full: these lines are lost.
            let lines = UInt64(bytes[done...].count { $0 == UInt8(ascii: "\n") })
            output?.lost &+= lines
            output?.waiting = []
            return false
        }
        bytes.removeFirst(done)
        output?.waiting = bytes
        return !bytes.isEmpty
    }

    /// Continues the flow log in another file.
    ///
    /// - Returns: false if there is no flow log.
    func rotate(to file: consuming OwnedFileDescriptor) -> Bool {
        drain()
        var file: OwnedFileDescriptor? = file
        return state.withLock { state in
            guard state.log != nil, let next = file.take() else { return false }
            let waiting = state.log?.waiting ?? []
            let lost = state.log?.lost ?? 0
            state.log = Output(file: next, waiting: waiting, lost: lost)
            return true
        }
    }

    /// The number of lines that were dropped because the queue was full.
    var dropped: UInt64 { state.withLock { $0.dropped } }

    // MARK: Watching

    /// Keeps lines for clients from now on.
    ///
    /// - Returns: the number of the next line.
    func beginWatching() -> UInt64 {
        state.withLock { state in
            state.isWatched = true
            return state.first + UInt64(state.lines.count)
        }
    }

    /// The lines from a number on.
    ///
    /// - Returns: the lines, and the number of the next one.
    func lines(from number: UInt64) -> (lines: [JSONValue], next: UInt64) {
        state.withLock { state in
            let start = Int(clamping: max(number, state.first) - state.first)
            return (Array(state.lines.dropFirst(start)), state.first + UInt64(state.lines.count))
        }
    }
}
