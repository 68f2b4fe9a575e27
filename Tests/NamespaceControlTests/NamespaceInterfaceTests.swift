// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import Testing

@testable import NamespaceControl

private let interface = InterfaceIndex(rawValue: 7)

/// A interface over a kernel that refuses requests by their type: the errnos of each type in turn, then success.
private func withProgrammer<Result>(
    refusing refusals: [UInt16: [Int32]] = [:], _ body: (inout NamespaceInterface) throws -> Result
) rethrows -> (result: Result, types: [UInt16]) {
    var left = refusals
    let kernel = ScriptedNetlink { request, _ in
        let errno = left[request.type]?.isEmpty == false ? left[request.type]?.removeFirst() ?? 0 : 0
        return [.datagram([.acknowledgement(errno, of: request)])]
    }
    var interface = NamespaceInterface(interface: interface, name: "tap0", socket: NetlinkSocket(over: kernel))
    let result = try body(&interface)
    return (result, kernel.requests.map(\.type))
}

private func route(_ destination: String, via gateway: String? = nil) throws -> Route {
    Route(
        destination: try #require(Prefix(destination)),
        nextHops: [NextHop(interface: nil, gateway: gateway.flatMap { IPAddress($0) })])
}

@Suite("Programming the namespace")
struct NamespaceInterfaceTests {
    // linux/rtnetlink.h
    private static let newLink: UInt16 = 16
    private static let newAddress: UInt16 = 20
    private static let deleteAddress: UInt16 = 21
    private static let newRoute: UInt16 = 24
    private static let deleteRoute: UInt16 = 25

    @Test("carries operations out in order")
    func keepsTheOrder() throws {
        let address = PlannedAddress(prefix: try #require(Prefix("192.0.2.5/24")))
        let operations: [NamespaceOperation] = [
            .setMTU(1500), .addAddress(address), .addRoute(try route("0.0.0.0/0", via: "192.0.2.1")),
            .removeRoute(try route("198.51.100.0/24")), .removeAddress(address),
        ]
        let (failures, types) = withProgrammer { $0.apply(operations) }
        #expect(failures.isEmpty)
        #expect(types == [Self.newLink, Self.newAddress, Self.newRoute, Self.deleteRoute, Self.deleteAddress])
    }

    @Test("flows are reset where the operation stands, before the address goes")
    func resetsFlowsInOrder() throws {
        let old = try #require(IPAddress("192.0.2.5"))
        var reset: [IPAddress] = []
        let (failures, types) = try withProgrammer { interface in
            interface.apply(
                [.resetFlows(old), .removeAddress(PlannedAddress(prefix: try #require(Prefix("192.0.2.5/24"))))]
            ) { reset.append($0) }
        }
        #expect(failures.isEmpty)
        #expect(reset == [old])
        #expect(types == [Self.deleteAddress])
    }

    @Test(
        "what is there already, and what is gone already, is success",
        arguments: [
            (NamespaceOperation.addRoute(try route("10.0.0.0/8")), newRoute, EEXIST),
            (.addAddress(PlannedAddress(prefix: Prefix(host: .v4(.loopback)))), newAddress, EEXIST),
            (.removeRoute(try route("10.0.0.0/8")), deleteRoute, ESRCH),
            (.removeAddress(PlannedAddress(prefix: Prefix(host: .v4(.loopback)))), deleteAddress, EADDRNOTAVAIL),
        ])
    func toleratesWhatHolds(operation: NamespaceOperation, type: UInt16, errno: Int32) {
        let (failures, _) = withProgrammer(refusing: [type: [errno]]) { $0.apply([operation]) }
        #expect(failures.isEmpty)
    }

    @Test("a route whose gateway is not reachable yet is tried again after the others")
    func triesAgain() throws {
        let operations: [NamespaceOperation] = [
            .addRoute(try route("0.0.0.0/0", via: "192.0.2.1")), .addRoute(try route("192.0.2.1/32")),
        ]
        let (failures, types) = withProgrammer(refusing: [Self.newRoute: [ENETUNREACH]]) { $0.apply(operations) }
        #expect(failures.isEmpty)
        #expect(types == [Self.newRoute, Self.newRoute, Self.newRoute])
    }

    @Test("a route that never gets through is reported once and keeps nothing else from being done")
    func reportsWhatNeverWorks() throws {
        let bad = NamespaceOperation.addRoute(try route("10.0.0.0/8", via: "203.0.113.1"))
        let (failures, types) = try withProgrammer(refusing: [Self.newRoute: [ENETUNREACH, 0, ENETUNREACH]]) {
            $0.apply([bad, .addRoute(try route("192.0.2.0/24"))])
        }
        #expect(failures.map(\.operation) == [bad])
        #expect(failures.first?.description.contains("10.0.0.0/8") == true, "\(failures)")
        #expect(types.count == 3)
    }

    @Test("another refusal is reported at once, with the kernel's reason")
    func reportsRefusals() {
        let (failures, types) = withProgrammer(refusing: [Self.newLink: [EINVAL]]) { $0.apply([.setMTU(1)]) }
        #expect(failures.map(\.operation) == [.setMTU(1)])
        #expect(failures.first?.reason.contains("EINVAL") == true)
        #expect(types == [Self.newLink])
    }

    @Test(
        "the link-local address is the one that the kernel would make",
        arguments: [
            // RFC 2464 §4: 34-56-78-9A-BC-DE gives 36-56-78-FF-FE-9A-BC-DE.
            ("34:56:78:9a:bc:de", "fe80::3656:78ff:fe9a:bcde"),
            ("02:00:00:00:00:01", "fe80::ff:fe00:1"),
            ("ff:ff:ff:ff:ff:ff", "fe80::fdff:ffff:feff:ffff"),
        ])
    func makesLinkLocals(mac: String, address: String) throws {
        #expect(IPv6Address.linkLocal(for: try #require(MACAddress(mac))) == IPv6Address(address))
    }
}
