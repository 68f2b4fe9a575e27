// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Rules come as a whole (`setForwards`) and are held as entries with their listening sockets. A new table is compared
// with the old one: sockets that serve both stay, whatever is new is opened first, and only when all of that has
// worked the rest is closed and the new table takes the old one's place. Flows that exist are no part of it.
//
// A listening socket is in the namespace of the side that listens: the host's for -t and -u, the target's for -T and
// -U. What arrives takes one of two ways:
//
//   tap      the namespace is sent a SYN, or the datagram, from the client's own address (or from a stand-in for one
//            that would be the namespace's own or loopback): a flow of the data path like any other (`InboundFlows`);
//   splice   from loopback to loopback nothing touches the tap: a socket of the other namespace is connected, and the
//            two are joined, TCP with splice(2) (`Splices`), UDP by batches of datagrams (`Relays`). A connected socket
//            for each UDP client takes over from the listening one, here as well as on the tap's way, so that answers
//            leave from the address and port that the client has used.
//
// `auto` rules have no sockets of their own: every `scanInterval` the listening sockets of the other side are listed
// and the rules' ports opened and closed after them, ports that this object itself listens on being left out. With no
// such rule there is no timer.
//
// One object, one thread, the event loop's. It is the event sink where there is no tap (--splice-only); otherwise the
// `Forwarder` hands it what is its own.
//
// syscalls: accept4 socket close

internal import CLinux
internal import Glibc
public import LinuxSystem
public import Logging
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

extension TokenKind {
    static let listener: UInt8 = 8
    static let spliceClient: UInt8 = 9
    static let spliceServer: UInt8 = 10
    static let relayClient: UInt8 = 11
    static let relayServer: UInt8 = 12
}

/// What the port forwarder is told once, at start.
public struct PortForwardingOptions: Sendable {
    /// Not `--no-splice`: loopback clients of forwarded ports are spliced.
    public var splicesInbound = true
    /// `--host-lo-to-ns-lo`: they reach the namespace's loopback in place of its address.
    public var hostLoopbackToNamespaceLoopback = false
    /// How long a port that somebody else has is waited for when the first table is set, in milliseconds: a predecessor
    /// may be about to go.
    public var patience: Int64 = 1000
    /// How often ports that somebody else has are tried again, where they can be gone without, in milliseconds.
    public var retryInterval: Int64 = 5000
    /// Who had ports of the host when the program started, for messages.
    public var holders = PortHolders()
    /// The time-outs of UDP flows in milliseconds (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`).
    public var udpTimeout: Int64 = 30_000
    /// As ``udpTimeout``, once several datagrams have gone both ways.
    public var udpStreamTimeout: Int64 = 120_000
    /// Spliced UDP clients at most; below 2^24.
    public var maximumRelays = 16_384
    /// Where the forwarder says what a person should know.
    public var logger = Logger(label: "tapas.ports")

    /// Makes the options of a bare command line.
    public init() {}
}

/// Forwarded ports: the listening sockets of both directions, and the connections that never touch the tap.
public final class PortForwarder: EventSink {
    /// The time between two looks at the other side's listening sockets, in milliseconds.
    static let scanInterval: Int64 = 900

    let loop: EventLoop
    let options: PortForwardingOptions
    let factory: NamespaceFactory
    var entries: [ForwardingEntry] = []
    var listeners = ListenerStore()
    var pool: NamespaceSocketPool
    var splices: Splices
    var relays: Relays
    let batch = MessageBatch(capacity: 32)
    /// The data path, where there is a tap.
    weak var forwarder: Forwarder?
    /// The tables of listening sockets, opened when an `auto` rule first needs them.
    var hostSockets: ListeningSockets?
    var namespaceSockets: ListeningSockets?
    var scanTimer: EventLoop.TimerID?
    var scanCount = 0
    /// Runs while there are ports to be tried again.
    var pendingTimer: EventLoop.TimerID?
    /// Those that were tried with success, and not yet told of.
    var regained = RegainedPorts()
    /// A table has been set: a predecessor has had its time to go.
    var hasStarted = false
    /// Listeners that wait for descriptors to become free.
    private var paused: [EventToken] = []

    /// Makes a forwarder without rules.
    ///
    /// - Parameters:
    ///   - options: what does not change.
    ///   - loop: the event loop, whose thread this is.
    ///   - makeInNamespace: answers requests for descriptors of the target network namespace.
    public init(options: PortForwardingOptions, loop: EventLoop, makeInNamespace: @escaping NamespaceFactory) {
        self.options = options
        self.loop = loop
        factory = makeInNamespace
        pool = NamespaceSocketPool(factory: makeInNamespace)
        splices = Splices(loop: loop)
        relays = Relays(loop: loop, options: options)
        // splice(2) has no MSG_NOSIGNAL: a peer that is gone must be an error, not the end of the process.
        Glibc.signal(SIGPIPE, SIG_IGN)
    }

    deinit {
        for index in listeners.indices where listeners[index].socket >= 0 { listeners.close(index) }
        pool.close()
        splices.closeAll()
        relays.closeAll()
    }

    /// The rules in force.
    public var forwards: [PortForward] { entries.map(\.rule) }

    /// Sockets that listen at present.
    public var listenerCount: Int { listeners.count }

    /// TCP connections that are spliced at present.
    public var splicedConnectionCount: Int { splices.count }

    /// UDP clients that are relayed at present, tap and all.
    public var relayedClientCount: Int { relays.count }

    // MARK: EventSink

    /// A descriptor of a forwarded port is ready.
    public func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        switch token.kind {
        case TokenKind.spliceClient, TokenKind.spliceServer:
            splices.ready(token, readiness)
        case TokenKind.relayClient, TokenKind.relayServer:
            relays.ready(token, readiness, batch: batch, now: now)
            if !relays.strays.isEmpty { takeBack(relays.strays.take(), now: now) }
        default:
            guard let listener = listeners.current(token) else { return }
            if entries[listener.entry].rule.transport == .tcp {
                acceptConnections(listener, token)
            } else {
                receiveDatagrams(listener, now: now)
            }
        }
    }

    /// Goes on with connections that had more than their share, and makes sockets for those to come.
    public func batchEnded(now: MonotonicTime) {
        splices.serveQueue()
        pool.refill()
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

    /// Accepts what waits, a bounded number at a time.
    private func acceptConnections(_ listener: Listener, _ token: EventToken) {
        for _ in 0..<64 {
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let socket = unsafe tapas_accept(listener.socket, &storage, &length)
            guard socket >= 0 else {
                switch currentErrno {
                case .resourceTemporarilyUnavailable: return
                case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .noMemory:
                    pause(listener, token)
                    return
                // Errors of the connection that was to be accepted (accept(2), "Error handling").
                default: continue
                }
            }
            guard let peer = unsafe Endpoint(&storage) else {
                HostSocket.close(socket)
                continue
            }
            if !forward(socket, from: peer, listener) { HostSocket.abort(socket) }
        }
    }

    /// Sends an accepted connection on its way; false if there is none, and the socket still the caller's.
    private func forward(_ socket: CInt, from peer: Endpoint, _ listener: Listener) -> Bool {
        let entry = entries[listener.entry]
        let target = entry.target(of: listener.port)
        let isLoopback = IPAddress(unmapping: peer.address).isLoopback
        if entry.rule.direction == .outbound {
            // Both ends are the namespace's loopback, and the host's will be the same.
            guard isLoopback, let local = HostSocket.localEndpoint(socket),
                IPAddress(unmapping: local.address).isLoopback,
                case .socket(let server) = HostSocket.connect(
                    to: Endpoint(address: local.address, port: target), type: HostSocket.stream,
                    source: IPAddress(unmapping: peer.address), device: nil)
            else { return false }
            return splices.join(socket, server)
        }
        if isLoopback, options.splicesInbound, entry.rule.targetAddress == nil {
            guard let address = spliceTarget(socket, from: peer) else { return false }
            return connectInNamespace(socket, to: Endpoint(address: address, port: target))
        }
        return forwarder?.accept(socket, from: peer, to: target, at: entry.rule.targetAddress) ?? false
    }

    /// The namespace's address for a connection or datagram from the host's loopback that does not go by the tap.
    func spliceTarget(_ socket: CInt, from peer: Endpoint) -> IPv6Address? {
        guard options.hostLoopbackToNamespaceLoopback else {
            return forwarder?.inbound.spliceTarget(isIPv4: peer.family == .v4)
        }
        if let local = HostSocket.localEndpoint(socket)?.address, IPAddress(unmapping: local).isLoopback {
            return local
        }
        return peer.family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
    }

    private func connectInNamespace(_ client: CInt, to target: Endpoint) -> Bool {
        guard let server = pool.take(.init(isStream: true, isIPv4: target.family == .v4)) else { return false }
        guard target.connect(server) == 0 || currentErrno == .nowInProgress else {
            HostSocket.close(server)
            return false
        }
        return splices.join(client, server)
    }

    // MARK: Too few descriptors

    /// Looks away from a listener whose connections cannot be accepted, for a moment: it would be ready all the time.
    private func pause(_ listener: Listener, _ token: EventToken) {
        forwarder?.evictFlow()
        guard (try? loop.modify(FileDescriptor(rawValue: listener.socket), for: [], token: token)) != nil else {
            return
        }
        if paused.isEmpty {
            options.logger.warning("out of descriptors: new connections to forwarded ports wait")
            loop.schedule(at: .now.advanced(milliseconds: 200)) { [weak self] _ in self?.resume() }
        }
        paused.append(token)
    }

    private func resume() {
        let tokens = paused
        paused = []
        for token in tokens {
            guard let listener = listeners.current(token) else { continue }
            try? loop.modify(FileDescriptor(rawValue: listener.socket), for: .readable, token: token)
        }
    }
}
