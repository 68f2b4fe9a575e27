// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import SystemPackage
import TestSupport
import Testing

@testable import HostMonitor

/// A directory of its own, removed at the end, with a watch loop on a thread.
private final class WatchBench {
    let root: String
    private let parent: OwnedFileDescriptor
    private var thread = pthread_t()

    private final class Start {
        let path: String
        let output: CInt
        init(_ path: String, _ output: CInt) {
            self.path = path
            self.output = output
        }
    }

    init(_ prepare: (String) throws -> Void = { _ in }) throws {
        var template = Array("/tmp/tapas-resolver-XXXXXX".utf8CString)
        root = try #require(mkdtemp(&template).map { String(cString: $0) })
        try prepare(root)
        let ends = try ResolverWatcher.socketPair()
        parent = try ends.parent.duplicate()
        // The loop's thread owns its end.
        let start = try Start(root + "/etc/resolv.conf", ends.child.duplicate().release().rawValue)
        let status = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                var loop = ResolverWatchLoop(path: start.path, output: start.output)
                loop.run()
                close(start.output)
                return nil
            }, Unmanaged.passRetained(start).toOpaque())
        try #require(status == 0)
    }

    deinit {
        shutdown(parent.rawValue, CInt(SHUT_RDWR))
        pthread_join(thread, nil)
        system("rm -r '\(root)'")
    }

    /// The next report, waited for with a deadline.
    func next() throws -> ResolverReport {
        var entry = pollfd(fd: parent.rawValue, events: Int16(POLLIN), revents: 0)
        try #require(poll(&entry, 1, 5000) == 1, "no report from the watcher within 5 s")
        var buffer = [UInt8](repeating: 0, count: 40_000)
        let count = recv(parent.rawValue, &buffer, buffer.count, 0)
        return try #require(ResolverReport(datagram: buffer[..<max(0, count)]))
    }

    /// Reports until one is as expected: a change in several steps may be seen half-way.
    func wait(for text: String) throws {
        var seen: [ResolverReport] = []
        for _ in 0..<20 {
            let report = try next()
            if report == .text(Array(text.utf8)) { return }
            seen.append(report)
        }
        Issue.record("expected \(text), saw \(seen)")
    }

    func shell(_ command: String) {
        #expect(system("cd '\(root)' && \(command)") == 0)
    }
}

@Suite("watching resolv.conf", .timeLimit(.minutes(1)))
struct ResolverWatchTests {
    private func bench(_ command: String) throws -> WatchBench {
        try WatchBench { root in
            let status = system("mkdir '\(root)/etc' '\(root)/run' && cd '\(root)' && \(command)")
            try #require(status == 0)
        }
    }

    @Test(
        "every way to change the file is noticed",
        arguments: [
            "echo two > etc/resolv.conf",
            "echo two > etc/new && mv etc/new etc/resolv.conf",
            "rm etc/resolv.conf && echo two > etc/resolv.conf",
            "echo two > run/real && ln -s ../run/real etc/link && mv etc/link etc/resolv.conf",
            "mv etc etc.old && mkdir etc && echo two > etc/resolv.conf",
        ])
    func changes(command: String) throws {
        let bench = try bench("echo one > etc/resolv.conf")
        #expect(try bench.next() == .text(Array("one\n".utf8)))
        bench.shell(command)
        try bench.wait(for: "two\n")
        // And it is watched as well as before.
        bench.shell("echo three > etc/next && mv etc/next etc/resolv.conf")
        try bench.wait(for: "three\n")
    }

    @Test("a link's target is followed, and the link to another one")
    func links() throws {
        let bench = try bench("echo one > run/a && echo other > run/b && ln -s ../run/a etc/resolv.conf")
        #expect(try bench.next() == .text(Array("one\n".utf8)))
        bench.shell("echo two > run/tmp && mv run/tmp run/a")
        try bench.wait(for: "two\n")
        bench.shell("ln -sfn ../run/b etc/resolv.conf")
        try bench.wait(for: "other\n")
        bench.shell("echo more >> run/b")
        try bench.wait(for: "other\nmore\n")
    }

    @Test("absent, and there again, its directory included")
    func absent() throws {
        let bench = try bench("ln -s ../run/later/resolv.conf etc/resolv.conf")
        #expect(try bench.next() == .absent)
        bench.shell("mkdir run/later && echo one > run/later/resolv.conf")
        try bench.wait(for: "one\n")
        bench.shell("rm -r run/later")
        var report = try bench.next()
        while report != .absent { report = try bench.next() }
        bench.shell("mkdir run/later && echo two > run/later/resolv.conf")
        try bench.wait(for: "two\n")
    }

    @Test("what is no regular file is unreadable and holds nobody up")
    func fifo() throws {
        let bench = try bench("mkfifo etc/resolv.conf")
        #expect(try bench.next() == .unreadable(errno: EINVAL))
    }

    @Test("a long file is cut off")
    func long() throws {
        let bench = try bench("head -c 100000 /dev/zero > etc/resolv.conf")
        guard case .text(let text) = try bench.next() else {
            Issue.record("no text")
            return
        }
        #expect(text.count == ResolverFile.maximumByteCount)
    }

    @Test("the forked process reports, is replaced when it ends, and is reaped at the end", .startsPrograms)
    func fork() async {
        await #expect(processExitsWith: .success) {
            var template = Array("/tmp/tapas-resolver-XXXXXX".utf8CString)
            guard let root = mkdtemp(&template).map({ String(cString: $0) }) else { exit(1) }
            system("echo nameserver 192.0.2.53 > '\(root)/resolv.conf'")
            let helpers = HelperProcesses()
            let watcher = try ResolverWatcher.fork(
                watching: root + "/resolv.conf", diesWithParent: false, processes: helpers)
            let process = watcher.processID ?? 0
            func wait(for descriptor: FileDescriptor?) {
                var entry = pollfd(fd: descriptor?.rawValue ?? -1, events: Int16(POLLIN), revents: 0)
                guard poll(&entry, 1, 5000) == 1 else { exit(2) }
            }
            func next(_ watcher: ResolverWatcher) -> ResolverWatcher.Reception {
                wait(for: watcher.descriptor)
                return watcher.receive()
            }
            guard next(watcher) == .report(.text(Array("nameserver 192.0.2.53\n".utf8))) else { exit(3) }
            system("echo nameserver 192.0.2.54 > '\(root)/n' && mv '\(root)/n' '\(root)/resolv.conf'")
            guard next(watcher) == .report(.text(Array("nameserver 192.0.2.54\n".utf8))) else { exit(4) }
            // Nothing of the parent's stays open in it, and it has no capabilities.
            let status = "grep -q '^CapPrm:[[:space:]]*0000000000000000' /proc/\(process)/status"
            guard system(status) == 0 else { exit(5) }
            guard system("test $(ls /proc/\(process)/fd | wc -l) -le 6") == 0 else { exit(6) }
            // Killed again and again, it is reaped, and the reserve takes its place.
            var current = process
            for round in 0..<3 {
                wait(for: watcher.reserveDescriptor)
                guard watcher.receiveFromReserve() else { exit(10) }
                kill(current, SIGKILL)
                guard next(watcher) == .ended, watcher.restart() else { exit(11) }
                guard kill(current, 0) == -1, errno == ESRCH else { exit(12) }
                guard let another = watcher.processID, another != current else { exit(13) }
                current = another
                guard next(watcher) == .report(.text(Array("nameserver 192.0.2.\(54 + round)\n".utf8))) else {
                    exit(14)
                }
                system("echo nameserver 192.0.2.\(55 + round) > '\(root)/resolv.conf'")
                var report = next(watcher)
                while report == .report(.text([])) { report = next(watcher) }
                guard report == .report(.text(Array("nameserver 192.0.2.\(55 + round)\n".utf8))) else { exit(15) }
            }
            // A reserve that is killed is replaced, too.
            wait(for: watcher.reserveDescriptor)
            guard watcher.receiveFromReserve() else { exit(16) }
            system("kill -9 $(cat /proc/\(current)/task/\(current)/children)")
            wait(for: watcher.reserveDescriptor)
            guard !watcher.receiveFromReserve(), watcher.renewReserve() else { exit(17) }
            wait(for: watcher.reserveDescriptor)
            guard watcher.receiveFromReserve() else { exit(18) }
            helpers.endAll()
            guard waitpid(-1, nil, 0) == -1, errno == ECHILD else { exit(7) }
            guard kill(current, 0) == -1, errno == ESRCH else { exit(8) }
            system("rm -r '\(root)'")
            exit(0)
        }
    }
}
