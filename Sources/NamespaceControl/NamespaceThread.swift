// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// setns(CLONE_NEWNET) changes one thread. This thread is the only one of the program that ever does it, once, for
// good: it is in the target network namespace, all others stay in the host's. What must be made there (the tap, the
// namespace's rtnetlink socket, listening sockets) is made by closures that it runs; the descriptors they return work
// everywhere, since a socket keeps the namespace of its making. It is also the only thread that keeps CAP_NET_ADMIN,
// so that whoever changes the namespace's configuration runs here: as an executor, it is where `NamespaceConfigurator`
// lives.
//
// Work is a queue under a mutex with a semaphore that counts it. A synchronous call (`run`) lends a closure and blocks
// until it has run, so what the closure borrows stays alive. That is for the time of start-up: the thread may be busy for
// seconds when the host changes, so whoever serves an event loop uses `perform`, and `run` refuses such callers. All signals are blocked here: they belong to the main thread.
// syscalls: setup(main): clone clone3 rt_sigprocmask
// syscalls: setup(namespace): prctl

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// The thread that lives in the target network namespace; also a serial executor.
public final class NamespaceThread: SerialExecutor {
    @safe
    private enum Work: @unchecked Sendable {
        /// A job of an actor.
        case job(UnownedJob)
        /// A lent closure and whom to wake; `@unchecked`, since its owner waits until it has run.
        case call(UnsafeMutablePointer<() -> Void>, Semaphore)
        /// A closure that nobody waits for.
        case closure(@Sendable () -> Void)
    }

    private let queue = Mutex<[Work]>([])
    private let available = Semaphore()
    private let thread = Mutex<pthread_t?>(nil)

    private init() {}

    /// Starts the thread and has it enter a network namespace for good.
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

    /// Runs a closure on the thread and waits for it: for what must be made inside the namespace.
    ///
    /// Not to be called on the thread itself, nor on a thread that serves an event loop.
    ///
    /// - Parameter body: what to run; it may borrow from the caller, who waits.
    /// - Returns: What the closure returned.
    /// - Throws: What the closure threw.
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

    /// Runs a closure on the thread some time later; returns at once.
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

    /// Calls a lent closure.
    ///
    /// Not inlined, so that no reference to it is left when its owner is woken.
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
    /// `@unchecked`: the calls on it are what synchronises.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() {
        // Fails only for a value beyond SEM_VALUE_MAX.
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
