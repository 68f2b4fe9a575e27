// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

@testable import PortForwarding

/// Random changes of the rules with clients that connect meanwhile, compared with a model.
private final class RandomChanges {
    /// A connection through a forwarded port: both its ends once the server has accepted it.
    private struct Connection {
        var client: Peer
        var server: Peer?
        var mark: UInt8
    }

    /// Ports of the host, and after them those of the namespace.
    private static let portCount: UInt16 = 12
    private var random: SplitMix64
    private let bench: Bench
    /// On two ports in a row: a rule may have two.
    private let servers: [Peer]
    private let first: UInt16
    /// The host's ports that another process has.
    private let taken: [Peer]
    private var connections: [Connection] = []
    private var rules: [PortForward] = []
    private(set) var failures = 0
    private(set) var served = 0
    /// The faults found, each once.
    private(set) var faults: Set<String> = []

    init(seed: UInt64) throws {
        random = SplitMix64(seed: seed)
        bench = try Bench()
        let target = try freePort(count: 2)
        servers = try [target, target + 1].map { try Peer.server(HostSocket.stream, "0.0.0.0", port: $0) }
        first = try freePort(count: Self.portCount * 2)
        taken = try [first + 3, first + 7].map { try Peer.server(HostSocket.stream, "0.0.0.0", port: $0) }
    }

    private func oneIn(_ count: Int) -> Bool { Int.random(in: 0..<count, using: &random) == 0 }

    /// Rules that do not conflict; sometimes one for a port that another process has.
    private func anyRules() -> [PortForward] {
        var rules: [PortForward] = []
        var port = first
        while port < first + Self.portCount * 2 {
            let isOutbound = port >= first + Self.portCount
            let isTaken = taken.contains { $0.port == port }
            defer { port += 1 }
            guard isTaken ? oneIn(10) : oneIn(2) else { continue }
            let address =
                isOutbound ? nil : ["127.0.0.1", "127.0.0.1", "0.0.0.0", "127.0.0.2"].randomElement(using: &random)
            var new = rule(
                port, to: servers[0].port, .tcp, isOutbound ? .outbound : .inbound, on: address,
                policy: oneIn(4) ? .bestEffort : .explicit)
            // Two ports of one rule. One of them may come to be another rule's: it leads to another server then.
            if !isTaken, !isOutbound, oneIn(5), !taken.contains(where: { $0.port == port + 1 }),
                port + 1 < first + Self.portCount
            {
                new.last = Port(port + 1)
                port += 1
            }
            rules.append(new)
        }
        return rules
    }

    /// Connects to some of the ports that lead to the server now.
    private func connect() throws {
        for rule in rules where connections.count < 40 && oneIn(4) {
            guard !taken.contains(where: { $0.port == rule.first.rawValue }) else { continue }
            let address = rule.address.map { $0.isUnspecified ? "127.0.0.1" : "\($0)" } ?? "127.0.0.1"
            let client = try Peer.make(HostSocket.stream, address)
            let endpoint = try Peer.endpoint(address, rule.first.rawValue)
            let isBegun = (try? endpoint.connect(client.number, mayGoOn: true)) != nil
            guard isBegun, HostSocket.peerEndpoint(client.number) != nil else {
                faults.insert("a port that a rule names is not listened on")
                continue
            }
            let mark = UInt8.random(in: 0...255, using: &random)
            if client.send([mark]) != 1 { faults.insert("a connection was lost before its first byte") }
            // The client knows of the connection before the kernel's other end does: that one's last packet may still be
            // on its way. From here on both do.
            if !Self.isHeard(client) { faults.insert("the kernel does not acknowledge a client's byte") }
            connections.append(Connection(client: client, server: nil, mark: mark))
        }
    }

    /// Waits until the other end's kernel has what a client has sent.
    private static func isHeard(_ client: Peer) -> Bool {
        let limit = MonotonicTime.now.advanced(milliseconds: 5000)
        while MonotonicTime.now < limit {
            var info = tcp_info()
            var length = socklen_t(MemoryLayout<tcp_info>.size)
            guard getsockopt(client.number, CInt(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { return false }
            if info.tcpi_unacked == 0 { return true }
            sched_yield()
        }
        return false
    }

    /// Serves connections until each has an end at the server and its bytes have come.
    private func serve() throws {
        var unmatched: [Peer] = []
        let isServed = try bench.run { [self] in
            for server in servers {
                while let peer = try server.accepted() { unmatched.append(peer) }
            }
            for peer in unmatched {
                guard let bytes = try peer.receive() else { continue }
                guard let mark = bytes.first,
                    let index = connections.firstIndex(where: { $0.server == nil && $0.mark == mark })
                else {
                    faults.insert("the server got bytes that nobody has sent")
                    return true
                }
                connections[index].server = peer
                unmatched.removeAll { $0 === peer }
                served += 1
            }
            return connections.allSatisfy { $0.server != nil }
        }
        if !isServed { faults.insert("a client that was connected is not served") }
        connections.removeAll { $0.server == nil }
    }

    /// Has some connections carry a byte each way, and ends some.
    private func exchange() throws {
        for index in connections.indices where oneIn(3) {
            let (client, peer) = (connections[index].client, connections[index].server)
            guard let peer else { continue }
            let isCarried =
                try client.send([1]) == 1 && bench.run { try peer.receive() == [1] } && peer.send([2]) == 1
                && bench.run { try client.receive() == [2] }
            if !isCarried { faults.insert("an established connection was lost") }
        }
        connections.removeAll { _ in oneIn(6) }
    }

    /// What the kernel says is listened on, of our ports.
    private func listening() -> Set<UInt16> {
        guard let sockets = ListeningSockets(NamespaceRequest.answers), let all = sockets.list(.tcp) else { return [] }
        let range = first..<first + Self.portCount * 2
        return Set(all.map(\.port).filter { port in range.contains(port) && !taken.contains { $0.port == port } })
    }

    private func check() {
        var wanted: Set<UInt16> = []
        for rule in rules { wanted.formUnion(rule.first.rawValue...rule.last.rawValue) }
        for peer in taken { wanted.remove(peer.port) }
        let found = listening()
        if !found.subtracting(wanted).isEmpty { faults.insert("a port is listened on that no rule names") }
        if !wanted.subtracting(found).isEmpty { faults.insert("a port that a rule names is not listened on") }
        if bench.ports.forwards != rules { faults.insert("the rules in force are not those that were told") }
    }

    /// One change; clients connect before it, and their connections are served after it.
    func step() throws {
        try connect()
        let wanted = anyRules()
        let mustFail = wanted.contains { rule in
            taken.contains { rule.first.rawValue == $0.port }
        }
        var outcome: PortForwardingError??
        bench.ports.change(to: wanted) { outcome = .some($0) }
        guard try bench.run(until: { outcome != nil }), case .some(let error) = outcome else {
            faults.insert("a change has no end")
            return
        }
        if let error {
            failures += 1
            if !mustFail { faults.insert("a change that is possible failed: \(error)") }
        } else {
            if mustFail { faults.insert("a change to a port that somebody has succeeded") }
            rules = wanted
        }
        check()
        try serve()
        try exchange()
    }
}

@Suite("Random changes of forwarded ports", .serialized, .takesPortsBack, .timeLimit(.minutes(2)))
struct RandomChangeTests {
    @Test(
        "a thousand, with clients that connect meanwhile, lose no connection and leave no port too many or too few",
        arguments: [UInt64(1), 2, 3, 4])
    func aThousand(seed: UInt64) throws {
        let changes = try RandomChanges(seed: seed)
        for _ in 0..<250 where changes.faults.isEmpty { try changes.step() }
        #expect(changes.faults.isEmpty, "seed \(seed)")
        // The run has seen both ends of a change, and connections.
        #expect(changes.failures > 10 && changes.served > 300, "\(changes.failures), \(changes.served)")
    }
}
