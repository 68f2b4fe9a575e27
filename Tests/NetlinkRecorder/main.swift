// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Records what the kernel says while ip(8) changes a network, as fixtures for the tests:
//
//   swift build --product netlink-recorder
//   .build/debug/netlink-recorder Tests/Fixtures
//
// With --measure it follows the namespace it runs in through storms of changes and prints figures (Measure.swift).
//
// Each scenario runs in user and network namespaces of its own (unshare -Urn), so that no privilege is needed. The notifications are those that the monitor subscribes to; the
// dumps are made after the notifications of a step have come in.

import Glibc
import LinuxSystem
import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import SystemPackage

struct Scenario {
    var name: String
    var note: String
    var steps: [String]
}

/// Two hosts' ends in one namespace: w0 and e0 are the host's links, wr and er the routers' ends.
let preparation = """
    ip link set lo up && echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad \
    && ip link add w0 type veth peer name wr && ip link add e0 type veth peer name er \
    && ip link set wr up && ip link set er up
    """
let station = """
    ip link set w0 up && ip address add 192.0.2.10/24 dev w0 && ip route add default via 192.0.2.1 dev w0 metric 600
    """
let dock = """
    ip link set e0 up && ip address add 198.51.100.5/24 dev e0 && ip route add default via 198.51.100.1 dev e0 metric 100
    """

let scenarios = [
    Scenario(
        name: "first-network", note: "a host without a network gets one (scenario 1)",
        steps: [
            "ip link set w0 up", "ip address add 192.0.2.10/24 dev w0", "ip route add default via 192.0.2.1 dev w0",
            "ip address add 2001:db8:1::10/64 dev w0 nodad", "ip -6 route add default via 2001:db8:1::1 dev w0",
        ]),
    Scenario(
        name: "silent-default-loss", note: "a default that goes with its address is not announced (P1)",
        steps: [station, "ip address del 192.0.2.10/24 dev w0"]),
    Scenario(
        name: "secondary-goes-with-primary", note: "promote_secondaries off (scenario 21)",
        steps: [
            "sysctl -q net.ipv4.conf.all.promote_secondaries=0 && sysctl -q net.ipv4.conf.default.promote_secondaries=0",
            station, "ip address add 192.0.2.20/24 dev w0", "ip address del 192.0.2.10/24 dev w0",
        ]),
    Scenario(
        name: "dock-and-undock", note: "a better default elsewhere, then its link is removed (scenarios 13, 14)",
        steps: [station, dock, "ip link del e0"]),
    Scenario(
        name: "replace-hides-victim", note: "a replaced default is not announced as gone (scenario 39)",
        steps: [
            station, "ip link set e0 up && ip address add 198.51.100.5/24 dev e0",
            "ip route replace default via 198.51.100.1 dev e0 metric 600",
        ]),
    Scenario(
        name: "admin-down-up", note: "routes vanish silently and do not return (scenario 47)",
        steps: [
            station, "ip address add 2001:db8:1::10/64 dev w0 nodad", "ip link set w0 down", "ip link set w0 up",
        ]),
    Scenario(
        name: "carrier-loss", note: "an access point change: only the link is announced (scenario 10)",
        steps: [station, "ip link set wr down", "ip link set wr up"]),
    Scenario(
        name: "nexthop-member-deleted", note: "only nexthop events (scenario 40)",
        steps: [
            station, "ip nexthop add id 1 via 192.0.2.1 dev w0", "ip nexthop add id 2 via 192.0.2.2 dev w0",
            "ip nexthop add id 9 group 1/2", "ip route add 203.0.113.0/24 nhid 9", "ip nexthop del id 1",
            "ip nexthop del id 2",
        ]),
    Scenario(
        name: "policy-vpn", note: "wg-quick's rules and table: the main table does not change (scenarios 32, 35)",
        steps: [
            station,
            "ip link set e0 up && ip address add 10.8.0.2/32 dev e0 && ip route add default dev e0 table 51820",
            "ip rule add not fwmark 51820 table 51820 && ip rule add table main suppress_prefixlength 0",
            "ip rule del not fwmark 51820 table 51820 && ip rule del table main suppress_prefixlength 0",
        ]),
    Scenario(
        name: "kill-switch", note: "an unreachable default of low metric (scenario 34)",
        steps: [station, "ip route add unreachable default metric 1"]),
    Scenario(
        name: "renumbering", note: "a deprecated and a new address (scenarios 24, 25)",
        steps: [
            "ip link set w0 up && ip address add 2001:db8:1::10/64 dev w0 nodad",
            "ip address add 2001:db8:2::10/64 dev w0 nodad",
            "ip address change 2001:db8:1::10/64 dev w0 nodad preferred_lft 0",
            "ip address del 2001:db8:1::10/64 dev w0",
        ]),
    Scenario(
        name: "expiring-default", note: "an IPv6 default with a lifetime (scenario 26)",
        steps: [
            "ip link set w0 up && ip address add 2001:db8:1::10/64 dev w0 nodad",
            "ip -6 route add default via 2001:db8:1::1 dev w0 expires 90",
        ]),
    Scenario(
        name: "every-kind-of-route", note: "multipath, via inet6, on-link, metrics, error routes, source-specific",
        steps: [
            station + " && ip address add 2001:db8:1::10/64 dev w0 nodad",
            "ip route add 10.2.0.0/16 nexthop via 192.0.2.5 weight 2 nexthop via 192.0.2.6 weight 5 onlink dev w0",
            "ip route add 10.3.0.0/16 via inet6 2001:db8:1::9 dev w0 table 51820",
            "ip route add 10.4.0.0/16 via 203.0.113.1 dev w0 onlink proto static src 192.0.2.10 mtu 1400 advmss 1360",
            "ip route add blackhole 10.5.0.0/16 && ip -6 route add prohibit 2001:db8:dead::/48",
            "ip -6 route add 2001:db8:30::/48 nexthop via 2001:db8:1::2 dev w0 nexthop via 2001:db8:1::3 dev w0",
            "ip -6 route add 2001:db8:40::/48 from 2001:db8:1::/64 via 2001:db8:1::4 dev w0 metric 7 pref high",
            "ip route add 10.6.0.0/16 tos 0x10 via 192.0.2.7 dev w0",
        ]),
]

func run(_ command: String) {
    guard system(command) == 0 else {
        print("failed: \(command)")
        exit(1)
    }
}

/// Takes what arrives until nothing has for a while.
func takeEvents(_ transport: MnlTransport) throws -> [[UInt8]] {
    var buffer = [UInt8](repeating: 0, count: 65536)
    var events: [[UInt8]] = []
    while try transport.wait(until: MonotonicTime.now.advanced(milliseconds: 120)) {
        guard case .datagram(let count, 0) = transport.receive(into: &buffer) else { break }
        events.append(Array(buffer[..<count]))
    }
    return events
}

/// Asks, and takes the messages of the answer.
func ask(_ request: MessageWriter, isDump: Bool) throws -> [[UInt8]] {
    let transport = try MnlTransport(groups: [])
    var request = request
    try transport.send(request.finish(sequence: 1, portID: transport.portID))
    var buffer = [UInt8](repeating: 0, count: 65536)
    var messages: [[UInt8]] = []
    while try transport.wait(until: MonotonicTime.now.advanced(milliseconds: 2000)) {
        guard case .datagram(let count, 0) = transport.receive(into: &buffer) else { continue }
        let datagram = Array(buffer[..<count])
        var walk = MessageWalk()
        while let (header, payload) = walk.next(in: datagram.span) {
            if header.type == 3 { return messages }
            messages.append(Array(datagram[(payload.lowerBound - MessageHeader.byteCount)..<payload.upperBound]))
        }
        if !isDump { return messages }
    }
    return messages
}

/// The messages of a datagram, links without their statistics and per-family settings: these change all the time, are
/// most of a link's message, and nothing of ours reads them.
func shortened(_ datagram: [UInt8]) -> [UInt8] {
    let dropped: Set<Int> = [7, 23, 26]  // IFLA_STATS, IFLA_STATS64, IFLA_AF_SPEC
    var result: [UInt8] = []
    var walk = MessageWalk()
    while let (header, payload) = walk.next(in: datagram.span) {
        var message = Array(datagram[(payload.lowerBound - MessageHeader.byteCount)..<payload.upperBound])
        if [16, 17].contains(header.type) {
            var kept = Array(message[..<(MessageHeader.byteCount + LinkMessage.headerByteCount)])
            var attributes = AttributeWalk(after: kept.count)
            while let attribute = attributes.next(in: message.span) {
                if dropped.contains(attribute.type) { continue }
                kept += message[(attribute.payload.lowerBound - 4)..<attribute.payload.upperBound]
                while !kept.count.isMultiple(of: 4) { kept.append(0) }
            }
            kept.replaceSubrange(0..<4, with: littleEndian(UInt32(kept.count)))
            message = kept
        }
        while !message.count.isMultiple(of: 4) { message.append(0) }
        result += message
    }
    return result
}

func questions() throws -> [NetlinkTrace.Question: [[UInt8]]] {
    var requests: [(MessageWriter, Bool)] = [(LinkMessage.get(nil), true), (NextHopMessage.dump(), true)]
    for family in AddressFamily.allCases {
        requests.append((AddressMessage.dump(family, interface: nil), true))
        requests.append((RouteMessage.dump(family, table: nil, interface: nil), true))
        requests.append((RuleMessage.dump(family), true))
        requests.append((RouteMessage.lookup(HostSnapshot.probe(family)), false))
    }
    var answers: [NetlinkTrace.Question: [[UInt8]]] = [:]
    for (request, isDump) in requests {
        let type = request.bytes.span.uint16(at: 4) ?? 0
        let question = NetlinkTrace.Question(type: type, family: request.bytes[16], isDump: isDump)
        let local: UInt8 = 255
        answers[question] = try ask(request, isDump: isDump).filter {
            // The local table is of no use to anybody and would be most of the fixture.
            !(isDump && $0.count > 20 && $0[4] == 24 && $0[20] == local)
        }.map(shortened)
    }
    return answers
}

func record(_ scenario: Scenario, into directory: String) throws {
    var kernel = utsname()
    uname(&kernel)
    let release = withUnsafeBytes(of: &kernel.release) { bytes in
        String(decoding: bytes.prefix { $0 != 0 && $0 != UInt8(ascii: "-") }, as: UTF8.self)
    }
    run(preparation)
    let transport = try MnlTransport(groups: NetlinkGroup.hostState)
    var trace = NetlinkTrace()
    trace.comments = [
        "\(scenario.name): \(scenario.note).",
        "Recorded by netlink-recorder in a private namespace, Linux \(release);",
        "link statistics and per-family settings, and the local table, are left out.",
    ]
    for command in ["true"] + scenario.steps {
        run(command)
        var step = NetlinkTrace.Step(command: command == "true" ? "(before)" : command)
        step.events = try takeEvents(transport).map(shortened)
        step.answers = try questions()
        trace.steps.append(step)
    }
    let path = "\(directory)/netlink-\(scenario.name).trace"
    let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
    try file.closeAfter { _ = try file.writeAll(trace.text.utf8) }
    print(path)
}

let arguments = CommandLine.arguments
if arguments.count == 2, arguments[1] == "--states" {
    try recordStates()
} else if arguments.count == 2, arguments[1] == "--measure" {
    try measure()
} else if arguments.count == 2 {
    for scenario in scenarios { run("unshare -Urn '\(arguments[0])' '\(arguments[1])' \(scenario.name)") }
} else if arguments.count == 3, let scenario = scenarios.first(where: { $0.name == arguments[2] }) {
    try record(scenario, into: arguments[1])
} else {
    print("usage: netlink-recorder DIRECTORY [SCENARIO] | unshare -Urn netlink-recorder --measure | --states")
    exit(1)
}
