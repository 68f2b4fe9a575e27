// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import Synchronization
import SystemPackage
import Testing

@testable import PortForwarding

extension ForwardedPortsTests {
    @Test("a slow namespace delays no other traffic: connections wait for its sockets, and others go on")
    func connectionsWait() throws {
        let namespace = SlowNamespace()
        let bench = try Bench(namespace: namespace.sockets)
        let server = try Peer.server(HostSocket.stream)
        let (inbound, outbound) = (try freePort(), try freePort())
        try bench.ports.setForwards([
            rule(inbound, to: server.port), rule(outbound, to: server.port, .tcp, .outbound, on: nil),
        ])
        // More than are accepted while none can be connected.
        let clients = try (0..<90).map { _ in try Peer.client(HostSocket.stream, to: inbound) }
        let more = try (0..<300).map { _ in try Peer.client(HostSocket.stream, to: inbound) }
        #expect(try bench.run { namespace.isAsked })
        // The host's sockets are there still.
        let other = try Peer.client(HostSocket.stream, to: outbound)
        #expect(other.send([1]) == 1)
        var accepted: [Peer] = []
        #expect(
            try bench.run {
                while let peer = try server.accepted() { accepted.append(peer) }
                return accepted.count == 1
            })
        #expect(try bench.run { try accepted[0].receive() == [1] })
        #expect(bench.ports.splicedConnectionCount == 1)
        #expect(
            try bench.run {
                namespace.answer()
                while let peer = try server.accepted() { accepted.append(peer) }
                return accepted.count == 1 + clients.count + more.count
            }, "\(accepted.count)")
    }

    @Test("datagrams wait, too, and arrive in order")
    func datagramsWait() throws {
        let namespace = SlowNamespace()
        let bench = try Bench(namespace: namespace.sockets)
        let server = try Peer.server(HostSocket.datagram)
        let port = try freePort(HostSocket.datagram)
        try bench.ports.setForwards([rule(port, to: server.port, .udp)])
        let client = try Peer.client(HostSocket.datagram, to: port)
        for number in 0..<10 as Range<UInt8> { #expect(client.send([number]) == 1) }
        #expect(try bench.run { namespace.isAsked && !bench.ports.held.isEmpty })
        #expect(try server.receive() == nil)
        namespace.answer()
        var heard: [UInt8] = []
        #expect(
            try bench.run {
                while let bytes = try server.receive() { heard += bytes }
                return heard.count == 10
            })
        #expect(heard == Array(0..<10))
    }

    @Test("an auto rule listens in a slow namespace once there are sockets for it")
    func anAutoRuleInASlowNamespace() throws {
        let namespace = SlowNamespace()
        let bench = try Bench(namespace: namespace.sockets)
        let (port, target) = (try freePort(), try freePort())
        try bench.ports.setForwards([rule(port, to: target, .tcp, .outbound, on: nil, policy: .scanned)])
        let server = try Peer.server(HostSocket.stream, port: target)
        #expect(try bench.run { namespace.isAsked })
        #expect(bench.ports.listenerCount == 0)
        namespace.answer()
        #expect(try bench.run { bench.ports.listenerCount == 1 })
        withExtendedLifetime(server) {}
    }

    @Test("a namespace that can make no sockets refuses connections, and is asked again after a while only")
    func noSockets() throws {
        let asked = Asked()
        let bench = try Bench(
            namespace: NamespaceSockets(
                open: NamespaceRequest.answers,
                openLater: { requests, completion in
                    asked.count()
                    completion(requests.map { _ in .failure(.noMemory) })
                }))
        let port = try freePort()
        try bench.ports.setForwards([rule(port, to: 9)])
        for _ in 0..<5 {
            let client = try Peer.client(HostSocket.stream, to: port)
            #expect(try bench.run { HostSocket.takeError(client.number) == .connectionReset })
        }
        #expect(asked.value <= 3, "\(asked.value)")
    }
}
