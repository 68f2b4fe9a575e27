// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The server runs on the control loop: it accepts clients, divides their input into lines, and passes each request to
// the service in a task of its own. Answers are put into the client's buffer and written as the client reads. When a
// client disconnects, its tasks are cancelled.
//
// Everything is bounded: the number of clients, the running requests of a client, the length of a line, and the bytes
// that wait for a client. Large answers (flows) wait until the client has read; a stream of events (watch) that is not
// read ends with the error `slow`, because the events cannot wait.
//
// Access: the file's mode admits only the owner and root, and the server also checks the peer's user id. A client in a
// network namespace other than the program's own, such as the wrapped command, is confined by the program, so it may
// read but not change anything.
//
// syscalls: running(control): close

public import JSON
public import LinuxSystem
public import Logging
internal import SystemPackage

/// Carries out requests.
public protocol ControlService: Sendable {
    /// Carries out a request and answers it with ``ControlExchange/finish(_:)``.
    ///
    /// The task is cancelled when the client has disconnected.
    func respond(to request: ControlRequest, on exchange: ControlExchange) async
}

/// Accepts clients of a control socket and passes their requests on.
public actor ControlServer {
    /// The greatest number of clients at once.
    public static let greatestClientCount = 16
    private let loop: EventLoop
    private let socket: ControlSocket
    private let service: any ControlService
    private let logger: Logger
    private let ownNamespace: UInt64?
    private let farewell: Int64
    private var clients: [UInt64: ControlClientConnection] = [:]
    private var lastClient: UInt64 = 0
    private var listening: EventLoop.SourceID?

    /// The control loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a server, which accepts no client before ``start()``.
    ///
    /// - Parameters:
    ///   - loop: the loop on whose thread it runs.
    ///   - socket: the listening socket.
    ///   - service: carries out the requests.
    ///   - logger: where refused clients are logged.
    ///   - farewell: how long a client that is being dismissed may take to read the reason, in milliseconds.
    public init(
        loop: EventLoop, socket: consuming ControlSocket, service: any ControlService, logger: Logger,
        farewell: Int64 = 2000
    ) {
        self.loop = loop
        self.farewell = farewell
        self.service = service
        self.logger = logger
        ownNamespace = PeerCheck.networkNamespace(of: socket.listener.descriptor)
        self.socket = socket
    }

    /// Begins to accept clients.
    ///
    /// - Throws: The error of epoll_ctl(2).
    public func start() throws(SystemCallError) {
        guard listening == nil else { return }
        listening = try loop.watch(socket.listener.descriptor) { [weak self] _ in
            self?.assumeIsolated { $0.acceptClients() }
        }
    }

    /// Stops accepting clients, closes all connections and removes the file.
    public func stop() {
        if let listening { loop.unwatch(listening) }
        listening = nil
        for id in Array(clients.keys) { close(id) }
        socket.remove()
    }

    /// Clients that are connected.
    public var clientCount: Int { clients.count }

    // MARK: Clients

    private func acceptClients() {
        for _ in 0..<Self.greatestClientCount {
            guard let accepted = try? HostSocket.accept(socket.listener.rawValue) else { return }
            admit(OwnedFileDescriptor(taking: accepted.socket))
        }
    }

    private func admit(_ descriptor: consuming OwnedFileDescriptor) {
        guard PeerCheck.isOwnerOrRoot(descriptor.descriptor) else {
            logger.warning("control socket: a client of another user was refused")
            return
        }
        let namespace = PeerCheck.networkNamespace(of: descriptor.descriptor)
        let isOutside = ownNamespace == nil || namespace == ownNamespace
        let client = ControlClientConnection(descriptor: descriptor, mayChange: isOutside)
        guard clients.count < Self.greatestClientCount else {
            client.append(
                ControlAnswer(
                    id: nil,
                    .error(ControlError(.busy, "\(Self.greatestClientCount) clients are connected already"))
                ).line)
            _ = client.write()
            return
        }
        lastClient += 1
        clients[lastClient] = client
        watch(lastClient, client)
    }

    private func watch(_ id: UInt64, _ client: ControlClientConnection) {
        if let source = client.source { loop.unwatch(source) }
        client.watchesWriting = client.backlog > 0
        // Hang-ups are always reported.
        var wanted: Readiness = []
        if client.watchesWriting { wanted.insert(.writable) }
        if !client.hasEnded { wanted.insert(.readable) }
        do {
            client.source = try loop.watch(client.descriptor.descriptor, for: wanted) { [weak self] readiness in
                self?.assumeIsolated { $0.ready(id, readiness) }
            }
        } catch {
            client.source = nil
            close(id)
        }
    }

    private func ready(_ id: UInt64, _ readiness: Readiness) {
        guard let client = clients[id] else { return }
        if readiness.contains(.writable) { flush(id, client) }
        if readiness.contains(.error) || (client.hasEnded && readiness.contains(.hangUp)) { close(id) }
        guard clients[id] != nil, !client.hasEnded, !client.closesWhenWritten else { return }
        switch client.read() {
        case .lines(let lines): for line in lines { take(line, id, client) }
        case .tooLong:
            dismiss(
                id, client,
                ControlError(.malformed, "a request is longer than \(ControlRequest.greatestLength) bytes"))
        case .ended:
            client.hasEnded = true
            watch(id, client)
            closeIfDone(id)
        case .failed: close(id)
        }
    }

    /// Closes a client that sends nothing more, once all its requests are answered.
    private func closeIfDone(_ id: UInt64) {
        guard let client = clients[id], client.hasEnded, client.requests.isEmpty else { return }
        client.closesWhenWritten = true
        flush(id, client)
    }

    private func take(_ line: [UInt8], _ id: UInt64, _ client: ControlClientConnection) {
        let request: ControlRequest
        do throws(ControlRequest.Refusal) {
            request = try ControlRequest(parsing: line)
        } catch {
            return put(ControlAnswer(id: error.id, .error(error.error)), id, client)
        }
        guard client.requests.count < ControlClientConnection.greatestRequestCount else {
            let error = ControlError(.busy, "\(ControlClientConnection.greatestRequestCount) requests are under way")
            return put(ControlAnswer(id: request.id, .error(error)), id, client)
        }
        client.lastRequest += 1
        let number = client.lastRequest
        let exchange = ControlExchange(
            server: self, client: id, request: request.id, mayChange: client.mayChange)
        client.requests[number] = loop.startTask { [self] in
            await carryOut(request, exchange, number, of: id)
        }
    }

    private func carryOut(
        _ request: ControlRequest, _ exchange: ControlExchange, _ number: Int, of id: UInt64
    ) async {
        await service.respond(to: request, on: exchange)
        requestEnded(number, of: id)
    }

    private func requestEnded(_ number: Int, of id: UInt64) {
        clients[id]?.requests[number] = nil
        closeIfDone(id)
    }

    // MARK: Answers

    private func put(_ answer: ControlAnswer, _ id: UInt64, _ client: ControlClientConnection) {
        guard !client.closesWhenWritten else { return }
        client.append(answer.line)
        flush(id, client)
    }

    private func flush(_ id: UInt64, _ client: ControlClientConnection) {
        guard client.write() else { return close(id) }
        if client.backlog == 0, client.closesWhenWritten { return close(id) }
        if (client.backlog > 0) != client.watchesWriting { watch(id, client) }
        guard client.backlog <= ControlClientConnection.comfortableBacklog else { return }
        let waiting = client.waiting
        client.waiting = []
        for continuation in waiting { continuation.resume() }
    }

    /// Answers a request; a client that does not read its events is dismissed.
    fileprivate func answer(_ answer: ControlAnswer, to id: UInt64) {
        guard let client = clients[id] else { return }
        put(answer, id, client)
        guard let client = clients[id], client.backlog > ControlClientConnection.greatestBacklog else { return }
        client.dropUnwrittenLines()
        dismiss(id, client, ControlError(.slow, "the events were not read in time"), request: answer.id)
    }

    /// Waits until a client has read most of its answers; false if the client has disconnected.
    fileprivate func waitUntilRead(_ id: UInt64) async -> Bool {
        while let client = clients[id], client.backlog > ControlClientConnection.comfortableBacklog {
            await withCheckedContinuation { client.waiting.append($0) }
        }
        return clients[id] != nil
    }

    fileprivate func takeDescriptor(of id: UInt64) -> OwnedFileDescriptor? {
        clients[id]?.takeDescriptor()
    }

    // MARK: Ends

    /// Sends a client the reason for its dismissal, and closes the connection once it has read that or a moment has
    /// passed.
    private func dismiss(
        _ id: UInt64, _ client: ControlClientConnection, _ error: ControlError, request: ControlRequestID? = nil
    ) {
        logger.info("control socket: a client was dismissed: \(error)")
        client.append(ControlAnswer(id: request, .error(error)).line)
        client.closesWhenWritten = true
        // Nothing that its requests have to say would reach it any more.
        for task in client.requests.values { task.cancel() }
        loop.schedule(at: .now.advanced(milliseconds: farewell)) { [weak self] _ in
            self?.assumeIsolated { $0.close(id) }
        }
        flush(id, client)
    }

    private func close(_ id: UInt64) {
        guard let client = clients.removeValue(forKey: id) else { return }
        if let source = client.source { loop.unwatch(source) }
        for task in client.requests.values { task.cancel() }
        for continuation in client.waiting { continuation.resume() }
        client.waiting = []
    }
}

/// A running request, for the service.
public struct ControlExchange: Sendable {
    private let server: ControlServer
    private let client: UInt64
    private let request: ControlRequestID
    /// Whether the client may make changes, or only read.
    public let mayChange: Bool

    fileprivate init(server: ControlServer, client: UInt64, request: ControlRequestID, mayChange: Bool) {
        self.server = server
        self.client = client
        self.request = request
        self.mayChange = mayChange
    }

    /// Sends the last answer.
    public func finish(_ result: Result<JSONValue, ControlError>) async {
        let body: ControlAnswer.Body =
            switch result {
            case .success(let value): .result(value)
            case .failure(let error): .error(error)
            }
        await server.answer(ControlAnswer(id: request, body), to: client)
    }

    /// Sends an event; a client with too many unread events is dismissed.
    public func send(_ event: JSONValue) async {
        await server.answer(ControlAnswer(id: request, .event(event)), to: client)
    }

    /// Waits until the client has read most of its answers; used between the parts of a large answer.
    ///
    /// - Returns: False if the client has disconnected.
    public func isReadByClient() async -> Bool {
        await server.waitUntilRead(client)
    }

    /// Removes and returns the descriptor that came with the request (SCM_RIGHTS), if there was one.
    public func takeDescriptor() async -> OwnedFileDescriptor? {
        await server.takeDescriptor(of: client)
    }
}
