// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import NetworkTypes
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

private typealias Server = LinkServer<StreamLink>

extension LinkServer where Link == StreamLink {
    fileprivate convenience init(isForOneClient: Bool = false) throws {
        try self.init(
            { StreamLink(listener: $0, isForOneClient: isForOneClient) }, as: GuestLink.stream,
            describe: { "\($0.counters)" })
    }
}

/// One virtual machine.
private final class Client {
    private let socket: OwnedFileDescriptor
    private var bytes: [UInt8] = []
    private(set) var isClosed = false

    init(_ server: Server) throws {
        socket = try UnixSocketAddress.socket(.stream, waits: true)
        try server.address.connect(socket.descriptor)
    }

    /// Sends frames with one call, all but the last bytes of them.
    func send(_ frames: [UInt8]..., without missing: Int = 0) {
        send(frames, without: missing)
    }

    func send(_ frames: [[UInt8]], without missing: Int = 0) {
        var bytes: [UInt8] = []
        for frame in frames {
            let count = UInt32(frame.count)
            bytes += (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } + frame
        }
        bytes.removeLast(missing)
        #expect(Glibc.send(socket.rawValue, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count)
    }

    /// The next frame that has come.
    func next() -> GuestFrame? {
        var buffer = [UInt8](repeating: 0, count: 65536)
        let count = recv(socket.rawValue, &buffer, buffer.count, CInt(MSG_DONTWAIT))
        if count > 0 { bytes += buffer[..<count] } else if count == 0 || errno != EAGAIN { isClosed = true }
        guard bytes.count >= 4 else { return nil }
        let length = bytes[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard bytes.count >= 4 + length else { return nil }
        defer { bytes.removeFirst(4 + length) }
        return GuestFrame(received: Array(bytes[4..<(4 + length)]), offloads: [])
    }

    /// Asks for a neighbour and waits for the answer.
    func resolve(_ server: Server, last: UInt8 = 200) throws {
        let target = IPv4Address(10, 0, 2, last)
        send(GuestFrame.arpRequest(target: target))
        try server.run(until: "an ARP reply") { next()?.isReply(for: target) == true }
    }
}

@Suite("Clients of a stream socket", .timeLimit(.minutes(1)))
struct StreamLinkClientTests {
    @Test("a client is served; one that comes meanwhile is sent away; the next one finds nothing of the first")
    func clientsComeAndGo() throws {
        let server = try Server()
        let host = try HostEnd.datagram()
        do {
            let first = try Client(server)
            try first.resolve(server)
            first.send(GuestFrame.udp(GuestFrame.Path(to: host.port), [1, 2, 3]))
            try server.run(until: "a flow") { server.forwarder.flowCount == 1 }
            let second = try Client(server)
            try server.run(until: "the second to be sent away") {
                _ = second.next()
                return second.isClosed
            }
            #expect(server.link.clients.refused == 1)
            try first.resolve(server, last: 201)
            // Half a frame is left behind.
            first.send(GuestFrame.arpRequest(target: IPv4Address(10, 0, 2, 202)), without: 5)
        }
        try server.run(until: "the first to be gone") { !server.link.hasClient }
        #expect(server.forwarder.flowCount == 0, "its flows have ended")
        let third = try Client(server)
        try third.resolve(server)
        #expect(server.link.clients.connected == 2)
        #expect(server.link.clients.lost == 1)
        #expect(!server.hasEnded)
    }

    @Test("a client may come at the very moment when the last one has gone")
    func clientsFollowEachOther() throws {
        let server = try Server()
        for _ in 0..<20 {
            let client = try Client(server)
            try client.resolve(server)
        }
        #expect(server.link.clients.refused == 0)
        #expect(server.link.clients.connected == 20)
    }

    @Test("a link for one client ends with it")
    func oneClientOnly() throws {
        let server = try Server(isForOneClient: true)
        do {
            let client = try Client(server)
            try client.resolve(server)
        }
        try server.run(until: "the end") { server.hasEnded }
        #expect(server.link.clients.lost == 1)
    }

    @Test("each client is told what there is, without asking")
    func newClientsAreTold() throws {
        let server = try Server()
        server.forwarder.beginAnnouncing()
        for _ in 0..<2 {
            let client = try Client(server)
            try server.run(until: "an announcement of the gateway") {
                client.next()?.isAnnouncement(of: Lab.host4) == true
            }
        }
    }

    @Test("without descriptors for clients the loop rests, and lets them in later", .startsPrograms)
    func withoutDescriptors() async {
        await #expect(processExitsWith: .success) {
            let server = try Server()
            let client = try Client(server)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(7), &limit)
            limit.rlim_cur = 100
            setrlimit(__rlimit_resource_t(7), &limit)
            var taken: [CInt] = []
            while true {
                let number = dup(0)
                if number < 0 { break }
                taken.append(number)
            }
            try server.run(until: "a failed accept") { server.link.clients.failedAccepts > 0 }
            let end = MonotonicTime.now.advanced(milliseconds: 450)
            try server.run(until: "half a second to pass") { MonotonicTime.now > end }
            try #require(server.link.clients.failedAccepts <= 4, "\(server.link.clients)")
            for number in taken { close(number) }
            try client.resolve(server)
        }
    }

    @Test("many frames at once are all answered, though no event tells of those that one turn leaves")
    func manyFramesAtOnce() throws {
        let server = try Server()
        let client = try Client(server)
        try client.resolve(server)
        let count = 1500
        client.send((0..<count).map { GuestFrame.arpRequest(target: IPv4Address(10, 0, 2, UInt8(100 + $0 % 100))) })
        var answers = 0
        try server.run(until: "all answers") {
            while client.next() != nil { answers += 1 }
            return answers >= count
        }
        #expect(answers == count)
        #expect(server.link.counters.sends < 200, "answers go out together")
    }

    @Test("what is answered has a finished checksum")
    func checksumsAreFinished() throws {
        let server = try Server()
        let client = try Client(server)
        let host = try HostEnd.datagram()
        let path = GuestFrame.Path(to: host.port)
        client.send(GuestFrame.echo(path, identifier: 7, sequence: 1, body: stream(1400)))
        var reply: GuestFrame?
        try server.run(until: "an echo reply") {
            reply = client.next()
            return reply?.isICMP == true
        }
        expectPacket(try #require(reply).packet.frame, .payload(stream(1400)), .transportChecksum)
    }
}
