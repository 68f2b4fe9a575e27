// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import PortForwarding

extension Bench {
    /// Changes the rules while the loop runs, and waits until that is done.
    ///
    /// - Throws: Why nothing has changed.
    func change(to rules: [PortForward]) throws {
        var outcome: PortForwardingError??
        ports.change(to: rules) { outcome = .some($0) }
        try #require(try run { outcome != nil })
        if case .some(.some(let error)) = outcome { throw error }
    }
}

@Suite("A change of forwarded ports at run time", .serialized, .takesPortsBack, .timeLimit(.minutes(2)))
struct ChangeTests {
    @Test("waits for the namespace's sockets without holding up what is there")
    func waitsWithoutHoldingUp() throws {
        let namespace = SlowNamespace(mayBeWaitedFor: false)
        let bench = try Bench(namespace: namespace.sockets)
        let server = try Peer.server(HostSocket.stream)
        let (inbound, outbound) = (try freePort(), try freePort())
        try bench.change(to: [rule(inbound, to: server.port)])
        var isDone = false
        let wanted = [rule(inbound, to: server.port), rule(outbound, to: server.port, .tcp, .outbound, on: nil)]
        bench.ports.change(to: wanted) { error in
            #expect(error == nil)
            isDone = true
        }
        // First what the namespace can do, then the sockets.
        #expect(try bench.run { namespace.isAsked })
        #expect(!isDone && bench.ports.forwards.count == 1)
        let client = try Peer.client(HostSocket.stream, to: inbound)
        var accepted: Peer?
        #expect(
            try bench.run {
                namespace.answer()
                accepted = try accepted ?? server.accepted()
                return isDone && accepted != nil
            })
        #expect(bench.ports.forwards == wanted && bench.ports.listenerCount == 2)
        let other = try Peer.client(HostSocket.stream, to: outbound)
        #expect(other.send([7]) == 1 && client.send([8]) == 1)
        var second: Peer?
        #expect(
            try bench.run {
                namespace.answer()
                second = try second ?? server.accepted()
                return try second?.receive() == [7]
            })
    }

    @Test("is one after the other, each on the rules that the one before has left")
    func isOneAfterTheOther() throws {
        let bench = try Bench()
        let first = try freePort(count: 5)
        var seen: [Int] = []
        for index in 0..<5 as Range<UInt16> {
            bench.ports.change({ $0 + [rule(first + index, to: 9)] }) { outcome in
                if case .success(let rules) = outcome { seen.append(rules.count) }
            }
        }
        #expect(try bench.run { seen.count == 5 })
        #expect(seen == [1, 2, 3, 4, 5])
        #expect(bench.ports.counters.changes == 5)
    }

    @Test("for which the namespace has no sockets changes nothing and reports this")
    func withoutSockets() throws {
        let bench = try Bench(
            namespace: NamespaceSockets(
                open: { $0.map { _ in .failure(.noMemory) } },
                openLater: { requests, completion in completion(requests.map { _ in .failure(.noMemory) }) }))
        let (inbound, outbound) = (try freePort(), try freePort())
        try bench.change(to: [rule(inbound, to: 9)])
        #expect { try bench.change(to: [rule(outbound, to: 9, .tcp, .outbound, on: nil)]) } throws: {
            "\($0)".contains("cannot make sockets in the namespace")
        }
        #expect(bench.ports.forwards == [rule(inbound, to: 9)] && bench.ports.listenerCount == 1)
        #expect(bench.ports.counters.failedChanges == 1)
    }

    @Test("takes what waits on a socket before it closes it", arguments: [TransportProtocol.tcp, .udp])
    func takesWhatWaits(transport: TransportProtocol) throws {
        let bench = try Bench()
        let type = transport == .tcp ? HostSocket.stream : HostSocket.datagram
        let server = try Peer.server(type)
        let port = try freePort(type)
        try bench.change(to: [rule(port, to: server.port, transport)])
        let client = try Peer.client(type, to: port)
        #expect(client.send([3]) == 1)
        // Accepted by the kernel; this object has not had a turn since.
        bench.ports.change(to: []) { #expect($0 == nil) }
        #expect(bench.ports.listenerCount == 0)
        var peer: Peer?
        #expect(
            try bench.run {
                if transport == .udp { return try server.receive() == [3] }
                peer = try peer ?? server.accepted()
                return try peer?.receive() == [3]
            })
    }

    @Test("reports which rules wait, and for what")
    func tellsWhichRulesWait() throws {
        let bench = try Bench()
        let port = try freePort(count: 4)
        let taken = try Peer.server(HostSocket.stream, port: port + 3)
        var device = rule(port, to: 9, on: nil)
        device.interface = "no-such-device0"
        var range = rule(port + 2, to: 9, policy: .bestEffort)
        range.last = Port(taken.port)
        try bench.change(to: [device, rule(port + 1, to: 9, on: "203.0.113.7"), range])
        #expect(
            bench.ports.states.map { "\($0.openPorts) \($0.takenPorts) \($0.wait?.rawValue ?? "-")" }
                == ["0 0 interface", "1 0 address", "1 1 -"])
    }

    @Test("to a rule with a target address leads loopback's clients there", arguments: [TransportProtocol.tcp, .udp])
    func aTargetAddress(transport: TransportProtocol) throws {
        let bench = try Bench()
        let type = transport == .tcp ? HostSocket.stream : HostSocket.datagram
        let server = try Peer.server(type, "127.0.0.9")
        let port = try freePort(type)
        var named = rule(port, to: server.port, transport)
        named.targetAddress = IPAddress("127.0.0.9")
        try bench.change(to: [named])
        let client = try Peer.client(type, to: port)
        #expect(client.send([4]) == 1)
        var peer: Peer?
        #expect(
            try bench.run {
                if transport == .udp { return try server.receive() == [4] }
                peer = try peer ?? server.accepted()
                return try peer?.receive() == [4]
            })
    }
}
