// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A spliced connection has two sockets, the client's and the server's, in different network namespaces. splice(2) moves
// bytes from one socket into a pipe and from the pipe into the other socket; it moves pages and copies nothing. Both
// sockets are watched edge-triggered: an edge sets `readable` or `writable`, EAGAIN clears it, and `move` continues as
// long as either end of a direction makes progress. splice(2) into a pipe returns EAGAIN both for an empty socket and
// for a full pipe; if the pipe is empty, it was the socket.
//
// A direction is shut down when its source has ended and its pipe is empty; the connection is closed when both
// directions are. An error on one side becomes a reset on the other. A connection that moves more than its share in one
// turn is queued for the next turn, so that it cannot starve the others.
//
// syscalls: running(ports): shutdown splice

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// One end of a spliced connection, with the bytes that were read from it and not yet written to the other end.
private struct SpliceEnd {
    var socket: CInt = -1
    var pipe: SplicePipe?
    /// Bytes in the pipe.
    var count = 0
    var isReadable = false
    var isWritable = false
    /// Whether its peer has ended the stream.
    var hasEnded = false
    /// Whether that end was passed on to the other end.
    var isPassedOn = false
    /// The number of its bytes that the other end has accepted.
    var passedOn: UInt64 = 0
}

/// A spliced connection.
private struct Splice {
    var client = SpliceEnd()
    var server = SpliceEnd()
    /// Whether the server's socket is still connecting; nothing is moved before.
    var isConnecting = true
    var isQueued = false
    /// Which side has opened it.
    var direction = ForwardDirection.inbound
    /// When it began, and when it last moved anything, in nanoseconds.
    var opened: Int64 = 0
    var activity: Int64 = 0
}

/// All spliced TCP connections.
struct Splices {
    /// The number of bytes of one direction that a connection may move before the others get their turn.
    private static let share = 4 << 20

    private let loop: EventLoop
    private var slots = SlotTable<Splice>()
    private var pipes = PipePool()
    /// Connections that have work left, with the generation they had.
    private var queue: [(index: Int, generation: UInt32)] = []

    init(loop: EventLoop) {
        self.loop = loop
    }

    /// The number of connections.
    var count: Int { slots.count }

    /// Whether a connection waits for its next turn.
    var hasWork: Bool { !queue.isEmpty }

    /// Joins a client's connection and one to its server, which may still be connecting; the splice owns both then.
    ///
    /// - Returns: False if they cannot be watched; then the caller still owns the client's, and the server's is closed.
    mutating func join(_ client: CInt, _ server: CInt, _ direction: ForwardDirection) -> Bool {
        var splice = Splice()
        splice.direction = direction
        splice.client.socket = client
        splice.server.socket = server
        splice.opened = MonotonicTime.now.nanoseconds
        splice.activity = splice.opened
        let index = slots.insert(splice)
        for socket in [client, server] { HostSocket.setIfPossible(socket, CInt(IPPROTO_TCP), TCP_NODELAY, 1) }
        do {
            try watch(client, TokenKind.spliceClient, index)
            try watch(server, TokenKind.spliceServer, index)
        } catch {
            loop.remove(FileDescriptor(rawValue: client))
            HostSocket.close(server)
            slots.remove(index)
            return false
        }
        return true
    }

    private func watch(_ socket: CInt, _ kind: UInt8, _ index: Int) throws(SystemCallError) {
        try loop.add(
            FileDescriptor(rawValue: socket), for: [.readable, .writable, .peerClosed, .edgeTriggered],
            token: slots.token(index, kind: kind))
    }

    // MARK: Events

    /// A socket of a connection is ready.
    mutating func ready(_ token: EventToken, _ readiness: Readiness) {
        guard let index = slots.index(of: token) else { return }
        let isServer = token.kind == TokenKind.spliceServer
        let socket = isServer ? slots[index].server.socket : slots[index].client.socket
        if !readiness.isDisjoint(with: [.error, .hangUp]), HostSocket.takeError(socket) != nil {
            abort(index)
            return
        }
        let isReadable = !readiness.isDisjoint(with: [.readable, .peerClosed, .hangUp])
        let isWritable = readiness.contains(.writable)
        if isServer {
            if isReadable { slots[index].server.isReadable = true }
            if isWritable { slots[index].server.isWritable = true }
            // A socket that is not connecting yet reports a hang-up, too; a connected one is writable.
            if isWritable, !readiness.contains(.hangUp) { slots[index].isConnecting = false }
        } else {
            if isReadable { slots[index].client.isReadable = true }
            if isWritable { slots[index].client.isWritable = true }
        }
        if !slots[index].isConnecting { move(index) }
    }

    /// Continues connections that exceeded their share.
    mutating func serveQueue() {
        if queue.isEmpty { return }
        let due = queue
        queue.removeAll(keepingCapacity: true)
        for (index, generation) in due where slots.isInUse(index) && slots.generation(index) == generation {
            slots[index].isQueued = false
            move(index)
        }
    }

    // MARK: Moving

    /// The result of moving bytes in one direction.
    private enum Progress {
        case waits
        case hasMore
        case failed
    }

    private mutating func move(_ index: Int) {
        var connection = slots[index]
        connection.activity = MonotonicTime.now.nanoseconds
        let forth = Self.move(from: &connection.client, to: &connection.server, &pipes)
        let back = forth == .failed ? .failed : Self.move(from: &connection.server, to: &connection.client, &pipes)
        slots[index] = connection
        if forth == .failed || back == .failed {
            abort(index)
        } else if connection.client.isPassedOn && connection.server.isPassedOn {
            close(index)
        } else if forth == .hasMore || back == .hasMore, !connection.isQueued {
            slots[index].isQueued = true
            queue.append((index, slots.generation(index)))
        }
    }

    private static func move(
        from source: inout SpliceEnd, to target: inout SpliceEnd, _ pipes: inout PipePool
    ) -> Progress {
        if source.isPassedOn { return .waits }
        guard source.isReadable || source.count > 0 || source.hasEnded else { return .waits }
        if source.pipe == nil, !source.hasEnded {
            guard let pipe = pipes.take() else { return .failed }
            source.pipe = pipe
        }
        let progress = pump(&source, &target)
        if source.count == 0 {
            if let pipe = source.pipe {
                pipes.give(pipe)
                source.pipe = nil
            }
            if source.hasEnded {
                shutdown(target.socket, CInt(SHUT_WR))
                source.isPassedOn = true
            }
        }
        return progress
    }

    private static func pump(_ source: inout SpliceEnd, _ target: inout SpliceEnd) -> Progress {
        guard let pipe = source.pipe else { return .waits }
        var moved = 0
        while true {
            var hasMoved = false
            if source.isReadable, !source.hasEnded {
                switch splice(source.socket, pipe.writing) {
                case .bytes(let count) where count > 0:
                    source.count += count
                    hasMoved = true
                case .bytes:
                    source.hasEnded = true
                    source.isReadable = false
                case .wouldBlock:
                    // If the pipe is not empty, it may be the full one; then the socket is asked again.
                    if source.count == 0 { source.isReadable = false }
                case .failed:
                    return .failed
                }
            }
            if source.count > 0, target.isWritable {
                switch splice(pipe.reading, target.socket) {
                case .bytes(let count):
                    source.count -= count
                    source.passedOn &+= UInt64(count)
                    moved += count
                    hasMoved = hasMoved || count > 0
                case .wouldBlock:
                    target.isWritable = false
                case .failed:
                    return .failed
                }
            }
            if !hasMoved { return .waits }
            if moved >= share { return .hasMore }
        }
    }

    private static func splice(_ from: CInt, _ to: CInt) -> IOResult {
        transferring {
            tapas_splice(from, to, Int(PipePool.size), UInt32(TAPAS_SPLICE_MOVE | TAPAS_SPLICE_NONBLOCK))
        }
    }

    // MARK: Watching

    /// One past the last slot that may be in use.
    var end: Int { slots.end }

    /// A description of the connection of a slot; nil if it has none.
    func record(_ index: Int, now: Int64) -> SplicedFlow? {
        guard slots.isInUse(index) else { return nil }
        let slot = slots[index]
        let hasEnded = slot.client.hasEnded || slot.server.hasEnded
        return SplicedFlow(
            transport: .tcp, direction: slot.direction, client: HostSocket.peerEndpoint(slot.client.socket),
            local: HostSocket.localEndpoint(slot.client.socket), target: HostSocket.peerEndpoint(slot.server.socket),
            state: slot.isConnecting ? .connecting : hasEnded ? .closing : .established, age: max(now - slot.opened, 0),
            idle: max(now - slot.activity, 0), bytesFromClient: slot.client.passedOn,
            bytesToClient: slot.server.passedOn)
    }

    /// Resets the connection of a slot.
    mutating func drop(_ index: Int) {
        if slots.isInUse(index) { abort(index) }
    }

    // MARK: Ends

    private mutating func close(_ index: Int) {
        HostSocket.close(slots[index].client.socket)
        HostSocket.close(slots[index].server.socket)
        discardPipes(index)
        slots.remove(index)
    }

    /// Resets both sides.
    private mutating func abort(_ index: Int) {
        HostSocket.abort(slots[index].client.socket)
        HostSocket.abort(slots[index].server.socket)
        discardPipes(index)
        slots.remove(index)
    }

    private mutating func discardPipes(_ index: Int) {
        // The bytes in them have no receiver any more.
        if let pipe = slots[index].client.pipe { PipePool.close(pipe) }
        if let pipe = slots[index].server.pipe { PipePool.close(pipe) }
    }

    /// Closes everything, at the end.
    mutating func closeAll() {
        for index in slots.indices { abort(index) }
        pipes.closeAll()
    }
}
