// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Datagrams of forwarded ports", .timeLimit(.minutes(1))) struct InboundDatagramTests {
    /// A data path, a client, and what would be the listening socket.
    private struct Place {
        let world: World
        let client: HostEnd
        let listener: HostEnd

        var local: Endpoint { Endpoint(address: IPv6Address(mapping: .loopback), port: listener.port) }
        var peer: Endpoint { Endpoint(address: IPv6Address(mapping: .loopback), port: client.port) }

        init() throws {
            world = try World()
            world.send(GuestFrame.arpRequest(target: Lab.host4))
            client = try HostEnd.datagram()
            listener = try HostEnd.datagram()
            listener.set(SOL_SOCKET, SO_REUSEADDR, 1)
        }

        func datagram(_ bytes: [UInt8], from peer: Endpoint? = nil) -> ReceivedDatagram {
            ReceivedDatagram(peer: peer ?? self.peer, local: local, bytes: bytes)
        }

        /// A socket for the client, as forwarded ports make it.
        func socket() throws -> CInt {
            let number = Glibc.socket(AF_INET, HostSocket.datagram | CInt(SOCK_NONBLOCK.rawValue), 0)
            try HostSocket.set(number, SOL_SOCKET, SO_REUSEADDR, 1)
            try local.bind(number)
            try peer.connect(number)
            return number
        }

        func arrives(_ byte: UInt8) throws {
            _ = try world.next("datagram \(byte)") { frame in
                frame.packet.ipProtocol == 17 && frame.packet.payload == [byte]
            }
        }
    }

    @Test("the first opens the flow with its socket, those after it need none, and both ways are open")
    func theFirstOpensTheFlow() throws {
        let place = try Place()
        place.world.forwarder.deliver(place.datagram([1]), socket: try place.socket(), to: 8080, at: nil)
        try place.arrives(1)
        place.world.forwarder.deliver(place.datagram([2]), socket: nil, to: 8080, at: nil)
        try place.arrives(2)
        #expect(place.world.forwarder.flowCount == 1)
        #expect(place.local.address.isIPv4Mapped)
        place.client.connect(to: place.local)
        #expect(place.client.write([3]) == 1)
        try place.arrives(3)
    }

    @Test("one without flow and socket comes back, to be sent again with a socket")
    func oneWithoutFlow() throws {
        let place = try Place()
        var strays: [StrayDatagram] = []
        place.world.forwarder.didStray = { strays += $0 }
        place.world.forwarder.deliver(place.datagram([4]), socket: nil, to: 8080, at: nil)
        try place.world.run(until: "the datagram back") { !strays.isEmpty }
        #expect(strays.map(\.hasFlow) == [false] && strays[0].datagram.bytes == [4])
        #expect(strays[0].datagram.peer == place.peer && strays[0].datagram.local == place.local)
        #expect(place.world.forwarder.flowCount == 0)
    }

    @Test("a socket that comes for a client with a flow takes the old one's place")
    func aSecondSocket() throws {
        let place = try Place()
        place.world.forwarder.deliver(place.datagram([5]), socket: try place.socket(), to: 8080, at: nil)
        place.world.forwarder.deliver(place.datagram([6]), socket: try place.socket(), to: 8080, at: nil)
        try place.arrives(6)
        #expect(place.world.forwarder.flowCount == 1)
    }

    @Test("addresses that the namespace uses are reported when they change, and not otherwise")
    func addressesAreTold() throws {
        let place = try Place()
        var told: [IPv6Address?] = []
        place.world.forwarder.guestAddressesDidChange = { v4, _ in told.append(v4) }
        try place.world.settle()
        #expect(told == [IPv6Address(mapping: Lab.guest4)])
        var rules = TranslationRules.lab
        rules.families.v4.guestAddress = .v4(IPv4Address(10, 0, 2, 99))
        place.world.forwarder.publish(rules)
        #expect(told.last == IPv6Address(mapping: IPv4Address(10, 0, 2, 99)) && told.count == 2)
    }
}
