// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// What the links of virtual machines have in common: a stream socket on which clients connect, or a client that was
// connected at start (`--fd`). There is one client at a time. A further connection is accepted and closed at once, so
// that its client fails instead of waiting. When the client disconnects, the link discards everything that belongs to
// it (`clientDidLeave`). Then the next client may connect, unless the link serves one client only.
//
// When accept(2) fails, the listening socket is not watched for a moment: the client still waits, so its event would be
// repeated at once.
//
// syscalls: running(data-path): accept4 close poll

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// The client of a link over a socket; a link is a subclass.
@safe
class SocketLink {
    /// Counters of clients.
    struct ClientCounters: Hashable, Sendable {
        /// Clients that have connected.
        var connected: UInt64 = 0
        /// Clients that were refused because there was one already.
        var refused: UInt64 = 0
        /// Clients that have disconnected or were dropped.
        var lost: UInt64 = 0
        /// How often a client could not be accepted, without descriptors or memory.
        var failedAccepts: UInt64 = 0
    }

    /// The indices of the tokens that every link over a socket has.
    enum SocketSource {
        static let client: UInt32 = 0
        static let listener: UInt32 = 1
    }

    /// How long no client is accepted after a failure, in milliseconds.
    private static let pause: Int64 = 200

    final private(set) var clients = ClientCounters()
    private let listener: OwnedFileDescriptor?
    /// The number of the listening socket; -1 if there is none.
    private let listening: CInt
    private var client: OwnedFileDescriptor?
    /// The client's number; -1 while there is none.
    final private(set) var number: CInt = -1
    /// Tells the events of one client from those of another.
    final private(set) var generation: UInt32 = 0
    private let isForOneClient: Bool
    private let clientEvents: Readiness
    final private(set) var loop: EventLoop?
    private var isOver = false
    /// Whether the end was reported to the data path.
    private var hasReportedEnd = false
    /// Whether a client has disconnected since the last ``takeLostGuest()``.
    private var hasLostClient = false
    /// Ends the pause after a failed accept(2).
    private var resumeTimer: EventLoop.TimerID?

    /// Makes a link whose clients connect to a socket, or one that has its only client.
    ///
    /// - Parameters:
    ///   - listener: a listening stream socket, non-blocking.
    ///   - client: a connected stream socket.
    ///   - isForOneClient: whether the link ends with its first client.
    ///   - clientEvents: what the client's socket is watched for.
    init(
        listener: consuming OwnedFileDescriptor?, client: consuming OwnedFileDescriptor?, isForOneClient: Bool,
        clientEvents: Readiness
    ) {
        if let client {
            number = client.rawValue
            clients.connected = 1
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
        self.clientEvents = clientEvents
    }

    /// A client has connected; ``number`` is its socket.
    func clientDidConnect() {}

    /// The client's connection is closed; everything that belongs to it must be discarded.
    func clientDidLeave() {}

    // MARK: Events

    /// Whether there is a client.
    final var hasClient: Bool { number >= 0 }

    /// The token of the present client's events.
    final var clientToken: EventToken { token(SocketSource.client) }

    /// The token of the listening socket's events.
    static var listenerToken: EventToken { EventToken(kind: TokenKind.link, index: SocketSource.listener) }

    /// A token of the present client.
    final func token(_ index: UInt32) -> EventToken {
        EventToken(kind: TokenKind.link, generation: generation, index: index)
    }

    /// Whether an event is about the present client's socket.
    final func isOfClient(_ token: EventToken) -> Bool {
        token.index == SocketSource.client && token.generation == generation & 0xFF_FFFF && number >= 0
    }

    func watch(on loop: EventLoop) throws(SystemCallError) {
        if listening >= 0 {
            try loop.add(FileDescriptor(rawValue: listening), for: .readable, token: Self.listenerToken)
        }
        self.loop = loop
        try watchClient()
    }

    private func watchClient() throws(SystemCallError) {
        guard number >= 0, let loop else { return }
        try loop.add(FileDescriptor(rawValue: number), for: clientEvents, token: clientToken)
    }

    func unwatch(on loop: EventLoop) {
        if let timer = resumeTimer { loop.cancel(timer) }
        resumeTimer = nil
        if listening >= 0 { loop.remove(FileDescriptor(rawValue: listening)) }
        if number >= 0 { loop.remove(FileDescriptor(rawValue: number)) }
        self.loop = nil
    }

    /// Whether the data path does not know yet that a client has disconnected, or that the link has ended.
    final var hasLossToReport: Bool { isOver && !hasReportedEnd || hasLostClient }

    /// Whether a client has disconnected since the last call; its flows must end.
    final func takeLostGuest() -> Bool {
        defer { hasLostClient = false }
        return hasLostClient
    }

    /// What a link without a client receives: nothing, or its end.
    final func receiveWithoutClient() -> ReceivedFrame {
        hasReportedEnd = isOver
        return isOver ? .gone : .empty
    }

    /// Unknown until the first frame has come.
    final var hardwareAddress: MACAddress? { nil }

    /// There is no carrier.
    final func setCarrier(_ isOn: Bool) {}

    final var showsCarrier: Bool? { nil }

    // MARK: Clients

    /// Accepts the clients that wait.
    final func acceptClients() {
        guard listening >= 0, !isOver else { return }
        // A bounded number at a time, so that a flood of connections does not occupy the loop; the event is repeated.
        for _ in 0..<16 {
            let accepted = tapas_accept(listening, nil, nil)
            guard accepted >= 0 else { return acceptDidFail(currentErrno) }
            let descriptor = OwnedFileDescriptor(taking: accepted)
            if number >= 0, clientHasHungUp { dropClient() }
            guard number < 0, !isOver else {
                clients.refused += 1
                continue
            }
            number = accepted
            client = consume descriptor
            clients.connected += 1
            clientDidConnect()
            // This fails only without memory; then the client is dropped.
            do { try watchClient() } catch { dropClient() }
        }
    }

    /// Stops watching the listening socket for a moment if the client still waits.
    private func acceptDidFail(_ error: Errno) {
        switch error {
        case .resourceTemporarilyUnavailable, .connectionAbort, .interrupted: return
        default: break
        }
        clients.failedAccepts += 1
        guard let loop, resumeTimer == nil else { return }
        loop.remove(FileDescriptor(rawValue: listening))
        resumeTimer = loop.schedule(at: .now.advanced(milliseconds: Self.pause)) { [weak self] _ in
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
    final func dropClient() {
        guard number >= 0 else { return }
        // Another process may hold the socket, too; then closing it does not end its events.
        loop?.remove(FileDescriptor(rawValue: number))
        number = -1
        client = nil
        generation = (generation + 1) & 0xFF_FFFF
        clientDidLeave()
        clients.lost += 1
        hasLostClient = true
        if isForOneClient { isOver = true }
    }
}
