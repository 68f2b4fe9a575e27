// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Observing the data path", .timeLimit(.minutes(2))) struct WatchingTests {
    private static func all(
        _ forwarder: Forwarder, _ filter: FlowFilter = FlowFilter(), isDetailed: Bool = false
    ) -> [FlowRecord] {
        var flows: [FlowRecord] = []
        var next: Int? = 0
        while let start = next {
            let slice = forwarder.flows(from: start, matching: filter, isDetailed: isDetailed)
            flows += slice.flows
            next = slice.next
        }
        return flows
    }

    // MARK: Flows

    @Test("a connection is counted both ways, by frames and by bytes of payload", arguments: [AddressFamily.v4, .v6])
    func aConnectionIsCounted(family: AddressFamily) throws {
        let world = try World()
        let server = try HostEnd.listener(family)
        let (guest, host) = try GuestConnection.open(world, to: server, family: family)
        guest.push(stream(1000))
        guest.push(stream(400))
        try guest.run(until: "an acknowledgment") { guest.acknowledged == guest.next }
        #expect(host.write(stream(700)) == 700)
        try guest.receive(700)
        let flow = try #require(Self.all(world.forwarder, isDetailed: true).first)
        #expect(Self.all(world.forwarder).count == 1)
        #expect(flow.transport == .tcp && flow.state == .established && !flow.isInbound && !flow.isForResolvers)
        #expect(flow.guest.address == Lab.guest(family).asIPv6 && flow.guest.port == 40000)
        #expect(flow.remote.address == Lab.host(family).asIPv6 && flow.remote.port == server.port)
        #expect(flow.hostAddress?.isLoopback == true && flow.hostInterface == nil)
        #expect(flow.hostPort == HostSocket.peerEndpoint(host.number)?.port)
        var filter = FlowFilter()
        filter.hostPort = flow.hostPort
        #expect(Self.all(world.forwarder, filter).count == 1)
        filter.hostInterface = "lo"
        #expect(Self.all(world.forwarder, filter).isEmpty)
        // SYN, ACK, two with data; what acknowledges the 700 bytes may not have been seen yet.
        #expect(flow.bytesFromGuest == 1400 && (4...5).contains(flow.framesFromGuest))
        #expect(flow.bytesToGuest == 700 && flow.framesToGuest >= 3)
        #expect(flow.roundTrip != nil && flow.age >= flow.idle && flow.idle >= 0)
        guest.finish()
        try guest.run(until: "FIN is acknowledged") { guest.acknowledged == guest.next }
        #expect(Self.all(world.forwarder).first?.state == .closing)
        withExtendedLifetime(host) {}
    }

    @Test("datagrams are counted both ways, and a flow is answered once both have been seen")
    func datagramsAreCounted() throws {
        let world = try World()
        let server = try HostEnd.datagram()
        world.send(GuestFrame.udp(.init(to: server.port), [1, 2, 3]))
        var client: Endpoint?
        try world.run(until: "a datagram") {
            client = server.receive()?.from
            return client != nil
        }
        #expect(Self.all(world.forwarder).first?.state == .unanswered)
        let peer = try #require(client)
        server.connect(to: peer)
        #expect(server.write([4, 5]) == 2)
        _ = try world.next("the answer") { $0.isUDP }
        let flow = try #require(Self.all(world.forwarder).first)
        #expect(flow.transport == .udp && flow.state == .answered)
        #expect(flow.framesFromGuest == 1 && flow.bytesFromGuest == 3)
        #expect(flow.framesToGuest == 1 && flow.bytesToGuest == 2)
    }

    /// Flows without sockets, as many as are wanted.
    private static func fill(_ world: World, _ count: Int) {
        world.forwarder.withPath { path in
            for number in 0..<count {
                let key = FlowKey(
                    family: .v4, guest: Lab.guest(.v4).asIPv6, remote: IPv6Address(mapping: IPv4Address(192, 0, 2, 1)),
                    guestPort: UInt16(number & 0xFFFF), remotePort: UInt16(number >> 16) + 1, transport: .udp)
                if let index = path.addFlow(key, hash: key.hash, as: .question) { path.table[index].state = .datagram }
                path.opened = 0
            }
        }
    }

    @Test("a hundred thousand flows are listed in slices of a bounded number of slots, each exactly once")
    func aHundredThousand() throws {
        let world = try World { $0.maximumFlows = 131_072 }
        Self.fill(world, 100_000)
        #expect(world.forwarder.flowCount == 100_000)
        var ports: Set<UInt32> = []
        var next: Int? = 0
        var (slices, longest) = (0, Int64(0))
        while let start = next {
            let before = MonotonicTime.now.nanoseconds
            let slice = world.forwarder.flows(from: start)
            longest = max(longest, MonotonicTime.now.nanoseconds - before)
            slices += 1
            #expect(slice.flows.count <= Forwarder.slotsPerSlice)
            for flow in slice.flows { ports.insert(UInt32(flow.remote.port) << 16 | UInt32(flow.guest.port)) }
            next = slice.next
        }
        #expect(ports.count == 100_000 && slices == 98)
        print("100,000 flows: \(slices) slices, the longest took \(longest / 1000) us")
    }

    @Test("a query beyond the table returns nothing", arguments: [-1, Int.min / 2, 1_000_000, Int.max / 2])
    func beyondTheTable(start: Int) throws {
        let world = try World()
        Self.fill(world, 3)
        #expect(world.forwarder.flows(from: start).flows.count == (start < 0 ? 3 : 0))
        #expect(world.forwarder.endFlows(from: max(start, 10), matching: FlowFilter()).count == 0)
    }

    @Test("flows that a filter admits are ended, connections by a reset on both sides, and no others")
    func flowsAreEnded() throws {
        let world = try World()
        let server = try HostEnd.listener()
        let (first, firstHost) = try GuestConnection.open(world, to: server, from: 40001)
        let (second, secondHost) = try GuestConnection.open(world, to: server, from: 40002)
        let datagrams = try HostEnd.datagram()
        world.send(GuestFrame.udp(.init(from: 40001, to: datagrams.port), [1]))
        try world.run(until: "three flows") { world.forwarder.flowCount == 3 }
        var filter = FlowFilter()
        filter.guestPort = 40001
        filter.transports = [.tcp]
        #expect(Self.all(world.forwarder, filter).count == 1)
        #expect(world.forwarder.endFlows(from: 0, matching: filter) == (1, nil))
        try first.run(until: "a reset") { first.isReset }
        try world.run(until: "a reset at the host") { firstHost.read() == nil && firstHost.lastError == ECONNRESET }
        #expect(world.forwarder.flowCount == 2 && !second.isReset)
        second.push([1])
        try world.run(until: "the other's byte") { secondHost.read() == [1] }
        filter.transports = [.udp]
        #expect(world.forwarder.endFlows(from: 0, matching: filter).count == 1)
        #expect(world.forwarder.flowCount == 1)
    }

    @Test("a filter holds for all of its conditions")
    func aFilter() throws {
        let world = try World()
        Self.fill(world, 4)
        func count(_ change: (inout FlowFilter) -> Void) -> Int {
            var filter = FlowFilter()
            change(&filter)
            return Self.all(world.forwarder, filter).count
        }
        #expect(FlowFilter().isEmpty && count { _ in } == 4)
        #expect(count { $0.guestPort = 2 } == 1)
        #expect(count { $0.guestAddress = Lab.guest(.v4) } == 4 && count { $0.guestAddress = Lab.guest(.v6) } == 0)
        #expect(count { $0.remoteAddress = IPAddress("192.0.2.1") } == 4)
        #expect(count { $0.remotePort = 2 } == 0)
        #expect(count { $0.states = [.unanswered] } == 4 && count { $0.states = [.answered, .established] } == 0)
        #expect(count { $0.transports = [.tcp, .icmp] } == 0 && count { $0.transports = [.udp] } == 4)
        #expect(count { $0.hostAddress = IPAddress("192.0.2.9") } == 0)
    }

    // MARK: Figures

    @Test("each reason to drop something has a name that stays")
    func reasonsHaveNames() throws {
        let world = try World()
        let names = world.forwarder.counters.dropsByReason.map(\.reason)
        #expect(Set(names).count == names.count)
        #expect(
            Array(names.prefix { !$0.hasPrefix("malformed_") }) == [
                "martian", "broadcast", "too_many_segments", "family_off", "unknown_protocol", "fragment",
                "protocol_off", "no_host_address", "no_scope", "socket", "table_full", "unknown_flow", "out_of_order",
                "out_of_window", "backlog_full", "not_sent", "link_refused", "spoofed_source",
                "strange_source", "flood", "denied", "limited",
            ])
        #expect(names.contains("malformed_truncated_ethernet"))
        world.send([0, 1, 2])
        try world.settle()
        let counts = world.forwarder.figures.counters.dropsByReason
        #expect(counts.first { $0.reason == "malformed_truncated_ethernet" }?.count == 1)
    }

    @Test("figures contain flows by kind and their memory")
    func figures() throws {
        let world = try World()
        Self.fill(world, 10)
        let figures = world.forwarder.figures
        #expect(figures.flowsByKind.first { $0.kind == "udp_unanswered" }?.count == 10)
        #expect(figures.flowsByKind.map(\.count).reduce(0, +) == 10)
        #expect(figures.flowMemory == 10 * MemoryLayout<Flow>.stride && figures.flowLimit == 1024)
        #expect(figures.counters.flowsOpened == 10 && figures.backlogMemory == 0)
    }

    // MARK: Captures

    private static func file() throws -> OwnedFileDescriptor {
        var path = Array("/tmp/tapas-capture-XXXXXX".utf8CString)
        let number = mkstemp(&path)
        try #require(number >= 0)
        unlink(path)
        return OwnedFileDescriptor(taking: number)
    }

    @Test("a capture begins and ends while the data path runs, and has whole frames")
    func aCapture() throws {
        let world = try World()
        try world.settle()
        let file = try Self.file()
        let copy = dup(file.rawValue)
        defer { close(copy) }
        world.forwarder.startCapture(try FrameCapture(handedOver: file))
        #expect(world.forwarder.isCapturing)
        try world.settle()
        // The question and the answer.
        #expect(world.forwarder.stopCapture() ?? (0, 0) == (2, 0))
        #expect(!world.forwarder.isCapturing && world.forwarder.stopCapture() == nil)
        try world.settle()
        var status = stat()
        #expect(fstat(copy, &status) == 0)
        #expect(Int(status.st_size) == 24 + 2 * (16 + ARPMessage.frameLength))
    }

    @Test("a file that may hold up the data path, or cannot be written to, is refused")
    func aFileThatIsNone() throws {
        var ends: [CInt] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { close(ends[0]) }
        #expect(Self.refusal(of: ends[1]) == SystemCallError("fstat", "capture", .invalidArgument))
        #expect(Self.refusal(of: open("/proc/self/exe", O_RDONLY | O_CLOEXEC)) != nil)
    }

    /// Why a capture to a descriptor, which is closed, cannot be.
    private static func refusal(of number: CInt) -> SystemCallError? {
        do throws(SystemCallError) {
            _ = try FrameCapture(handedOver: OwnedFileDescriptor(taking: number))
            return nil
        } catch {
            return error
        }
    }

    // MARK: Log level

    @Test("a change of the log level decides whether flows are logged")
    func theLogLevel() throws {
        let world = try World()
        #expect(!world.forwarder.withPath { $0.trace.flows || $0.trace.batches })
        world.forwarder.setLogLevel(.trace)
        #expect(world.forwarder.withPath { $0.trace.flows && $0.trace.batches })
        world.forwarder.setLogLevel(.info)
        #expect(!world.forwarder.withPath { $0.trace.flows || $0.trace.batches })
    }

    // MARK: Addresses behind the namespace

    @Test("what a rule's target address answers is not learned as the namespace's own", arguments: [false, true])
    func aTargetAddressIsNotLearned(isIPv6: Bool) throws {
        var rules = TranslationRules.lab
        rules.families.v4.learnsGuestAddress = true
        rules.families.v6.learnsGuestAddress = true
        let world = try World(rules: rules)
        let family: AddressFamily = isIPv6 ? .v6 : .v4
        let behind = try #require(IPAddress(isIPv6 ? "fd00:89::2" : "10.89.0.2"))
        let local = Endpoint(address: (try #require(IPAddress(isIPv6 ? "::1" : "127.0.0.1"))).asIPv6, port: 9)
        func deliver(_ byte: UInt8, from port: UInt16, at address: IPAddress?) throws -> GuestFrame {
            let number = socket(isIPv6 ? AF_INET6 : AF_INET, HostSocket.datagram | CInt(SOCK_NONBLOCK.rawValue), 0)
            let peer = Endpoint(
                address: (try #require(IPAddress(isIPv6 ? "2001:db8::7" : "192.0.2.7"))).asIPv6, port: port)
            world.forwarder.deliver(
                ReceivedDatagram(peer: peer, local: local, bytes: [byte]), socket: number, to: 80, at: address)
            return try world.next("datagram \(byte)") { $0.packet.ipProtocol == 17 && $0.packet.payload == [byte] }
        }
        let first = try deliver(1, from: 5001, at: behind)
        #expect(
            first.packet.destination == behind && first.packet.source == IPAddress(isIPv6 ? "2001:db8::7" : "192.0.2.7")
        )
        var answer = GuestFrame.Path(family, from: 80, to: 5001)
        answer.guest = behind
        answer.remote = try #require(IPAddress(isIPv6 ? "2001:db8::7" : "192.0.2.7"))
        world.send(GuestFrame.udp(answer, [2]))
        try world.settle()
        #expect(Self.all(world.forwarder).first?.framesFromGuest == 1, "the answer is of the same flow")
        let other = try deliver(3, from: 5002, at: nil)
        #expect(other.packet.destination == Lab.guest(family))
    }
}
