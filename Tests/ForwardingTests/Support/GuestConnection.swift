// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// The namespace's end of a TCP connection, played by the test segment by segment.
final class GuestConnection {
    let world: World
    let path: GuestFrame.Path
    /// The sequence number of our SYN.
    let initial: UInt32
    /// The next sequence number of ours.
    var next: UInt32
    /// The sequence number that we expect.
    var expected: UInt32 = 0
    /// The window field of what we send, scaled by ``scale``.
    var window: UInt16 = 4096
    var scale: UInt8?
    var mss: UInt16?
    /// What came in order.
    var received: [UInt8] = []
    /// The highest acknowledgment number that came.
    var acknowledged: UInt32
    /// The window that was offered last, in bytes.
    var offered = 0
    var hasFinished = false
    var isReset = false
    /// Segments that came since the last ``clear()``, in order.
    var segments: [GuestFrame] = []
    private var theirScale = 0

    init(
        _ world: World, family: AddressFamily = .v4, port: UInt16, from guestPort: UInt16 = 40000,
        initial: UInt32 = 1000, mss: UInt16? = 1460, scale: UInt8? = 5
    ) {
        self.world = world
        path = GuestFrame.Path(family, from: guestPort, to: port)
        self.initial = initial
        self.mss = mss
        self.scale = scale
        next = initial
        acknowledged = initial
    }

    /// The bytes of payload that our sequence numbers say we have sent.
    var sentCount: UInt32 { next &- initial &- 1 }

    // MARK: Sending

    /// Sends a segment at ``next`` unless told otherwise; moves nothing.
    func send(
        _ flags: TCPFlags, at sequence: UInt32? = nil, acknowledging acknowledgment: UInt32? = nil,
        window: UInt16? = nil, options: TCPOptions = TCPOptions(), payload: some Collection<UInt8> = []
    ) {
        world.send(
            GuestFrame.tcp(
                path, flags, sequence: sequence ?? next, acknowledgment: acknowledgment ?? expected,
                window: window ?? self.window, options: options, payload: payload))
    }

    /// The SYN's options.
    var options: TCPOptions { TCPOptions(maximumSegmentSize: mss, windowScale: scale) }

    func sendSyn() {
        send(.syn, at: initial, acknowledging: 0, options: options)
        next = initial &+ 1
    }

    /// Acknowledges all that came.
    func acknowledge() { send(.ack) }

    /// Sends payload as one segment and moves on.
    func push(_ bytes: some Collection<UInt8>) {
        send([.ack, .psh], payload: bytes)
        next &+= UInt32(bytes.count)
    }

    /// Sends FIN and moves on.
    func finish() {
        send([.ack, .fin])
        next &+= 1
    }

    // MARK: Receiving

    /// Takes the connection's segments out of the world and does with them what a receiver does, but for answering.
    func take() {
        world.collect()
        var rest: [GuestFrame] = []
        for frame in world.frames {
            let isOurs =
                frame.isTCP && frame.sourcePort == path.remotePort && frame.destinationPort == path.guestPort
                && frame.packet.source == path.remote && frame.packet.destination == path.guest
            if isOurs { accept(frame) } else { rest.append(frame) }
        }
        world.frames = rest
    }

    private func accept(_ frame: GuestFrame) {
        segments.append(frame)
        if frame.flags.contains(.rst) {
            isReset = true
            return
        }
        if frame.flags.contains(.ack) {
            let number = frame.acknowledgment
            if isAfter(number, acknowledged) { acknowledged = number }
            if isAfter(number, next) { Issue.record("acknowledges \(number), but only \(next) was sent") }
        }
        if frame.flags.contains(.syn) {
            expected = frame.sequence &+ 1
            theirScale = scale == nil ? 0 : Int(frame.packet.tcpOption(3)?.first ?? 0)
            offered = Int(frame.window)
            return
        }
        offered = Int(frame.window) << theirScale
        let size = Int(mss ?? 536)
        if frame.header.segmentation == .none {
            if frame.payload.count > size { Issue.record("a segment of \(frame.payload.count) bytes") }
        } else if Int(frame.header.segmentSize) > size {
            Issue.record("segments of \(frame.header.segmentSize) bytes")
        }
        let skip = Int(Int32(bitPattern: expected &- frame.sequence))
        var end = frame.sequence &+ UInt32(frame.payload.count)
        if skip >= 0 && skip < frame.payload.count {
            received += frame.payload[skip...]
            expected = end
        }
        if frame.flags.contains(.fin) {
            end &+= 1
            if end &- 1 == expected {
                expected = end
                hasFinished = true
            }
        }
    }

    /// Forgets the segments seen so far.
    func clear() {
        take()
        segments = []
    }

    /// Turns until a condition of this connection holds, taking its segments on the way.
    func run(until what: @autoclosure () -> String, limit: Int64 = 20_000, _ condition: () throws -> Bool) throws {
        try world.run(until: "\(what()); segments: \(segments.suffix(8))", limit: limit) {
            take()
            return try condition()
        }
    }

    /// Waits for a segment, which ends up as the last of ``segments``.
    @discardableResult
    func nextSegment(_ what: String, _ condition: (GuestFrame) -> Bool = { _ in true }) throws -> GuestFrame {
        let seen = segments.count
        var found: GuestFrame?
        try run(until: what) {
            found = segments.dropFirst(seen).first(where: condition)
            return found != nil
        }
        return try #require(found)
    }

    /// Receives until a stream is complete, acknowledging whatever comes.
    func receive(_ count: Int, work: () -> Void = {}) throws {
        var last = expected
        try run(until: "\(count) bytes, \(received.count) have come") {
            work()
            if expected != last {
                acknowledge()
                last = expected
            }
            return received.count >= count
        }
    }

    // MARK: Opening

    /// Opens the connection to a server of the test: SYN, SYN-ACK, ACK.
    static func open(
        _ world: World, to server: HostEnd, family: AddressFamily = .v4, from guestPort: UInt16 = 40000,
        initial: UInt32 = 1000, mss: UInt16? = 1460, scale: UInt8? = 5
    ) throws -> (guest: GuestConnection, host: HostEnd) {
        let connection = GuestConnection(
            world, family: family, port: server.port, from: guestPort, initial: initial, mss: mss, scale: scale)
        connection.sendSyn()
        try connection.nextSegment("SYN-ACK") { $0.flags == [.syn, .ack] }
        connection.acknowledge()
        try world.settle()
        var host: HostEnd?
        try world.run(until: "a connection at the server") {
            host = server.accept()
            return host != nil
        }
        connection.clear()
        return (connection, try #require(host))
    }
}
