// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// A pipe whose ends are closed with it.
struct Pipe: ~Copyable {
    let reader: OwnedFileDescriptor
    let writer: OwnedFileDescriptor

    init() throws {
        var numbers: [CInt] = [-1, -1]
        try #require(pipe(&numbers) == 0)
        for number in numbers { try #require(fcntl(number, F_SETFL, O_NONBLOCK) == 0) }
        reader = OwnedFileDescriptor(taking: numbers[0])
        writer = OwnedFileDescriptor(taking: numbers[1])
    }

    func fill() { #expect(write(writer.rawValue, [1], 1) == 1) }
    func drain() {
        var bytes = [UInt8](repeating: 0, count: 16)
        #expect(read(reader.rawValue, &bytes, bytes.count) > 0)
    }
}

/// A sink that writes down what it is given and ends the loop when told to.
final class Recorder: EventSink {
    let loop: EventLoop
    var events: [(token: EventToken, readiness: Readiness)] = []
    var batches = 0
    var deadlines = 0
    var deadline: MonotonicTime?
    var onBatch: (Recorder) -> Void = { $0.loop.stop() }
    var onDeadline: (Recorder) -> Void = { $0.deadline = nil }

    init(_ loop: EventLoop) { self.loop = loop }

    func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) { events.append((token, readiness)) }

    func batchEnded(now: MonotonicTime) {
        batches += 1
        onBatch(self)
    }

    func deadlineReached(now: MonotonicTime) {
        deadlines += 1
        onDeadline(self)
    }
}

@Suite("Event tokens")
struct EventTokenTests {
    @Test("kind, generation and index come out as they went in; generations count modulo 2^24")
    func partsComeOutAsTheyWentIn() {
        var generator = SplitMix64(seed: 1)
        for _ in 0..<1000 {
            let kind = UInt8.random(in: 0...255, using: &generator)
            let generation = UInt32.random(in: 0...UInt32.max, using: &generator)
            let index = UInt32.random(in: 0...UInt32.max, using: &generator)
            let token = EventToken(kind: kind, generation: generation, index: index)
            #expect(token.kind == kind)
            #expect(token.generation == generation & 0xFF_FFFF)
            #expect(token.index == index)
            #expect(EventToken(rawValue: token.rawValue) == token)
        }
    }
}

@Suite("Event loop")
struct EventLoopTests {
    // MARK: The sink

    @Test("a ready descriptor reaches the sink with its token, and the batch's end follows")
    func aReadyDescriptorReachesTheSink() throws {
        let loop = try EventLoop()
        let pipe = try Pipe()
        let token = EventToken(kind: 7, generation: 0xABCDEF, index: .max)
        try loop.add(pipe.reader.descriptor, for: .readable, token: token)
        pipe.fill()
        let sink = Recorder(loop)
        try loop.run(sink: sink)
        try loop.run(sink: sink)
        #expect(sink.events.map(\.token) == [token, token], "levels are told again and again")
        #expect(sink.events.allSatisfy { $0.readiness == .readable })
        #expect(sink.batches == 2)
        #expect(sink.deadlines == 0)
    }

    @Test("an edge is reported once; a removed descriptor is not reported; a modified one has its new token")
    func anEdgeIsToldOnce() throws {
        let loop = try EventLoop()
        let edge = try Pipe()
        let other = try Pipe()
        try loop.add(edge.reader.descriptor, for: [.readable, .edgeTriggered], token: EventToken(kind: 1))
        try loop.add(other.reader.descriptor, for: .readable, token: EventToken(kind: 2))
        edge.fill()
        other.fill()
        let sink = Recorder(loop)
        try loop.run(sink: sink)
        #expect(Set(sink.events.map(\.token.kind)) == [1, 2])
        sink.events = []
        try loop.modify(other.reader.descriptor, for: .readable, token: EventToken(kind: 3))
        try loop.run(sink: sink)
        #expect(sink.events.map(\.token.kind) == [3])
        sink.events = []
        loop.remove(other.reader.descriptor)
        loop.remove(other.reader.descriptor)
        edge.fill()
        try loop.run(sink: sink)
        #expect(sink.events.map(\.token.kind) == [1])
    }

    @Test("the end of the other side is reported as such")
    func theEndOfTheOtherSideIsTold() throws {
        let loop = try EventLoop()
        var numbers: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &numbers) == 0)
        let near = OwnedFileDescriptor(taking: numbers[0])
        let far = OwnedFileDescriptor(taking: numbers[1])
        try loop.add(
            near.descriptor, for: [.readable, .writable, .peerClosed, .edgeTriggered], token: EventToken(kind: 1))
        let sink = Recorder(loop)
        try loop.run(sink: sink)
        #expect(sink.events.first?.readiness == .writable)
        shutdown(far.rawValue, CInt(SHUT_WR))
        sink.events = []
        try loop.run(sink: sink)
        #expect(sink.events.first?.readiness.isSuperset(of: [.readable, .peerClosed]) == true)
        #expect(sink.events.first?.readiness.contains(.hangUp) == false)
        _ = consume far
        sink.events = []
        try loop.run(sink: sink)
        #expect(sink.events.first?.readiness.contains(.hangUp) == true)
    }

    @Test("a descriptor that cannot be watched is an error that names call and descriptor")
    func aDescriptorThatCannotBeWatched() throws {
        let loop = try EventLoop()
        let file = try OwnedFileDescriptor.open("/proc/self/status", .readOnly)
        let number = file.rawValue
        let error = #expect(throws: SystemCallError.self) {
            try loop.add(FileDescriptor(rawValue: number), for: .readable, token: EventToken(kind: 1))
        }
        #expect(error?.description == "epoll_ctl(descriptor \(number)): Operation not permitted (EPERM)")
        withExtendedLifetime(file) {}
    }

    @Test("the sink's deadline ends the wait, not before its time")
    func theSinksDeadlineEndsTheWait() throws {
        let loop = try EventLoop()
        let sink = Recorder(loop)
        let deadline = MonotonicTime.now.advanced(milliseconds: 20)
        sink.deadline = deadline
        sink.onBatch = { _ in }
        var reached: MonotonicTime?
        sink.onDeadline = {
            reached = .now
            $0.deadline = nil
            $0.loop.stop()
        }
        try loop.run(sink: sink)
        #expect(sink.deadlines == 1)
        #expect(try #require(reached) >= deadline)
    }

    // MARK: Control sources

    @Test("a watched descriptor's handler is called until it is unwatched")
    func aWatchedDescriptorsHandlerIsCalled() throws {
        let loop = try EventLoop()
        let pipe = try Pipe()
        var calls = 0
        let source = try loop.watch(pipe.reader.descriptor) { readiness in
            #expect(readiness == .readable)
            calls += 1
        }
        pipe.fill()
        let sink = Recorder(loop)
        try loop.run(sink: sink)
        try loop.run(sink: sink)
        #expect(calls == 2)
        loop.unwatch(source)
        loop.unwatch(source)
        loop.schedule(at: .now) { _ in loop.stop() }
        sink.onBatch = { _ in }
        try loop.run(sink: sink)
        #expect(calls == 2)
        #expect(sink.events.isEmpty, "control events are not the sink's")
    }

    @Test(
        "an event that was already fetched for a removed source is not delivered, not even to the next owner of its slot"
    )
    func aStaleEventReachesNobody() throws {
        let loop = try EventLoop()
        let first = try Pipe()
        let second = try Pipe()
        let third = try Pipe()
        var log: [String] = []
        var sources: [EventLoop.SourceID] = []
        // Whichever of the two is called first removes the other and puts a source that is not ready in its place.
        let quiet = third.reader.descriptor
        func handler(_ name: String, _ other: Int) -> (Readiness) -> Void {
            { _ in
                log.append(name)
                loop.unwatch(sources[other])
                do {
                    sources.append(try loop.watch(quiet) { _ in log.append("stale") })
                } catch {
                    log.append("\(error)")
                }
            }
        }
        sources.append(try loop.watch(first.reader.descriptor, handler: handler("first", 1)))
        sources.append(try loop.watch(second.reader.descriptor, handler: handler("second", 0)))
        first.fill()
        second.fill()
        try loop.run(sink: Recorder(loop))
        #expect(log.count == 1, "\(log)")
        third.fill()
        if log == ["first"] { first.drain() } else { second.drain() }
        try loop.run(sink: Recorder(loop))
        #expect(log.last == "stale", "the new source has its own events: \(log)")
        // The handlers hold the loop, which holds them.
        for source in sources { loop.unwatch(source) }
    }

    // MARK: Timers

    @Test("timers fire once, in order of time and then of being made, not before their time")
    func timersFireInOrder() throws {
        let loop = try EventLoop()
        let start = MonotonicTime.now
        var fired: [Int] = []
        for (number, delay) in [30, 10, 20, 10, 0].enumerated() {
            let deadline = start.advanced(milliseconds: Int64(delay))
            loop.schedule(at: deadline) { now in
                #expect(now >= deadline)
                fired.append(number)
                if fired.count == 5 { loop.stop() }
            }
        }
        let sink = Recorder(loop)
        sink.onBatch = { _ in }
        try loop.run(sink: sink)
        #expect(fired == [4, 1, 3, 2, 0])
    }

    @Test("a cancelled timer does not fire, also when another one cancels it in the same turn; a fired one is no error")
    func aCancelledTimerDoesNotFire() throws {
        let loop = try EventLoop()
        var fired: [String] = []
        let now = MonotonicTime.now
        let cancelled = loop.schedule(at: now) { _ in fired.append("cancelled") }
        loop.cancel(cancelled)
        var victim: EventLoop.TimerID?
        let first = loop.schedule(at: now) { _ in
            fired.append("first")
            if let victim { loop.cancel(victim) }
        }
        victim = loop.schedule(at: now) { _ in fired.append("victim") }
        loop.schedule(at: now) { _ in
            fired.append("last")
            loop.cancel(first)
            loop.schedule(at: .now) { _ in
                fired.append("from a handler")
                loop.stop()
            }
        }
        let sink = Recorder(loop)
        sink.onBatch = { _ in }
        try loop.run(sink: sink)
        #expect(fired == ["first", "last", "from a handler"])
    }

    // MARK: Other threads

    /// An actor that lives on a loop.
    private actor Resident {
        let loop: EventLoop
        var calls: [Int] = []
        nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

        init(_ loop: EventLoop) { self.loop = loop }

        func call(_ number: Int) -> Bool {
            calls.append(number)
            return loop.isCurrent
        }

        func callTwice(_ number: Int) async -> Bool {
            let before = call(number)
            await Task.yield()
            return call(number) && before
        }
    }

    @Test("an actor's jobs run on the loop's thread, from any number of tasks")
    func anActorsJobsRunOnTheLoopsThread() async throws {
        let thread = try EventLoopThread.start()
        #expect(!thread.loop.isCurrent)
        let actor = Resident(thread.loop)
        let onLoop = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<500 { group.addTask { await actor.callTwice(number) } }
            return await group.reduce(true) { $0 && $1 }
        }
        #expect(onLoop)
        let calls = await actor.calls
        #expect(calls.count == 1000)
        #expect(Set(calls).count == 500)
        #expect(!thread.loop.isCurrent)
    }

    @Test("the loop's own thread may assume the actor's isolation")
    func theLoopsThreadMayAssumeIsolation() async throws {
        let thread = try EventLoopThread.start()
        let actor = Resident(thread.loop)
        let count = await withCheckedContinuation { continuation in
            thread.loop.perform {
                continuation.resume(
                    returning: actor.assumeIsolated {
                        $0.calls.append(1); return $0.calls.count
                    })
            }
        }
        #expect(count == 1)
    }

    @Test("another thread may not", .startsPrograms)
    func anotherThreadMayNot() async {
        await #expect(processExitsWith: .failure) {
            let thread = try EventLoopThread.start()
            thread.loop.checkIsolated()
        }
    }

    @Test("closures run on the loop's thread in the order of calls")
    func closuresRunInOrder() async throws {
        let thread = try EventLoopThread.start()
        let loop = thread.loop
        let log = Log()
        await withCheckedContinuation { continuation in
            for number in 0..<1000 { loop.perform { log.append(loop.isCurrent ? number : -1) } }
            loop.perform { continuation.resume() }
        }
        #expect(log.numbers == Array(0..<1000))
    }

    /// Only the loop's thread writes, and it has ended with that before anybody reads.
    private final class Log: @unchecked Sendable {
        private(set) var numbers: [Int] = []
        func append(_ number: Int) { numbers.append(number) }
    }
}
