// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: clone3 clone futex rt_sigprocmask

internal import CLinux
internal import Glibc
internal import Synchronization
internal import SystemPackage

/// A thread that runs an event loop of its own, for actors whose work would hold up the data path.
///
/// It lives as long as the process. All signals are blocked on it.
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
        // Fails only if epoll_wait(2) does, which is a bug.
        do throws(SystemCallError) { try loop.run(sink: Nothing()) } catch { assertionFailure("\(error)") }
    }

    /// A loop without a data path.
    private final class Nothing: EventSink {
        func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {}
        func batchEnded(now: MonotonicTime) {}
        var deadline: MonotonicTime? { nil }
        func deadlineReached(now: MonotonicTime) {}
    }
}
