// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import Testing

@testable import HostMonitor

/// A kernel with one link, whose name changes each time that a byte comes through a pipe.
private final class PipeKernel: HostKernel {
    private let input: OwnedFileDescriptor
    private var generation = 0

    init(_ input: consuming OwnedFileDescriptor) {
        self.input = input
    }

    var descriptor: FileDescriptor? { input.descriptor }
    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) { (.init(), .init()) }

    func drain() throws(SystemCallError) -> NetlinkNotifications {
        var found = NetlinkNotifications()
        var byte: UInt8 = 0
        while Glibc.read(input.rawValue, &byte, 1) == 1 {
            generation += 1
            found.count += 1
            found.tables = .links
        }
        return found
    }

    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        var snapshot = earlier
        snapshot.links = [
            Link(index: InterfaceIndex(rawValue: 2), name: "w\(generation)", flags: [.up, .lowerUp], mtu: 1500)
        ]
        return HostReading(tables: tables, snapshot: snapshot)
    }
}

/// A pipe's two ends, both non-blocking.
private func makePipe() throws -> (input: CInt, output: CInt) {
    var ends: [CInt] = [-1, -1]
    try #require(pipe(&ends) == 0)
    for end in ends { try #require(fcntl(end, F_SETFL, O_NONBLOCK) == 0) }
    return (ends[0], ends[1])
}

@Suite("the monitor on an event loop", .timeLimit(.minutes(1)))
struct NetlinkMonitorTests {
    @Test("reports each settled change on the loop's thread, until it is stopped")
    func follows() async throws {
        let pipe = try makePipe()
        let output = OwnedFileDescriptor(taking: pipe.output)
        let thread = try EventLoopThread.start()
        let (stream, continuation) = AsyncStream.makeStream(of: HostChange.self)
        let loop = thread.loop
        let monitor = NetlinkMonitor(
            loop: loop, kernel: PipeKernel(OwnedFileDescriptor(taking: pipe.input)), settings: .init(),
            logger: Logger(label: "test"))
        let first = try await monitor.start {
            precondition(loop.isCurrent, "told off the loop's thread")
            continuation.yield($0)
        }
        #expect(first.epoch == 1)
        #expect(first.links.map(\.name) == ["w0"])
        var changes = stream.makeAsyncIterator()
        for epoch in 2..<4 {
            // A burst of three is one change.
            try #require(write(output.rawValue, [1, 2, 3] as [UInt8], 3) == 3)
            let change = try #require(await changes.next())
            #expect(change.snapshot.epoch == UInt64(epoch))
            #expect(change.snapshot.links.map(\.name) == ["w\((epoch - 1) * 3)"])
            #expect(change.causes.description == "links")
            #expect(await monitor.snapshot == change.snapshot)
        }
        #expect(await monitor.counters.monitor.changes == 2)
        await monitor.stop()
        try #require(write(output.rawValue, [1] as [UInt8], 1) == 1)
        // What was written is left alone: the loop hears nothing of it any more.
        #expect(await monitor.counters.monitor.notifications == 6)
        continuation.finish()
        #expect(await changes.next() == nil)
    }

    @Test("follows resolv.conf by the reports of its watcher")
    func resolvers() async throws {
        // The watcher is a process of its own, which only a program with one thread may fork: here it is played.
        let report = ResolverReport.text(Array("nameserver 192.0.2.53\n".utf8))
        let (stream, continuation) = AsyncStream.makeStream(of: HostChange.self)
        let pipe = try makePipe()
        let output = OwnedFileDescriptor(taking: pipe.output)
        let ends = try ResolverWatcher.socketPair()
        let child = try ends.child.duplicate()
        let watcher = ResolverWatcher(taking: try ends.parent.duplicate())
        let thread = try EventLoopThread.start()
        let monitor = NetlinkMonitor(
            loop: thread.loop, kernel: PipeKernel(OwnedFileDescriptor(taking: pipe.input)), resolverWatcher: watcher,
            settings: .init(), logger: Logger(label: "test"))
        _ = try await monitor.start { continuation.yield($0) }
        let datagram = report.datagram
        try #require(send(child.rawValue, datagram, datagram.count, 0) == datagram.count)
        var changes = stream.makeAsyncIterator()
        let change = try #require(await changes.next())
        #expect(change.snapshot.resolvers == report.configuration)
        #expect(change.causes.description == "resolv.conf")
        await monitor.stop()
        _ = output.rawValue
    }
}
