// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// One thread waits in epoll_wait(2) for everything: the data path's descriptors, the control plane's descriptors,
// timers, and the jobs of actors that use the loop as their executor. The 64 bits of user data in an epoll event hold a
// token: kind, generation, index. Kind 0 is the loop's own (its wake-up and the control sources). All other kinds go to
// the sink that was given to `run`, which is the data path. An event that is left over for a reused slot has an old
// generation; the owner of the slot drops it.
//
// A turn of the loop: wait until something is ready or the earliest deadline has come; run jobs; hand out the events;
// report the end of the batch to the sink, so that it can flush what it has gathered; expire timers. With nothing
// scheduled, the wait has no time-out, so an idle process does not wake up.
//
// Threads: `enqueue` and `perform` may be called from any thread. Everything else may be called on the loop's thread
// only, which is the thread that made the loop until another one calls `run` (`EventLoopThread`). That makes the
// unchecked state below safe, and actors can rely on it by `checkIsolated`. A thread that serves a loop must not wait
// for anything else: functions that wait for another thread check `isServedHere` and refuse.
// syscalls: setup(main): close epoll_create1 epoll_ctl eventfd2 write
// syscalls: running(data-path, control, ports): clock_nanosleep close epoll_ctl epoll_wait prctl read
// syscalls: running(native-sockets): close epoll_create1 epoll_ctl epoll_wait eventfd2 prctl write
// syscalls: running(any): write

internal import CLinux
internal import Glibc
internal import Synchronization
public import SystemPackage

/// What an event is for: 8 bits of kind, 24 of generation, 32 of index.
public struct EventToken: Hashable, Sendable {
    /// The bits as epoll carries them.
    public var rawValue: UInt64

    /// Makes a token from epoll's bits.
    @inlinable
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Makes a token; `kind` 0 is the loop's own, `generation` counts modulo 2^24.
    @inlinable
    public init(kind: UInt8, generation: UInt32 = 0, index: UInt32 = 0) {
        rawValue = UInt64(kind) << 56 | UInt64(generation & 0xFF_FFFF) << 32 | UInt64(index)
    }

    /// The kind.
    @inlinable public var kind: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 56) }
    /// The generation, 24 bits.
    @inlinable public var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) & 0xFF_FFFF }
    /// The index.
    @inlinable public var index: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
}

/// What a descriptor is ready for, or what it is watched for (epoll_ctl(2)).
public struct Readiness: OptionSet, Hashable, Sendable {
    /// The EPOLL* bits.
    public let rawValue: UInt32

    /// Makes a set from EPOLL* bits.
    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Readable (`EPOLLIN`).
    public static let readable = Readiness(rawValue: 0x001)
    /// Writable (`EPOLLOUT`).
    public static let writable = Readiness(rawValue: 0x004)
    /// An error is pending (`EPOLLERR`); reported whether asked for or not.
    public static let error = Readiness(rawValue: 0x008)
    /// Both directions are closed (`EPOLLHUP`); reported whether asked for or not.
    public static let hangUp = Readiness(rawValue: 0x010)
    /// The peer closed its direction (`EPOLLRDHUP`).
    public static let peerClosed = Readiness(rawValue: 0x2000)
    /// Report changes, not states (`EPOLLET`).
    public static let edgeTriggered = Readiness(rawValue: 1 << 31)
}

/// The receiver of the data path's events.
public protocol EventSink: AnyObject {
    /// A descriptor is ready.
    func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime)
    /// All events of one wait have been handed out.
    func batchEnded(now: MonotonicTime)
    /// The earliest moment at which ``deadlineReached(now:)`` should be called; nil for never.
    var deadline: MonotonicTime? { get }
    /// The deadline has passed.
    func deadlineReached(now: MonotonicTime)
    /// How long to sleep before the next wait, in nanoseconds, so that more input has come by then; mostly 0.
    var rest: Int64 { get }
}

extension EventSink {
    /// No rest.
    public var rest: Int64 { 0 }
}

/// The event loop: readiness, timers, and an executor for actors that live on its thread.
public final class EventLoop: SerialExecutor {
    /// Names a control source until it is removed.
    public struct SourceID: Hashable, Sendable {
        fileprivate var index: Int
        fileprivate var generation: UInt32
    }

    /// Names a timer until it fires or is cancelled.
    public struct TimerID: Hashable, Sendable {
        fileprivate var number: UInt64
    }

    /// Work that other threads hand to the loop.
    enum Work: Sendable {
        case job(UnownedJob)
        case task(UnownedJob, LoopTasks)
        case closure(@Sendable () -> Void)
    }

    private struct Source {
        var descriptor: FileDescriptor
        var handler: (Readiness) -> Void
    }

    private struct Timer {
        var deadline: MonotonicTime
        var number: UInt64
        var handler: (MonotonicTime) -> Void
    }

    private let epoll: OwnedFileDescriptor
    private let wakeUp: OwnedFileDescriptor
    private let jobs = Mutex<[Work]>([])
    private let thread: Atomic<UInt>
    /// Only the loop's thread uses this object (see the theory of operation).
    nonisolated(unsafe) private let unsafeState = State()

    /// The state that only the loop's thread uses.
    private final class State {
        var sources: [Source?] = []
        var generations: [UInt32] = []
        var timers: [Timer] = []
        var lastTimer: UInt64 = 0
        var isStopping = false
    }

    private var state: State { unsafe unsafeState }

    /// Makes a loop that belongs to the calling thread.
    ///
    /// - Throws: The error of epoll_create1(2), eventfd(2) or epoll_ctl(2).
    public init() throws(SystemCallError) {
        epoll = OwnedFileDescriptor(taking: try retrying("epoll_create1") { epoll_create1(CInt(EPOLL_CLOEXEC)) })
        wakeUp = OwnedFileDescriptor(
            taking: try retrying("eventfd") {
                eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
            })
        thread = Atomic(UInt(pthread_self()))
        try add(wakeUp.descriptor, for: .readable, token: EventToken(kind: 0, index: .max))
    }

    // MARK: Descriptors

    /// Watches a descriptor for the sink.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public func add(_ descriptor: FileDescriptor, for readiness: Readiness, token: EventToken) throws(SystemCallError) {
        try control(EPOLL_CTL_ADD, descriptor, readiness, token)
    }

    /// Changes what a descriptor is watched for.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public func modify(
        _ descriptor: FileDescriptor, for readiness: Readiness, token: EventToken
    ) throws(SystemCallError) {
        try control(EPOLL_CTL_MOD, descriptor, readiness, token)
    }

    /// Stops watching a descriptor that stays open.
    ///
    /// A descriptor that is closed needs no removal.
    public func remove(_ descriptor: FileDescriptor) {
        // This fails only if the descriptor was not watched, which is the wanted state.
        try? control(EPOLL_CTL_DEL, descriptor, [], EventToken(rawValue: 0))
    }

    private func control(
        _ operation: CInt, _ descriptor: FileDescriptor, _ readiness: Readiness, _ token: EventToken
    ) throws(SystemCallError) {
        var event = unsafe epoll_event()
        unsafe event.events = readiness.rawValue
        unsafe event.data.u64 = token.rawValue
        let epoll = epoll.rawValue
        try retrying("epoll_ctl", "descriptor \(descriptor.rawValue)") {
            unsafe epoll_ctl(epoll, operation, descriptor.rawValue, &event)
        }
    }

    /// Watches a descriptor of the control plane; `handler` runs on the loop's thread.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public func watch(
        _ descriptor: FileDescriptor, for readiness: Readiness = .readable, handler: @escaping (Readiness) -> Void
    ) throws(SystemCallError) -> SourceID {
        let index = state.sources.firstIndex { $0 == nil } ?? state.sources.endIndex
        if index == state.sources.endIndex {
            state.sources.append(nil)
            state.generations.append(0)
        }
        let token = EventToken(kind: 0, generation: state.generations[index], index: UInt32(index))
        try add(descriptor, for: readiness, token: token)
        state.sources[index] = Source(descriptor: descriptor, handler: handler)
        return SourceID(index: index, generation: state.generations[index])
    }

    /// Stops watching a descriptor of the control plane, which must still be open.
    public func unwatch(_ id: SourceID) {
        guard state.generations[id.index] == id.generation, let source = state.sources[id.index] else { return }
        remove(source.descriptor)
        state.sources[id.index] = nil
        state.generations[id.index] = (state.generations[id.index] &+ 1) & 0xFF_FFFF
    }

    // MARK: Timers

    /// Calls `handler` once on the loop's thread, not before `deadline`.
    @discardableResult
    public func schedule(at deadline: MonotonicTime, handler: @escaping (MonotonicTime) -> Void) -> TimerID {
        state.lastTimer += 1
        let timer = Timer(deadline: deadline, number: state.lastTimer, handler: handler)
        let index = state.timers.firstIndex { $0.deadline > deadline } ?? state.timers.endIndex
        state.timers.insert(timer, at: index)
        return TimerID(number: state.lastTimer)
    }

    /// Cancels a timer; a timer that has fired already is no error.
    public func cancel(_ id: TimerID) {
        state.timers.removeAll { $0.number == id.number }
    }

    // MARK: Running

    /// Hands out events until ``stop()`` is called.
    ///
    /// - Throws: The error of epoll_wait(2), which is a bug.
    public func run(sink: some EventSink) throws(SystemCallError) {
        let capacity = 64
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
        defer { unsafe events.deallocate() }
        state.isStopping = false
        thread.store(UInt(pthread_self()), ordering: .sequentiallyConsistent)
        tapas_set_serves_loop(1)
        defer { tapas_set_serves_loop(0) }
        // The default slack would make a rest of 50 us last 100 us. This never fails; if it did, rests would be longer.
        tapas_set_timer_slack(1_000)
        while !state.isStopping {
            let rest = sink.rest
            if rest > 0 { tapas_rest(rest) }
            let count: CInt
            let timeout = waitMilliseconds(sink.deadline)
            let epoll = epoll.rawValue
            do {
                count = try retrying("epoll_wait") { unsafe epoll_wait(epoll, events, CInt(capacity), timeout) }
            }
            let now = MonotonicTime.now
            for position in 0..<Int(count) {
                let token = EventToken(rawValue: unsafe events[position].data.u64)
                let readiness = Readiness(rawValue: unsafe events[position].events)
                if token.kind == 0 {
                    dispatch(token, readiness)
                } else {
                    sink.ready(token, readiness, now: now)
                }
            }
            sink.batchEnded(now: now)
            if let deadline = sink.deadline, deadline <= now { sink.deadlineReached(now: now) }
            expireTimers(now)
        }
    }

    /// Ends ``run(sink:)`` after the current turn.
    public func stop() {
        state.isStopping = true
    }

    private func waitMilliseconds(_ sinkDeadline: MonotonicTime?) -> CInt {
        var earliest = sinkDeadline
        if let first = state.timers.first?.deadline { earliest = earliest.map { min($0, first) } ?? first }
        guard let earliest else { return -1 }
        let nanoseconds = earliest.nanoseconds &- MonotonicTime.now.nanoseconds
        if nanoseconds <= 0 { return 0 }
        return CInt(clamping: (nanoseconds &+ 999_999) / 1_000_000)
    }

    private func dispatch(_ token: EventToken, _ readiness: Readiness) {
        if token.index == .max {
            runJobs()
            return
        }
        let index = Int(token.index)
        guard index < state.sources.count, state.generations[index] == token.generation,
            let source = state.sources[index]
        else { return }
        source.handler(readiness)
    }

    private func expireTimers(_ now: MonotonicTime) {
        while let first = state.timers.first, first.deadline <= now {
            state.timers.removeFirst()
            first.handler(now)
        }
    }

    // MARK: Executor

    /// Runs a job on the loop's thread (SerialExecutor).
    public func enqueue(_ job: consuming ExecutorJob) {
        enqueue(.job(UnownedJob(job)))
    }

    /// Runs a closure on the loop's thread, in the order of calls; may be called from any thread.
    public func perform(_ closure: @escaping @Sendable () -> Void) {
        enqueue(.closure(closure))
    }

    func enqueue(_ work: Work) {
        let wasEmpty = jobs.withLock { queue in
            queue.append(work)
            return queue.count == 1
        }
        guard wasEmpty else { return }
        var one: UInt64 = 1
        let number = wakeUp.rawValue
        // EAGAIN means that a wake-up is pending already.
        _ = unsafe Glibc.write(number, &one, MemoryLayout<UInt64>.size)
    }

    private func runJobs() {
        var count: UInt64 = 0
        let number = wakeUp.rawValue
        _ = unsafe Glibc.read(number, &count, MemoryLayout<UInt64>.size)
        let due = jobs.withLock { queue in
            let due = queue
            queue.removeAll(keepingCapacity: true)
            return due
        }
        for work in due {
            switch work {
            case .job(let job): unsafe job.runSynchronously(on: asUnownedSerialExecutor())
            case .task(let job, let tasks): unsafe job.runSynchronously(on: tasks.asUnownedTaskExecutor())
            case .closure(let closure): closure()
            }
        }
    }

    /// Traps unless called on the loop's thread (SerialExecutor).
    public func checkIsolated() {
        precondition(isCurrent, "called off the event loop's thread")
    }

    /// Whether the caller is on the loop's thread.
    public var isCurrent: Bool { thread.load(ordering: .sequentiallyConsistent) == UInt(pthread_self()) }

    /// Whether the calling thread serves an event loop now, so that it must not wait for another thread.
    public static var isServedHere: Bool { tapas_serves_loop() != 0 }
}
