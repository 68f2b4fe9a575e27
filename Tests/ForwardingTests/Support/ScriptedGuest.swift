// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing
import Wire

@testable import Forwarding

/// The namespace's TCP, as small as the protocol allows: sends a stream, takes one, repeats what is not acknowledged.
struct ScriptedGuest {
    struct Segment {
        var flags: TCPFlags
        var sequence: UInt32
        var acknowledgment: UInt32
        var window: UInt16
        var options = TCPOptions()
        var payload: [UInt8] = []
    }

    let initial: UInt32
    /// What is to be sent, and FIN after it.
    let data: [UInt8]
    /// The room for what the program has not read.
    let capacity: Int
    let mss: UInt16
    let scale: UInt8

    var unacknowledged: UInt32
    var next: UInt32
    /// The right edge of the window that was offered to us.
    var edge: UInt32
    var expected: UInt32 = 0
    var received: [UInt8] = []
    var unread = 0
    var isOpen = false
    var isReset = false
    var hasFin = false
    var synAnswers = 0
    /// The farthest right edge that we have offered.
    private(set) var offered: UInt32 = 0
    private var theirScale: UInt32 = 0

    init(initial: UInt32, data: [UInt8], capacity: Int, mss: UInt16, scale: UInt8) {
        self.initial = initial
        self.data = data
        self.capacity = capacity
        self.mss = mss
        self.scale = scale
        unacknowledged = initial
        next = initial &+ 1
        edge = initial &+ 1
    }

    /// The number behind our FIN.
    var last: UInt32 { initial &+ 2 &+ UInt32(data.count) }
    var isAcknowledged: Bool { unacknowledged == last }

    private var window: UInt16 { UInt16(min((capacity - unread) >> Int(scale), 65535)) }

    private mutating func segment(_ flags: TCPFlags, at sequence: UInt32, _ payload: [UInt8] = []) -> Segment {
        let right = expected &+ UInt32(window) << UInt32(scale)
        if isAfter(right, offered) || offered == 0 { offered = right }
        return Segment(flags: flags, sequence: sequence, acknowledgment: expected, window: window, payload: payload)
    }

    var syn: Segment {
        Segment(
            flags: .syn, sequence: initial, acknowledgment: 0, window: UInt16(min(capacity, 65535)),
            options: TCPOptions(maximumSegmentSize: mss, windowScale: scale))
    }

    mutating func acknowledge() -> Segment { segment(.ack, at: next) }

    /// The next segment of data, of `size` bytes at most, or FIN; nil if the window or the stream is at its end.
    mutating func push(_ size: Int) -> Segment? {
        guard isOpen else { return nil }
        let start = Int(next &- initial &- 1)
        guard start < data.count else {
            guard start == data.count else { return nil }
            defer { next &+= 1 }
            return segment([.fin, .ack], at: next)
        }
        let count = min(size, data.count - start, max(Int(Int32(bitPattern: edge &- next)), 0))
        guard count > 0 else { return nil }
        defer { next &+= UInt32(count) }
        let isLast = start + count == data.count && size % 2 == 0
        defer { if isLast { next &+= 1 } }
        return segment(isLast ? [.fin, .ack] : .ack, at: next, Array(data[start..<start + count]))
    }

    /// Repeats the first of what is not acknowledged, or asks for a window.
    mutating func timeout() -> Segment? {
        guard isOpen else { return syn }
        if isAcknowledged { return nil }
        next = unacknowledged
        return push(Int(mss)) ?? segment(.ack, at: unacknowledged &- 1)
    }

    /// Takes a segment; returns the answer.
    mutating func take(_ sent: ScriptedFlow.Sent) -> Segment? {
        let header = sent.header
        if header.flags.contains(.rst) {
            guard header.sequence == expected || !isOpen else { return acknowledge() }
            isReset = true
            return nil
        }
        guard header.flags.contains(.ack) else { return nil }
        if header.flags.contains(.syn) {
            if !isOpen {
                isOpen = true
                expected = header.sequence &+ 1
                unacknowledged = header.acknowledgment
                edge = header.acknowledgment &+ UInt32(header.window)
                theirScale = UInt32(header.options.windowScale ?? 0)
            }
            return acknowledge()
        }
        guard isOpen else { return nil }
        #expect(!isAfter(header.acknowledgment, last), "acknowledges what was never sent")
        if isAfter(header.acknowledgment, unacknowledged) {
            unacknowledged = header.acknowledgment
            if isBefore(next, unacknowledged) { next = unacknowledged }
        }
        let right = header.acknowledgment &+ UInt32(header.window) << theirScale
        if isAfter(right, edge) { edge = right }
        let length = UInt32(sent.payload.count)
        if length > 0 {
            #expect(!isAfter(header.sequence &+ length, offered), "sends beyond the window")
        }
        let isBeforeNext = isBefore(header.sequence, expected)
        guard length > 0 || header.flags.contains(.fin) else { return isBeforeNext ? acknowledge() : nil }
        let known = Int(Int32(bitPattern: expected &- header.sequence))
        guard known >= 0, known <= sent.payload.count, !hasFin else { return acknowledge() }
        let fresh = sent.payload[known...].prefix(capacity - unread)
        received += fresh
        unread += fresh.count
        expected &+= UInt32(fresh.count)
        if header.flags.contains(.fin), known + fresh.count == sent.payload.count {
            expected &+= 1
            hasFin = true
        }
        return acknowledge()
    }
}
