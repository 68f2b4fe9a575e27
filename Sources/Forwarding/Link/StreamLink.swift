// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Carries a virtual machine's frames over a stream socket, each after its length (QEMU's `-netdev stream`;
// `StreamFrames` does the framing). `SocketLink` has the clients, one at a time. When one disconnects, its unread bytes
// and its queued frames are discarded.
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
// syscalls: running(data-path): recvfrom sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import VirtualMachine
internal import Wire

/// A link over a stream socket, for a virtual machine.
@safe
final class StreamLink: SocketLink, FrameLink {
    /// The link's counters.
    struct Counters: Hashable, Sendable {
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
    }

    let capabilities: LinkCapabilities = .backPressure
    private(set) var counters = Counters()
    /// Whether a client has connected since the last ``takeNewGuest()``.
    private var hasNewClient = false

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
        output = ByteQueue(capacity: queue)
        unsafe vectors = .allocate(capacity: Size.pieces + 3)
        unsafe prefix = .allocate(byteCount: StreamFrames.prefixLength, alignment: 4)
        super.init(
            listener: listener, client: client, isForOneClient: isForOneClient,
            clientEvents: [.readable, .writable, .peerClosed, .edgeTriggered])
        if hasClient { clientDidConnect() }
    }

    deinit {
        unsafe vectors.deallocate()
        unsafe prefix.deallocate()
    }

    // MARK: Clients

    override func clientDidConnect() {
        mayRead = true
        hasNewClient = true
    }

    override func clientDidLeave() {
        input.reset()
        mayRead = false
        output.removeAll()
        isBlocked = false
    }

    /// Handles an event before frames are received: accepts a client, or sends queued bytes.
    ///
    /// - Parameters:
    ///   - token: the event's token; a former client's token is ignored.
    ///   - readiness: what happened.
    func ready(_ token: EventToken, _ readiness: Readiness) {
        if token.index == SocketSource.listener {
            acceptClients()
        } else if isOfClient(token) {
            if !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error]) { mayRead = true }
            if !readiness.isDisjoint(with: [.writable, .hangUp, .error]) {
                isBlocked = false
                flush()
            }
        }
    }

    /// Whether there may be frames, or a client that has connected or disconnected, that no event will report.
    var hasMore: Bool { hasLossToReport || hasNewClient || mayRead || holdsFrame }

    private var holdsFrame: Bool {
        let bytes = unsafe UnsafeRawBufferPointer(start: base, count: input.end)
        return unsafe input.peek(in: bytes.bytes) != .incomplete
    }

    /// Whether a client has connected since the last call; it must be sent all announcements.
    func takeNewGuest() -> Bool {
        defer { hasNewClient = false }
        return hasNewClient && hasClient
    }

    // MARK: From the guest

    @inline(never)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        if arena.used == 0 { unsafe base = arena.next }
        while true {
            if number < 0 { return receiveWithoutClient() }
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
