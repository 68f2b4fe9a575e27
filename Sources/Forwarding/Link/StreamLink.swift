// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Carries a virtual machine's frames over a stream socket, each after its length (QEMU's `-netdev stream`;
// `StreamFrames` does the framing). There is one client at a time. A further connection is accepted and closed at once,
// so that its client fails instead of waiting. When the client disconnects, everything that belongs to it is discarded:
// its unread bytes, its queued frames, and what is known of the guest. Then the next client may connect, unless the
// link serves one client only.
//
// From the guest: the first `receive` of a batch reads as much as the arena holds; each `receive` returns a frame in
// place. The rest is moved to the arena's start only when it contains no whole frame and the previous batch has been
// handled, so that each byte is moved at most once. The socket is watched edge-triggered; `hasMore` is true if there is
// something to read that no event will report.
//
// To the guest: small frames are copied to the queue and sent together (by `flush`, or when there are many). A large
// frame is sent with one call, after the queued bytes. What the socket does not accept is copied to the queue, and
// nothing is sent until the socket is writable again. A frame is queued as a whole or not at all, because the stream
// must keep its framing.
//
// syscalls: running(data-path): accept4 close poll recvfrom sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import VirtualMachine
internal import Wire

/// A link over a stream socket, for a virtual machine.
@safe
final class StreamLink: FrameLink {
    /// The link's counters.
    struct Counters: Hashable, Sendable {
        /// Clients that have connected.
        var clients: UInt64 = 0
        /// Clients that were refused because there was one already.
        var refusedClients: UInt64 = 0
        /// Clients that have disconnected or were dropped.
        var lostClients: UInt64 = 0
        /// Clients that were dropped because of an impossible frame length.
        var badLengths: UInt64 = 0
        /// Frames that were dropped because the queue was full.
        var queueFull: UInt64 = 0
        /// Frames that were dropped because there was no client.
        var withoutClient: UInt64 = 0
        /// System calls that sent something.
        var sends: UInt64 = 0
        /// The greatest number of bytes that were in the queue.
        var mostQueued = 0
        /// How often a client could not be accepted, without descriptors or memory.
        var failedAccepts: UInt64 = 0
    }

    /// Sizes of the link.
    enum Size {
        /// The length of the queue to the guest in bytes: four times the room that ``canTransmit`` requires, rounded
        /// up.
        static let queue = 1 << 20
        /// Frames up to this length are copied, so that many are sent with one call.
        static let copied = 4096
        /// The number of queued bytes that are sent without a `flush`.
        static let gathered = 64 << 10
        /// The greatest number of pieces of a frame.
        static let pieces = 128
        /// How long no client is accepted after a failure, in milliseconds.
        static let pause: Int64 = 200
    }

    /// The indices of the link's tokens.
    enum Source {
        static let client: UInt32 = 0
        static let listener: UInt32 = 1
    }

    let capabilities: LinkCapabilities = .backPressure
    private(set) var counters = Counters()
    private let listener: OwnedFileDescriptor?
    /// The number of the listening socket; -1 if there is none.
    private let listening: CInt
    private var client: OwnedFileDescriptor?
    /// The client's number; -1 while there is none.
    private var number: CInt = -1
    /// Tells the events of one client from those of another.
    private var generation: UInt32 = 0
    private let isForOneClient: Bool
    private var loop: EventLoop?
    private var isOver = false
    /// Whether the end was reported to the data path.
    private var hasReportedEnd = false
    /// Whether a client has disconnected since the last ``takeLostGuest()``.
    private var hasLostClient = false
    /// Whether a client has connected since the last ``takeNewGuest()``.
    private var hasNewClient = false
    /// Ends the pause after a failed accept(2).
    private var resumeTimer: EventLoop.TimerID?

    private var input = StreamFrames(shortest: EthernetHeader.length, longest: FrameArena.frameLimit)
    /// The arena's start, where ``input`` is stored.
    private var base: UnsafeMutableRawPointer?
    /// Whether the socket may have bytes to read, according to its events and the last read.
    private var mayRead = false

    private var output: ByteQueue
    /// Whether sending must wait until the socket is writable.
    private var isBlocked = false
    /// Two pieces of the queue, a length, and a frame's pieces.
    private let vectors: UnsafeMutablePointer<iovec>
    /// The memory of a length that is sent without copying its frame.
    private let prefix: UnsafeMutableRawPointer

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
        if let client {
            number = client.rawValue
            mayRead = true
            hasNewClient = true
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
        output = ByteQueue(capacity: queue)
        unsafe vectors = .allocate(capacity: Size.pieces + 3)
        unsafe prefix = .allocate(byteCount: StreamFrames.prefixLength, alignment: 4)
    }

    deinit {
        unsafe vectors.deallocate()
        unsafe prefix.deallocate()
    }

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
        try loop.add(
            FileDescriptor(rawValue: number), for: [.readable, .writable, .peerClosed, .edgeTriggered],
            token: clientToken)
    }

    func unwatch(on loop: EventLoop) {
        if let timer = resumeTimer { loop.cancel(timer) }
        resumeTimer = nil
        if listening >= 0 { loop.remove(FileDescriptor(rawValue: listening)) }
        if number >= 0 { loop.remove(FileDescriptor(rawValue: number)) }
        self.loop = nil
    }

    /// Handles an event before frames are received: accepts a client, or sends queued bytes.
    ///
    /// - Parameters:
    ///   - token: the event's token; a former client's token is ignored.
    ///   - readiness: what happened.
    func ready(_ token: EventToken, _ readiness: Readiness) {
        if token.index == Source.listener {
            acceptClients()
        } else if token.generation == generation & 0xFF_FFFF, number >= 0 {
            if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error]) { mayRead = true }
            if !readiness.isDisjoint(with: [.writable, .hangUp, .error]) {
                isBlocked = false
                flush()
            }
        }
    }

    /// Whether there may be frames, or a client that has connected or disconnected, that no event will report.
    var hasMore: Bool { isOver && !hasReportedEnd || hasLostClient || hasNewClient || mayRead || holdsFrame }

    private var holdsFrame: Bool {
        let bytes = unsafe UnsafeRawBufferPointer(start: base, count: input.end)
        return unsafe input.peek(in: bytes.bytes) != .incomplete
    }

    /// Whether a client has disconnected since the last call; its flows must end.
    func takeLostGuest() -> Bool {
        defer { hasLostClient = false }
        return hasLostClient
    }

    /// Whether a client has connected since the last call; it must be sent all announcements.
    func takeNewGuest() -> Bool {
        defer { hasNewClient = false }
        return hasNewClient && number >= 0
    }

    private func acceptClients() {
        guard listening >= 0, !isOver else { return }
        // A bounded number at a time, so that a flood of connections does not occupy the loop; the event is repeated.
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
            mayRead = true
            hasNewClient = true
            // This fails only without memory; then the client is dropped.
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

    /// Whether the client has disconnected although its event has not arrived yet; its last bytes may still be unread.
    private var clientHasHungUp: Bool {
        var state = pollfd(fd: number, events: 0, revents: 0)
        return unsafe poll(&state, 1, 0) == 1 && CInt(state.revents) & (POLLHUP | POLLERR) != 0
    }

    /// Closes the client's connection, and discards everything that belongs to it.
    private func dropClient() {
        guard number >= 0 else { return }
        // Another process may hold the socket, too; then closing it does not end its events.
        loop?.remove(FileDescriptor(rawValue: number))
        number = -1
        client = nil
        generation = (generation + 1) & 0xFF_FFFF
        input.reset()
        mayRead = false
        output.removeAll()
        isBlocked = false
        counters.lostClients += 1
        hasLostClient = true
        if isForOneClient { isOver = true }
    }

    // MARK: From the guest

    @inline(never)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        if arena.used == 0 { unsafe base = arena.next }
        while true {
            if number < 0 {
                hasReportedEnd = isOver
                return isOver ? .gone : .empty
            }
            let bytes = unsafe UnsafeRawBufferPointer(start: base, count: input.end)
            switch unsafe input.next(in: bytes.bytes) {
            case .frame(let offset, let count):
                guard let base = unsafe base else { return .empty }
                arena.commit(count)
                return unsafe .frame(base + offset, count: count, VirtioNetHeader())
            case .invalid:
                counters.badLengths += 1
                dropClient()
            case .incomplete:
                guard mayRead, readMore(mayMove: arena.used == 0) else {
                    if number < 0 { continue }
                    return .empty
                }
            }
        }
    }

    /// Reads from the socket; false if there was nothing.
    private func readMore(mayMove: Bool) -> Bool {
        guard let base = unsafe base else { return false }
        if mayMove, input.start > 0 {
            unsafe memmove(base, base + input.start, input.count)
            input.moveToStart()
        }
        let room = FrameArena.capacity - input.end
        // An incomplete frame fits at the arena's start; if it does not fit here, the next batch reads the rest.
        guard room > 0 else { return false }
        let descriptor = number
        let place = unsafe base + input.end
        switch transferring({ unsafe recv(descriptor, place, room, CInt(MSG_DONTWAIT)) }) {
        case .bytes(let count) where count > 0:
            input.append(count)
            return true
        case .wouldBlock:
            mayRead = false
            return false
        case .bytes, .failed:
            dropClient()
            return false
        }
    }

    // MARK: To the guest

    @inline(never)
    var canTransmit: Bool {
        output.room >= DataPath.Size.segments * (FrameArena.frameLimit + StreamFrames.prefixLength)
    }

    @inline(never)
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        let total = count + StreamFrames.prefixLength
        guard isRoom(for: total) else { return false }
        let start = unsafe frame - StreamFrames.prefixLength
        unsafe start.storeBytes(of: UInt32(truncatingIfNeeded: count).bigEndian, as: UInt32.self)
        if isBlocked || count <= Size.copied {
            unsafe enqueue(start, count: total)
        } else {
            let waiting = unsafe output.pieces(into: vectors)
            unsafe vectors[waiting] = unsafe iovec(iov_base: start, iov_len: total)
            sendPieces(waiting + 1, queued: waiting)
        }
        return true
    }

    @inline(never)
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        precondition(count <= Size.pieces, "a frame in too many pieces")
        var length = 0
        for position in 0..<count { unsafe length += pieces[position].iov_len }
        guard isRoom(for: length + StreamFrames.prefixLength) else { return false }
        unsafe prefix.storeBytes(of: UInt32(truncatingIfNeeded: length).bigEndian, as: UInt32.self)
        if isBlocked || length <= Size.copied {
            unsafe output.append(prefix, count: StreamFrames.prefixLength)
            for position in 0..<count {
                let piece = unsafe pieces[position]
                if let start = unsafe piece.iov_base { unsafe output.append(start, count: piece.iov_len) }
            }
            noteQueued()
        } else {
            let waiting = unsafe output.pieces(into: vectors)
            unsafe vectors[waiting] = unsafe iovec(iov_base: prefix, iov_len: StreamFrames.prefixLength)
            for position in 0..<count { unsafe vectors[waiting + 1 + position] = unsafe pieces[position] }
            sendPieces(waiting + 1 + count, queued: waiting)
        }
        return true
    }

    /// Sends the frames that were gathered.
    func flush() {
        while !isBlocked, number >= 0, !output.isEmpty {
            let waiting = unsafe output.pieces(into: vectors)
            sendPieces(waiting, queued: waiting)
        }
    }

    func setCarrier(_ isOn: Bool) {}

    var showsCarrier: Bool? { nil }

    /// Whether a frame can be accepted; checked before any of it is sent, because the rest may have to be queued.
    @inline(__always)
    private func isRoom(for total: Int) -> Bool {
        guard number >= 0 else {
            counters.withoutClient += 1
            return false
        }
        guard total <= output.room else {
            counters.queueFull += 1
            return false
        }
        return true
    }

    private func enqueue(_ start: UnsafeRawPointer, count: Int) {
        unsafe output.append(start, count: count)
        noteQueued()
    }

    private func noteQueued() {
        counters.mostQueued = max(counters.mostQueued, output.count)
        if output.count >= Size.gathered { flush() }
    }

    /// Sends what ``vectors`` describe: the queued bytes, then the pieces of a frame; the unsent part of the frame is
    /// queued.
    ///
    /// - Parameters:
    ///   - pieces: the number of pieces.
    ///   - queued: the number of pieces that belong to the queue.
    private func sendPieces(_ pieces: Int, queued: Int) {
        var message = unsafe msghdr()
        unsafe message.msg_iov = vectors
        unsafe message.msg_iovlen = pieces
        let descriptor = number
        let flags = CInt(MSG_DONTWAIT | MSG_NOSIGNAL)
        var sent = 0
        switch transferring({ unsafe tapas_sendmsg(descriptor, &message, flags) }) {
        case .bytes(let count):
            sent = count
            counters.sends += 1
        case .wouldBlock: isBlocked = true
        case .failed: return dropClient()
        }
        // The frame's pieces are examined before anything is added to the queue; the queue's own pieces stay valid.
        let ofQueue = min(sent, output.count)
        output.removeFirst(ofQueue)
        var skipped = sent - ofQueue
        for position in queued..<pieces {
            let piece = unsafe vectors[position]
            guard let start = unsafe piece.iov_base else { continue }
            let done = unsafe min(skipped, piece.iov_len)
            skipped -= done
            unsafe output.append(start + done, count: piece.iov_len - done)
        }
        counters.mostQueued = max(counters.mostQueued, output.count)
    }
}
