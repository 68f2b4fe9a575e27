// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Services

/// Random settings out of small pools, so that values come back as often as not.
struct RandomSettings {
    var random: SplitMix64

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
    }

    private mutating func pick<T>(_ values: [T]) -> T {
        values[Int.random(in: 0..<values.count, using: &random)]
    }

    private mutating func some<T>(_ values: [T]) -> [T] {
        values.filter { _ in random.chance(40) }
    }

    /// Settings as `plan()` may make them: families may be local or have any of a few addresses.
    mutating func next() -> ServiceSettings {
        var settings = ServiceSettings()
        settings.services = .all
        settings.mtu = pick([65520, 1500])
        settings.searchDomains = some(["a", "b.example", "c"])
        settings.v4.isEnabled = true
        let subnet: UInt8 = pick([1, 2, 3])
        let isLocal = random.chance(20)
        let router = isLocal ? IPv4Address(169, 254, 2, 2) : IPv4Address(10, 0, subnet, pick([1, 2]))
        let guest = isLocal ? IPv4Address(169, 254, 2, 1) : IPv4Address(10, 0, subnet, pick([10, 11]))
        settings.v4.guestAddress = Prefix(.v4(guest), length: isLocal ? 16 : pick([8, 24]))
        settings.v4.serverAddress = router
        settings.v4.router = random.chance(80) ? router : nil
        settings.v4.dnsServers = some([IPv4Address(9, 9, 9, 9), IPv4Address(1, 1, 1, 1)])
        if random.chance(30), let prefix = Prefix("172.16.0.0/12") {
            settings.v4.routes = [
                .init(destination: prefix, router: router), .init(destination: Prefix(default: .v4), router: router),
            ]
        }
        settings.v6.isEnabled = true
        settings.v6.ownAddress = IPv6Address(high: 0xFE80 << 48, low: pick([1, 1, 2]))
        if random.chance(80) {
            settings.v6.isDefaultRouter = random.chance(80)
            let network = UInt64(pick([1, 2, 3]))
            settings.v6.guestAddress = Prefix(
                .v6(IPv6Address(high: 0x2001_0DB8 << 32 | network, low: pick([5, 6]))), length: 64)
            settings.v6.prefixes =
                some([network, network % 3 + 1]).compactMap {
                    Prefix(.v6(IPv6Address(high: 0x2001_0DB8 << 32 | $0, low: 0)), length: 64)
                }.map {
                    .init($0, isOnLink: random.chance(80), isAutonomous: random.chance(80))
                }
            settings.v6.routes = some([Prefix("2001:db8:8::/48"), Prefix("2001:db8:9::/48")]).compactMap(\.self).map {
                .init(destination: $0)
            }
            settings.v6.dnsServers = some([IPv6Address.loopback, IPv6Address(high: 0x2001_0DB8 << 32, low: 0x53)])
        }
        return settings
    }
}

@Suite("Conveying: follow equals fresh")
struct ConveyingTests {
    private static let source = IPv6Address(high: 0xFE80 << 48, low: 0xA)

    @Test(
        "a DHCP client ends with what a fresh one gets, whatever it has seen and whatever was lost",
        arguments: 1...60 as ClosedRange<UInt64>)
    func dhcpv4(seed: UInt64) {
        var settings = RandomSettings(seed: seed)
        var now: Int64 = 0
        var told = settings.next()
        var server = DHCPv4Server(settings: told, key: makeKey())
        var client = DHCPv4Client(
            mac: namespaceMAC, watchesCarrier: seed % 3 == 0, takesForceRenew: seed % 3 == 1)
        func run(until end: Int64, losing percent: Int) {
            while now < end {
                client.act(now: now) { message in
                    settings.random.chance(percent) ? nil : server.answer(to: message, now: now)
                }
                now = max(now + 1, min(client.deadline, end))
            }
        }
        for _ in 0..<Int.random(in: 1...12, using: &settings.random) {
            run(until: now + Int64.random(in: 0...200_000, using: &settings.random), losing: 30)
            let wasRight = client.configuration?.address == told.v4.guestAddress?.address.v4
            told = settings.next()
            let update = server.update(told, now: now)
            if update.change == .lease {
                if let message = update.message { client.forced(message, now: now) }
                client.carrierCame(now: now) { server.answer(to: $0, now: now) }
            }
            // A client that is told at once is right at once, unless it had lost what came before.
            if wasRight, client.configuration != nil, client.watchesCarrier || client.takesForceRenew {
                client.act(now: now) { server.answer(to: $0, now: now) }
                client.act(now: now) { server.answer(to: $0, now: now) }
                #expect(client.configuration?.address == told.v4.guestAddress?.address.v4, "seed \(seed)")
            }
        }
        // The worst client heals by its lease.
        run(until: now + Int64(told.leaseTime) * 1000 + 10_000, losing: 0)
        var freshServer = DHCPv4Server(settings: told, key: makeKey())
        var fresh = DHCPv4Client(mac: namespaceMAC)
        fresh.act(now: 0) { freshServer.answer(to: $0, now: 0) }
        #expect(fresh.configuration != nil)
        #expect(client.configuration == fresh.configuration, "seed \(seed)")
    }

    @Test(
        "a host of Router Advertisements ends with what a fresh one gets, whatever was lost",
        arguments: 1...60 as ClosedRange<UInt64>)
    func advertisements(seed: UInt64) {
        var settings = RandomSettings(seed: seed)
        var now: Int64 = 0
        var told = settings.next()
        var advertiser = RouterAdvertiser(settings: told, random: seed, now: now)
        var client = AdvertisementClient()
        func run(until end: Int64, losing percent: Int) {
            while let deadline = advertiser.nextDeadline, deadline <= end {
                now = max(now, deadline)
                while let advertisement = advertiser.next(now: now) {
                    if !settings.random.chance(percent) { client.take(advertisement, now: now) }
                }
            }
            now = end
        }
        for _ in 0..<Int.random(in: 1...12, using: &settings.random) {
            let loses = settings.random.chance(50)
            run(until: now + Int64.random(in: 0...200_000, using: &settings.random), losing: loses ? 40 : 0)
            told = settings.next()
            advertiser.update(told, now: now)
            // Nothing lost: the change is there with the first advertisement.
            if !loses && seed % 2 == 0 {
                run(until: now, losing: 0)
            }
        }
        run(until: now + Int64(told.leaseTime) * 1000 + 1, losing: 0)
        #expect(client.state(now: now) == Self.fresh(told), "seed \(seed)")
        #expect(client.deprecated(now: now) == 0, "seed \(seed)")
    }

    @Test(
        "a host that loses nothing has a change with the first advertisement",
        arguments: 1...60 as ClosedRange<UInt64>)
    func advertisementsAtOnce(seed: UInt64) {
        var settings = RandomSettings(seed: seed)
        var now: Int64 = 0
        var told = settings.next()
        var advertiser = RouterAdvertiser(settings: told, random: seed, now: now)
        var client = AdvertisementClient()
        for _ in 0..<20 {
            while let advertisement = advertiser.next(now: now) { client.take(advertisement, now: now) }
            #expect(client.state(now: now) == Self.fresh(told), "seed \(seed) at \(now)")
            // Until the next change: what is due in between comes, too.
            let change = now + Int64.random(in: 1...150_000, using: &settings.random)
            while let deadline = advertiser.nextDeadline, deadline < change {
                while let advertisement = advertiser.next(now: deadline) { client.take(advertisement, now: deadline) }
            }
            now = change
            told = settings.next()
            advertiser.update(told, now: now)
        }
    }

    private static func fresh(_ settings: ServiceSettings) -> [String] {
        var advertiser = RouterAdvertiser(settings: settings, random: 1, now: 0)
        var client = AdvertisementClient()
        while let advertisement = advertiser.next(now: 0) { client.take(advertisement, now: 0) }
        return client.state(now: 0)
    }

    @Test(
        "a DHCPv6 client ends with what a fresh one gets, whatever it has seen and whatever was lost",
        arguments: 1...60 as ClosedRange<UInt64>)
    func dhcpv6(seed: UInt64) throws {
        var settings = RandomSettings(seed: seed)
        var now: Int64 = 0
        var told = settings.next()
        var server = DHCPv6Server(settings: told, identifier: [1, 2], key: makeKey())
        var client = DHCPv6Client(acceptsReconfigure: seed % 2 == 0)
        func ask(_ message: DHCPv6Message) -> DHCPv6Message? {
            (try? server.answer(to: message, mac: namespaceMAC, source: Self.source, now: now)) ?? nil
        }
        func run(until end: Int64, losing percent: Int) {
            while now < end {
                client.act(now: now) { settings.random.chance(percent) ? nil : ask($0) }
                now = max(now + 1, min(client.deadline, end))
            }
        }
        for _ in 0..<Int.random(in: 1...12, using: &settings.random) {
            run(until: now + Int64.random(in: 0...200_000, using: &settings.random), losing: 30)
            let wasRight = client.addresses.keys.first == told.v6.guestAddress?.address.v6
            told = settings.next()
            if let message = server.update(told, now: now).message {
                client.reconfigured(message, now: now)
                client.act(now: now) { ask($0) }
                client.act(now: now) { ask($0) }
                if wasRight {
                    #expect(
                        Array(client.addresses.keys) == [told.v6.guestAddress?.address.v6].compactMap(\.self),
                        "seed \(seed)")
                }
            }
        }
        run(until: now + Int64(told.leaseTime) * 1000 + 10_000, losing: 0)
        var freshServer = DHCPv6Server(settings: told, identifier: [1, 2], key: makeKey())
        var fresh = DHCPv6Client(acceptsReconfigure: false)
        fresh.act(now: 0) {
            (try? freshServer.answer(to: $0, mac: namespaceMAC, source: Self.source, now: 0)) ?? nil
        }
        #expect(fresh.addresses.isEmpty == (told.v6.guestAddress == nil))
        #expect(client.addresses.keys.sorted() == fresh.addresses.keys.sorted(), "seed \(seed)")
        #expect(client.information == fresh.information, "seed \(seed)")
    }
}
