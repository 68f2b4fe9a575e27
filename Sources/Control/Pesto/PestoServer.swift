// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Clients are served one after the other, because each replaces whole tables that it has read before: two at once would
// undo each other's changes. A client is served for a few seconds at most; if it is silent or slow, its connection is
// closed and the next one is served. Waiting clients stay in the socket's queue. Everything runs on the control loop,
// and no other work waits while rules are set.
//
// A client in a network namespace other than the program's own, such as the wrapped command, may read but not change
// anything, as with the control protocol (ControlServer.swift).
//
// The protocol has no answer. Failures are logged, and nothing is changed then.
//
// syscalls: running(control): close recvfrom sendto

internal import CLinux
internal import Glibc
public import LinuxSystem
public import Logging
public import NetworkModel
internal import SystemPackage

/// Serves `pesto`, upstream's client for forwarding rules, at the path of `--conf-path`.
public actor PestoServer {
    /// How long a client is served at most, in milliseconds.
    public static let patience: Int64 = 3000

    /// The client being served.
    private final class Client {
        let descriptor: OwnedFileDescriptor
        var source: EventLoop.SourceID?
        var timer: EventLoop.TimerID?
        /// Whether the client may make changes, or only read.
        let mayChange: Bool
        var unsent: [UInt8]
        var request: PestoRequest

        init(descriptor: consuming OwnedFileDescriptor, mayChange: Bool, greeting: PestoGreeting) {
            self.descriptor = descriptor
            self.mayChange = mayChange
            unsent = greeting.bytes
            request = PestoRequest(tables: greeting.tables)
        }
    }

    private let loop: EventLoop
    private let socket: ControlSocket
    private let tables: [PestoTable]
    private let capabilities: PestoGreeting.Capabilities
    private let current: @Sendable () async -> [PortForward]
    private let replace: @Sendable ([PortForward]) async throws(ControlError) -> Void
    private let logger: Logger
    private let ownNamespace: UInt64?
    private var listening: EventLoop.SourceID?
    private var client: Client?
    /// The client whose rules are being put in force; its connection is closed when they are in force.
    private var finished: Client?
    private var isBusy = false

    /// The control loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a server, which accepts no client before ``start()``.
    ///
    /// - Parameters:
    ///   - loop: the loop on whose thread it runs.
    ///   - socket: the listening socket.
    ///   - tables: the tables that this instance has.
    ///   - capabilities: the features that rules may use.
    ///   - logger: where refusals are logged.
    ///   - current: returns the rules in force.
    ///   - replace: puts rules in force, all of them or none.
    public init(
        loop: EventLoop, socket: consuming ControlSocket, tables: [PestoTable],
        capabilities: PestoGreeting.Capabilities, logger: Logger,
        current: @escaping @Sendable () async -> [PortForward],
        replace: @escaping @Sendable ([PortForward]) async throws(ControlError) -> Void
    ) {
        self.loop = loop
        ownNamespace = PeerCheck.networkNamespace(of: socket.listener.descriptor)
        self.socket = socket
        self.tables = tables
        self.capabilities = capabilities
        self.logger = logger
        self.current = current
        self.replace = replace
    }

    /// Begins to accept clients.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public func start() throws(SystemCallError) {
        guard listening == nil else { return }
        listening = try loop.watch(socket.listener.descriptor) { [weak self] _ in
            self?.assumeIsolated { $0.acceptNext() }
        }
    }

    /// Stops accepting clients and removes the file.
    public func stop() {
        if let listening { loop.unwatch(listening) }
        listening = nil
        dismiss()
        socket.remove()
    }

    private func acceptNext() {
        guard client == nil, !isBusy else { return }
        guard let accepted = try? HostSocket.accept(socket.listener.rawValue) else { return }
        let descriptor = OwnedFileDescriptor(taking: accepted.socket)
        guard PeerCheck.isOwnerOrRoot(descriptor.descriptor) else {
            logger.warning("control socket: a client of another user was refused")
            return
        }
        // No other client is accepted meanwhile; they wait in the socket's queue.
        if let listening { loop.unwatch(listening) }
        listening = nil
        isBusy = true
        serve(descriptor)
    }

    private func serve(_ descriptor: consuming OwnedFileDescriptor) {
        let namespace = PeerCheck.networkNamespace(of: descriptor.descriptor)
        let mayChange = ownNamespace == nil || namespace == ownNamespace
        let number = descriptor.release()
        loop.startTask { [self] in await greet(OwnedFileDescriptor(taking: number), mayChange: mayChange) }
    }

    private func greet(_ descriptor: consuming OwnedFileDescriptor, mayChange: Bool) async {
        let number = descriptor.release()
        let rules = await current()
        let client = Client(
            descriptor: OwnedFileDescriptor(taking: number), mayChange: mayChange,
            greeting: PestoGreeting(tables: tables, capabilities: capabilities, rules: rules))
        self.client = client
        client.timer = loop.schedule(at: .now.advanced(milliseconds: Self.patience)) { [weak self] _ in
            self?.assumeIsolated { server in
                server.logger.info("control socket: a client of --conf-path was too slow and was closed")
                server.next()
            }
        }
        proceed(client)
    }

    private func watch(_ client: Client) {
        if let source = client.source { loop.unwatch(source) }
        do {
            client.source = try loop.watch(
                client.descriptor.descriptor, for: client.unsent.isEmpty ? .readable : [.readable, .writable]
            ) { [weak self] _ in
                self?.assumeIsolated { server in
                    if let client = server.client { server.proceed(client) }
                }
            }
        } catch {
            client.source = nil
            next()
        }
    }

    /// Sends the rest of the greeting, then reads the client's input.
    private func proceed(_ client: Client) {
        let number = client.descriptor.rawValue
        if !client.unsent.isEmpty {
            let result = transferring {
                unsafe client.unsent.withUnsafeBytes {
                    unsafe send(number, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
                }
            }
            switch result {
            case .bytes(let count): client.unsent.removeFirst(count)
            case .wouldBlock: break
            case .failed: return next()
            }
        }
        var buffer: [UInt8] = .init(repeating: 0, count: 16_384)
        while true {
            let result = transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe recv(number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT))
                }
            }
            switch result {
            case .wouldBlock: return watch(client)
            case .failed: return next()
            case .bytes(0): return finish(client)
            case .bytes(let count):
                do throws(PestoError) {
                    try client.request.take(buffer[..<count])
                } catch {
                    logger.warning("control socket: forwards unchanged: \(error)")
                    return next()
                }
            }
        }
    }

    /// Handles the end of the client's input.
    private func finish(_ client: Client) {
        let (request, mayChange) = (client.request, client.mayChange)
        dismiss()
        finished = client
        loop.startTask { [self] in await carryOut(request, mayChange: mayChange) }
    }

    private func carryOut(_ request: PestoRequest, mayChange: Bool) async {
        do {
            if let rules = try request.outcome(current: await current()) {
                guard mayChange else {
                    throw ControlError(.refused, "the client is in another network namespace, and may only look")
                }
                try await replace(rules)
                logger.info("control socket: \(rules.count) forwarding rules are in force")
            }
        } catch {
            logger.warning("control socket: forwards unchanged: \(error)")
        }
        // The connection is closed when the rules are in force, so that a client that waits for this can use them.
        finished = nil
        next()
    }

    private func dismiss() {
        guard let client else { return }
        if let source = client.source { loop.unwatch(source) }
        if let timer = client.timer { loop.cancel(timer) }
        self.client = nil
    }

    /// Serves the next client.
    private func next() {
        dismiss()
        isBusy = false
        do {
            try start()
        } catch {
            logger.error("control socket: \(error)")
        }
    }
}
