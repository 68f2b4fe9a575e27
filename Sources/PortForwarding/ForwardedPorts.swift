// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Rules are always set all at once (`setForwards`, `change`) and stored with their listening sockets (`ListeningRule`).
// New rules are compared with the old ones: sockets that serve both stay, and new sockets are opened. Only when all of
// that has worked are the other sockets closed and the old rules replaced (`RuleChange`). Existing flows are not
// touched. While the program runs, changes are made one after the other, and none waits for the namespace's thread: the
// descriptors that a change needs are requested first, and the change is carried out when they have been made
// (`change(to:completion:)`).
//
// A listening socket is in the namespace of the side that listens: the host's for -t and -u, the target's for -T and
// -U. What arrives takes one of two ways:
//
//   tap      the namespace is sent a SYN, or the datagram, from the client's own address (or from a stand-in for one
//            that would be the namespace's own or loopback): a flow of the data path like any other. The accepted
//            socket, or the datagram with a socket for its client, is handed over (`TapFlows`) and is the data path's
//            from then on; stray datagrams come back (`takeBack`). the two rooms share only these two calls;
//   splice   from loopback to loopback nothing touches the tap: a socket of the other namespace is connected, and the
//            two are joined, TCP with splice(2) (`Splices`), UDP by batches of datagrams (`Relays`). A connected socket
//            for each UDP client replaces the listening one, here as well as for the tap, so that answers
//            have the address and port that the client has used as their source.
//
// `auto` rules open only ports that the other side listens on: every `scanInterval` the listening sockets of the other
// side are listed, and the rules' ports are opened and closed accordingly. Ports that this object itself listens on are
// left out. Without such a rule there is no timer.
//
// The object runs on an event loop with a thread of its own (docs/decisions/0010): a scan, a retry or a busy splice can
// delay other forwarded ports, but neither the data path nor the control loop. Sockets of the target namespace come
// from a pool that is filled ahead of time. When it is empty, connections wait in `waiting` and datagrams in `held`,
// and the thread continues.
//
// syscalls: setup(main): rt_sigaction

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import Logging
public import NetworkModel
internal import NetworkTypes
internal import Policy
internal import SystemPackage

/// The kinds of event tokens of this room.
enum TokenKind {
    static let listener: UInt8 = 8
    static let spliceClient: UInt8 = 9
    static let spliceServer: UInt8 = 10
    static let relayClient: UInt8 = 11
    static let relayServer: UInt8 = 12
}

/// Forwarded ports: the listening sockets of both directions, and the connections that never touch the tap.
public final class ForwardedPorts: EventSink {
    /// The time between two scans of the other side's listening sockets, in milliseconds.
    static let scanInterval: Int64 = 900
    /// The greatest number of accepted connections that wait for a socket of the namespace.
    private static let waitingLimit = 256

    /// An accepted connection that waits for a socket of the namespace.
    private struct WaitingConnection {
        var client: CInt
        var target: Endpoint
    }

    let loop: EventLoop
    let options: PortForwardingOptions
    let namespace: NamespaceSockets
    /// The data path; nil if there is no tap.
    let tapFlows: (any TapFlows)?
    var rules: [ListeningRule] = []
    var listeners: ListenerStore
    var pool: NamespaceSocketPool
    var splices: Splices
    var relays: Relays
    let batch = MessageBatch(capacity: 32)
    /// What is passed to the data path when this turn ends.
    var arrivals = Arrivals()
    /// Clients whose sockets were handed to the data path a moment ago.
    var handedOver = RecentClients()
    /// Whether a flow may be ended for the datagram at hand.
    var mayMakeRoom = true
    /// Datagrams that wait for a socket.
    var held = HeldDatagrams()
    /// The tables of listening sockets, opened when an `auto` rule first needs them.
    var hostSockets: ListeningSockets?
    var namespaceSockets: ListeningSockets?
    var scanTimer: EventLoop.TimerID?
    var scanCount = 0
    /// Runs while there are ports to be tried again.
    var retryTimer: EventLoop.TimerID?
    /// Ports that may still be tried in the present batch.
    var retryBudget = 0
    /// Ports that were opened by a retry and not reported yet.
    var regained = RegainedPorts()
    /// Rules have been set once, so the next change does not wait for a predecessor to end.
    var hasStarted = false
    /// `setForwards` is running, which may wait for sockets of the namespace.
    var mayWait = false
    /// Where rules can listen.
    var abilities = ListeningAbilities()
    /// Changes of the rules, in order; the first one may be running.
    var changes: [WaitingChange] = []
    /// Whether a change is running, or scheduled for the next turn.
    var isChanging = false
    /// The counters.
    var counters = ForwardCounters()
    /// Who may use the ports; it decides on connections and clients that are new.
    public var policy: ForwardingPolicy
    /// A scan or a retry was postponed until there are sockets of the namespace.
    var scanWaits = false
    var retryWaits = false
    private var waiting: [WaitingConnection] = []
    /// The number of evictions in a row for sockets of the namespace.
    private var evictions = 0
    /// Paused listeners, which are not watched for a moment.
    private var paused: [EventToken] = []
    private var resumeTimer: EventLoop.TimerID?

    /// Makes an object without rules.
    ///
    /// - Parameters:
    ///   - options: the settings, which never change.
    ///   - loop: the event loop on whose thread this is used.
    ///   - namespace: makes sockets in the target network namespace.
    ///   - tapFlows: the data path; nil if there is no tap.
    public init(
        options: PortForwardingOptions, loop: EventLoop, namespace: NamespaceSockets, tapFlows: (any TapFlows)? = nil
    ) {
        self.options = options
        policy = options.policy
        listeners = ListenerStore(keeper: options.keeper)
        pool = NamespaceSocketPool(target: options.socketsAhead)
        self.loop = loop
        self.namespace = namespace
        self.tapFlows = tapFlows
        splices = Splices(loop: loop)
        relays = Relays(loop: loop, options: options)
        // splice(2) has no MSG_NOSIGNAL: a peer that is gone must be an error, not the end of the process.
        Glibc.signal(SIGPIPE, SIG_IGN)
    }

    deinit {
        listeners.closeAll()
        for connection in waiting { HostSocket.abort(connection.client) }
        pool.close()
        splices.closeAll()
        relays.closeAll()
    }

    /// The rules in force.
    public var forwards: [PortForward] { rules.map(\.rule) }

    /// Sockets that listen at present.
    public var listenerCount: Int { listeners.count }

    /// TCP connections that are spliced at present.
    public var splicedConnectionCount: Int { splices.count }

    /// UDP clients that are relayed at present.
    public var relayedClientCount: Int { relays.count }

    // MARK: EventSink

    /// A descriptor of a forwarded port is ready.
    public func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        switch token.kind {
        case TokenKind.spliceClient, TokenKind.spliceServer:
            counters.spliceEvents &+= 1
            splices.ready(token, readiness)
        case TokenKind.relayClient, TokenKind.relayServer:
            counters.relayEvents &+= 1
            relays.ready(token, readiness, batch: batch, now: now)
            if !relays.strays.isEmpty { sendAgain(relays.strays.take(), now: now) }
        default:
            guard let listener = listeners.current(token) else { return }
            if rules[listener.rule].rule.transport == .tcp {
                counters.streamListenerEvents &+= 1
                acceptConnections(listener, token)
            } else {
                counters.datagramListenerEvents &+= 1
                receiveDatagrams(listener, now: now)
            }
        }
    }

    /// Hands over what has arrived, continues connections that exceeded their share, and requests sockets for later
    /// connections.
    public func batchEnded(now: MonotonicTime) {
        if !arrivals.isEmpty {
            let due = arrivals
            arrivals = Arrivals()
            tapFlows?.take(due)
        }
        splices.serveQueue()
        refillPool()
    }

    /// The earliest time-out of a UDP client; at once while connections have work left.
    public var deadline: MonotonicTime? {
        if splices.hasWork { return MonotonicTime(nanoseconds: 0) }
        return relays.nextDeadline
    }

    /// UDP clients have reached their time-outs.
    public func deadlineReached(now: MonotonicTime) {
        relays.expire(now: now)
    }

    // MARK: TCP

    /// Accepts the waiting connections, a bounded number at a time.
    private func acceptConnections(_ listener: Listener, _ token: EventToken) {
        switch accept(listener, most: 64) {
        case .more, .none: break
        case .noRoom: pause(listener, token)
        case .noDescriptors:
            tapFlows?.makeRoom {}
            if paused.isEmpty {
                options.logger.warning("out of descriptors: new connections to forwarded ports wait")
            }
            pause(listener, token)
        }
    }

    /// The result of accepting.
    private enum AcceptResult {
        /// More may wait.
        case more
        /// None waits any more.
        case none
        /// Too many wait for sockets of the namespace.
        case noRoom
        case noDescriptors
    }

    private func accept(_ listener: Listener, most: Int) -> AcceptResult {
        for _ in 0..<most {
            guard waiting.count < Self.waitingLimit else { return .noRoom }
            let accepted: (socket: CInt, peer: Endpoint?)
            do throws(Errno) {
                guard let next = try HostSocket.accept(listener.socket) else { return .none }
                accepted = next
            } catch {
                switch error {
                case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .noMemory: return .noDescriptors
                // These are errors of the connection that was to be accepted (accept(2), "Error handling").
                default: continue
                }
            }
            counters.accepted &+= 1
            guard let peer = accepted.peer else {
                HostSocket.close(accepted.socket)
                continue
            }
            if !forward(accepted.socket, from: peer, listener) {
                counters.refused &+= 1
                HostSocket.abort(accepted.socket)
            }
        }
        return .more
    }

    /// Accepts the waiting connections of a listening socket before it is closed, because those clients are connected
    /// already.
    func takeRest(of index: Int) {
        let listener = listeners[index]
        if rules[listener.rule].rule.transport == .tcp {
            _ = accept(listener, most: Int(ListeningPlace.backlog))
        } else {
            receiveDatagrams(listener, now: .now)
        }
    }

    /// Forwards an accepted connection; false if that is impossible, and then the caller still owns the socket.
    private func forward(_ socket: CInt, from peer: Endpoint, _ listener: Listener) -> Bool {
        let rule = rules[listener.rule]
        let target = rule.target(of: listener.port)
        let isLoopback = IPAddress(unmapping: peer.address).isLoopback
        if rule.rule.direction == .outbound {
            // Both ends are on the namespace's loopback, so those on the host are on its loopback.
            guard isLoopback, let local = HostSocket.localEndpoint(socket),
                IPAddress(unmapping: local.address).isLoopback, policy.allows(.tcp, to: local.address, port: target),
                let server = try? HostSocket.connect(
                    to: Endpoint(address: local.address, port: target), type: HostSocket.stream,
                    source: IPAddress(unmapping: peer.address), device: nil)
            else { return false }
            return splices.join(socket, server, .outbound)
        }
        guard policy.allows(client: peer) else { return false }
        if isLoopback, options.splicesInbound {
            guard let local = HostSocket.localEndpoint(socket),
                let address = rule.rule.targetAddress?.asIPv6 ?? spliceTarget(at: local.address, from: peer)
            else { return false }
            return connectInNamespace(socket, to: Endpoint(address: address, port: target))
        }
        guard tapFlows != nil else { return false }
        arrivals.connections.append(
            ForwardedConnection(socket: socket, peer: peer, port: target, address: rule.rule.targetAddress))
        return true
    }

    /// The namespace's address for a client on the host's loopback whose connection is spliced.
    func spliceTarget(at local: IPv6Address, from peer: Endpoint) -> IPv6Address? {
        guard options.hostLoopbackToNamespaceLoopback else {
            return tapFlows?.spliceTargets.target(isIPv4: peer.family == .v4)
        }
        if IPAddress(unmapping: local).isLoopback { return local }
        return peer.family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
    }

    private func connectInNamespace(_ client: CInt, to target: Endpoint) -> Bool {
        do throws(Errno) {
            guard let server = try pool.take(.init(isStream: true, isIPv4: target.family == .v4)) else {
                waiting.append(WaitingConnection(client: client, target: target))
                return true
            }
            do throws(Errno) {
                try target.connect(server, mayGoOn: true)
            } catch {
                HostSocket.close(server)
                throw error
            }
            return splices.join(client, server, .inbound)
        } catch {
            return false
        }
    }

    // MARK: Sockets of the namespace

    /// Requests more sockets of the namespace if few are left; it does not wait for them.
    func refillPool() {
        let requests = pool.nextRequests()
        guard !requests.isEmpty else { return }
        let ports = LoopBound(self, on: loop)
        namespace.openLater(requests) { answers in ports.perform { $0.poolFilled(answers) } }
    }

    /// Handles new sockets of the namespace, or the failure to make them: whatever waited for them continues.
    private func poolFilled(_ answers: NamespaceAnswers) {
        if let error = pool.add(answers), error.meansNoDescriptors, evictions < 4 {
            // The clients that have been silent for longest are evicted, and their descriptors serve those that wait.
            evictions += 1
            for _ in 0..<2 { relays.evict() }
            let ports = LoopBound(self, on: loop)
            let goOn: @Sendable () -> Void = { ports.perform { $0.continueWithRoom() } }
            if let tapFlows { tapFlows.makeRoom(goOn) } else { goOn() }
            return
        }
        evictions = 0
        goOn()
    }

    private func continueWithRoom() {
        pool.forgetFailures()
        goOn()
    }

    private func goOn() {
        let connections = waiting
        waiting = []
        for connection in connections where !connectInNamespace(connection.client, to: connection.target) {
            HostSocket.abort(connection.client)
        }
        if !held.isEmpty { sendAgain(held.take(), now: .now) }
        if scanWaits {
            scanWaits = false
            scanNow()
        }
        if retryWaits {
            retryWaits = false
            retryPorts()
        }
        if waiting.count < Self.waitingLimit { resume() }
    }

    // MARK: Looking away

    /// Stops watching a listener for a moment when its connections cannot be accepted, because it would be ready all
    /// the time.
    private func pause(_ listener: Listener, _ token: EventToken) {
        guard (try? loop.modify(FileDescriptor(rawValue: listener.socket), for: [], token: token)) != nil else {
            return
        }
        paused.append(token)
        if resumeTimer == nil {
            resumeTimer = loop.schedule(at: .now.advanced(milliseconds: 200)) { [weak self] _ in self?.resume() }
        }
    }

    private func resume() {
        if let timer = resumeTimer { loop.cancel(timer) }
        resumeTimer = nil
        let tokens = paused
        paused = []
        for token in tokens {
            guard let listener = listeners.current(token) else { continue }
            try? loop.modify(FileDescriptor(rawValue: listener.socket), for: .readable, token: token)
        }
    }
}
