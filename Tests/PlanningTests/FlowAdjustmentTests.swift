// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

/// A change of a host, and what it means for flows that exist.
private struct AdjustmentCase: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// What holds before and after.
    var always: [String] = []
    var before: [String]
    var after: [String]
    /// Tables that the host's rules look up, before and after.
    var tables: ([RouteTable], [RouteTable]) = ([.main], [.main])
    /// The link whose network the IPv4 probe lies in, by index: its kernel answers with a broadcast.
    var probeIsOn: (UInt32?, UInt32?) = (nil, nil)
    var gone: [String] = []
    var pinned: [String: String] = [:]

    static let wlan = ["addr 192.0.2.10/24 dev w", "addr 2001:db8:1::10/64 dev w"]
    static let cable = ["addr 198.51.100.5/24 dev e", "addr 2001:db8:2::5/64 dev e"]
    static let byWLAN = ["route default via 192.0.2.1 dev w metric 600", "route default via fe80::1 dev w metric 600"]
    static let byCable = [
        "route default via 198.51.100.1 dev e metric 100", "route default via fe80::2 dev e metric 100",
    ]

    static let all: [AdjustmentCase] = [
        .init(
            testDescription: "nothing changes", always: ["link w"] + wlan + byWLAN, before: [], after: []),
        .init(
            testDescription: "addresses stay, the gateway changes", always: ["link w"] + wlan,
            before: ["route default via 192.0.2.1 dev w"], after: ["route default via 192.0.2.254 dev w"]),
        .init(
            testDescription: "another address comes", always: ["link w"] + wlan + byWLAN, before: [],
            after: ["addr 192.0.2.11/24 dev w"]),
        .init(
            testDescription: "an address is gone for another of its network", always: ["link w"],
            before: wlan + byWLAN,
            after: ["addr 192.0.2.77/24 dev w", "addr 2001:db8:1::10/64 dev w"] + byWLAN, gone: ["192.0.2.10"]),
        .init(
            testDescription: "an address is found to be another host's",
            always: ["link w", "addr 192.0.2.10/24 dev w"],
            before: ["addr 2001:db8:1::10/64 dev w"], after: ["addr 2001:db8:1::10/64 dev w dadfailed"],
            gone: ["2001:db8:1::10"]),
        .init(
            testDescription: "an address becomes deprecated", always: ["link w"] + byWLAN,
            before: ["addr 2001:db8:1::10/64 dev w"], after: ["addr 2001:db8:1::10/64 dev w deprecated"]),
        .init(
            testDescription: "an address moves to another link, and the default with it",
            always: ["link w", "link e"],
            before: ["addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w"],
            after: ["addr 192.0.2.10/24 dev e", "route default via 192.0.2.1 dev e"]),
        .init(
            testDescription: "an address that two links have goes from one",
            always: ["link w", "link e", "addr 192.0.2.10/24 dev e", "route default via 192.0.2.1 dev e"],
            before: ["addr 192.0.2.10/24 dev w"], after: []),
        .init(
            testDescription: "the default moves to a link that comes", always: ["link w", "link e"] + wlan + byWLAN,
            before: [], after: cable + byCable, pinned: ["192.0.2.10": "w", "2001:db8:1::10": "w"]),
        .init(
            testDescription: "every address of the link that the default leaves is bound to it",
            always: ["link w", "link e", "addr 192.0.2.11/24 dev w secondary"] + wlan + cable + byWLAN, before: [],
            after: ["route default via 198.51.100.1 dev e metric 100"],
            pinned: ["192.0.2.10": "w", "192.0.2.11": "w"]),
        .init(
            testDescription: "the default moves back", always: ["link w", "link e"] + wlan + cable + byWLAN,
            before: byCable, after: [], pinned: ["198.51.100.5": "e", "2001:db8:2::5": "e"]),
        .init(
            testDescription: "the default moves, for its link has lost the carrier", always: ["link e"],
            before: ["link w"] + wlan + cable + byWLAN,
            after: ["link w no-carrier"] + wlan + cable + byCable),
        .init(
            testDescription: "the default moves, for the addresses are gone", always: ["link w", "link e"] + cable,
            before: wlan + byWLAN, after: byCable, gone: ["192.0.2.10", "2001:db8:1::10"]),
        .init(
            testDescription: "the default is lost, the addresses stay", always: ["link w"] + wlan, before: byWLAN,
            after: []),
        .init(
            testDescription: "a family is lost", always: ["link w", "addr 192.0.2.10/24 dev w"],
            before: ["addr 2001:db8:1::10/64 dev w"] + byWLAN, after: ["route default via 192.0.2.1 dev w metric 600"],
            gone: ["2001:db8:1::10"]),
        .init(
            testDescription: "everything is lost", always: ["link w"], before: wlan + byWLAN, after: [],
            gone: ["192.0.2.10", "2001:db8:1::10"]),
        .init(
            testDescription: "a VPN comes by policy rules",
            always: ["link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w"],
            before: [], after: ["link t", "addr 10.8.0.2/24 dev t", "route default dev t table 51820"],
            tables: ([.main], [RouteTable(rawValue: 51820), .main]), pinned: ["192.0.2.10": "w"]),
        .init(
            testDescription: "a kill switch refuses the default",
            always: ["link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w"],
            before: [], after: ["route unreachable default table 51820"],
            tables: ([.main], [RouteTable(rawValue: 51820), .main])),
        .init(
            testDescription: "a link in the probe's network comes beside the default's",
            always: ["link w", "link e"] + wlan + byWLAN, before: [], after: ["addr 203.0.113.7/24 dev e"],
            probeIsOn: (nil, 3)),
        .init(
            testDescription: "a link in the probe's network goes, the default stays",
            always: ["link w", "link e"] + wlan + byWLAN, before: ["addr 203.0.113.7/24 dev e"], after: [],
            probeIsOn: (3, nil), gone: ["203.0.113.7"]),
        .init(
            testDescription: "the default moves beside a link in the probe's network",
            always: ["link w", "link e", "link p", "addr 203.0.113.7/24 dev p"] + wlan + cable + byWLAN,
            before: [], after: byCable, probeIsOn: (4, 4), pinned: ["192.0.2.10": "w", "2001:db8:1::10": "w"]),
        .init(
            testDescription: "the default moves away from the link in the probe's network",
            always: [
                "link p", "link e", "addr 203.0.113.7/24 dev p", "route default via 203.0.113.1 dev p metric 600",
            ],
            before: [], after: ["addr 198.51.100.5/24 dev e", "route default via 198.51.100.1 dev e metric 100"],
            probeIsOn: (2, 2), pinned: ["203.0.113.7": "p"]),
        .init(
            testDescription: "a route to the probe's network comes by another link",
            always: ["link w", "link e"] + wlan + cable + byWLAN, before: [],
            after: ["route 203.0.113.0/24 via 198.51.100.1 dev e"]),
    ]

    /// What the monitor takes.
    func snapshot(_ commands: [String], _ tables: [RouteTable], _ probeLink: UInt32?) -> HostSnapshot {
        var host = Host()
        for kind in ["link", "addr", "route"] {
            // The same links in the same order have the same indices.
            for command in always + commands where command.hasPrefix("\(kind) ") { host.run(command) }
        }
        host.lookupTables = tables
        if let probeLink {
            host.lookups[.v4] = .route(
                interface: InterfaceIndex(rawValue: probeLink), gateway: nil, source: nil, table: .local)
        }
        return host.taken()
    }
}

@Suite("Effects of a host change on flows")
struct FlowAdjustmentTests {
    @Test("depend on the changes of their addresses and of the default route", arguments: AdjustmentCase.all)
    private func adjustments(_ row: AdjustmentCase) {
        let adjustments = flowAdjustments(
            from: row.snapshot(row.before, row.tables.0, row.probeIsOn.0),
            to: row.snapshot(row.after, row.tables.1, row.probeIsOn.1))
        #expect(Set(adjustments.gone.map(\.description)) == Set(row.gone))
        #expect(
            Dictionary(uniqueKeysWithValues: adjustments.pinned.map { ($0.key.description, $0.value) }) == row.pinned)
        #expect(adjustments.isEmpty == (row.gone.isEmpty && row.pinned.isEmpty))
    }
}
