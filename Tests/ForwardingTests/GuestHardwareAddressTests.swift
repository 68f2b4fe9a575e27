// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("A guest with the gateway's hardware address")
struct GuestHardwareAddressTests {
    /// A world whose gateway has the address that its guest has, too, and what it warns of.
    private static func world() throws -> (World, CapturedLog) {
        var rules = TranslationRules.lab
        rules.gatewayMAC = World.guestMAC
        var services = ServiceSettings.lab
        services.gatewayMAC = World.guestMAC
        let log = CapturedLog()
        let world = try World(rules: rules, services: services) { options in options.logger = log.logger }
        return (world, log)
    }

    /// The hardware address that answers for an address.
    private static func resolve(_ world: World, _ target: IPv4Address) throws -> MACAddress {
        world.send(GuestFrame.arpRequest(target: target))
        var found: MACAddress?
        try world.run(until: "an ARP reply") {
            guard let index = world.frames.firstIndex(where: { $0.isReply(for: target) }) else { return false }
            let frame = world.frames.remove(at: index).packet.frame
            found = try EthernetHeader(frame.span).source
            return true
        }
        return try #require(found)
    }

    @Test("the gateway gets another one, with one warning, and keeps it whatever is published")
    func another() throws {
        let (world, log) = try Self.world()
        #expect(try Self.resolve(world, Lab.host4) == .defaultGateway)
        var rules = TranslationRules.lab
        rules.gatewayMAC = World.guestMAC
        var services = ServiceSettings.lab
        services.gatewayMAC = World.guestMAC
        world.forwarder.publish(rules, services: services)
        #expect(try Self.resolve(world, Lab.host4) == .defaultGateway)
        #expect(world.forwarder.rules.gatewayMAC == .defaultGateway)
        let warnings = log.lines.filter { $0.contains("hardware address") }
        #expect(warnings.count == 1 && warnings[0].contains("\(World.guestMAC)"), "\(log.lines)")
    }

    @Test("packets of flows come from there, too")
    func flows() throws {
        let (world, _) = try Self.world()
        let host = try HostEnd.datagram()
        world.send(GuestFrame.echo(GuestFrame.Path(to: host.port), identifier: 7, sequence: 1, body: stream(8)))
        try world.run(until: "an echo reply") { world.frames.contains { $0.isICMP } }
        let reply = try #require(world.frames.first { $0.isICMP })
        let frame = reply.packet.frame
        let ethernet = try EthernetHeader(frame.span)
        #expect(ethernet.source == .defaultGateway && ethernet.destination == World.guestMAC)
    }

    @Test("a guest with an address of its own changes nothing")
    func different() throws {
        let world = try World()
        #expect(try Self.resolve(world, Lab.host4) == .defaultGateway)
        #expect(world.forwarder.withPath { $0.gatewayStandIn } == nil)
    }
}
