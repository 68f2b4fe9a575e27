// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Carries a virtual machine's frames over vhost-user: the link and the guest's driver share two rings in the guest's
// memory. The virtual machine's program (QEMU), which is the client, shares this memory with the link over a socket.
// `SocketLink` has the clients, one at a time. When one disconnects, its memory, its rings and its queued frames are
// discarded.
//
// The client's messages are answered in the event of its socket, between two batches, so that no frame's memory changes
// while it is used (`VhostUserLink+Messages.swift`). `VhostUserSession` decides which messages are valid; the link
// carries them out.
//
// From the guest: `receive` copies the next chain into the arena and returns its buffers to the guest. A hostile guest
// may write to its memory at any time; the copy makes that harmless. While there are chains, the guest is told not to
// kick. When there is none left, the link asks for kicks and looks at the ring once more.
//
// To the guest: a frame is copied into as many buffers as it needs. The number of buffers is written last, into the
// header in the first buffer. If there are too few buffers, the link sets the ring back as if it had taken none, and
// puts the frame into a bounded queue. `canTransmit` is false until the guest has provided buffers for all queued
// frames; only during that time does the link ask for kicks of that ring.
//
// At the end of a turn, `flush` shows the guest the used buffers, and notifies it at most once for each ring.
//
// The rings and everything in them are hostile. `Virtqueue` checks them; a broken ring gives nothing until the driver
// sets it up again. The files of the memory are hostile, too: see `GuestRegions`.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import VirtualMachine
internal import Wire

/// A link over vhost-user, for a virtual machine.
@safe
final class VhostUserLink: SocketLink, FrameLink {
    /// The link's counters.
    struct Counters: Hashable, Sendable {
        /// Clients dropped for bytes that are no message.
        var badMessages: UInt64 = 0
        /// Invalid messages: a feature that was not offered, the wrong descriptors.
        var refusedMessages: UInt64 = 0
        /// Clients dropped because their memory could not be mapped.
        var unmappableMemory: UInt64 = 0
        /// Clients dropped because the files of their memory became shorter.
        var lostMemory: UInt64 = 0
        /// Rings that broke.
        var brokenRings: UInt64 = 0
        /// Frames of the guest that are too long, or have no whole header.
        var badFrames: UInt64 = 0
        /// Frames that had to wait for buffers.
        var withoutBuffers: UInt64 = 0
        /// Frames dropped because the queue to the guest was full.
        var queueFull: UInt64 = 0
        /// Frames dropped because no buffer of the guest is large enough.
        var tooLong: UInt64 = 0
        /// Frames dropped because there was no client, or no driver.
        var withoutGuest: UInt64 = 0
    }

    /// Sizes of the link.
    enum Size {
        /// The length of the queue to the guest in bytes.
        static let queue = 1 << 20
        /// The descriptors that one frame to the guest may need.
        static let descriptors = 2048
        /// Messages that are answered in one event.
        static let messages = 64
        /// The header before each frame with `num_buffers`, in bytes.
        static let header = 12
    }

    /// The indices of the tokens that this link has besides those of ``SocketLink``.
    enum Source {
        /// The first ring's kicks; the second's follow.
        static let kicks: UInt32 = SocketSource.listener + 1
    }

    /// The rings by their numbers, which are named as the guest sees them.
    enum RingNumber {
        static let receive = 0
        static let transmit = 1
        static let count = 2
    }

    var counters = Counters()
    /// Whether the present client's guest has had a driver.
    private var hasGuest = false
    /// Whether that guest has got its driver since the last ``takeNewGuest()``.
    private var hasNewGuest = false

    // What belongs to the client:
    var channel = VhostUserChannel()
    var session = VhostUserSession()
    var regions = GuestRegions()
    /// The ring of buffers that the link fills.
    var toGuest = VhostUserRing()
    /// The ring of frames that the guest sends.
    var fromGuest = VhostUserRing()
    /// The capabilities of the guest's driver that concern the data path.
    private(set) var capabilities: LinkCapabilities = [.header, .backPressure]
    /// The length of the header before each frame, in bytes.
    private(set) var frameHeader = Size.header
    /// Whether a frame may be spread over several buffers.
    private(set) var mergesBuffers = false

    /// Whether the guest may have sent something, according to its kicks and the ring.
    var mayReceive = false
    var chain = VirtqueueChain()
    /// Counts frames of the guest.
    private var sinceShown = 0
    /// Frames that wait for buffers, each after its header of ten bytes.
    var waiting: FrameQueue
    /// A frame's header.
    let header: UnsafeMutableRawPointer
    private var lostMappings: UInt32

    /// Makes a link whose clients connect to a socket.
    ///
    /// - Parameters:
    ///   - listener: a listening stream socket, non-blocking.
    ///   - isForOneClient: whether the link ends with its first client (`--one-off`).
    ///   - queue: the length of the queue to the guest in bytes.
    convenience init(listener: consuming OwnedFileDescriptor, isForOneClient: Bool = false, queue: Int = Size.queue) {
        self.init(listener: consume listener, client: nil, isForOneClient: isForOneClient, queue: queue)
    }

    /// Makes a link with a client that is connected already (`--fd`); when the client disconnects, the link ends.
    ///
    /// - Parameters:
    ///   - client: a connected stream socket.
    ///   - queue: the length of the queue to the guest in bytes.
    convenience init(client: consuming OwnedFileDescriptor, queue: Int = Size.queue) {
        self.init(listener: nil, client: consume client, isForOneClient: true, queue: queue)
    }

    private init(
        listener: consuming OwnedFileDescriptor?, client: consuming OwnedFileDescriptor?, isForOneClient: Bool,
        queue: Int
    ) {
        waiting = FrameQueue(capacity: queue)
        unsafe header = .allocate(byteCount: Size.header, alignment: 4)
        lostMappings = tapas_lost_mappings()
        super.init(
            listener: listener, client: client, isForOneClient: isForOneClient, clientEvents: [.readable, .peerClosed])
    }

    deinit { unsafe header.deallocate() }

    // MARK: Events

    override func unwatch(on loop: EventLoop) {
        forgetGuest()
        super.unwatch(on: loop)
    }

    override func clientDidLeave() { forgetGuest() }

    /// Handles an event before frames are received: a client, its messages, or a kick.
    ///
    /// - Parameters:
    ///   - token: the event's token; a former client's token is ignored.
    ///   - readiness: what happened.
    func ready(_ token: EventToken, _ readiness: Readiness) {
        switch token.index {
        case SocketSource.listener: acceptClients()
        case SocketSource.client: if isOfClient(token) { answerMessages() }
        case Source.kicks + UInt32(RingNumber.receive): deliverWaiting()
        default: mayReceive = fromGuest.isRunning && !fromGuest.isBroken
        }
    }

    /// Whether there may be frames, or a guest that has come or gone, that no event will report.
    var hasMore: Bool { hasLossToReport || hasNewGuest || mayReceive }

    /// Whether a client's guest has loaded its driver for the first time since the last call.
    ///
    /// It must be sent all announcements, because it could not receive them before.
    func takeNewGuest() -> Bool {
        defer { hasNewGuest = false }
        return hasNewGuest && hasClient
    }

    /// Records that the guest has a driver that can receive.
    func noteDriver() {
        if !hasGuest { hasNewGuest = true }
        hasGuest = true
    }

    /// Discards the rings and then the memory, because the rings are in it.
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

    /// Applies the features in force.
    func adoptFeatures() {
        typealias Feature = VhostUserSession.Feature
        let features = session.features
        func has(_ bits: UInt64) -> Bool { features & bits == bits }
        mergesBuffers = has(Feature.mergeableBuffers)
        // Devices older than the specification (VERSION_1) have the number of buffers in the header only if frames may be
        // spread.
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
        if number < 0 { return receiveWithoutClient() }
        guard mayReceive else { return .empty }
        do throws(VirtqueueFault) {
            if try fromGuest.next(into: &chain, memory: regions.memory) { return takeChain(into: &arena) }
            fromGuest.publish()
            fromGuest.wantKicks(true)
            // The guest does not kick for what it sent before it saw this.
            mayReceive = fromGuest.hasAvailable
            guard mayReceive, try fromGuest.next(into: &chain, memory: regions.memory) else { return .empty }
        } catch {
            mayReceive = false
            note(error, on: fromGuest)
            return .empty
        }
        return takeChain(into: &arena)
    }

    /// Copies a chain into the arena, and returns it to the guest.
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
        // A guest whose ring is full should not have to wait until the turn ends.
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

    /// Counts a broken ring, and notifies the guest's program.
    func note(_ fault: VirtqueueFault, on ring: borrowing VhostUserRing) {
        counters.brokenRings += 1
        ring.error.notify()
    }

    /// Shows the guest the entries that this turn has used, and notifies it.
    func flush() {
        guard number >= 0 else { return }
        fromGuest.finish()
        toGuest.finish()
        checkMemory()
    }
}
