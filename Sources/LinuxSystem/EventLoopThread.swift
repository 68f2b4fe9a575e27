// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(main): clone clone3 close eventfd2 read rt_sigprocmask
// syscalls: running(control, ports): close prctl write

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// A thread that runs an event loop of its own, for work that would delay the data path.
///
/// The thread lives as long as the process. All signals are blocked on it.
public final class EventLoopThread: Sendable {
    /// The loop, to be used as an executor.
    public let loop: EventLoop

    private init(loop: EventLoop) {
        self.loop = loop
    }

    /// What the new thread reports before it runs.
    private enum Start {
        case waiting
        case running(EventLoop)
        case failed(SystemCallError)
    }

    private final class Channel: Sendable {
        let start = Mutex<Start>(.waiting)
        private let event: OwnedFileDescriptor

        init() throws(SystemCallError) {
            event = OwnedFileDescriptor(taking: try retrying("eventfd") { eventfd(0, CInt(EFD_CLOEXEC)) })
        }

        func signal() {
            var one: UInt64 = 1
            _ = unsafe Glibc.write(event.rawValue, &one, MemoryLayout<UInt64>.size)
        }

        func wait() {
            var count: UInt64 = 0
            let number = event.rawValue
            _ = transferring { unsafe Glibc.read(number, &count, MemoryLayout<UInt64>.size) }
        }
    }

    /// Starts the thread.
    ///
    /// - Throws: The error of pthread_create(3), eventfd(2) or epoll_create1(2).
    public static func start() throws(SystemCallError) -> EventLoopThread {
        let channel = try Channel()
        var all = sigset_t()
        var mask = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &mask)
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(channel).toOpaque()
        let error = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                EventLoopThread.main(unsafe Unmanaged<Channel>.fromOpaque(context).takeRetainedValue())
                return nil
            }, context)
        unsafe pthread_sigmask(SIG_SETMASK, &mask, nil)
        if error != 0 {
            unsafe Unmanaged<Channel>.fromOpaque(context).release()
            throw SystemCallError("pthread_create", "", Errno(rawValue: error))
        }
        pthread_detach(thread)
        channel.wait()
        switch channel.start.withLock({ $0 }) {
        case .running(let loop): return EventLoopThread(loop: loop)
        case .failed(let error): throw error
        case .waiting: preconditionFailure("the thread has reported nothing")
        }
    }

    /// Starts a thread that serves an existing loop; from then on the loop belongs to that thread.
    ///
    /// - Parameters:
    ///   - loop: the loop.
    ///   - name: the thread's name, 15 bytes at most.
    ///   - sink: the receiver of the loop's events.
    ///   - beforeServing: runs on the new thread before it serves the loop.
    /// - Returns: The thread.
    /// - Throws: The error of pthread_create(3).
    public static func start<Sink: EventSink & SendableMetatype>(
        _ loop: EventLoop, name: String, serving sink: LoopBound<Sink>,
        beforeServing: @escaping @Sendable () -> Void = {}
    ) throws(SystemCallError) -> EventLoopThread {
        let body = Body {
            _ = unsafe tapas_set_thread_name(name)
            beforeServing()
            sink.serve()
        }
        var all = sigset_t()
        var mask = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &mask)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &mask, nil) }
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(body).toOpaque()
        let error = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, context)
        if error != 0 {
            unsafe Unmanaged<Body>.fromOpaque(context).release()
            throw SystemCallError("pthread_create", "", Errno(rawValue: error))
        }
        pthread_detach(thread)
        return EventLoopThread(loop: loop)
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void

        init(run: @escaping @Sendable () -> Void) { self.run = run }
    }

    private static func main(_ channel: Channel) {
        let loop: EventLoop
        do throws(SystemCallError) {
            loop = try EventLoop()
        } catch {
            channel.start.withLock { $0 = .failed(error) }
            channel.signal()
            return
        }
        channel.start.withLock { $0 = .running(loop) }
        channel.signal()
        // This fails only if epoll_wait(2) does, which is a bug.
        do throws(SystemCallError) { try loop.run(sink: NoEvents()) } catch { assertionFailure("\(error)") }
    }
}

/// A sink for loops that watch the control plane's descriptors only.
public final class NoEvents: EventSink {
    /// Makes a sink.
    public init() {}

    /// Does nothing.
    public func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {}
    /// Does nothing.
    public func batchEnded(now: MonotonicTime) {}
    /// Never.
    public var deadline: MonotonicTime? { nil }
    /// Does nothing.
    public func deadlineReached(now: MonotonicTime) {}
}
