// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Testing

@testable import HostMonitor
@testable import Netlink

@Suite("Neighbours of the host")
struct NeighbourTests {
    private static let mac = MACAddress(2, 0, 0, 0, 0, 9)

    private func entry(
        _ state: Neighbour.State, _ address: String = "192.0.2.9", mac: MACAddress? = NeighbourTests.mac
    ) throws -> Neighbour {
        Neighbour(
            interface: InterfaceIndex(rawValue: 2), address: try #require(IPAddress(address)), mac: mac, state: state)
    }

    @Test("are reported while their hardware address may be used")
    func usable() throws {
        for state in [Neighbour.State.reachable, .stale, .delay, .probe, .permanent] {
            #expect(try entry(state).usableMAC == Self.mac)
        }
        for state in [Neighbour.State.incomplete, .failed, .init(rawValue: 0x40), []] {
            #expect(try entry(state).usableMAC == nil)
        }
    }

    @Test("multicast groups and neighbours without a hardware address are not reported")
    func others() throws {
        #expect(try entry(.reachable, mac: nil).usableMAC == nil)
        #expect(try entry(.reachable, mac: .zero).usableMAC == nil)
        #expect(try entry(.permanent, "224.0.0.22", mac: MACAddress(1, 0, 0x5E, 0, 0, 0x16)).usableMAC == nil)
        #expect(try entry(.permanent, "ff02::16").usableMAC == nil)
        #expect(try entry(.stale, "fe80::9").usableMAC == Self.mac)
    }
}
