// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A virtual machine's frames over vhost-user: the guest's driver and we share two rings in the guest's memory, which its
// program (QEMU) has given to us over a socket. One client at a time, as with `StreamLink`. When it goes, all that
// belongs to it goes: its memory, its rings, the frames that wait for it. Then the next one may come, unless the link
// was for one client only.
//
// The client's messages are answered in its socket's event, between two batches, so that no frame's memory changes
// while it is in use (`VhostUserLink+Messages.swift`). `VhostUserSession` decides what holds; here it is done.
//
// From the guest: `receive` copies the next chain into the arena and uses it up. The copy is what makes a hostile guest
// harmless, which may write to its memory at any time. While chains are taken, the guest need not kick; when there is
// none left, kicks are asked for, and the ring is looked at once more.
//
// To the guest: a frame is copied into as many buffers as it needs, the count of which is written last, into the first
// one's header. If there are too few buffers, the ring is set back as if none had been taken, and the frame waits in a
// bounded queue; `canTransmit` is false until the guest has given buffers for all that waits. Kicks of that ring are
// asked for only while it is.
//
// At the end of a turn, `flush` shows the guest what was used and calls it, at most once for each ring.
//
// The rings, and all that is in them, are hostile. What checks them is `Virtqueue`; a ring that is broken gives nothing
// any more until the driver sets it up again. The memory's files are hostile, too: see `GuestRegions`.
//
// syscalls: running(data-path): accept4 close poll

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import VirtualMachine
internal import Wire

/// A link over vhost-user, for a virtual machine.
@safe
final class VhostUserLink: FrameLink {
    /// What the link counts.
    struct Counters: Hashable, Sendable {
        /// Clients that have come.
        var clients: UInt64 = 0
        /// Clients that came while there was one, and were sent away.
        var refusedClients: UInt64 = 0
        /// Clients that have gone, or were dropped.
        var lostClients: UInt64 = 0
        /// How often a client could not be accepted, without descriptors or memory.
        var failedAccepts: UInt64 = 0
        /// Clients dropped for bytes that are no message.
        var badMessages: UInt64 = 0
        /// Messages that did not hold: a feature that was not offered, the wrong descriptors.
        var refusedMessages: UInt64 = 0
        /// Clients dropped because their memory could not be mapped.
        var unmappableMemory: UInt64 = 0
        /// Clients dropped because the files of their memory became shorter.
        var lostMemory: UInt64 = 0
        /// Rings that broke.
        var brokenRings: UInt64 = 0
        /// Frames of the guest that are longer than any, or have no whole header.
        var badFrames: UInt64 = 0
        /// Frames that had to wait for buffers.
        var withoutBuffers: UInt64 = 0
        /// Frames dropped because the guest had left too much waiting.
        var queueFull: UInt64 = 0
        /// Frames dropped because no buffer of the guest is large enough.
        var tooLong: UInt64 = 0
        /// Frames dropped because there was no client, or no driver.
        var withoutGuest: UInt64 = 0
    }

    /// Sizes of the link.
    enum Size {
        /// What may wait for the guest, in bytes: four times what there has to be room for, rounded up.
        static let queue = 1 << 20
        /// The descriptors that one frame to the guest may need.
        static let descriptors = 2048
        /// Messages that are answered in one event.
        static let messages = 64
        /// How long no client is accepted after a failure, in milliseconds.
        static let pause: Int64 = 200
        /// The header before each frame with `num_buffers`, in bytes.
        static let header = 12
    }

    /// The indices of the link's tokens.
    enum Source {
        static let client: UInt32 = 0
        static let listener: UInt32 = 1
        /// The first ring's kicks; the second's follow.
        static let kicks: UInt32 = 2
    }

    /// The rings by their numbers, which are named as the guest sees them.
    enum RingNumber {
        static let receive = 0
        static let transmit = 1
        static let count = 2
    }

    var counters = Counters()
    private let listener: OwnedFileDescriptor?
    /// Its number; -1 where there is none.
    private let listening: CInt
    private var client: OwnedFileDescriptor?
    /// The client's number; -1 while there is none.
    private(set) var number: CInt = -1
    /// Tells the events of one client from those of another.
    private(set) var generation: UInt32 = 0
    private let isForOneClient: Bool
    private(set) var loop: EventLoop?
    private var isOver = false
    /// Whether the data path knows that.
    private var hasToldEnd = false
    /// A client has gone since somebody asked.
    private var hasLostClient = false
    /// Whether the client's guest has a driver, now or before.
    private var hasGuest = false
    /// That guest has come since somebody asked.
    private var hasNewGuest = false
    /// Ends the pause after a failed accept(2).
    private var resumeTimer: EventLoop.TimerID?

    // What belongs to the client.
    var channel = VhostUserChannel()
    var session = VhostUserSession()
    var regions = GuestRegions()
    /// The ring of buffers that we fill.
    var toGuest = VhostUserRing()
    /// The ring of frames that the guest sends.
    var fromGuest = VhostUserRing()
    /// What the guest's driver can do, as far as the data path is concerned.
    private(set) var capabilities: LinkCapabilities = [.header, .backPressure]
    /// The length of the header before each frame, in bytes.
    private(set) var frameHeader = Size.header
    /// Whether a frame may lie in several buffers.
    private(set) var mergesBuffers = false

    /// Whether the guest may have sent something, as far as its kicks and the ring say.
    var mayReceive = false
    var chain = VirtqueueChain()
    /// Counts frames of the guest.
    private var sinceShown = 0
    /// Frames that wait for buffers, each behind its header of ten bytes.
    var waiting: FrameQueue
    /// A frame's header.
    let header: UnsafeMutableRawPointer
    private var lostMappings: UInt32

    /// Makes a link whose clients connect to a socket.
    ///
    /// - Parameters:
    ///   - listener: a listening stream socket, which does not wait (`O_NONBLOCK`).
    ///   - isForOneClient: whether the link is gone once its first client is (`--one-off`).
    ///   - queue: what may wait for the guest, in bytes.
    convenience init(listener: consuming OwnedFileDescriptor, isForOneClient: Bool = false, queue: Int = Size.queue) {
        self.init(listener: consume listener, client: nil, isForOneClient: isForOneClient, queue: queue)
    }

    /// Makes a link with a client that is connected already (`--fd`); without it, the link is gone.
    ///
    /// - Parameters:
    ///   - client: a connected stream socket.
    ///   - queue: what may wait for the guest, in bytes.
    convenience init(client: consuming OwnedFileDescriptor, queue: Int = Size.queue) {
        self.init(listener: nil, client: consume client, isForOneClient: true, queue: queue)
    }

    private init(
        listener: consuming OwnedFileDescriptor?, client: consuming OwnedFileDescriptor?, isForOneClient: Bool,
        queue: Int
    ) {
        if let client {
            number = client.rawValue
            counters.clients = 1
            self.client = consume client
        } else {
            self.client = nil
        }
        if let listener {
            listening = listener.rawValue
            self.listener = consume listener
        } else {
            listening = -1
            self.listener = nil
        }
        self.isForOneClient = isForOneClient
        waiting = FrameQueue(capacity: queue)
        unsafe header = .allocate(byteCount: Size.header, alignment: 4)
        lostMappings = tapas_lost_mappings()
    }

    deinit { unsafe header.deallocate() }

    // MARK: Descriptors

    /// Unknown until the first frame has come.
    var hardwareAddress: MACAddress? { nil }

    /// Whether there is a client.
    var hasClient: Bool { number >= 0 }

    /// The token of the present client's events.
    var clientToken: EventToken {
        EventToken(kind: TokenKind.link, generation: generation, index: Source.client)
    }

    /// The token of the listening socket's events.
    static var listenerToken: EventToken { EventToken(kind: TokenKind.link, index: Source.listener) }

    func watch(on loop: EventLoop) throws(SystemCallError) {
        if listening >= 0 {
            try loop.add(FileDescriptor(rawValue: listening), for: .readable, token: Self.listenerToken)
        }
        self.loop = loop
        try watchClient()
    }

    private func watchClient() throws(SystemCallError) {
        guard number >= 0, let loop else { return }
        try loop.add(FileDescriptor(rawValue: number), for: [.readable, .peerClosed], token: clientToken)
    }

    func unwatch(on loop: EventLoop) {
        if let timer = resumeTimer { loop.cancel(timer) }
        resumeTimer = nil
        if listening >= 0 { loop.remove(FileDescriptor(rawValue: listening)) }
        if number >= 0 { loop.remove(FileDescriptor(rawValue: number)) }
        forgetGuest()
        self.loop = nil
    }

    /// Takes note of an event before frames are asked for: a client, its messages, or a kick.
    ///
    /// - Parameters:
    ///   - token: the event's token; that of a client who has gone does nothing.
    ///   - readiness: what happened.
    func ready(_ token: EventToken, _ readiness: Readiness) {
        switch token.index {
        case Source.listener: acceptClients()
        case Source.client:
            if token.generation == generation & 0xFF_FFFF, number >= 0 { answerMessages() }
        case Source.kicks + UInt32(RingNumber.receive): deliverWaiting()
        default: mayReceive = fromGuest.isRunning && !fromGuest.isBroken
        }
    }

    /// Whether there may be frames, or news of the client's end, for which no event will come.
    var hasMore: Bool { isOver && !hasToldEnd || hasLostClient || hasNewGuest || mayReceive }

    /// Whether a client has gone since the last call; its flows are to end.
    func takeLostGuest() -> Bool {
        defer { hasLostClient = false }
        return hasLostClient
    }

    /// Whether a client's guest has loaded its driver for the first time since the last call; it has to be sent all
    /// announcements, which it could not receive before.
    func takeNewGuest() -> Bool {
        defer { hasNewGuest = false }
        return hasNewGuest && number >= 0
    }

    /// Takes note of a driver that can receive.
    func noteDriver() {
        if !hasGuest { hasNewGuest = true }
        hasGuest = true
    }

    private func acceptClients() {
        guard listening >= 0, !isOver else { return }
        // Whoever floods the socket gets a few at a time; the event comes again.
        for _ in 0..<16 {
            let accepted = tapas_accept(listening, nil, nil)
            guard accepted >= 0 else { return acceptDidFail(currentErrno) }
            let descriptor = OwnedFileDescriptor(taking: accepted)
            if number >= 0, clientHasHungUp { dropClient() }
            guard number < 0, !isOver else {
                counters.refusedClients += 1
                continue
            }
            number = accepted
            client = consume descriptor
            counters.clients += 1
            // Fails for want of memory only; the client is sent away then.
            do { try watchClient() } catch { dropClient() }
        }
    }

    /// Stops watching the listening socket for a moment if the client still waits: its event would be repeated at once.
    private func acceptDidFail(_ error: Errno) {
        switch error {
        case .resourceTemporarilyUnavailable, .connectionAbort, .interrupted: return
        default: break
        }
        counters.failedAccepts += 1
        guard let loop, resumeTimer == nil else { return }
        loop.remove(FileDescriptor(rawValue: listening))
        resumeTimer = loop.schedule(at: .now.advanced(milliseconds: Size.pause)) { [weak self] _ in
            self?.resumeListening()
        }
    }

    private func resumeListening() {
        resumeTimer = nil
        guard let loop, !isOver else { return }
        do throws(SystemCallError) {
            try loop.add(FileDescriptor(rawValue: listening), for: .readable, token: Self.listenerToken)
        } catch {
            acceptDidFail(error.errno)
        }
    }

    /// Whether the client has gone already, though its event is still to come.
    private var clientHasHungUp: Bool {
        var state = pollfd(fd: number, events: 0, revents: 0)
        return unsafe poll(&state, 1, 0) == 1 && CInt(state.revents) & (POLLHUP | POLLERR) != 0
    }

    /// Ends the client's connection, and forgets all that belongs to it.
    func dropClient() {
        guard number >= 0 else { return }
        // Somebody else may have the socket, too: then closing it does not end its events.
        loop?.remove(FileDescriptor(rawValue: number))
        number = -1
        client = nil
        generation = (generation + 1) & 0xFF_FFFF
        forgetGuest()
        counters.lostClients += 1
        hasLostClient = true
        if isForOneClient { isOver = true }
    }

    /// Forgets rings and memory, in this order: rings lie in the memory.
    private func forgetGuest() {
        channel.reset()
        unwatchKicks()
        toGuest = VhostUserRing()
        fromGuest = VhostUserRing()
        regions = GuestRegions()
        session = VhostUserSession()
        waiting.removeAll()
        mayReceive = false
        hasGuest = false
        hasNewGuest = false
        adoptFeatures()
    }

    /// Does what the features in force say.
    func adoptFeatures() {
        typealias Feature = VhostUserSession.Feature
        let features = session.features
        func has(_ bits: UInt64) -> Bool { features & bits == bits }
        mergesBuffers = has(Feature.mergeableBuffers)
        // Before the specification the header had no count of buffers unless it was needed.
        frameHeader = mergesBuffers || has(Feature.version1) ? Size.header : VirtioNetHeader.length
        capabilities = [.header, .backPressure]
        guard has(Feature.guestChecksum) else { return }
        capabilities.insert(.checksum)
        if has(Feature.guestTCPSegmentation) { capabilities.insert(.tcpSegmentation) }
        if has(Feature.guestUDPSegmentation) { capabilities.insert(.udpSegmentation) }
    }

    /// Drops a client whose memory's files have become shorter.
    private func checkMemory() {
        let lost = tapas_lost_mappings()
        guard lost != lostMappings else { return }
        lostMappings = lost
        guard regions.isLost else { return }
        counters.lostMemory += 1
        dropClient()
    }

    // MARK: From the guest

    @inline(never)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        if number < 0 {
            hasToldEnd = isOver
            return isOver ? .gone : .empty
        }
        guard mayReceive else { return .empty }
        do throws(VirtqueueFault) {
            if try fromGuest.next(into: &chain, memory: regions.memory) { return takeChain(into: &arena) }
            fromGuest.publish()
            fromGuest.wantKicks(true)
            // What came before the guest knew that is not told.
            mayReceive = fromGuest.hasAvailable
            guard mayReceive, try fromGuest.next(into: &chain, memory: regions.memory) else { return .empty }
        } catch {
            mayReceive = false
            note(error, on: fromGuest)
            return .empty
        }
        return takeChain(into: &arena)
    }

    /// Copies a chain into the arena, and uses it up.
    @inline(__always)
    private func takeChain(into arena: inout FrameArena) -> ReceivedFrame {
        fromGuest.wantKicks(false)
        let start = unsafe arena.next
        let limit = FrameArena.frameLimit
        let isWhole = chain.readableBytes <= limit && chain.readableBytes >= frameHeader
        var count = 0
        if isWhole {
            count = unsafe chain.read(into: UnsafeMutableRawBufferPointer(start: start, count: limit))
        }
        fromGuest.use(chain.head, written: 0)
        // A guest that waits for room in its ring need not wait for the turn's end.
        sinceShown &+= 1
        if sinceShown & 15 == 0 { fromGuest.publish() }
        guard isWhole,
            let header = try? VirtioNetHeader(unsafe DataPath.bytes(start, VirtioNetHeader.length))
        else {
            counters.badFrames += 1
            return .truncated
        }
        arena.commit(count)
        return unsafe .frame(start + frameHeader, count: count - frameHeader, header)
    }

    /// Counts a broken ring, and tells the guest's program.
    func note(_ fault: VirtqueueFault, on ring: borrowing VhostUserRing) {
        counters.brokenRings += 1
        ring.tellFault()
    }

    /// Shows the guest what was used in this turn, and tells it.
    func flush() {
        guard number >= 0 else { return }
        fromGuest.finish()
        toGuest.finish()
        checkMemory()
    }

    func setCarrier(_ isOn: Bool) {}

    var showsCarrier: Bool? { nil }
}
