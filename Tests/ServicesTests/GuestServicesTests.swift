// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import TestSupport
import Testing
import Wire

@Suite("Services of the link")
struct GuestServicesTests {
    /// All frames that are due.
    private func due(_ services: inout GuestServices, now: Int64 = 0) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        while frames.count < 200 {
            var frame = [UInt8](repeating: 0, count: 2000)
            var span = frame.mutableSpan
            let length = services.nextFrame(now: now, into: &span)
            guard length > 0 else { break }
            frames.append(Array(frame.prefix(length)))
        }
        return frames
    }

    /// A request of a client that gets the lease.
    private func bind(_ services: inout GuestServices) throws {
        let message = DHCPv4Message(request: .request, transactionID: 1, clientMAC: namespaceMAC)
        var frame = [UInt8](repeating: 0, count: 600)
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: .unspecified), destination: IPv6Address(mapping: .broadcast),
            ipProtocol: .udp)
        var span = frame.mutableSpan
        let length = UDPHeader.writeFrame(
            message.bytes.span, from: 68, to: 67, ip: ip, to: .broadcast, from: namespaceMAC, into: &span)
        let reply = try answer(Array(frame.prefix(length))) {
            services.reply(to: $0, summary: $1, now: 0, into: &$2)
        }
        #expect(!reply.isEmpty)
    }

    private func moved(_ edit: (inout ServiceSettings) -> Void = { _ in }) -> ServiceSettings {
        makeSettings {
            $0.v4.guestAddress = Prefix("198.51.100.5/24")
            $0.v4.serverAddress = IPv4Address(198, 51, 100, 1)
            $0.v4.router = IPv4Address(198, 51, 100, 1)
            edit(&$0)
        }
    }

    @Test("asks for the namespace's addresses, announces the gateway and advertises the router at start")
    func beginsByItself() {
        var services = makeServices()
        #expect(services.nextDeadline == .min)
        let frames = due(&services)
        #expect(frames.count == 5)
        expectPacket(
            frames[0],
            .arp(
                operation: 1, senderMAC: .defaultGateway, sender: IPv4Address("192.0.2.2"),
                target: IPv4Address("192.0.2.15")))
        expectPacket(frames[1], .icmp(type: 135))
        expectPacket(
            frames[2],
            .arp(
                operation: 1, senderMAC: .defaultGateway, sender: IPv4Address("192.0.2.2"),
                target: IPv4Address("192.0.2.2")))
        expectPacket(
            frames[3], .ip(from: IPAddress("fe80::1"), to: IPAddress("ff02::1"), hopLimit: 255),
            .icmp(type: 136, rest: 0xA000_0000), .transportChecksum)
        expectPacket(frames[4], .ip(to: IPAddress("ff02::1")), .icmp(type: 134), .transportChecksum)
        #expect(due(&services).isEmpty)
        #expect((services.nextDeadline ?? 0) > 0)
    }

    @Test("conveys a change with frames that are due at once")
    func conveysAChange() {
        var services = makeServices()
        _ = due(&services)
        _ = services.update(
            moved {
                $0.v6.guestAddress = Prefix("2001:db8:2::15/64")
                $0.v6.prefixes = advertised("2001:db8:2::/64")
            }, now: 1000)
        #expect(services.nextDeadline == .min)
        let frames = due(&services, now: 1000)
        #expect(frames.count == 2)
        expectPacket(
            frames[0],
            .arp(
                operation: 1, senderMAC: .defaultGateway, sender: IPv4Address("198.51.100.1"),
                target: IPv4Address("198.51.100.1")))
        expectPacket(frames[1], .icmp(type: 134))
    }

    @Test("toggles the carrier only where a lease is no longer right")
    func togglesTheCarrier() throws {
        var services = makeServices()
        try bind(&services)
        #expect(!services.update(makeSettings(), now: 1).togglesCarrier)
        #expect(!services.update(makeSettings { $0.v4.dnsServers = [.loopback] }, now: 1).togglesCarrier)
        #expect(!services.update(makeSettings { $0.leaseTime = 60 }, now: 1).togglesCarrier)
        #expect(!services.update(makeSettings { $0.v6.guestAddress = nil }, now: 1).togglesCarrier)
        #expect(!services.update(moved { $0.togglesCarrier = false }, now: 1).togglesCarrier)
        #expect(!services.update(makeSettings(), now: 1).togglesCarrier)
        #expect(services.update(moved(), now: 1).togglesCarrier)
        // Once for the change: the same settings change nothing, but the client has not renewed yet.
        #expect(services.update(makeSettings(), now: 1).togglesCarrier == false)
    }

    @Test("toggles the carrier for clients that it has not seen, but not where tapas programs the namespace")
    func togglesForOthers() throws {
        var told = makeServices()
        #expect(told.update(moved(), now: 1).togglesCarrier)
        #expect(!told.update(moved { $0.v4.dnsServers = [.loopback] }, now: 1).togglesCarrier)
        var programmed = makeServices(makeSettings { $0.configuresNamespace = true })
        #expect(!programmed.update(moved { $0.configuresNamespace = true }, now: 1).togglesCarrier)
        var seen = makeServices(makeSettings { $0.configuresNamespace = true })
        try bind(&seen)
        #expect(seen.update(moved { $0.configuresNamespace = true }, now: 1).togglesCarrier)
        var off = makeServices(makeSettings { $0.services = [.neighborDiscovery] })
        #expect(!off.update(moved { $0.services = [.neighborDiscovery] }, now: 1).togglesCarrier)
    }

    @Test("announces new neighbours and those whose hardware address changes")
    func announcesNeighbours() throws {
        var services = makeServices()
        _ = due(&services)
        let mac = MACAddress(2, 0, 0, 0, 0, 0xF2)
        let other = MACAddress(2, 0, 0, 0, 0, 0xF3)
        let printer = IPAddress.v4(IPv4Address(192, 0, 2, 77))
        let server = try #require(IPAddress("2001:db8::77"))
        // The gateway stands for the host: its real address is nobody's business.
        let gateway = IPAddress.v4(IPv4Address(192, 0, 2, 2))
        services.update(neighbours: NeighbourTable([printer: mac, server: mac, gateway: other]))
        let first = due(&services)
        #expect(first.count == 2)
        expectPacket(first[0], .arp(operation: 1, senderMAC: mac, sender: IPv4Address("192.0.2.77")))
        expectPacket(first[1], .icmp(type: 136, rest: 0x2000_0000))
        services.update(neighbours: NeighbourTable([printer: other, server: mac]))
        let second = due(&services)
        #expect(second.count == 1)
        expectPacket(second[0], .arp(operation: 1, senderMAC: other, sender: IPv4Address("192.0.2.77")))
        services.update(neighbours: NeighbourTable([printer: other]))
        #expect(due(&services).isEmpty)
    }
}
