// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import TestSupport
import Testing
import Wire

@Suite("Router advertiser (RFC 4861 §6.2)")
struct RouterAdvertiserTests {
    private func makeAdvertiser(
        now: Int64 = 0, _ edit: (inout ServiceSettings) -> Void = { _ in }
    ) -> RouterAdvertiser {
        RouterAdvertiser(settings: makeSettings(edit), random: 42, now: now)
    }

    /// An advertisement as text: router, prefixes, routes, resolvers and domains, each with its lifetimes.
    private func text(_ advertisement: RouterAdvertiser.Advertisement?) -> [String] {
        guard let advertisement else { return [] }
        let content = advertisement.content
        var lines = ["\(advertisement.source) \(content.routerLifetime)\(content.isManaged ? " M" : "")"]
        for prefix in content.prefixes {
            let flags = (prefix.isOnLink ? "L" : "") + (prefix.isAutonomous ? "A" : "")
            lines.append(
                "\(prefix.prefix)/\(prefix.prefixLength) \(flags) \(prefix.preferredLifetime) \(prefix.validLifetime)")
        }
        lines += content.routes.map { "route \($0.prefix)/\($0.prefixLength) \($0.lifetime)" }
        lines += content.recursiveDNS.map { list in
            "dns \(list.servers.map(\.description).joined(separator: " ")) \(list.lifetime)"
        }
        lines += content.searchLists.map { list in
            "search \(list.domains.map(\.description).joined(separator: " ")) \(list.lifetime)"
        }
        return lines
    }

    @Test("answers a solicitation with everything")
    func answersASolicitation() throws {
        let server = try #require(IPv6Address("2001:db8::53"))
        let advertiser = makeAdvertiser {
            $0.v6.dnsServers = [server]
            $0.searchDomains = ["example.com", "bad..name"]
            $0.v6.routes = [.init(destination: Prefix(host: .v6(server)), preference: 1)]
        }
        let answer = try #require(advertiser.solicited(now: 0))
        #expect(
            text(answer) == [
                "fe80::1 120 M", "2001:db8::/64 LA 120 120", "route 2001:db8::53/128 120", "dns 2001:db8::53 120",
                "search example.com 120",
            ])
        #expect(answer.content.mtu == 65520 && answer.content.sourceLinkAddress == .defaultGateway)
        let parts = answer.content.parts
        let message =
            [134, 0, 0, 0] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: parts.header.rest >> $0) } + parts.body
        #expect(try RouterAdvertisement(message.span) == answer.content)
    }

    @Test("has endless lifetimes with a lease time of 0")
    func hasEndlessLifetimes() {
        let advertiser = makeAdvertiser { $0.leaseTime = ServiceSettings.infinite }
        #expect(
            text(advertiser.solicited(now: 0)) == ["fe80::1 65535 M", "2001:db8::/64 LA 4294967295 4294967295"])
    }

    @Test("advertises at once, twice more soon, and then long before anything runs out", arguments: [120, 3, 7200])
    func advertisesInTime(leaseTime: UInt32) {
        var advertiser = makeAdvertiser(now: 1000) { $0.leaseTime = leaseTime }
        #expect(advertiser.nextDeadline == 1000)
        var last: Int64 = 0
        var times: [Int64] = []
        for _ in 0..<50 {
            guard let deadline = advertiser.nextDeadline else { break }
            #expect(advertiser.next(now: deadline - 1) == nil)
            #expect(advertiser.next(now: deadline) != nil)
            #expect(advertiser.next(now: deadline) == nil)
            times.append(deadline - last)
            last = deadline
        }
        #expect(times.count == 50)
        #expect(times[1...2].allSatisfy { $0 <= 16_000 }, "\(times)")
        #expect(times[1...].allSatisfy { $0 * 2 < Int64(leaseTime) * 1000 && $0 > 0 }, "\(times)")
    }

    @Test("withdraws what is no longer announced, until hosts have forgotten it by themselves")
    func takesBack() throws {
        let old = try #require(IPv6Address("2001:db8::53"))
        let new = try #require(IPv6Address("2001:db8:2::53"))
        let route = ServiceSettings.AdvertisedRoute(destination: try #require(Prefix("2001:db8:8::/48")))
        var advertiser = makeAdvertiser {
            $0.v6.dnsServers = [old]
            $0.searchDomains = ["a"]
            $0.v6.routes = [route]
        }
        while advertiser.next(now: 0) != nil {}
        let moved = makeSettings {
            $0.v6.guestAddress = Prefix("2001:db8:2::15/64")
            $0.v6.prefixes = advertised("2001:db8:2::/64")
            $0.v6.dnsServers = [new]
        }
        advertiser.update(moved, now: 10_000)
        #expect(advertiser.nextDeadline == 10_000)
        let withdrawn = [
            "fe80::1 120 M", "2001:db8::/64 LA 0 0", "2001:db8:2::/64 LA 120 120", "route 2001:db8:8::/48 0",
            "dns 2001:db8:2::53 120", "dns 2001:db8::53 0", "search a 0",
        ]
        #expect(text(advertiser.next(now: 10_000)) == withdrawn)
        #expect(text(advertiser.solicited(now: 129_999)) == withdrawn)
        #expect(
            text(advertiser.solicited(now: 130_000)) == [
                "fe80::1 120 M", "2001:db8:2::/64 LA 120 120", "dns 2001:db8:2::53 120",
            ])
        // What comes back is not taken back.
        advertiser.update(makeSettings(), now: 20_000)
        #expect(
            text(advertiser.next(now: 20_000)) == [
                "fe80::1 120 M", "2001:db8:2::/64 LA 0 0", "2001:db8::/64 LA 120 120", "route 2001:db8:8::/48 0",
                "dns 2001:db8::53 2001:db8:2::53 0", "search a 0",
            ])
    }

    @Test("takes endless lifetimes back for two hours (RFC 4862 §5.5.3 e)")
    func takesEndlessBack() {
        var advertiser = makeAdvertiser { $0.leaseTime = ServiceSettings.infinite }
        advertiser.update(
            makeSettings {
                $0.leaseTime = ServiceSettings.infinite
                $0.v6.prefixes = []
            }, now: 0)
        #expect(text(advertiser.solicited(now: 7_199_999)).contains("2001:db8::/64 LA 0 0"))
        #expect(text(advertiser.solicited(now: 7_200_000)).count == 1)
    }

    @Test("is no default router when the family goes local, and takes its prefix back")
    func goesLocal() {
        var advertiser = makeAdvertiser()
        while advertiser.next(now: 0) != nil {}
        advertiser.update(
            makeSettings {
                $0.v6.guestAddress = nil
                $0.v6.prefixes = []
                $0.v6.isDefaultRouter = false
            }, now: 500)
        #expect(text(advertiser.next(now: 500)) == ["fe80::1 0", "2001:db8::/64 LA 0 0"])
    }

    @Test("says that the router at its former address is gone")
    func leavesItsFormerAddress() {
        var advertiser = makeAdvertiser()
        while advertiser.next(now: 0) != nil {}
        advertiser.update(makeSettings { $0.v6.ownAddress = IPv6Address("fe80::77") }, now: 5)
        #expect(text(advertiser.next(now: 5)) == ["fe80::1 0"])
        #expect(text(advertiser.next(now: 5)) == ["fe80::77 120 M", "2001:db8::/64 LA 120 120"])
        #expect(advertiser.next(now: 5) == nil)
    }

    @Test("takes back one property of a prefix that keeps the other")
    func takesOnePropertyBack() throws {
        var advertiser = makeAdvertiser()
        let prefix = try #require(Prefix("2001:db8::/64"))
        advertiser.update(
            makeSettings { $0.v6.prefixes = [.init(prefix, isOnLink: false, isAutonomous: true)] }, now: 0)
        #expect(text(advertiser.solicited(now: 1)).dropFirst() == ["2001:db8::/64 L 0 0", "2001:db8::/64 A 120 120"])
    }

    @Test("sends nothing for a change that it does not announce, and nothing at all when it is off")
    func sendsNothing() {
        var advertiser = makeAdvertiser()
        while advertiser.next(now: 0) != nil {}
        let deadline = advertiser.nextDeadline
        advertiser.update(makeSettings { $0.v4.guestAddress = Prefix("10.0.0.1/8") }, now: 1)
        #expect(advertiser.nextDeadline == deadline)
        for edit in [
            { $0.services.remove(.routerAdvertisements) }, { $0.v6.isEnabled = false },
            { $0.v6.ownAddress = IPv6Address("2001:db8::1") },
        ] as [(inout ServiceSettings) -> Void] {
            var off = makeAdvertiser(edit)
            #expect(off.nextDeadline == nil && off.next(now: 0) == nil && off.solicited(now: 0) == nil)
        }
    }
}
