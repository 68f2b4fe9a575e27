// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import SystemPackage
import Testing

/// A rule of the table with a number, as a dump tells of it.
private func rule(_ table: UInt8) -> KernelMessage {
    KernelMessage(32, flags: 2, [2, 0, 0, 0, table, 0, 0, 1, 0, 0, 0, 0])
}

/// Dumps IPv4 rules from a scripted kernel.
private func dumpRules(
    _ kernel: ScriptedNetlink
) throws(NetlinkError) -> (tables: [UInt32], counters: NetlinkCounters) {
    var socket = NetlinkSocket(over: kernel)
    // The script never waits: a busy machine must not make an answer late.
    socket.timeoutMilliseconds = 60_000
    let rules = try socket.rules(.v4)
    return (rules.map(\.table.rawValue), socket.counters)
}

@Suite("netlink requests")
struct NetlinkSocketTests {
    @Test("a dump ends with NLMSG_DONE, packed with data or not", arguments: [false, true])
    func dump(isPacked: Bool) throws {
        let kernel = ScriptedNetlink { _, _ in
            guard !isPacked else { return [.datagram([rule(1), rule(2), .done()])] }
            return [.datagram([rule(1)]), .datagram([rule(2)]), .datagram([.done()])]
        }
        #expect(try dumpRules(kernel).tables == [1, 2])
        let request = try #require(kernel.requests.first)
        #expect(request.flags == 0x301)
        #expect(request.portID == kernel.portID)
        #expect(request.sequence != 0)
    }

    @Test("an interrupted dump is begun again", arguments: [0, 1])
    func interrupted(messageWithFlag: Int) throws {
        let kernel = ScriptedNetlink { _, earlier in
            guard earlier == 0 else { return [.datagram([rule(7), .done()])] }
            var first = rule(1)
            if messageWithFlag == 0 { first.flags |= 0x10 }
            return [.datagram([first, rule(2), .done(flags: messageWithFlag == 1 ? 0x12 : 2)])]
        }
        let result = try dumpRules(kernel)
        #expect(result.tables == [7])
        #expect(result.counters.interruptedDumps == 1)
        #expect(kernel.requests[0].sequence != kernel.requests[1].sequence)
    }

    @Test("a table that never holds still is a typed error after a bounded number of attempts")
    func neverStill() throws {
        let kernel = ScriptedNetlink { _, _ in [.datagram([.done(flags: 0x12)])] }
        let error = try #require(throws: NetlinkError.self) { _ = try dumpRules(kernel) }
        #expect(error.kind == .interrupted(attempts: 8))
        #expect(kernel.requests.count == 8)
        #expect("\(error)".hasPrefix("ip -4 rule show: the table changed during each of 8 attempts"))
    }

    @Test("lost messages make a dump begin again")
    func overflow() throws {
        let kernel = ScriptedNetlink { _, earlier in
            earlier == 0 ? [.datagram([rule(1)]), .overflow] : [.datagram([rule(1), rule(2), .done()])]
        }
        let result = try dumpRules(kernel)
        #expect(result.tables == [1, 2])
        #expect(result.counters.overflows == 1)
    }

    @Test("a datagram longer than the buffer makes it grow, and the dump begin again")
    func truncated() throws {
        let big = KernelMessage(32, flags: 2, [2, 0, 0, 0, 9] + [UInt8](repeating: 0, count: 50_000))
        let kernel = ScriptedNetlink { _, _ in [.datagram([rule(1)]), .datagram([big]), .datagram([.done()])] }
        let result = try dumpRules(kernel)
        #expect(result.tables == [1, 9])
        #expect(result.counters.truncations == 1)
        #expect(kernel.requests.count == 2)
    }

    @Test("damaged datagrams make a dump begin again")
    func damaged() throws {
        let kernel = ScriptedNetlink { _, earlier in
            earlier == 0
                ? [.raw(hexBytes("ff000000 2000")), .datagram([rule(1), .done()])] : [.datagram([rule(1), .done()])]
        }
        let result = try dumpRules(kernel)
        #expect(result.tables == [1])
        #expect(result.counters.malformed == 1)
    }

    @Test("an answer of another process, to another request, or for another port is passed over")
    func strays() throws {
        let kernel = ScriptedNetlink { request, _ in
            var stale = rule(66)
            stale.sequence = request.sequence &- 1
            var foreign = rule(67)
            foreign.portID = 1
            return [
                .forged([rule(65), .done()], sender: 777), .datagram([stale, foreign]), .datagram([rule(1), .done()]),
            ]
        }
        let result = try dumpRules(kernel)
        #expect(result.tables == [1])
        #expect(result.counters.strays == 3)
    }

    @Test("an answer that does not come is an error, not a wait for ever")
    func silence() throws {
        let error = try #require(throws: NetlinkError.self) { _ = try dumpRules(ScriptedNetlink()) }
        #expect(error.kind == .timedOut)
        #expect(error.errno == .timedOut)
    }

    @Test("a dump's own end may carry an error with the kernel's words")
    func failedDump() throws {
        let kernel = ScriptedNetlink { _, _ in
            [.datagram([.done(1, flags: 0x202, attributes: attribute(1, Array("not today".utf8) + [0]))])]
        }
        let error = try #require(throws: NetlinkError.self) { _ = try dumpRules(kernel) }
        #expect(error.errno == .notPermitted)
        #expect(error.message == "not today")
        #expect(
            "\(error)" == "ip -4 rule show: not today: Operation not permitted (EPERM)")
    }

    @Test("EBUSY means that an earlier dump still ran: again")
    func busy() throws {
        let kernel = ScriptedNetlink { request, earlier in
            earlier == 0
                ? [.datagram([.acknowledgement(16, of: request)])] : [.datagram([rule(1), .done()])]
        }
        #expect(try dumpRules(kernel).tables == [1])
    }

    @Test("a kernel without policy routing has no rules", arguments: [95, 97] as [Int32])
    func unsupported(errno: Int32) throws {
        let kernel = ScriptedNetlink { request, _ in [.datagram([.acknowledgement(errno, of: request)])] }
        #expect(try dumpRules(kernel).tables == [])
    }

    @Test("a change is acknowledged")
    func change() throws {
        let kernel = ScriptedNetlink { request, _ in [.datagram([.acknowledgement(0, of: request)])] }
        var socket = NetlinkSocket(over: kernel)
        try socket.setLink(.loopback, LinkChange(isUp: true))
        #expect(kernel.requests.count == 1)
    }

    @Test(
        "a refusal is reported in the words of ip(8) and of the kernel, with errno and offset",
        arguments: [false, true])
    func refusal(isCapped: Bool) throws {
        let kernel = ScriptedNetlink { request, _ in
            let text = attribute(1, Array("Nexthop has invalid gateway".utf8) + [0])
            let offset = attribute(2, littleEndian(44))
            var message = KernelMessage.acknowledgement(
                101, of: request, flags: isCapped ? 0x100 : 0,
                attributes: (isCapped ? [] : request.payload) + text + offset)
            message.flags |= 0x200
            return [.datagram([message])]
        }
        var socket = NetlinkSocket(over: kernel)
        let route = Route(
            destination: Prefix(default: .v4), metric: 5,
            nextHops: [NextHop(interface: nil, gateway: .v4(IPv4Address(192, 0, 2, 1)))])
        var caught: NetlinkError?
        do throws(NetlinkError) {
            try socket.addRoute(route, through: InterfaceIndex(rawValue: 3))
        } catch {
            caught = error
        }
        let error = try #require(caught)
        #expect(error.offset == 44)
        #expect(error.mayResolve)
        #expect(!error.alreadyExists)
        #expect(
            "\(error)"
                == "ip route add default via 192.0.2.1 dev 3 metric 5: Nexthop has invalid gateway: "
                + "Network is unreachable (ENETUNREACH), at byte 44 of the request")
    }

    @Test(
        "exists and absent can be told from other refusals",
        arguments: [(17, true, false), (3, false, true), (99, false, true), (19, false, true), (22, false, false)]
            as [(Int32, Bool, Bool)])
    func policy(errno: Int32, exists: Bool, isAbsent: Bool) {
        let error = NetlinkError("route add", .refused, Errno(rawValue: errno))
        #expect(error.alreadyExists == exists)
        #expect(error.isAbsent == isAbsent)
    }

    @Test("a lookup that is refused is an answer", arguments: [101, 113, 13, 22] as [Int32])
    func lookupRefused(errno: Int32) throws {
        let kernel = ScriptedNetlink { request, _ in [.datagram([.acknowledgement(errno, of: request)])] }
        var socket = NetlinkSocket(over: kernel)
        let destination = HostSnapshot.probe(.v4)
        #expect(
            try socket.lookup(destination) == RouteLookup(destination: destination, answer: .unreachable(errno: errno)))
    }

    @Test("an overlong request is refused before it is sent")
    func overlong() throws {
        let kernel = ScriptedNetlink()
        var socket = NetlinkSocket(over: kernel)
        let hops = Array(repeating: NextHop(interface: .loopback, gateway: .v6(.loopback)), count: 5000)
        var caught: NetlinkError?
        do throws(NetlinkError) {
            try socket.addRoute(Route(destination: Prefix(default: .v6), nextHops: hops))
        } catch {
            caught = error
        }
        #expect(caught?.errno == .messageTooLong)
        #expect(kernel.requests.isEmpty)
    }
}

@Suite("netlink notifications")
struct NetlinkSubscriptionTests {
    @Test(
        "each message type makes its table dirty",
        arguments: [
            (16, .links), (17, .links), (20, .addresses), (21, .addresses), (24, .routes), (25, .routes), (32, .rules),
            (33, .rules), (104, .nextHops), (105, .nextHops), (28, []), (999, []),
        ] as [(UInt16, HostTables)])
    func tables(type: UInt16, tables: HostTables) throws {
        let kernel = ScriptedNetlink()
        kernel.arrive(.datagram([KernelMessage(type)]))
        var subscription = NetlinkSubscription(over: kernel)
        let found = try subscription.drain()
        #expect(found.tables == tables)
        #expect(found.count == 1)
        #expect(!found.wereLost)
    }

    @Test("lost notifications make everything dirty")
    func overflow() throws {
        let kernel = ScriptedNetlink()
        kernel.arrive(.overflow)
        kernel.arrive(.datagram([KernelMessage(16)]))
        var subscription = NetlinkSubscription(over: kernel)
        let found = try subscription.drain()
        #expect(found.wereLost)
        #expect(found.tables == .all)
        #expect(subscription.counters.overflows == 1)
    }

    @Test("what other processes send is passed over")
    func forged() throws {
        let kernel = ScriptedNetlink()
        kernel.arrive(.forged([KernelMessage(16)], sender: 12))
        var subscription = NetlinkSubscription(over: kernel)
        #expect(try subscription.drain() == NetlinkNotifications())
        #expect(subscription.counters.strays == 1)
    }

    @Test("a storm is read in bounded turns")
    func budget() throws {
        let kernel = ScriptedNetlink()
        for _ in 0..<10 { kernel.arrive(.datagram([KernelMessage(24)])) }
        var subscription = NetlinkSubscription(over: kernel)
        let first = try subscription.drain(budget: 6)
        #expect(first.count == 6)
        let second = try subscription.drain(budget: 6)
        #expect(second.count == 4)
        #expect(try subscription.drain(budget: 6).count == 0)
    }
}
