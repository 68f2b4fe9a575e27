// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The data path is one value with one owner, the `Forwarder`, on one thread: no locks, no allocation, no reference
// counting and no dynamic dispatch for a packet. It has two inputs.
//
// Frames from the link are read in batches into one arena (`readLink`), and each is classified once
// (Wire.FrameSummary). TCP payload and equal datagrams are not sent at once. As long as they belong to one flow, their
// positions in the arena are gathered; one call sends them when the flow changes or the batch ends (`flushGathered`).
// After that, a flow may have to send an acknowledgement to the namespace, or more data because a window has opened.
// This is done once for the batch: the flow is put into a queue, which `serveQueue` processes (`pump`).
//
// Readiness of host sockets arrives as events with the flow's index and generation. Bytes towards the namespace are
// peeked, not read (`MSG_PEEK` at `SO_PEEK_OFF`): they stay in the host socket's queue until the namespace has
// acknowledged them, and are then discarded there. So a retransmission needs no copy, and back-pressure reaches the
// sender. They are read right behind room for their headers, as super-frames of up to 64 KiB, and sent to the link from
// there. While the link has no room, flows with data stay in the queue.
//
// Files: this one has the state; `Link/` the link; `DataPath+Frames` receives frames from it, `DataPath+Transmit` sends
// frames to it; `TCP/`, `UDP/` and `ICMP/` the protocols; `FlowTable`, `TimerWheel` and `TCP/Backlog` the stores.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Policy
internal import Services
internal import SystemPackage
internal import Wire

/// The kinds of event tokens that belong to the data path.
enum TokenKind {
    static let link: UInt8 = 1
    static let flow: UInt8 = 2
}

/// The flows, the link and everything in between.
@safe
struct DataPath: ~Copyable {
    /// The sizes of the data path, each with its reason.
    enum Size {
        /// The longest frame a link gives: 64 KiB of IP packet and the Ethernet header.
        static let frame = 65535 + 14 + 64
        /// The memory of one batch of frames.
        ///
        /// Half as much is as fast; twice and four times as much cost 5 and 14 % (docs/benchmarks.md), because the
        /// second copy should find in the cache what the first has left there.
        static let batch = 256 * 1024
        /// The greatest number of frames in a batch, so that small ones do not starve the rest.
        static let batchFrames = 256
        /// Room for headers before a payload: virtio-net, Ethernet, IPv6, TCP with options.
        static let headroom = 256
        /// A super-frame's payload buffer, headroom included.
        static let segment = 65536 + headroom
        /// The number of super-frames that are read from a host socket at once.
        static let segments = 4
        /// The greatest number of datagrams in a super-frame; kernels make up to 128 (`UDP_MAX_SEGMENTS` in
        /// linux/udp.h).
        static let largestSegmentCount = 1024
        /// The number of datagrams that are received at once.
        static let datagrams = 64
        /// The number of bytes after which the queue of a stream towards the namespace is checked; a power of two.
        static let queueLook: UInt32 = 1 << 23
        /// The greatest number of bytes in the host socket of a near server.
        static let nearQueue: CInt = 2 << 20
        /// The round-trip time below which a server is near, in microseconds.
        static let nearRoundTrip: UInt32 = 250
        /// 16 KiB chunks of backlog for all flows together: 256 MiB.
        static let backlogChunks = 16384
        /// The greatest number of flows that are opened in one turn, so that existing flows have their turns, too.
        static let openings = 32
    }

    let loop: EventLoop
    let link: GuestLink
    /// The settings; only the logger's level changes.
    var options: ForwardingOptions
    var trace: FlowTrace
    var table: FlowTable
    var wheel: TimerWheel
    var backlog: BacklogPool
    var translator: Translator
    var counters = Counters()
    var gatewayMAC: MACAddress
    /// The gateway's address that has taken the place of one that the guest has.
    var gatewayStandIn: MACAddress?
    /// The namespace's hardware address: the interface's own, then the source of its frames.
    var guestMAC: MACAddress
    /// The namespace's addresses, for flows that are opened on the host.
    var seen = SeenAddresses()
    var capture: FrameCapture?
    /// ARP, neighbour discovery, Router Advertisements, DHCP and DHCPv6.
    var services: GuestServices
    /// Whether the services may send unsolicited messages.
    var announces = false
    /// The carrier, while it is switched off so that DHCP clients ask again.
    var carrier = CarrierToggle()
    /// Queries for the host's resolvers.
    var dns = DNSRelay()
    /// The rules on what may leave; nil if there are none and no record of flows.
    var gate: EgressGate?
    /// Why the flow that is being closed ends, where its state does not tell.
    var ending: FlowEnding?
    /// Datagrams of other clients that arrived at the sockets of forwarded flows.
    var strays = StrayDatagrams()
    /// Datagrams that arrive in fragments.
    var reassembly = Reassembly()
    /// Decides whether datagrams are so fast that waiting for more is worthwhile.
    var pace = DatagramPace()
    /// How long the event loop should rest before the next turn, in nanoseconds.
    var rest: Int64 = 0
    /// The time of the present turn of the event loop.
    var now: MonotonicTime

    /// The payload that was gathered for one flow and not sent yet.
    var gather = Gather()
    /// The flows that have something to do at the end of the batch.
    var queueHead: Int32 = -1
    var queueTail: Int32 = -1
    /// The indices whose deadline has passed, stored to reuse the memory.
    var expired: [Int32] = []
    /// Whether the host allows bounding the queues of near servers (`net.core.rmem_max`).
    var boundsQueues = true
    /// Whether the link had more frames when its turn was over.
    var linkHasMore = false
    /// Problems already reported, each once.
    var reported: Reported = []
    /// Flows that were evicted and have not been reported.
    var evictions = Evictions()
    /// Flows opened in the present turn.
    var opened = 0
    /// Detects that flows are opened faster than possible.
    var openingLoad = OpeningLoad()
    /// UDP flows whose host sockets have the namespace's port, by port.
    var portUses: PortUses
    /// The first descriptor number that flows must not use.
    let firstReservedDescriptor: Int

    var receiveArena = FrameArena()
    let sendArena: UnsafeMutableRawPointer
    let scratch: UnsafeMutableRawPointer
    let gatherVectors: UnsafeMutablePointer<iovec>
    let peekVectors: UnsafeMutablePointer<iovec>
    let datagrams: DatagramBatch

    /// A run of payloads of one flow in the arena.
    struct Gather {
        var flow = -1
        var count = 0
        var bytes = 0
        /// The size of all datagrams except the last; 0 for TCP.
        var segmentSize = 0
        var isClosed = false
    }

    /// Problems that are reported once.
    struct Reported: OptionSet {
        let rawValue: UInt8
        static let ping = Reported(rawValue: 1)
        static let sockets = Reported(rawValue: 2)
        static let strangeSource = Reported(rawValue: 4)
    }

    init(
        loop: EventLoop, link: consuming GuestLink, rules: TranslationRules, services settings: ServiceSettings,
        options: ForwardingOptions, now: MonotonicTime
    ) {
        self.loop = loop
        self.options = options
        trace = FlowTrace(of: options.logger)
        guestMAC = link.hardwareAddress ?? .broadcast
        self.link = link
        table = FlowTable(capacity: options.maximumFlows)
        wheel = TimerWheel(capacity: options.maximumFlows, now: now)
        backlog = BacklogPool(capacity: options.backlogChunks)
        portUses = PortUses()
        translator = Translator(rules: rules)
        services = GuestServices(settings: settings, seed: .now(), now: now.milliseconds)
        gatewayMAC = rules.gatewayMAC
        seen.adopt(rules)
        if options.egress != nil || options.flowEvents != nil {
            gate = EgressGate(options.egress ?? .allowingAll, rules: rules, events: options.flowEvents)
        }
        self.now = now
        firstReservedDescriptor = Self.reserveStart(limit: Self.openFilesLimit)
        expired.reserveCapacity(256)
        unsafe sendArena = .allocate(byteCount: Size.segments * Size.segment, alignment: 4096)
        unsafe scratch = .allocate(byteCount: Size.segment, alignment: 4096)
        unsafe gatherVectors = .allocate(capacity: Size.batchFrames)
        unsafe peekVectors = .allocate(capacity: 128)
        datagrams = DatagramBatch(capacity: Size.datagrams)
    }

    deinit {
        unsafe sendArena.deallocate()
        unsafe scratch.deallocate()
        unsafe gatherVectors.deallocate()
        unsafe peekVectors.deallocate()
    }

    // MARK: The queue of flows with work

    /// Puts a flow into the queue unless it is in it.
    @inline(__always)
    mutating func enqueue(_ index: Int) {
        if table[index].flags.contains(.queued) { return }
        table[index].flags.insert(.queued)
        table[index].link = -1
        if queueTail >= 0 { table[Int(queueTail)].link = Int32(index) } else { queueHead = Int32(index) }
        queueTail = Int32(index)
    }

    /// Processes the queue once; flows that still have work are in it again afterwards.
    ///
    /// While the link has no room, all flows stay in it.
    mutating func serveQueue() {
        guard link.canTransmit else { return }
        var index = queueHead
        queueHead = -1
        queueTail = -1
        while index >= 0 {
            let next = table[Int(index)].link
            table[Int(index)].flags.remove(.queued)
            if table[Int(index)].state != .free { pump(Int(index)) }
            index = next
        }
    }

    // MARK: Flows

    /// Closes a flow's socket and frees all its resources.
    mutating func closeFlow(_ index: Int) {
        if trace.flows { traceFlow(index, "ends") }
        if gate != nil { endAtGate(index) }
        if gather.flow == index { gather = Gather() }
        if table[index].socket >= 0 { HostSocket.close(table[index].socket) }
        backlog.discard(&table[index])
        if table[index].flags.contains(.dns) { dns.queries[index] = nil }
        if table[index].flags.contains(.usesGuestPort) { portUses.remove(table[index].key.guestPort) }
        wheel.remove(index)
        unlinkFromQueue(index)
        table.remove(index)
    }

    /// As ``closeFlow(_:)``, but with a reset to the host's side instead of FIN.
    mutating func abortFlow(_ index: Int) {
        if table[index].socket >= 0 {
            HostSocket.abort(table[index].socket)
            table[index].socket = -1
        }
        closeFlow(index)
    }

    /// The link of a freed slot belongs to the free list, so a queued flow must leave the queue first.
    private mutating func unlinkFromQueue(_ index: Int) {
        guard table[index].flags.contains(.queued) else { return }
        if queueHead == Int32(index) {
            queueHead = table[index].link
            if queueHead < 0 { queueTail = -1 }
            return
        }
        var previous = queueHead
        while previous >= 0 {
            let next = table[Int(previous)].link
            if next == Int32(index) {
                table[Int(previous)].link = table[index].link
                if queueTail == Int32(index) { queueTail = previous }
                return
            }
            previous = next
        }
    }

    // MARK: Sockets

    /// Makes and connects a flow's host socket; evicts another flow, once, if no descriptors are left.
    mutating func connectHost(
        _ index: Int, to target: Endpoint, type: CInt, ipProtocol: CInt = 0, source: IPAddress?,
        sourcePort: UInt16 = 0, device: String?
    ) throws(Errno) -> CInt {
        var mayEvict = true
        var sourcePort = sourcePort
        if sourcePort != 0 {
            if portUses.add(sourcePort) { table[index].flags.insert(.usesGuestPort) } else { sourcePort = 0 }
        }
        while true {
            do throws(Errno) {
                return try HostSocket.connect(
                    to: target, type: type, ipProtocol: ipProtocol, source: source, sourcePort: sourcePort,
                    device: device)
            } catch {
                guard mayEvict, error.meansNoDescriptors, evict(sparing: index, at: .descriptors) else { throw error }
                mayEvict = false
            }
        }
    }

    /// Watches a flow's host socket, edge-triggered for everything.
    mutating func watch(_ index: Int, socket: CInt) -> Bool {
        table[index].socket = socket
        evictForReserve(index, socket: socket)
        let token = EventToken(kind: TokenKind.flow, generation: table[index].generation, index: UInt32(index))
        do {
            try loop.add(
                FileDescriptor(rawValue: socket),
                for: [.readable, .writable, .peerClosed, .urgent, .edgeTriggered], token: token)
            return true
        } catch {
            counters.drop(.socket)
            return false
        }
    }

    /// Sets the deadline of a flow.
    @inline(__always)
    mutating func setDeadline(_ index: Int, milliseconds: Int64) {
        wheel.set(index, deadline: now.nanoseconds &+ milliseconds &* 1_000_000)
    }
}
