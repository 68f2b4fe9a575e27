// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkTypes
import TestSupport
import Testing

@Suite("sockets of the host", .takesPortsBack) struct HostSocketTests {
    @Test(
        "a source that the host does not have gives way to the kernel's choice; the source port stays",
        arguments: [HostSocket.stream, HostSocket.datagram])
    func absentSource(type: CInt) throws {
        let server = try HostSocket.open(.v4, type: type)
        defer { HostSocket.close(server) }
        try Endpoint(address: IPAddress.v4(.loopback).asBindable, port: 0).bind(server)
        if type == HostSocket.stream { listen(server, 1) }
        let destination = try #require(HostSocket.localEndpoint(server))
        // 192.0.2.0/24 is for documentation (RFC 5737).
        let absent = IPAddress.v4(IPv4Address(192, 0, 2, 177))
        let client = try HostSocket.connect(to: destination, type: type, source: absent, device: nil)
        defer { HostSocket.close(client) }
        let own = try #require(HostSocket.localEndpoint(client))
        #expect(own.address == destination.address && own.port != 0)

        let port = try HostSocket.open(.v4, type: type)
        try Endpoint(address: IPAddress.v4(.loopback).asBindable, port: 0).bind(port)
        let free = try #require(HostSocket.localEndpoint(port)).port
        HostSocket.close(port)
        let second = try HostSocket.connect(
            to: destination, type: type, source: absent, sourcePort: free, device: nil)
        defer { HostSocket.close(second) }
        #expect(HostSocket.localEndpoint(second)?.port == free)
    }
}
