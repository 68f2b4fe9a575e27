// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Logging
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("The data path and the capabilities of its link", .timeLimit(.minutes(1)))
struct LinkSeamTests {
    /// A connection to a server that sends while the guest takes nothing: its frames stay on the link.
    private static func open(_ capabilities: LinkCapabilities, capacity: Int, _ data: [UInt8]) throws -> (
        world: World, guest: GuestConnection, host: HostEnd, sent: Int
    ) {
        let world = try World(offloads: capabilities, capacity: capacity)
        let server = try HostEnd.listener()
        let (guest, host) = try GuestConnection.open(world, to: server)
        guest.window = .max
        guest.acknowledge()
        try world.settle()
        var sent = 0
        for _ in 0..<40 {
            sent += host.write(data[sent...])
            world.step()
        }
        return (world, guest, host, sent)
    }

    @Test("while the guest leaves frames waiting, data stays in the host's socket, and none is lost")
    func dataStaysInTheHostsSocket() throws {
        let data = stream(1_000_000)
        // Little more than what there has to be room for.
        let capacity = 270_000
        var (world, guest, host, sent) = try Self.open(
            World.allOffloads.union(.backPressure), capacity: capacity, data)
        let bytesOut = world.forwarder.counters.bytesOut
        #expect((7000...UInt64(capacity)).contains(bytesOut))
        // Room in the window is of no use as long as there is none on the link.
        guest.send(.ack, acknowledging: world.forwarder.withPath { $0.table[0].sendNext })
        for _ in 0..<40 {
            sent += host.write(data[sent...])
            world.step()
        }
        #expect(sent > Int(bytesOut) + 7000)
        #expect(world.forwarder.counters.bytesOut == bytesOut, "a guest that takes nothing is sent nothing more")
        #expect(world.forwarder.deadline.map { $0 > world.clock } ?? true, "nothing is tried again and again")
        try guest.receive(data.count) { sent += host.write(data[sent...]) }
        #expect(guest.received == data)
        #expect(world.drops(.linkRefused) == 0)
        #expect(world.forwarder.counters.retransmissions == 0)
    }

    @Test("a link that never asks to wait refuses what it has no room for, which is counted")
    func aLinkThatNeverAsksToWait() throws {
        let (world, _, _, _) = try Self.open(World.allOffloads, capacity: 5000, stream(100_000))
        #expect(world.drops(.linkRefused) > 0)
    }

    @Test("the carrier goes and comes back where there is one", arguments: [true, false])
    func theCarrierGoesAndComesBack(exists: Bool) throws {
        let memory = MemoryLink(capabilities: exists ? .carrier : [])
        let link = GuestLink.memory(memory)
        let logger = Logger(label: "test")
        var toggle = CarrierToggle()
        let start = MonotonicTime.now
        toggle.begin(link, now: start, logger: logger)
        #expect(memory.hasCarrier == !exists)
        #expect((toggle.deadline != nil) == exists)
        var turns = 0
        while let deadline = toggle.deadline, turns < 100 {
            #expect(!memory.hasCarrier)
            toggle.proceed(link, now: deadline, logger: logger)
            turns += 1
        }
        #expect(memory.hasCarrier)
        #expect(turns == (exists ? 2 : 0), "off until the guest has been told, and a moment longer")
    }
}
