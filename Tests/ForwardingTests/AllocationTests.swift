// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// These tests read `malloc_info`, which reports the memory in use.
///
/// It shows memory that stays allocated, but not allocations that are freed at once. Those are counted when
/// Integration/Platform/path-allocations.sh runs this suite with a counter in front of the allocator: then there must
/// be none at all. Each test has a process of its own, because other tests would allocate at the same time.
@Suite("Memory of the data path")
struct AllocationTests {
    /// Bytes in use in the heap and in mappings of it.
    private static func bytesInUse() throws -> Int {
        typealias Function = @convention(c) (CInt, UnsafeMutablePointer<FILE>) -> CInt
        let symbol = try #require(dlsym(nil, "malloc_info"))
        let function = unsafeBitCast(symbol, to: Function.self)
        var text: UnsafeMutablePointer<CChar>?
        var length = 0
        let stream = try #require(open_memstream(&text, &length))
        let result = function(0, stream)
        fclose(stream)
        defer { free(text) }
        try #require(result == 0)
        let report = String(cString: try #require(text))
        // The totals are the last of each kind.
        func size(_ tag: String) -> Int {
            let line = report.split(separator: "\n").last { $0.hasPrefix(tag) } ?? ""
            let digits = line.split(separator: "size=\"").last?.prefix { $0.isNumber } ?? ""
            return Int(digits) ?? 0
        }
        let inUse =
            size("<system type=\"current\"") + size("<total type=\"mmap\"") - size("<total type=\"fast\"")
            - size("<total type=\"rest\"")
        try #require(inUse > 0, "malloc_info says \(report)")
        return inUse
    }

    /// Calls of the allocator so far, where they are counted.
    private static func allocations() throws -> Int? {
        guard let symbol = dlsym(nil, "tapas_allocation_count") else {
            try #require(getenv("TAPAS_COUNT_ALLOCATIONS") == nil, "to be counted, but the counter is not there")
            return nil
        }
        return unsafeBitCast(symbol, to: (@convention(c) () -> CLong).self)()
    }

    /// A connection on which both sides send a segment a round; frames are made before, so that only the data path runs.
    private struct Exchange {
        static let size = 1400
        let world: World
        let guest: GuestConnection
        let host: HostEnd
        let payload = stream(Exchange.size)
        let frames: [[UInt8]]
        var next = 0

        init(rounds: Int) throws {
            world = try World()
            let server = try HostEnd.listener()
            (guest, host) = try GuestConnection.open(world, to: server)
            let connection = guest
            let payload = payload
            frames = (0..<rounds).map { round in
                [UInt8](repeating: 0, count: VirtioNetHeader.length)
                    + GuestFrame.tcp(
                        connection.path, [.ack, .psh], sequence: connection.next &+ UInt32(round * Self.size),
                        acknowledgment: connection.expected &+ UInt32(round * Self.size), window: connection.window,
                        payload: payload)
            }
        }

        mutating func run(_ rounds: Int, _ memory: UnsafeMutableRawBufferPointer) {
            let tap = EventToken(kind: TokenKind.link)
            // The first flow of a table.
            let flow = EventToken(kind: TokenKind.flow, generation: 1, index: 0)
            for _ in 0..<rounds {
                frames[next].withUnsafeBytes { world.write($0) }
                next += 1
                world.forwarder.ready(tap, .readable, now: world.clock)
                payload.withUnsafeBytes { _ = send(host.number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT)) }
                world.forwarder.ready(flow, [.readable, .writable], now: world.clock)
                world.forwarder.batchEnded(now: world.clock)
                while recv(host.number, memory.baseAddress, memory.count, CInt(MSG_DONTWAIT)) > 0 {}
                world.readAll(into: memory)
            }
        }
    }

    @Test(
        "10,000 segments each way allocate nothing that stays, and nothing at all where that is counted",
        .startsPrograms)
    func segmentsAllocateNothing() async {
        await #expect(processExitsWith: .success) {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 16)
            var exchange = try Exchange(rounds: 11_000)
            exchange.run(1000, memory)
            // The first report keeps some memory for the next.
            _ = try Self.bytesInUse()
            let inUse = try Self.bytesInUse()
            let calls = try Self.allocations()
            exchange.run(10_000, memory)
            let callsAfter = try Self.allocations()
            let inUseAfter = try Self.bytesInUse()
            let counters = exchange.world.forwarder.counters
            try #require(counters.bytesIn > 11_000 * 1400, "\(counters.summary)")
            try #require(counters.bytesOut > 11_000 * 1400, "\(counters.summary)")
            try #require(inUseAfter - inUse < 1024, "\(inUseAfter - inUse) bytes more")
            // Only optimised code is promised to be free of them.
            #if !DEBUG
                if let calls, let callsAfter {
                    try #require(callsAfter == calls, "\(callsAfter - calls) allocations in 10,000 rounds")
                }
            #endif
        }
    }

    @Test("a thousand flows that come and go leave nothing allocated behind", .startsPrograms)
    func flowsLeaveNothingAllocated() async {
        await #expect(processExitsWith: .success) {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 16)
            let world = try World { $0.maximumFlows = 64 }
            let server = try HostEnd.datagram()
            func flood(_ count: Int) {
                for number in 0..<count {
                    let path = GuestFrame.Path(from: UInt16(20_000 + number), to: server.port)
                    world.send(GuestFrame.udp(path, [1, 2, 3]))
                    world.forwarder.ready(EventToken(kind: TokenKind.link), .readable, now: world.clock)
                    world.step()
                    world.readAll(into: memory)
                    // Faster, and it would count as a flood.
                    world.advance(milliseconds: 10)
                }
            }
            flood(200)
            _ = try Self.bytesInUse()
            let before = try Self.bytesInUse()
            flood(1000)
            let after = try Self.bytesInUse()
            try #require(world.forwarder.counters.flowsOpened == 1200)
            try #require(after - before < 4096, "\(after - before) bytes more after 1,000 flows")
        }
    }
}
