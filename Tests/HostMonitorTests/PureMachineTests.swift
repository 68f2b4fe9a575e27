// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import HostMonitor
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import Planning
import SystemPackage
import Testing

/// A moment in milliseconds.
func at(_ milliseconds: Int64) -> MonotonicTime { MonotonicTime(nanoseconds: milliseconds * 1_000_000) }

@Suite("settling")
struct SettlingTests {
    @Test("idle has no deadline")
    func idle() {
        #expect(Settling().deadline == nil)
        #expect(!Settling().isDue(at: at(1_000_000)))
    }

    @Test("a burst is due 100 ms after its last event")
    func quiet() {
        var settling = Settling()
        for time in stride(from: Int64(0), through: 300, by: 50) { settling.eventArrived(at: at(time)) }
        #expect(settling.deadline == at(400))
        #expect(!settling.isDue(at: at(399)))
        #expect(settling.isDue(at: at(400)))
        settling.finish()
        #expect(settling.deadline == nil)
    }

    @Test("steady churn is due 1 s after its first event")
    func limit() {
        var settling = Settling()
        for time in stride(from: Int64(0), through: 5000, by: 20) { settling.eventArrived(at: at(time)) }
        #expect(settling.deadline == at(1000))
        #expect(settling.isAtLimit(at: at(1000)))
        #expect(!settling.isAtLimit(at: at(999)))
    }

    @Test(
        "readings take at most a tenth of the time, whatever they cost",
        arguments: [1, 23, 400, 5000] as [Int64])
    func backOff(cost: Int64) {
        var settling = Settling()
        var now: Int64 = 0
        var reading: Int64 = 0
        while now < 100_000 {
            settling.eventArrived(at: at(now))
            if settling.isDue(at: at(now)) {
                now += cost
                reading += cost
                settling.readingEnded(at: at(now), costNanoseconds: cost * 1_000_000)
                settling.finish()
            } else {
                now += 10
            }
        }
        #expect(reading * 10 <= now + 10 * cost)
        #expect(reading > 0)
    }

    @Test("a quiet host is not held up by what an earlier reading cost")
    func backOffEnds() {
        var settling = Settling()
        settling.readingEnded(at: at(1000), costNanoseconds: 20_000_000)
        settling.eventArrived(at: at(5000))
        #expect(settling.deadline == at(5100))
    }
}

@Suite("sleep")
struct SleepDetectorTests {
    @Test("the boot clock runs ahead by what the machine slept")
    func slept() {
        var detector = SleepDetector(monotonic: at(1000), sinceBoot: at(1000))
        let outcome1 = detector.slept(monotonic: at(2000), sinceBoot: at(2000))
        #expect(outcome1 == nil)
        let outcome2 = detector.slept(monotonic: at(3000), sinceBoot: at(3000 + 28_800_000))
        #expect(outcome2 == 28_800_000)
        let outcome3 = detector.slept(monotonic: at(4000), sinceBoot: at(4000 + 28_800_000))
        #expect(outcome3 == nil)
    }

    @Test("the clocks are not read at one instant: less than half a second is no sleep")
    func jitter() {
        var detector = SleepDetector(monotonic: at(0), sinceBoot: at(0))
        let outcome4 = detector.slept(monotonic: at(10), sinceBoot: at(400))
        #expect(outcome4 == nil)
    }

    @Test("the watch makes a descriptor that is quiet while the clock does not jump")
    func watch() throws {
        let watch = try ClockWatch()
        try watch.acknowledge()
        var entry = pollfd(fd: watch.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        #expect(poll(&entry, 1, 0) == 0)
    }
}

@Suite("which tables a hint makes dirty")
struct ReducerTests {
    @Test(
        "tables that change silently with others are read with them",
        arguments: [
            (.links, [.links, .addresses, .routes, .nextHops, .lookups]),
            (.addresses, [.addresses, .routes, .nextHops, .lookups]), (.routes, [.routes, .lookups]),
            (.rules, [.rules, .lookups]), (.nextHops, [.nextHops, .routes, .lookups]), ([], []),
        ] as [(HostTables, HostTables)])
    func affected(hint: HostTables, tables: HostTables) {
        #expect(HostStateReducer.affected(by: hint) == tables)
    }

    @Test("what was not read stays")
    func apply() throws {
        let link = Link(index: InterfaceIndex(rawValue: 2), name: "w0", flags: [.up, .lowerUp], mtu: 1500)
        var reducer = HostStateReducer(HostSnapshot(links: [link]), dirty: [])
        let address = InterfaceAddress(
            interface: link.index, prefix: try #require(Prefix("192.0.2.10/24")))
        reducer.apply(HostReading(tables: .addresses, snapshot: HostSnapshot(addresses: [address])))
        #expect(reducer.state.links == [link])
        #expect(reducer.state.addresses == [address])
    }

    @Test("promiscuous mode is no change")
    func flags() {
        func state(_ flags: UInt32) -> HostSnapshot {
            let link = Link(
                index: InterfaceIndex(rawValue: 2), name: "w0", flags: Link.Flags(rawValue: flags), mtu: 1500)
            var reducer = HostStateReducer(dirty: [])
            reducer.apply(HostReading(tables: .links, snapshot: HostSnapshot(links: [link])))
            return reducer.state
        }
        #expect(state(0x11043) == state(0x11143))
        #expect(state(0x11043) != state(0x1003))
    }
}

@Suite("hold-down")
struct HoldDownTests {
    let w = Link(index: InterfaceIndex(rawValue: 2), name: "w0", flags: [.up, .lowerUp], mtu: 1500)
    let e = Link(index: InterfaceIndex(rawValue: 3), name: "e0", flags: [.up, .lowerUp], mtu: 1500)

    func snapshot(_ links: [Link], _ addresses: [(Link, String)]) -> HostSnapshot {
        HostSnapshot(
            links: links,
            addresses: addresses.compactMap { link, text in
                Prefix(text).map { InterfaceAddress(interface: link.index, prefix: $0) }
            })
    }

    @Test("a loss is shown after the hold-down, not before")
    func loss() {
        var holdDown = HoldDown(milliseconds: 2000)
        let before = snapshot([w], [(w, "192.0.2.10/24")])
        let after = snapshot([w], [])
        let outcome5 = holdDown.filter(after, published: before, now: at(0))
        #expect(outcome5 == before)
        #expect(holdDown.deadline == at(2000))
        #expect(holdDown.held == [.v4])
        let outcome6 = holdDown.filter(after, published: before, now: at(1999))
        #expect(outcome6 == before)
        let outcome7 = holdDown.filter(after, published: before, now: at(2000))
        #expect(outcome7 == after)
        #expect(holdDown.deadline == nil)
    }

    @Test("a return within it is shown at once")
    func gain() {
        var holdDown = HoldDown(milliseconds: 2000)
        let before = snapshot([w], [(w, "192.0.2.10/24")])
        _ = holdDown.filter(snapshot([w], []), published: before, now: at(0))
        let other = snapshot([w, e], [(e, "198.51.100.5/24")])
        let outcome8 = holdDown.filter(other, published: before, now: at(500))
        #expect(outcome8 == other)
        #expect(holdDown.deadline == nil)
    }

    @Test("a link that is gone is kept with its addresses; the other family goes on")
    func perFamily() {
        var holdDown = HoldDown(milliseconds: 2000)
        let before = snapshot([w, e], [(w, "192.0.2.10/24"), (e, "2001:db8:2::5/64")])
        let actual = snapshot([e], [(e, "2001:db8:2::5/64"), (e, "2001:db8:2::6/64")])
        let shown = holdDown.filter(actual, published: before, now: at(0))
        #expect(shown.links == [w, e])
        #expect(shown.addresses.map(\.prefix.description) == ["192.0.2.10/24", "2001:db8:2::5/64", "2001:db8:2::6/64"])
    }

    @Test("losing the carrier is a loss; with another link there is none")
    func carrier() {
        var holdDown = HoldDown(milliseconds: 2000)
        var down = w
        down.flags = .up
        let before = snapshot([w], [(w, "192.0.2.10/24")])
        let outcome9 = holdDown.filter(snapshot([down], [(w, "192.0.2.10/24")]), published: before, now: at(0))
        #expect(outcome9 == before)
        let both = snapshot([w, e], [(w, "192.0.2.10/24"), (e, "198.51.100.5/24")])
        let one = snapshot([down, e], [(w, "192.0.2.10/24"), (e, "198.51.100.5/24")])
        var second = HoldDown(milliseconds: 2000)
        let outcome10 = second.filter(one, published: both, now: at(0))
        #expect(outcome10 == one)
    }

    @Test("0 holds nothing")
    func off() {
        var holdDown = HoldDown(milliseconds: 0)
        let before = snapshot([w], [(w, "192.0.2.10/24")])
        let outcome11 = holdDown.filter(snapshot([w], []), published: before, now: at(0))
        #expect(outcome11 == snapshot([w], []))
    }

    @Test("of a named link the loss counts, whatever others have")
    func pinned() {
        var holdDown = HoldDown(milliseconds: 2000, interfaces: .init(v4: "w0", v6: nil))
        let before = snapshot([w, e], [(w, "192.0.2.10/24"), (e, "198.51.100.5/24")])
        let after = snapshot([w, e], [(e, "198.51.100.5/24")])
        let outcome12 = holdDown.filter(after, published: before, now: at(0)).addresses
        #expect(outcome12 == before.addresses)
    }

    @Test(
        "the interface that an option names for a family is the one whose loss counts",
        arguments: [
            (nil, nil, nil, []), ("w0", nil, nil, [.v4, .v6]), (nil, "w0", nil, [.v4]), (nil, nil, "w0", [.v6]),
            (nil, "w0", "w0", [.v4, .v6]), (nil, "e0", "w0", [.v6]), ("e0", "w0", "w0", []),
        ] as [(String?, String?, String?, [AddressFamily])])
    func named(template: String?, v4: String?, v6: String?, held: [AddressFamily]) {
        var configuration = Configuration()
        configuration.templateInterface = template
        configuration.outboundInterfaces = .init(v4: v4, v6: v6)
        let settings = MonitorCore.Settings(
            configuration, holdDownMilliseconds: 700, hasUsableAddress: hasUsableAddress(in:family:through:))
        var holdDown = HoldDown(milliseconds: settings.holdDownMilliseconds, interfaces: settings.interfaces)
        let rest = [(e, "198.51.100.5/24"), (e, "2001:db8:2::5/64")]
        let before = snapshot([w, e], [(w, "192.0.2.10/24"), (w, "2001:db8:1::10/64")] + rest)
        _ = holdDown.filter(snapshot([w, e], rest), published: before, now: at(0))
        #expect(holdDown.held == held)
        #expect(holdDown.deadline == (held.isEmpty ? nil : at(700)))
    }

    @Test(
        "these addresses were never usable, so that their end is no loss",
        arguments: [
            ("169.254.1.2/16", RoutingScope.universe, []), ("192.0.2.1/24", .link, []), ("fe80::1/64", .link, []),
            ("2001:db8::1/64", .universe, .tentative), ("2001:db8::1/64", .universe, .deprecated),
            ("2001:db8::1/64", .universe, .duplicate), ("2001:db8::1/64", .universe, .secondary),
        ] as [(String, RoutingScope, InterfaceAddress.Flags)])
    func unusable(text: String, scope: RoutingScope, flags: InterfaceAddress.Flags) throws {
        var holdDown = HoldDown(milliseconds: 2000)
        let address = InterfaceAddress(
            interface: w.index, prefix: try #require(Prefix(text)), scope: scope, flags: flags)
        let before = HostSnapshot(links: [w], addresses: [address])
        _ = holdDown.filter(snapshot([w], []), published: before, now: at(0))
        #expect(holdDown.held.isEmpty)
    }
}
