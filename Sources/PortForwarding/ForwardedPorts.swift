// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Rules come as a whole (`setForwards`, `change`) and are held with their listening sockets (`ListeningRule`). New rules are
// compared with the old ones: sockets that serve both stay, whatever is new is opened first, and only when all of that
// has worked the rest is closed and the new rules take the place of the old ones (`RuleChange`). Flows that exist are
// not touched. While the program runs, changes are made one after the other, and none waits for the namespace's thread:
// what is needed of it is asked for first, and the change is carried out when it has come (`change(to:completion:)`).
//
// A listening socket is in the namespace of the side that listens: the host's for -t and -u, the target's for -T and
// -U. What arrives takes one of two ways:
//
//   tap      the namespace is sent a SYN, or the datagram, from the client's own address (or from a stand-in for one
//            that would be the namespace's own or loopback): a flow of the data path like any other. The accepted
//            socket, or the datagram with a socket for its client, is handed over (`TapFlows`) and is the data path's
//            from then on; datagrams that strayed come back (`takeBack`). These two verbs are all that the rooms know
//            of each other;
//   splice   from loopback to loopback nothing touches the tap: a socket of the other namespace is connected, and the
//            two are joined, TCP with splice(2) (`Splices`), UDP by batches of datagrams (`Relays`). A connected socket
//            for each UDP client takes over from the listening one, here as well as on the tap's way, so that answers
//            leave from the address and port that the client has used.
//
// `auto` rules have no sockets of their own: every `scanInterval` the listening sockets of the other side are listed,
// and the rules' ports opened and closed after them; ports that this object itself listens on are left out. With no
// such rule there is no timer.
//
// One object, one event loop with a thread of its own (docs/decisions/0010): a scan, a retry or a busy splice delays
// other forwarded ports at most, and neither the data path nor the control loop. Sockets of the target namespace come
// from a pool that is filled ahead; where it is empty, connections wait in `waiting` and datagrams in `held`, and the
// thread goes on.
//
// syscalls: setup(main): rt_sigaction

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import Logging
public import NetworkModel
internal import NetworkTypes
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
    /// The time between two looks at the other side's listening sockets, in milliseconds.
    static let scanInterval: Int64 = 900
    /// Accepted connections that may wait for a socket of the namespace.
    private static let waitingLimit = 256

    /// An accepted connection that waits for a socket of the namespace.
    private struct WaitingConnection {
        var client: CInt
        var target: Endpoint
    }

    let loop: EventLoop
    let options: PortForwardingOptions
    let namespace: NamespaceSockets
    /// The data path; nil where there is no tap.
    let tapFlows: (any TapFlows)?
    var rules: [ListeningRule] = []
    var listeners = ListenerStore()
    var pool: NamespaceSocketPool
    var splices: Splices
    var relays: Relays
    let batch = MessageBatch(capacity: 32)
    /// What goes to the data path when this turn ends.
    var arrivals = Arrivals()
    /// Clients whose sockets the data path has been given, for a moment.
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
    /// Ports that were tried with success, and not yet told of.
    var regained = RegainedPorts()
    /// Rules have been set: a predecessor has had its time to go.
    var hasStarted = false
    /// `setForwards` is at work: sockets of the namespace may be waited for.
    var mayWait = false
    /// Where rules can listen.
    var abilities = ListeningAbilities()
    /// Changes of the rules that wait for the one under way, which is the first.
    var changes: [WaitingChange] = []
    /// One of them is under way, or about to be.
    var isChanging = false
    /// What has been counted so far.
    var counters = ForwardCounters()
    /// A scan, or a retry, stood back until there are sockets of the namespace.
    var scanWaits = false
    var retryWaits = false
    private var waiting: [WaitingConnection] = []
    /// How often in a row room was made for sockets of the namespace.
    private var evictions = 0
    /// Listeners that are looked away from, and whether it was for want of descriptors.
    private var paused: [EventToken] = []
    private var resumeTimer: EventLoop.TimerID?

    /// Makes an object without rules.
    ///
    /// - Parameters:
    ///   - options: what does not change.
    ///   - loop: the event loop on whose thread this is used.
    ///   - namespace: makes sockets in the target network namespace.
    ///   - tapFlows: the data path; nil where there is no tap.
    public init(
        options: PortForwardingOptions, loop: EventLoop, namespace: NamespaceSockets, tapFlows: (any TapFlows)? = nil
    ) {
        self.options = options
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
        for index in listeners.indices where listeners[index].socket >= 0 { listeners.close(index) }
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
            counters.listenerEvents &+= 1
            if rules[listener.rule].rule.transport == .tcp {
                acceptConnections(listener, token)
            } else {
                receiveDatagrams(listener, now: now)
            }
        }
    }

    /// Hands over what has come, goes on with connections that had more than their share, and has sockets made for
    /// those to come.
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
    private enum Accepting {
        /// More may wait.
        case more
        /// None waits any more.
        case none
        /// Too many wait for sockets of the namespace.
        case noRoom
        case noDescriptors
    }

    private func accept(_ listener: Listener, most: Int) -> Accepting {
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

    /// Accepts what waits on a listening socket before it is closed, because those clients are connected already.
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
                IPAddress(unmapping: local.address).isLoopback,
                let server = try? HostSocket.connect(
                    to: Endpoint(address: local.address, port: target), type: HostSocket.stream,
                    source: IPAddress(unmapping: peer.address), device: nil)
            else { return false }
            return splices.join(socket, server, .outbound)
        }
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

    /// The namespace's address for what has come from the host's loopback to an address and does not go by the tap.
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

    /// Has more sockets made in the namespace if they run low; nobody waits for them here.
    func refillPool() {
        let requests = pool.nextRequests()
        guard !requests.isEmpty else { return }
        let ports = LoopBound(self, on: loop)
        namespace.openLater(requests) { answers in ports.perform { $0.poolFilled(answers) } }
    }

    /// Sockets of the namespace have come, or could not be made: whatever stood back for them goes on.
    private func poolFilled(_ answers: NamespaceAnswers) {
        if let error = pool.add(answers), error.meansNoDescriptors, evictions < 4 {
            // Whoever has been silent longest gives descriptors up, and those who wait are served from them.
            evictions += 1
            for _ in 0..<2 { relays.evict() }
            let ports = LoopBound(self, on: loop)
            let goOn: @Sendable () -> Void = { ports.perform { $0.goOnWithRoom() } }
            if let tapFlows { tapFlows.makeRoom(goOn) } else { goOn() }
            return
        }
        evictions = 0
        goOn()
    }

    private func goOnWithRoom() {
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

    /// Looks away from a listener whose connections cannot be accepted, for a moment: it would be ready all the time.
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
