// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The namespace sends queries to one address for its whole life (`--dns-forward`); the servers that answer change with
// the host. A query over UDP is kept until it is answered and is sent to the host's servers in turn: to the next one
// after `patience`, or at once if a server refuses or cannot be reached, to all of them `rounds` times; then the answer
// is SERVFAIL. Without servers, the answer is SERVFAIL at once. When the resolvers change, pending queries start again
// with the new ones.
//
// The socket of such a flow is not connected, and reaches both families (IPv4 servers by mapped addresses), so that it
// can send to any server. An answer counts only if it comes from a server that was asked, port included, and carries
// the identifier of a query of this flow. The kernel chooses the socket's port, which makes answers hard to forge.
// Queries are not the hot path, so they may allocate memory. The number of pending queries of a flow is bounded.
//
// Over TCP, a flow is an ordinary one, except that its connection attempt goes on to the next server when one fails
// (`connectNextResolver`).
//
// syscalls: running(data-path): close ioctl recvfrom socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

/// Pending queries of the namespace, by flow.
struct DNSRelay {
    /// How long to wait for a server before the next one is asked, in milliseconds.
    static let patience: Int64 = 700
    /// How often each server is asked.
    static let rounds = 2
    /// The greatest number of pending queries of a flow; more are dropped, and the client repeats them.
    static let queriesPerFlow = 64
    /// The greatest length of a query that is kept, in bytes.
    static let longestQuery = 4096

    struct Query {
        var identifier: UInt16
        var message: [UInt8]
        /// How many times a server has been asked.
        var attempts = 0
        var deadline: Int64 = 0
        /// The servers that were asked.
        var asked: Set<Endpoint> = []
        /// The server that was asked last.
        var last: Endpoint?
    }

    var queries: [Int: [Query]] = [:]
    /// What has been asked and answered so far.
    var statistics = DNSStatistics()
}

extension DataPath {
    /// The servers to ask on a port, in order.
    func resolvers(port asked: UInt16) -> [Endpoint] {
        let port = options.resolverPort ?? asked
        return translator.rules.dnsServers.map { server in
            var scope: UInt32 = 0
            if server.address.isLinkLocal && server.address.family == .v6 {
                scope = server.zone.map { zone in unsafe zone.withCString { unsafe if_nametoindex($0) } } ?? 0
                if scope == 0 { scope = translator.rules.families.v6.linkLocalScope?.rawValue ?? 0 }
            }
            return Endpoint(address: server.address.asIPv6, port: port, scope: scope)
        }
    }

    /// Opens a flow for queries over UDP; nil if no socket can be opened.
    mutating func openQueries(_ key: FlowKey, hash: UInt32) -> Int? {
        guard let index = addFlow(key, hash: hash, as: .question) else { return nil }
        table[index].state = .datagram
        table[index].flags.insert(.dns)
        let device = translator.rules.resolverInterface
        guard let number = try? Self.openDualStack(device: device), watch(index, socket: number) else {
            counters.drop(.socket)
            closeFlow(index)
            return nil
        }
        HostSocket.setIfPossible(number, CInt(IPPROTO_IP), IP_RECVERR, 1)
        HostSocket.setIfPossible(number, CInt(IPPROTO_IPV6), IPV6_RECVERR, 1)
        setDeadline(index, milliseconds: options.udpTimeout)
        return index
    }

    /// Makes a datagram socket that reaches resolvers of both families.
    private static func openDualStack(device: String?) throws(Errno) -> CInt {
        let number = try HostSocket.open(.v6, type: HostSocket.datagram)
        do throws(Errno) {
            if let device { try HostSocket.bind(number, toDevice: device) }
            try HostSocket.set(number, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0)
        } catch {
            HostSocket.close(number)
            throw error
        }
        return number
    }

    /// A datagram from the namespace for the address that stands for the host's resolvers.
    mutating func receiveQuery(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        if gate != nil, unsafe refusesQuery(summary, frame: frame, count: count) { return }
        guard !translator.rules.dnsServers.isEmpty else {
            dns.statistics.queries &+= 1
            dns.statistics.failures &+= 1
            sendFrame { span, rules in
                DNSFailureResponder.reply(
                    to: unsafe Self.bytes(frame, count), summary: summary, rules: rules, into: &span)
            }
            return
        }
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination,
            guestPort: summary.sourcePort, remotePort: summary.destinationPort, transport: .udp)
        let hash = key.hash
        guard let index = table.find(key, hash: hash) ?? openQueries(key, hash: hash) else { return }
        // The flow existed before the address stood for the resolvers, or belongs to a port forwarded to this client.
        guard table[index].flags.contains(.dns) else { return closeFlow(index) }
        let end = summary.payloadOffset + summary.payloadLength
        ask(index, message: unsafe Self.bytes(frame, count).extracting(summary.payloadOffset..<end))
    }

    /// A query from the namespace.
    private mutating func ask(_ index: Int, message: Span<UInt8>) {
        guard let header = try? DNSHeader(message), !header.isResponse, message.count <= DNSRelay.longestQuery else {
            counters.drop(.notSent)
            return
        }
        var pending = dns.queries[index] ?? []
        dns.statistics.queries &+= 1
        table[index].countFromGuest(message.count)
        // An equal query is the client's retry, which replaces the first one.
        pending.removeAll { $0.identifier == header.identifier }
        guard pending.count < DNSRelay.queriesPerFlow else { return counters.drop(.notSent) }
        let bytes = unsafe message.withUnsafeBufferPointer { unsafe Array($0) }
        pending.append(DNSRelay.Query(identifier: header.identifier, message: bytes))
        dns.queries[index] = pending
        table[index].activity = now.nanoseconds
        advance(index, position: pending.count - 1)
        scheduleQueries(index)
    }

    /// Asks the next server, or gives up.
    private mutating func advance(_ index: Int, position: Int) {
        let servers = resolvers(port: table[index].key.remotePort)
        guard var query = dns.queries[index]?[position] else { return }
        while !servers.isEmpty && query.attempts < servers.count * DNSRelay.rounds {
            let server = servers[query.attempts % servers.count]
            query.attempts += 1
            query.asked.insert(server)
            query.last = server
            dns.statistics.countQuestion(to: server, among: servers)
            if server.send(query.message, on: table[index].socket) {
                query.deadline = now.nanoseconds + DNSRelay.patience * 1_000_000
                dns.queries[index]?[position] = query
                return
            }
        }
        query.deadline = 0
        dns.queries[index]?[position] = query
        dns.statistics.failures &+= 1
        if let failure = DNSFailureResponder.serverFailure(for: query.message.span) { deliver(index, failure) }
    }

    /// Removes the queries that were given up and sets the flow's deadline for the rest.
    private mutating func scheduleQueries(_ index: Int) {
        dns.queries[index]?.removeAll { $0.deadline == 0 }
        guard let earliest = dns.queries[index]?.map(\.deadline).min() else {
            dns.queries[index] = nil
            setDeadline(index, milliseconds: options.udpTimeout)
            return
        }
        wheel.set(index, deadline: earliest)
    }

    /// The deadline of a flow of queries has passed.
    mutating func queryDeadline(_ index: Int) {
        guard let pending = dns.queries[index] else {
            let idle = now.nanoseconds - table[index].activity
            if idle >= options.udpTimeout * 1_000_000 {
                closeFlow(index)
            } else {
                wheel.set(index, deadline: table[index].activity + options.udpTimeout * 1_000_000)
            }
            return
        }
        for position in pending.indices where pending[position].deadline <= now.nanoseconds {
            advance(index, position: position)
        }
        scheduleQueries(index)
    }

    /// A flow of queries has received an answer, or an error.
    mutating func answerReady(_ index: Int, _ readiness: Readiness) {
        if readiness.contains(.error) {
            // A server cannot be reached: queries that wait for it move on at once, others keep waiting.
            _ = HostSocket.takeError(table[index].socket)
            let unreachable = takeUnreachable(index)
            for (position, query) in (dns.queries[index] ?? []).enumerated() {
                if let last = query.last, unreachable.contains(last) { advance(index, position: position) }
            }
            scheduleQueries(index)
        }
        guard readiness.contains(.readable) else { return }
        var buffer: [UInt8] = .init(repeating: 0, count: 65536)
        for _ in 0..<64 {
            guard let (count, sender) = Endpoint.receive(into: &buffer, on: table[index].socket) else { break }
            let message = Array(buffer[0..<count])
            guard let header = try? DNSHeader(message.span), header.isResponse,
                let position = dns.queries[index]?.firstIndex(where: {
                    $0.identifier == header.identifier && $0.asked.contains(sender)
                })
            else {
                counters.drop(.unknownFlow)
                dns.statistics.unexpected &+= 1
                continue
            }
            dns.statistics.countAnswer(from: sender, at: now.nanoseconds)
            table[index].activity = now.nanoseconds
            table.file(index, as: .exchange)
            let query = dns.queries[index]?[position].message ?? []
            guard let answer = checkedAnswer(message, to: query, of: table[index].key) else {
                advance(index, position: position)
                continue
            }
            dns.queries[index]?.remove(at: position)
            if dns.queries[index]?.isEmpty == true { dns.queries[index] = nil }
            deliver(index, answer)
        }
        scheduleQueries(index)
    }

    /// Empties the error queue; returns the servers that its errors are about.
    private func takeUnreachable(_ index: Int) -> Set<Endpoint> {
        var servers: Set<Endpoint> = []
        var buffer: [UInt8] = .init(repeating: 0, count: 256)
        for _ in 0..<64 {
            let flags = CInt(MSG_ERRQUEUE)
            guard let error = Endpoint.receive(into: &buffer, on: table[index].socket, flags: flags) else { break }
            servers.insert(error.sender)
        }
        return servers
    }

    private mutating func deliver(_ index: Int, _ message: [UInt8]) {
        let key = table[index].key
        table[index].countToGuest(message.count)
        let guest = guestMAC
        let mac = gatewayMAC
        sendFrame { span, _ in
            UDPHeader.writeFrame(
                message.span, from: key.remotePort, to: key.guestPort,
                ip: IPHeader(key.family, source: key.remote, destination: key.guest, ipProtocol: .udp, hopLimit: 64),
                to: guest,
                from: mac, into: &span)
        }
    }

    /// The host's resolvers have changed: pending queries are sent to the new ones at once.
    mutating func restartQueries() {
        for index in Array(dns.queries.keys) {
            for position in (dns.queries[index] ?? []).indices {
                dns.queries[index]?[position].attempts = 0
                advance(index, position: position)
            }
            scheduleQueries(index)
        }
    }
}

extension Endpoint {
    /// Sends a datagram on a dual-stack socket.
    ///
    /// - Returns: Whether the kernel accepted it.
    func send(_ message: [UInt8], on number: CInt) -> Bool {
        // A pending error belongs to another query, which the error queue identifies.
        for _ in 0..<2 {
            let result = sendDualStack(message, on: number)
            if case .bytes = result { return true }
            guard case .failed(.connectionRefused) = result else { return false }
        }
        return false
    }

    /// Receives a datagram with its source; nil if there is none.
    ///
    /// With `MSG_ERRQUEUE` it receives the datagram that an error is about, with its destination.
    static func receive(
        into buffer: inout [UInt8], on number: CInt, flags: CInt = 0
    ) -> (count: Int, sender: Endpoint)? {
        let received = unsafe Endpoint.written { address, length in
            transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe recvfrom(number, $0.baseAddress, $0.count, flags | CInt(MSG_DONTWAIT), address, &length)
                }
            }
        }
        guard case .bytes(let count) = received.result, var sender = received.endpoint else { return nil }
        if !sender.address.isLinkLocal { sender.scope = 0 }
        return (count, sender)
    }
}
