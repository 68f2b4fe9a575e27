// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The fuzzer `DataPath` and the unit tests share this file (a link in Tests/ForwardingTests). An input is a list of
// records: frames of the namespace, the passing of time, actions of servers on the host's loopback, changes of the
// host. They are applied to a whole data path over a `MemoryLink`, with the real event loop, real sockets of the
// loopback, and a clock that only the input moves. After each record the loop turns once.
//
// TCP segments are made relative to the numbers that the connection expects, so that inputs of a few bytes reach
// established connections; raw frames reach the rest. At the end all flows are reset, and nothing may be left of them:
// no flow, no list entry, no chunk of the backlog.

import Glibc
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Wire

@testable import Forwarding

/// Applies an input to a data path of its own.
final class DataPathSequence: EventSink {
    private static let guest = IPv4Address(10, 0, 2, 15)
    private static let host = IPv4Address(10, 0, 2, 2)
    private static let guestMAC = MACAddress(0x02, 0, 0, 0, 0, 0x0A)
    /// The greatest number of flows: small, so that inputs reach the limit.
    private static let maximumFlows = 12
    /// The servers, which all inputs share, because ports would run out otherwise.
    private static let servers = LoopbackServers()

    private let loop: EventLoop
    private let forwarder: Forwarder
    private let link: MemoryLink
    private var clock = MonotonicTime.now
    private var connections = [Connection](repeating: Connection(), count: 4)
    private var accepted: [CInt] = []
    private var readsLink = true
    private var buffer = [UInt8](repeating: 0, count: 70_000)
    /// Counts of what has happened, so that a test can check that its input had an effect.
    private(set) var framesOut = 0
    private(set) var mostEstablished = 0
    private(set) var mostFlows = 0
    private(set) var largestBacklog = 0

    /// The state of the namespace's end of a connection.
    private struct Connection {
        var next: UInt32 = 1000
        var expected: UInt32 = 0
    }

    init() {
        guard let loop = try? EventLoop() else { fatalError("no event loop") }
        self.loop = loop
        link = MemoryLink(capabilities: LinkCapabilities.offloads.union(.backPressure), capacity: 1 << 20)
        var options = ForwardingOptions(logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
        options.maximumFlows = Self.maximumFlows
        options.backlogChunks = 64
        guard
            let forwarder = try? Forwarder(
                link: .memory(link), rules: Self.rules(0), services: Self.settings, options: options, loop: loop)
        else { fatalError("no forwarder") }
        self.forwarder = forwarder
    }

    // MARK: The records

    /// Plays all records.
    func play(_ input: [UInt8]) {
        var reader = ByteReader(input)
        while let kind = reader.next() {
            switch kind % 10 {
            case 0: playFrame(&reader)
            case 1, 2: playSegment(&reader)
            case 3: playDatagram(&reader)
            case 4: playEcho(&reader)
            case 5: clock = clock.advanced(milliseconds: Int64(reader.number() ?? 0) * 4)
            case 6: playServer(&reader)
            case 7: playInbound(&reader)
            case 8: playHostChange(reader.next() ?? 0)
            default: readsLink = (reader.next() ?? 0) % 2 == 0
            }
            turn()
        }
    }

    /// A raw frame, after a header that declares its checksum partial, verified, or neither.
    private func playFrame(_ reader: inout ByteReader) {
        guard let mode = reader.next(), let length = reader.number() else { return }
        var header = VirtioNetHeader()
        if mode & 1 != 0 {
            header = VirtioNetHeader(checksumStart: Int(mode >> 3) * 2, checksumOffset: Int(mode >> 4))
            header.segment(mode & 2 != 0 ? .udp : .tcpv4, size: Int(mode) * 8, headerLength: Int(mode >> 2))
        } else if mode & 4 != 0 {
            header.flags = .dataValid
        }
        send(reader.take(Int(length)), header)
    }

    private func playSegment(_ reader: inout ByteReader) {
        guard let place = reader.next(), let flags = reader.next(), let sequence = reader.next(),
            let acknowledgment = reader.next(), let window = reader.number(), let length = reader.number()
        else { return }
        let number = Int(place) % connections.count
        let flagSet = TCPFlags(rawValue: flags)
        // Most differences are zero; the others are small or very large.
        func moved(_ value: UInt32, _ by: UInt8) -> UInt32 {
            by < 128 ? value : value &+ UInt32(bitPattern: Int32(Int8(bitPattern: by)) << (by & 1 == 0 ? 0 : 20))
        }
        let remotePort = place & 0x80 == 0 ? Self.servers.streamPort : UInt16(place) % 3
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: Self.guest), destination: IPv6Address(mapping: Self.host),
            ipProtocol: .tcp)
        let isSyn = flagSet.contains(.syn)
        let header = TCPHeader(
            sourcePort: 40000 + UInt16(number), destinationPort: remotePort,
            sequence: moved(connections[number].next, sequence),
            acknowledgment: flagSet.contains(.ack) ? moved(connections[number].expected, acknowledgment) : 0,
            flags: flagSet, window: window,
            options: isSyn
                ? TCPOptions(maximumSegmentSize: UInt16(place) << 4, windowScale: place & 0x10 == 0 ? nil : place & 15)
                : TCPOptions())
        let count = min(Int(length), 60_000)
        send(
            Self.frame(ip, headerLength: header.headerLength, payloadLength: count) { span, offset in
                header.write(into: &span, at: offset, ip: ip, payloadLength: count)
                    .finish(in: &span, payloadLength: count)
            })
        guard sequence < 128 else { return }
        connections[number].next &+= UInt32(count) &+ (isSyn || flagSet.contains(.fin) ? 1 : 0)
    }

    private func playDatagram(_ reader: inout ByteReader) {
        guard let place = reader.next(), let length = reader.number() else { return }
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: Self.guest), destination: IPv6Address(mapping: Self.host),
            ipProtocol: .udp, hopLimit: place & 0x40 == 0 ? 64 : place & 3)
        let count = min(Int(length), 60_000)
        let header = UDPHeader(
            sourcePort: 41000 + UInt16(place % 16),
            destinationPort: place & 0x80 == 0 ? Self.servers.datagramPort : place & 1 == 0 ? 53 : 1,
            payloadLength: count)
        send(
            Self.frame(ip, headerLength: UDPHeader.length, payloadLength: count) { span, offset in
                header.write(into: &span, at: offset, ip: ip).finish(in: &span, payloadLength: count)
            })
    }

    private func playEcho(_ reader: inout ByteReader) {
        guard let place = reader.next() else { return }
        let ip = IPHeader(
            .v4, source: IPv6Address(mapping: Self.guest), destination: IPv6Address(mapping: Self.host),
            ipProtocol: .icmp)
        var frame = [UInt8](repeating: 0, count: 300)
        var span = frame.mutableSpan
        let body = [UInt8](repeating: place, count: Int(place % 64))
        let count = ICMPHeader(type: ICMPv4Type.echoRequest, identifier: UInt16(place % 16), sequence: UInt16(place))
            .writeFrame(into: &span, body: body.span, ip: ip, to: .defaultGateway, from: Self.guestMAC)
        send(Array(frame[..<count]))
    }

    /// A server does something with one of the connections that it has accepted, or with a datagram.
    private func playServer(_ reader: inout ByteReader) {
        guard let what = reader.next() else { return }
        if what & 0x80 != 0 {
            Self.servers.answerDatagram(&buffer)
            return
        }
        guard !accepted.isEmpty else { return }
        let position = Int(what >> 3) % accepted.count
        let socket = accepted[position]
        switch what % 8 {
        case 0, 1: _ = Glibc.send(socket, buffer, Int(what) << 6, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
        case 2: _ = Glibc.send(socket, buffer, 1, CInt(MSG_NOSIGNAL | MSG_DONTWAIT | MSG_OOB))
        case 3, 4: _ = recv(socket, &buffer, buffer.count, CInt(MSG_DONTWAIT))
        case 5: shutdown(socket, CInt(SHUT_WR))
        default:
            HostSocket.abort(socket)
            accepted.remove(at: position)
        }
    }

    /// A client of a forwarded port: a connection to the servers stands for it, whose other end is accepted as well.
    private func playInbound(_ reader: inout ByteReader) {
        guard let place = reader.next() else { return }
        guard let socket = Self.servers.connect(), let peer = HostSocket.localEndpoint(socket) else { return }
        forwarder.withPath { path in
            path.now = clock
            if !path.openForwarded(socket, from: peer, to: 40000 + UInt16(place % 4), at: nil) {
                HostSocket.abort(socket)
            }
        }
    }

    private func playHostChange(_ number: UInt8) {
        let rules = Self.rules(number)
        forwarder.withPath { path in
            path.now = clock
            path.translator = Translator(rules: rules)
            path.seen.adopt(rules)
            if number & 4 != 0 {
                _ = path.endOrMoveFlows(at: [IPv6Address(mapping: .loopback)], present: number & 8 == 0 ? nil : [])
            }
            if number & 16 != 0 { _ = path.connectionCounts([IPv6Address(mapping: Self.guest)]) }
        }
    }

    // MARK: The link and the loop

    private func send(_ frame: [UInt8], _ header: VirtioNetHeader = VirtioNetHeader()) {
        var bytes = [UInt8](repeating: 0, count: VirtioNetHeader.length)
        var span = bytes.mutableSpan
        header.write(into: &span)
        bytes += frame
        // Frames without room are lost, as on any link.
        _ = bytes.withUnsafeBytes(link.send)
    }

    /// A frame whose payload is zeros, with room for a transport header.
    private static func frame(
        _ ip: IPHeader, headerLength: Int, payloadLength: Int, _ write: (inout MutableSpan<UInt8>, Int) -> Void
    ) -> [UInt8] {
        let length = headerLength + payloadLength
        var frame = [UInt8](repeating: 0, count: EthernetHeader.length + ip.length + length)
        var span = frame.mutableSpan
        let offset = ip.writeFrame(into: &span, to: .defaultGateway, from: guestMAC, payloadLength: length)
        write(&span, offset)
        return frame
    }

    /// One turn of the loop, then the automatic reactions of the namespace and the servers.
    private func turn() {
        if link.isReady { forwarder.ready(EventToken(kind: TokenKind.link), .readable, now: clock) }
        do { try loop.run(sink: self) } catch { fatalError("\(error)") }
        while let socket = Self.servers.accept() {
            if accepted.count < 8 { accepted.append(socket) } else { HostSocket.abort(socket) }
        }
        if readsLink { collect() }
        look()
    }

    private func collect() {
        while let count = buffer.withUnsafeMutableBytes(link.take) {
            framesOut += 1
            precondition(count >= VirtioNetHeader.length + EthernetHeader.length, "a frame of \(count) bytes")
            let frame = Array(buffer[VirtioNetHeader.length..<count])
            // A frame to an invented source may be refused by the classification; accepted frames must be valid.
            guard let summary = try? FrameSummary(frame.span), summary.kind == .tcp else { continue }
            let number = Int(summary.destinationPort) - 40000
            guard connections.indices.contains(number) else { continue }
            if summary.tcpFlags.contains(.syn) {
                connections[number].expected = summary.tcpSequence &+ 1
            } else if summary.tcpSequence == connections[number].expected {
                connections[number].expected &+= UInt32(summary.payloadLength)
                if summary.tcpFlags.contains(.fin) { connections[number].expected &+= 1 }
            }
        }
    }

    /// Checks the invariants.
    private func look() {
        forwarder.withPath { path in
            precondition(path.table.count <= Self.maximumFlows, "\(path.table.count) flows")
            var listed = 0
            for kind in FlowKind.allCases { listed += path.table.shares.count(of: kind) }
            precondition(listed == path.table.count, "\(listed) flows are listed, of \(path.table.count)")
            mostFlows = max(mostFlows, path.table.count)
            mostEstablished = max(mostEstablished, path.table.shares.count(of: .connection))
            largestBacklog = max(largestBacklog, path.backlog.used)
        }
    }

    /// Ends all remaining flows, and checks that nothing is left.
    func end() {
        readsLink = true
        collect()
        forwarder.withPath { path in
            path.now = clock
            _ = path.resetFlows { _ in true }
            precondition(path.table.count == 0, "\(path.table.count) flows stay")
            precondition(path.backlog.used == 0 && path.backlog.flows == 0, "\(path.backlog.used) chunks stay")
        }
        for socket in accepted { HostSocket.abort(socket) }
        accepted = []
        while let socket = Self.servers.accept() { HostSocket.abort(socket) }
    }

    // MARK: EventSink

    func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        forwarder.ready(token, readiness, now: clock)
    }

    func batchEnded(now: MonotonicTime) {
        forwarder.batchEnded(now: clock)
        loop.stop()
    }

    /// The loop never waits.
    var deadline: MonotonicTime? { MonotonicTime(nanoseconds: 0) }

    func deadlineReached(now: MonotonicTime) {
        if let deadline = forwarder.deadline, deadline <= clock { forwarder.deadlineReached(now: clock) }
    }

    // MARK: The configuration

    /// The gateway's address is mapped to the host's loopback, unless the number selects no mapping.
    private static func rules(_ number: UInt8) -> TranslationRules {
        var rules = TranslationRules()
        rules.families.v4.isEnabled = number & 1 == 0
        rules.families.v4.guestAddress = .v4(guest)
        rules.families.v4.ownAddress = .v4(host)
        rules.families.v4.gateway = .v4(host)
        rules.families.v4.hostLoopback = number & 2 == 0 ? .v4(host) : nil
        rules.mtu = number & 32 == 0 ? 65520 : 1280
        return rules
    }

    private static let settings: ServiceSettings = {
        var settings = ServiceSettings()
        settings.services = .all
        settings.v4.isEnabled = true
        settings.v4.guestAddress = Prefix(.v4(guest), length: 24)
        settings.v4.serverAddress = host
        settings.v4.guestAddresses = [guest]
        settings.v4.ownAddresses = [host]
        settings.v6.isEnabled = true
        settings.v6.ownAddress = IPv6Address("fe80::1")
        return settings
    }()
}

/// Servers on the host's loopback: a stream that is accepted, and datagrams that are answered.
private struct LoopbackServers: @unchecked Sendable {
    // @unchecked: descriptors that are never closed.
    private let listener: CInt
    private let datagrams: CInt
    let streamPort: UInt16
    let datagramPort: UInt16

    init() {
        func bound(_ type: CInt) -> CInt {
            guard let number = try? HostSocket.open(.v4, type: type),
                (try? Endpoint(address: IPv6Address(mapping: .loopback), port: 0).bind(number)) != nil
            else { preconditionFailure("no socket on the loopback") }
            return number
        }
        listener = bound(HostSocket.stream)
        datagrams = bound(HostSocket.datagram)
        // Small, so that backlogs occur.
        HostSocket.setIfPossible(listener, SOL_SOCKET, SO_RCVBUF, 4096)
        precondition((try? HostSocket.listen(listener, backlog: 64)) != nil)
        streamPort = HostSocket.localEndpoint(listener)?.port ?? 0
        datagramPort = HostSocket.localEndpoint(datagrams)?.port ?? 0
    }

    func accept() -> CInt? {
        let number = Glibc.accept(listener, nil, nil)
        if number >= 0 { _ = fcntl(number, F_SETFD, FD_CLOEXEC) }
        return number >= 0 ? number : nil
    }

    func connect() -> CInt? {
        let target = Endpoint(address: IPv6Address(mapping: .loopback), port: streamPort)
        return try? HostSocket.connect(to: target, type: HostSocket.stream, source: nil, device: nil)
    }

    /// Returns a received datagram to its sender.
    func answerDatagram(_ buffer: inout [UInt8]) {
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var address = sockaddr_in()
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { peer in
                let count = recvfrom(datagrams, &buffer, buffer.count, CInt(MSG_DONTWAIT), peer, &length)
                if count >= 0 { _ = sendto(datagrams, buffer, count, CInt(MSG_DONTWAIT), peer, length) }
            }
        }
    }
}

/// Bytes taken from the front of an input.
private struct ByteReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func next() -> UInt8? {
        guard position < bytes.count else { return nil }
        position += 1
        return bytes[position - 1]
    }

    mutating func number() -> UInt16? {
        guard let high = next(), let low = next() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    /// At most this number of the remaining bytes.
    mutating func take(_ count: Int) -> [UInt8] {
        let end = min(position + count, bytes.count)
        defer { position = end }
        return Array(bytes[position..<end])
    }
}
