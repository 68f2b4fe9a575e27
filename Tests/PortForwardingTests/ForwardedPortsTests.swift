// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

@testable import PortForwarding

@Suite("Forwarded ports", .serialized, .takesPortsBack, .timeLimit(.minutes(2))) struct ForwardedPortsTests {
    static let addresses = ["127.0.0.1", "::1"]

    /// A forwarded connection: both its ends.
    private static func connection(_ bench: Bench, _ address: String = "127.0.0.1") throws -> (Peer, Peer) {
        let server = try Peer.server(HostSocket.stream, address)
        let port = try freePort()
        try bench.ports.setForwards([rule(port, to: server.port, on: address)])
        let client = try Peer.client(HostSocket.stream, to: port, address)
        var accepted: Peer?
        try #require(
            try bench.run {
                accepted = try server.accepted()
                return accepted != nil
            })
        return (client, try #require(accepted))
    }

    @Test("carry bytes both ways and each end by itself", arguments: addresses)
    func carryBytesBothWays(address: String) throws {
        let bench = try Bench()
        let (client, server) = try Self.connection(bench, address)
        #expect(bench.ports.splicedConnectionCount == 1)
        #expect(client.send(Array("ping".utf8)) == 4)
        shutdown(client.number, CInt(SHUT_WR))
        var heard: [UInt8] = []
        var ended = false
        #expect(
            try bench.run {
                guard let bytes = try server.receive() else { return false }
                heard += bytes
                ended = bytes.isEmpty
                return ended
            })
        #expect(heard == Array("ping".utf8))
        #expect(server.send(Array("pong".utf8)) == 4, "after the client's end")
        #expect(try bench.run { try client.receive() == Array("pong".utf8) })
        shutdown(server.number, CInt(SHUT_WR))
        #expect(try bench.run { try client.receive() == [] && bench.ports.splicedConnectionCount == 0 })
    }

    @Test("carry a lot, byte for byte, both ways at once", arguments: [UInt64(1), 2])
    func carryALot(seed: UInt64) throws {
        let bench = try Bench()
        let (client, server) = try Self.connection(bench)
        var random = SplitMix64(seed: seed)
        let pattern = (0..<8_000_000 / 8).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
        var sent = [0, 0]
        var heard: [[UInt8]] = [[], []]
        func work(_ side: Int, _ from: Peer, _ to: Peer) throws {
            while sent[side] < pattern.count {
                let chunk = Array(pattern[sent[side]..<min(sent[side] + 100_000, pattern.count)])
                let count = from.send(chunk)
                if count <= 0 { break }
                sent[side] += count
            }
            while heard[side].count < pattern.count, let bytes = try to.receive() { heard[side] += bytes }
        }
        #expect(
            try bench.run {
                try work(0, client, server)
                try work(1, server, client)
                return heard.allSatisfy { $0.count == pattern.count }
            })
        #expect(heard[0] == pattern && heard[1] == pattern)
    }

    @Test("pass a reset on", arguments: [true, false])
    func passAResetOn(byClient: Bool) throws {
        let bench = try Bench()
        var (client, server): (Peer?, Peer?) = try Self.connection(bench)
        if byClient { client?.reset() } else { server?.reset() }
        if byClient { client = nil } else { server = nil }
        let other = try #require(byClient ? server : client)
        var error: Errno?
        #expect(
            try bench.run {
                do { _ = try other.receive() } catch let failure as SystemCallError { error = failure.errno }
                return error != nil
            })
        #expect(error == .connectionReset)
        #expect(bench.ports.splicedConnectionCount == 0)
    }

    @Test("reset a client whose target nobody serves")
    func resetAClientWithoutTarget() throws {
        let bench = try Bench()
        let (port, target) = (try freePort(), try freePort())
        try bench.ports.setForwards([rule(port, to: target)])
        let client = try Peer.client(HostSocket.stream, to: port)
        #expect(try bench.run { HostSocket.takeError(client.number) == .connectionReset })
        #expect(bench.ports.splicedConnectionCount == 0)
    }

    @Test("need no round trip to the namespace for a connection: sockets are made in advance")
    func needNoRoundTrip() throws {
        let bench = try Bench()
        let server = try Peer.server(HostSocket.stream)
        let port = try freePort()
        try bench.ports.setForwards([rule(port, to: server.port)])
        var clients: [Peer] = []
        for _ in 0..<100 { clients.append(try Peer.client(HostSocket.stream, to: port)) }
        var accepted: [Peer] = []
        #expect(
            try bench.run {
                while let peer = try server.accepted() { accepted.append(peer) }
                return accepted.count == 100
            })
        #expect(bench.requests < 20, "\(bench.requests)")
    }

    @Test("of the namespace lead to the host's loopback", arguments: [TransportProtocol.tcp, .udp])
    func ofTheNamespace(transport: TransportProtocol) throws {
        let bench = try Bench()
        let type = transport == .tcp ? HostSocket.stream : HostSocket.datagram
        let server = try Peer.server(type)
        let port = try freePort(type)
        try bench.ports.setForwards([rule(port, to: server.port, transport, .outbound, on: nil)])
        let client = try Peer.client(type, to: port)
        if transport == .udp { #expect(client.send([5]) == 1) }
        var accepted: Peer?
        #expect(
            try bench.run {
                if transport == .udp { return try server.receive() == [5] }
                accepted = try server.accepted()
                return accepted != nil
            })
    }
}

@Suite("The rules of forwarded ports", .serialized, .takesPortsBack, .timeLimit(.minutes(2)))
struct ForwardingRulesTests {
    /// Whether a port of an address can be connected to.
    private static func answers(_ port: UInt16, _ address: String = "127.0.0.1") throws -> Bool {
        let peer = try Peer.make(HostSocket.stream, address)
        let endpoint = try Peer.endpoint(address, port)
        guard (try? endpoint.connect(peer.number, mayGoOn: true)) != nil else { return false }
        return HostSocket.takeError(peer.number) == nil
    }

    @Test("a change keeps the sockets that stay: what waits on them is not lost")
    func aChangeKeepsSockets() throws {
        let bench = try Bench()
        let server = try Peer.server(HostSocket.stream)
        let (first, second) = (try freePort(), try freePort())
        try bench.ports.setForwards([rule(first, to: 9)])
        // Accepted by the kernel under the old table, by us under the new one.
        let client = try Peer.client(HostSocket.stream, to: first)
        try bench.ports.setForwards([rule(second, to: 9), rule(first, to: server.port)])
        #expect(bench.ports.listenerCount == 2 && bench.ports.forwards.count == 2)
        var accepted: Peer?
        #expect(
            try bench.run {
                accepted = try server.accepted()
                return accepted != nil
            })
        #expect(client.send([1]) == 1)
        try bench.ports.setForwards([])
        #expect(bench.ports.listenerCount == 0)
        #expect(try !Self.answers(first) && !Self.answers(second))
        let peer = try #require(accepted)
        #expect(try bench.run { try peer.receive() == [1] }, "the connection outlives its rule")
    }

    @Test("a change that fails changes nothing")
    func aChangeThatFails() throws {
        let bench = try Bench()
        let taken = try Peer.server(HostSocket.stream)
        let (old, new) = (try freePort(), try freePort())
        try bench.ports.setForwards([rule(old, to: 9)])
        do {
            try bench.ports.setForwards([rule(new, to: 9), rule(taken.port, to: 9)])
            Issue.record("the port was taken")
        } catch {
            #expect(
                "\(error)".hasPrefix(
                    "cannot listen on TCP port 127.0.0.1:\(taken.port): Address already in use (EADDRINUSE)"))
        }
        #expect(bench.ports.forwards == [rule(old, to: 9)])
        #expect(bench.ports.listenerCount == 1)
        #expect(try Self.answers(old) && !Self.answers(new))
    }

    @Test("an address gives way to the wildcard of the same port, and comes back if that fails")
    func anAddressGivesWay() throws {
        let bench = try Bench()
        let port = try freePort()
        try bench.ports.setForwards([rule(port, to: 9)])
        try bench.ports.setForwards([rule(port, to: 9, on: "0.0.0.0")])
        #expect(bench.ports.listenerCount == 1)
        #expect(try Self.answers(port, "127.0.0.2"))
        try bench.ports.setForwards([rule(port, to: 9)])
        #expect(try Self.answers(port) && !Self.answers(port, "127.0.0.2"))
        // Somebody else has the port on another address: the wildcard cannot be had.
        let other = try Peer.server(HostSocket.stream, "127.0.0.3", port: port)
        #expect(throws: PortForwardingError.self) { try bench.ports.setForwards([rule(port, to: 9, on: "0.0.0.0")]) }
        #expect(try Self.answers(port) && bench.ports.listenerCount == 1)
        withExtendedLifetime(other) {}
    }

    @Test("ports of best effort that are taken are skipped; a rule without any port is an error")
    func bestEffort() throws {
        let bench = try Bench()
        let free = try freePort(count: 2)
        let taken = try Peer.server(HostSocket.stream, port: free + 1)
        var some = rule(free, to: 9, policy: .bestEffort)
        some.last = Port(taken.port)
        some.targetFirst = Port(9)
        try bench.ports.setForwards([some])
        #expect(bench.ports.listenerCount == 1)
        #expect(throws: PortForwardingError.self) {
            try bench.ports.setForwards([rule(taken.port, to: 9, policy: .bestEffort)])
        }
        #expect(bench.ports.forwards == [some])
    }

    @Test("a rule for a device that does not exist waits, and does not fail")
    func aDeviceThatDoesNotExist() throws {
        let bench = try Bench()
        var absent = rule(try freePort(), to: 9, on: nil)
        absent.interface = "no-such-device0"
        try bench.ports.setForwards([absent])
        #expect(bench.ports.listenerCount == 0 && bench.ports.forwards == [absent])
        bench.ports.retryPendingForwards()
        #expect(bench.ports.listenerCount == 0)
        absent.interface = "lo"
        try bench.ports.setForwards([absent])
        #expect(bench.ports.listenerCount == 1)
    }

    @Test("a rule for an address that the host does not have listens all the same")
    func anAbsentAddress() throws {
        let bench = try Bench()
        for (address, transport) in [("203.0.113.7", TransportProtocol.tcp), ("2001:db8:77::7", .udp)] {
            try bench.ports.setForwards([rule(try freePort(), to: 9, transport, on: address)])
            #expect(bench.ports.listenerCount == 1)
            #expect(bench.ports.states.map(\.wait) == [.address])
        }
    }

    @Test("a port that a predecessor has is waited for; that is told when it takes long, and in the error")
    func aPredecessor() throws {
        let taken = try Peer.server(HostSocket.stream)
        for silence: Int64 in [0, 3_600_000] {
            let lines = LinesOfLog()
            let bench = try Bench {
                $0.patience = 60
                $0.silentPatience = silence
                $0.logger = lines.logger(.warning)
            }
            let error = #expect(throws: PortForwardingError.self) {
                try bench.ports.setForwards([rule(taken.port, to: 9)])
            }
            let text = error?.description ?? ""
            #expect(
                text.hasSuffix("Address already in use (EADDRINUSE); it did not become free within 60 ms"), "\(text)")
            let told = "TCP port 127.0.0.1:\(taken.port) still belongs to another process: waiting for it, 60 ms in all"
            #expect(lines.all == (silence == 0 ? [told] : []))
        }
    }

    @Test("what the host lacks is one warning for each lack; --freebind means it")
    func absenceIsWarnedOf() throws {
        for isMeant in [false, true] {
            let lines = LinesOfLog()
            let bench = try Bench {
                $0.expectsAbsentAddresses = isMeant
                $0.logger = lines.logger(.warning)
            }
            var rules: [PortForward] = []
            for address in ["203.0.113.7", "203.0.113.7", "2001:db8:77::7"] {
                rules.append(rule(try freePort(), to: 9, on: address))
            }
            var scanned = rule(try freePort(), to: 9, .udp, on: "203.0.113.8", policy: .scanned)
            scanned.last = scanned.first
            var absent = rule(try freePort(), to: 9, on: nil)
            absent.interface = "no-such-device0"
            try bench.ports.setForwards(rules + [scanned, absent])
            // What was told once is not told again.
            try bench.ports.setForwards([scanned, absent] + rules)
            let about = lines.all.filter { $0.contains("at present") }
            #expect(about.count == (isMeant ? 1 : 4), "\(about)")
            #expect(about.contains { $0.hasPrefix("there is no interface 'no-such-device0' at present: TCP ") })
            guard !isMeant else { continue }
            #expect(about.contains { $0.hasPrefix("the host does not have 203.0.113.7 at present: TCP 203.0.113.7:") })
            #expect(about.contains { $0.contains(", and 1 more, will be forwarded as soon as it does") })
            #expect(about.contains { $0.contains("does not have 203.0.113.8") }, "auto rules, too")
        }
    }

    @Test("what the host lacks is refused if nobody tells when it comes, but for --freebind")
    func absenceIsRefused() throws {
        let bench = try Bench { $0.followsHost = false }
        let port = try freePort()
        var absent = rule(port, to: 9, on: nil)
        absent.interface = "no-such-device0"
        for (refused, words) in [
            (absent, "*%no-such-device0:\(port): No such device (ENODEV); there is no interface 'no-such-device0'"),
            (
                rule(port, to: 9, on: "203.0.113.7"),
                "203.0.113.7:\(port): Cannot assign requested address (EADDRNOTAVAIL); the host does not have 203.0.113.7"
            ),
            (rule(port, to: 9, on: "203.0.113.7", policy: .scanned), "203.0.113.7:\(port): Cannot assign"),
        ] {
            let error = #expect(throws: PortForwardingError.self) { try bench.ports.setForwards([refused]) }
            let text = error?.description ?? ""
            #expect(text.contains(words) && text.contains("--no-monitor does not wait for it"), "\(text)")
            #expect(text.contains("--freebind") == (refused.address != nil), "\(text)")
            #expect(bench.ports.listenerCount == 0)
        }
        let freely = try Bench {
            $0.followsHost = false
            $0.expectsAbsentAddresses = true
        }
        try freely.ports.setForwards([rule(port, to: 9, on: "203.0.113.7")])
        #expect(freely.ports.listenerCount == 1)
        #expect(throws: PortForwardingError.self) { try freely.ports.setForwards([absent]) }
    }

    /// Best effort on some ports in a row.
    private static func range(_ first: UInt16, count: UInt16) -> PortForward {
        var range = rule(first, to: 9, policy: .bestEffort)
        range.last = Port(first + count - 1)
        return range
    }

    @Test("a port of best effort that somebody has is tried again until it is free, and only then there is a timer")
    func aPortOfBestEffort() throws {
        let bench = try Bench { $0.retryInterval = 2 }
        try bench.ports.setForwards([Self.range(try freePort(count: 3), count: 3)])
        #expect(bench.ports.listenerCount == 3 && bench.ports.retryTimer == nil && bench.ports.deadline == nil)
        try bench.ports.setForwards([])
        let first = try freePort(count: 3)
        var taken: Peer? = try Peer.server(HostSocket.stream, port: first + 1)
        try bench.ports.setForwards([Self.range(first, count: 3)])
        #expect(bench.ports.listenerCount == 2 && bench.ports.retryTimer != nil)
        bench.ports.tryPending()
        #expect(bench.ports.listenerCount == 2 && bench.ports.retryTimer != nil && taken != nil)
        taken = nil
        #expect(try bench.run { bench.ports.listenerCount == 3 })
        #expect(bench.ports.retryTimer == nil)
        _ = try Peer.client(HostSocket.stream, to: first + 1)
    }

    @Test("such a port is tried again when the host changes, too, and given up with its rule")
    func aPortOfBestEffortAndTheHost() throws {
        let bench = try Bench { $0.retryInterval = 3_600_000 }
        let first = try freePort(count: 2)
        var taken: Peer? = try Peer.server(HostSocket.stream, port: first)
        try bench.ports.setForwards([Self.range(first, count: 2)])
        bench.ports.retryPendingForwards()
        #expect(bench.ports.listenerCount == 1 && bench.ports.retryTimer != nil && taken != nil)
        taken = nil
        // A program that another test is just starting may have a copy of it until it runs.
        #expect(
            try bench.run {
                bench.ports.retryPendingForwards()
                return bench.ports.listenerCount == 2
            })
        #expect(bench.ports.retryTimer == nil)
        let second = try freePort(count: 2)
        taken = try Peer.server(HostSocket.stream, port: second)
        try bench.ports.setForwards([Self.range(second, count: 2)])
        #expect(bench.ports.retryTimer != nil)
        try bench.ports.setForwards([])
        #expect(bench.ports.retryTimer == nil && taken != nil)
    }

    @Test("many such ports are tried in turn, and follow each other at once when somebody ends")
    func manyPortsOfBestEffort() throws {
        let other = try Bench()
        let bench = try Bench { $0.retryInterval = 50 }
        let first = try freePort(count: 601)
        var theirs = Self.range(first, count: 600)
        theirs.policy = .explicit
        try other.ports.setForwards([theirs])
        try bench.ports.setForwards([Self.range(first, count: 601)])
        #expect(bench.ports.listenerCount == 1)
        for _ in 0..<3 { bench.ports.tryPending() }
        #expect(bench.ports.rules[0].pending.count == 600)
        try other.ports.setForwards([])
        bench.ports.tryPending()
        #expect(bench.ports.listenerCount < 601, "not all at a time")
        #expect(try bench.run { bench.ports.listenerCount == 601 })
        #expect(bench.ports.retryTimer == nil)
    }

    @Test("an auto rule listens while somebody does on the other side, and only it needs a timer")
    func anAutoRule() throws {
        let bench = try Bench()
        let (port, target) = (try freePort(), try freePort())
        try bench.ports.setForwards([rule(port, to: target)])
        #expect(bench.ports.scanTimer == nil && bench.ports.deadline == nil)
        try bench.ports.setForwards([rule(port, to: target, policy: .scanned)])
        #expect(bench.ports.scanTimer != nil)
        #expect(bench.ports.listenerCount == 0)
        var server: Peer? = try Peer.server(HostSocket.stream, port: target)
        #expect(try bench.run { bench.ports.listenerCount == 1 })
        #expect(try Self.answers(port) && server != nil)
        server = nil
        #expect(try bench.run { bench.ports.listenerCount == 0 })
        try bench.ports.setForwards([])
        #expect(bench.ports.scanTimer == nil)
    }

    @Test("the listening sockets of this namespace are found, both ways of asking")
    func theListeningSocketsAreFound() throws {
        let tcp = try Peer.server(HostSocket.stream)
        let udp = try Peer.server(HostSocket.datagram, "::1")
        let ways: [([NamespaceRequest]) -> NamespaceAnswers] = [
            NamespaceRequest.answers,
            { requests in
                requests.flatMap { request -> NamespaceAnswers in
                    if case .socket = request { return [.failure(.permissionDenied)] }
                    return NamespaceRequest.answers(to: [request])
                }
            },
        ]
        for way in ways {
            guard let sockets = ListeningSockets(way) else {
                Issue.record("the kernel shows its sockets in neither way")
                continue
            }
            for _ in 0..<2 {
                let ports = sockets.ports()
                #expect(ports?.tcp.contains(tcp.port) == true && ports?.udp.contains(udp.port) == true)
            }
        }
    }

    @Test("who has a port is found by its process")
    func whoHasAPort() throws {
        let server = try Peer.server(HostSocket.stream)
        let holders = PortHolders(of: [rule(server.port, to: 9)])
        #expect(holders[.tcp, server.port]?.process?.id == Int(getpid()))
        #expect(holders[.udp, server.port] == nil)
    }
}
