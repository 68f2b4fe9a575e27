// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// setns(CLONE_NEWNET) changes one thread. Only this thread ever calls it, once: it stays in the target network
// namespace, and all other threads stay in the host's. It runs closures that make what has to be made there: the tap,
// the namespace's rtnetlink socket, listening sockets. The descriptors work on every thread, since a socket stays in
// the namespace that it was made in. This is also the only thread that keeps CAP_NET_ADMIN, so whatever changes the
// namespace's configuration runs here; the thread is the executor of `NamespaceConfigurator`.
//
// Work is queued under a mutex, and a semaphore counts it. A synchronous call (`run`) passes a closure without
// ownership and blocks until the closure has run, so everything that it borrows stays alive. That is for start-up only:
// the thread may be busy for seconds when the host changes, so threads that serve an event loop use `perform`, and
// `run` refuses to be called from them. All signals are blocked here; the main thread receives them.
// syscalls: setup(main): clone clone3 rt_sigprocmask
// syscalls: setup(namespace): prctl

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// The thread in the target network namespace; also a serial executor.
public final class NamespaceThread: SerialExecutor {
    @safe
    private enum Work: @unchecked Sendable {
        /// A job of an actor.
        case job(UnownedJob)
        /// A borrowed closure and the semaphore to signal; `@unchecked`, since its owner waits until it has run.
        case call(UnsafeMutablePointer<() -> Void>, Semaphore)
        /// A closure that no thread waits for.
        case closure(@Sendable () -> Void)
    }

    private let queue = Mutex<[Work]>([])
    private let available = Semaphore()
    private let thread = Mutex<pthread_t?>(nil)

    private init() {}

    /// Starts the thread and moves it to a network namespace for good.
    ///
    /// - Parameter namespace: the network namespace.
    /// - Returns: the thread, in the namespace.
    /// - Throws: The error of pthread_create(3), or that of ``NamespaceFile/join()``.
    public static func start(in namespace: borrowing NamespaceFile) throws(NamespaceError) -> NamespaceThread {
        let result = try start()
        try result.run { () throws(NamespaceError) in try namespace.join() }
        return result
    }

    /// Starts the thread in the present network namespace.
    ///
    /// - Throws: The error of pthread_create(3).
    package static func start() throws(NamespaceError) -> NamespaceThread {
        let result = NamespaceThread()
        // The thread inherits the mask, so that no signal is ever delivered to it.
        var all = SignalMask.all
        let mask = all.block()
        defer { mask.restore() }
        var identifier = pthread_t()
        let context = unsafe Unmanaged.passRetained(result).toOpaque()
        let error = unsafe pthread_create(
            &identifier, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<NamespaceThread>.fromOpaque(context).takeRetainedValue().serve()
            }, context)
        guard error == 0 else {
            unsafe Unmanaged<NamespaceThread>.fromOpaque(context).release()
            throw NamespaceError(
                "cannot start a thread", SystemCallError("pthread_create", "", Errno(rawValue: error)))
        }
        result.thread.withLock { $0 = identifier }
        return result
    }

    /// Runs a closure on the thread and waits for it, to make something inside the namespace.
    ///
    /// It must not be called on the thread itself, nor on a thread that serves an event loop.
    ///
    /// - Parameter body: the closure; it may borrow from the caller, who waits.
    /// - Returns: The closure's result.
    /// - Throws: The closure's error.
    public func run<Success: ~Copyable, Failure: Error>(
        _ body: () throws(Failure) -> Success
    ) throws(Failure) -> Success {
        precondition(!isCurrent, "a call of the namespace's thread to itself would wait for ever")
        precondition(!EventLoop.isServedHere, "an event loop would wait for the namespace's thread")
        let done = Semaphore()
        let outcome = UnsafeMutablePointer<Result<Success, Failure>>.allocate(capacity: 1)
        defer { unsafe outcome.deallocate() }
        withoutActuallyEscaping(body) { body in
            var call = {
                do throws(Failure) {
                    unsafe outcome.initialize(to: .success(try body()))
                } catch {
                    unsafe outcome.initialize(to: .failure(error))
                }
            }
            unsafe withUnsafeMutablePointer(to: &call) { call in
                unsafe enqueue(.call(call, done))
                done.wait()
            }
        }
        return try unsafe outcome.move().get()
    }

    /// Has the thread run a closure later; returns at once.
    public func perform(_ body: @escaping @Sendable () -> Void) {
        enqueue(.closure(body))
    }

    private func enqueue(_ work: Work) {
        queue.withLock { $0.append(work) }
        available.signal()
    }

    private func serve() -> Never {
        _ = unsafe tapas_set_thread_name("tapas-namespace")
        while true {
            available.wait()
            // The semaphore counts the queue's length; each wait is one element.
            let work = queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            switch work {
            case .job(let job): unsafe job.runSynchronously(on: asUnownedSerialExecutor())
            case .call(let call, let done):
                unsafe Self.invoke(call)
                done.signal()
            case .closure(let body): body()
            case nil: break
            }
        }
    }

    /// Calls a borrowed closure.
    ///
    /// It is not inlined, so that no reference to the closure is left when its owner is woken.
    @inline(never)
    private static func invoke(_ call: UnsafeMutablePointer<() -> Void>) {
        unsafe call.pointee()
    }

    // MARK: Executor

    /// Runs a job on the thread (SerialExecutor).
    public func enqueue(_ job: consuming ExecutorJob) {
        enqueue(.job(UnownedJob(job)))
    }

    /// Traps unless called on the thread (SerialExecutor).
    public func checkIsolated() {
        precondition(isCurrent, "called off the namespace's thread")
    }

    /// Whether the caller is on the thread.
    public var isCurrent: Bool {
        thread.withLock { $0.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
    }
}

/// An unnamed POSIX semaphore (sem_overview(7)): futex(2) without busy waiting.
@safe
private final class Semaphore: @unchecked Sendable {
    /// `@unchecked`: the calls on the semaphore synchronise.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() {
        // This fails only for a value above SEM_VALUE_MAX.
        unsafe sem_init(semaphore, 0, 0)
    }

    deinit {
        unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }

    func signal() { unsafe sem_post(semaphore) }

    func wait() {
        while unsafe sem_wait(semaphore) != 0 {}
    }
}
