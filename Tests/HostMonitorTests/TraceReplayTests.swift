// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import SystemPackage
import Testing

/// The kernel of a recorded trace: its notifications, and the dumps that were made after each step.
private final class RecordedKernel: HostKernel {
    let replay: TraceReplay
    private let notifications = ScriptedNetlink()
    private var subscription: NetlinkSubscription
    private var socket: NetlinkSocket
    let descriptor: FileDescriptor? = FileDescriptor(rawValue: -1)
    private(set) var read: [HostTables] = []

    init(_ trace: NetlinkTrace) {
        replay = TraceReplay(trace)
        subscription = NetlinkSubscription(over: notifications)
        socket = NetlinkSocket(over: replay.makeTransport())
    }

    /// Goes to a step; its notifications arrive.
    func advance(to position: Int) {
        replay.position = position
        for event in replay.trace.steps[position].events { notifications.arrive(.raw(event)) }
    }

    func drain() throws(SystemCallError) -> NetlinkNotifications { try subscription.drain() }

    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        read.append(tables)
        return try HostSnapshotReader.read(tables, onto: earlier, using: &socket)
    }

    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) {
        (socket.counters, subscription.counters)
    }
}

/// Follows a recorded trace; what is shown after each step, follow == fresh checked at each.
private func follow(_ name: String) throws -> [HostSnapshot] {
    let trace = try NetlinkTrace.fixture("netlink-\(name).trace")
    try #require(trace.steps.count > 1)
    let kernel = RecordedKernel(trace)
    var now = at(0)
    let core = MonitorCore(kernel: kernel, settings: noHoldDown, clock: { now })
    var states = [try core.begin(now: now)]
    for position in trace.steps.indices.dropFirst() {
        kernel.advance(to: position)
        try core.kernelReadable(now: now)
        now = now.advanced(milliseconds: 100)
        core.expire(now: now)
        let shown = try #require(core.published)
        let fresh = RecordedKernel(trace)
        fresh.replay.position = position
        let start = try MonitorCore(kernel: fresh).begin(now: now)
        #expect(start.hasSameContent(as: shown), "\(name), step \(position): follow == fresh")
        states.append(shown)
    }
    #expect(kernel.counters.requests.malformed == 0)
    #expect(kernel.counters.notifications.malformed == 0)
    return states
}

extension HostSnapshot {
    /// What matters of a state, one fact a line, with links by name.
    fileprivate var text: [String] {
        func name(_ index: InterfaceIndex?) -> String { index.flatMap { link($0)?.name } ?? "-" }
        let shownLinks = links.filter { ["w0", "e0"].contains($0.name) }
        let indices = Set(shownLinks.map(\.index))
        var lines = shownLinks.map { link in
            "\(link.name) \(link.flags.contains(.up) ? "up" : "down")\(link.hasCarrier ? "" : " no carrier")"
        }
        for address in addresses where indices.contains(address.interface) && !address.address.isLinkLocal {
            let state = address.flags.contains(.deprecated) ? " deprecated" : ""
            lines.append("\(name(address.interface)) has \(address.prefix)\(state)")
        }
        for route in routes where route.protocol != .kernel {
            let hops = route.nextHops.map { hop in
                let down = hop.flags.contains(.linkDown) ? " linkdown" : ""
                return "via \(hop.gateway.map { "\($0)" } ?? "-") \(name(hop.interface))\(down)"
            }
            let type = route.type == .unreachable ? "unreachable " : ""
            let table = route.table == .main ? "" : " table \(route.table.rawValue)"
            lines.append(type + "\(route.destination) \(hops.joined(separator: ", "))\(table)")
        }
        for lookup in lookups where lookup.destination.family == .v4 {
            switch lookup.answer {
            case .route(let interface, _, let source, let table):
                lines.append("goes out \(name(interface)) from \(source.map { "\($0)" } ?? "-") by \(table.rawValue)")
            case .unreachable(let errno): lines.append("refused \(errno)")
            }
        }
        return lines
    }
}

@Suite("recorded traces of Linux 6.18")
struct TraceReplayTests {
    @Test(
        "in every scenario following gives what a fresh start would",
        arguments: [
            "first-network", "silent-default-loss", "secondary-goes-with-primary", "dock-and-undock",
            "replace-hides-victim", "admin-down-up", "carrier-loss", "nexthop-member-deleted", "policy-vpn",
            "kill-switch", "renumbering", "expiring-default", "every-kind-of-route",
        ])
    func followIsFresh(name: String) throws {
        let states = try follow(name)
        #expect(states.count > 1)
        #expect(zip(states, states.dropFirst()).contains { !$0.hasSameContent(as: $1) })
    }

    @Test("the first network comes")
    func firstNetwork() throws {
        #expect(
            try follow("first-network").last?.text == [
                "w0 up", "e0 down no carrier", "w0 has 192.0.2.10/24", "w0 has 2001:db8:1::10/64",
                "0.0.0.0/0 via 192.0.2.1 w0", "::/0 via 2001:db8:1::1 w0", "goes out w0 from 192.0.2.10 by 254",
            ])
    }

    @Test("a default that goes with its address is found gone, though nothing said so")
    func silentLoss() throws {
        let states = try follow("silent-default-loss")
        #expect(states[1].text.contains("0.0.0.0/0 via 192.0.2.1 w0"))
        #expect(states[2].text == ["w0 up", "e0 down no carrier", "refused 101"])
    }

    @Test("a secondary address goes with its primary")
    func secondary() throws {
        let states = try follow("secondary-goes-with-primary")
        #expect(states[3].text.contains("w0 has 192.0.2.20/24"))
        #expect(states[4].text == ["w0 up", "e0 down no carrier", "refused 101"])
    }

    @Test("a better default moves the lookup; its link's removal moves it back")
    func dock() throws {
        let states = try follow("dock-and-undock")
        #expect(states[2].text.last == "goes out e0 from 198.51.100.5 by 254")
        #expect(
            states[3].text == [
                "w0 up", "w0 has 192.0.2.10/24", "0.0.0.0/0 via 192.0.2.1 w0", "goes out w0 from 192.0.2.10 by 254",
            ])
    }

    @Test("the victim of a replacement is gone")
    func replace() throws {
        let last = try #require(try follow("replace-hides-victim").last)
        #expect(last.text.filter { $0.hasPrefix("0.0.0.0/0") } == ["0.0.0.0/0 via 198.51.100.1 e0"])
    }

    @Test("down: IPv6 addresses and all routes are gone, and up brings none of them back")
    func adminDown() throws {
        let states = try follow("admin-down-up")
        #expect(states[3].text == ["w0 down no carrier", "e0 down no carrier", "w0 has 192.0.2.10/24", "refused 101"])
        #expect(states[4].text == ["w0 up", "e0 down no carrier", "w0 has 192.0.2.10/24", "refused 101"])
    }

    @Test("without carrier the routes stay, marked")
    func carrier() throws {
        let states = try follow("carrier-loss")
        #expect(states[2].text.contains("w0 up no carrier"))
        #expect(states[2].text.contains("0.0.0.0/0 via 192.0.2.1 w0 linkdown"))
        #expect(states[3].hasSameContent(as: states[1]) || states[3].text == states[1].text)
    }

    @Test("the members of a nexthop group go one by one, and the route with the last")
    func nextHops() throws {
        let states = try follow("nexthop-member-deleted")
        func route(_ state: HostSnapshot) -> String? { state.text.first { $0.hasPrefix("203.0.113.0/24") } }
        #expect(route(states[5]) == "203.0.113.0/24 via 192.0.2.1 w0, via 192.0.2.2 w0")
        #expect(route(states[6]) == "203.0.113.0/24 via 192.0.2.2 w0")
        #expect(route(states[7]) == nil)
    }

    @Test("a VPN by rules and a table of its own: only the lookup tells")
    func vpn() throws {
        let states = try follow("policy-vpn")
        #expect(states[2].text.last == "goes out w0 from 192.0.2.10 by 254")
        #expect(states[3].text.last == "goes out e0 from 10.8.0.2 by 51820")
        #expect(states[4].hasSameContent(as: states[2].withEpoch(of: states[4])))
    }

    @Test("an unreachable default is an answer")
    func killSwitch() throws {
        #expect(try follow("kill-switch").last?.text.last == "refused 113")
    }

    @Test("a deprecated address is seen as such, then gone")
    func renumbering() throws {
        let states = try follow("renumbering")
        #expect(states[3].text.contains("w0 has 2001:db8:1::10/64 deprecated"))
        #expect(states[4].text == ["w0 up", "e0 down no carrier", "w0 has 2001:db8:2::10/64", "refused 101"])
    }

    @Test("an expiring default sets the time of the next look")
    func expiring() throws {
        let trace = try NetlinkTrace.fixture("netlink-expiring-default.trace")
        let kernel = RecordedKernel(trace)
        kernel.replay.position = trace.steps.count - 1
        let core = MonitorCore(kernel: kernel)
        _ = try core.begin(now: at(0))
        let deadline = try #require(core.nextDeadline)
        #expect(deadline > at(80_000) && deadline <= at(90_030))
    }
}

extension HostSnapshot {
    fileprivate func withEpoch(of other: HostSnapshot) -> HostSnapshot {
        var copy = self
        copy.epoch = other.epoch
        return copy
    }
}
