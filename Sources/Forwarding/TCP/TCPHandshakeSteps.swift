// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// How TCP flows begin.
//
// A SYN from the namespace starts the connection of a host socket and is answered only when the result is known: with
// SYN-ACK, a reset for "refused", an ICMP error for "unreachable", nothing for a time-out. So programs in the namespace
// get the errno that they would get on the host. A connection that was accepted on the host (a forwarded port) starts
// with a SYN to the namespace.

internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension Flow {
    /// Begins a connection that the namespace opens; the caller then connects the host socket.
    mutating func beginOutbound(_ syn: TCPSegment, options: TCPOptions, initial: UInt32) {
        begin(options, initial: initial)
        state = .connecting
        receiveNext = syn.sequence &+ 1
        receiveEdge = receiveNext
        sendWindow = UInt32(syn.window)
    }

    /// Begins a connection that the host has opened: a SYN is sent to the namespace.
    mutating func beginInbound(initial: UInt32) -> TCPSteps {
        begin(TCPOptions(), initial: initial)
        state = .synSent
        flags.insert(.inbound)
        return sendSyn()
    }

    private mutating func begin(_ options: TCPOptions, initial: UInt32) {
        sendUnacknowledged = initial
        sendNext = initial
        sendHighest = initial
        adopt(options)
    }

    /// Stores what the namespace's SYN or SYN-ACK offers.
    private mutating func adopt(_ options: TCPOptions) {
        // With a segment size of 0 nothing could be sent; 88 is the least that Linux accepts (TCP_MIN_MSS). A segment
        // must also fit a packet.
        mss = min(max(options.maximumSegmentSize ?? 536, 88), UInt16(key.largestSegment))
        if let scale = options.windowScale {
            windowScale = scale
            flags.insert(.scales)
        } else {
            windowScale = 0
            flags.remove(.scales)
        }
    }

    /// The host socket is connected: the namespace's SYN is answered.
    mutating func hostConnected() -> TCPSteps {
        state = .synReceived
        // For a resolver, the field has counted the servers that were tried.
        retries = 0
        return sendSynAck()
    }

    /// The host socket cannot be connected: the namespace receives the error that the host's kernel would have
    /// reported.
    mutating func hostRefused(_ error: Errno) -> TCPSteps {
        var steps = TCPSteps()
        switch error {
        case .networkUnreachable, .addressNotAvailable, .networkDown: steps.unreachable = .network
        case .noRouteToHost, .hostIsDown: steps.unreachable = .host
        case .permissionDenied, .notPermitted: steps.unreachable = .prohibited
        // The namespace's own SYN time-out ends at about the same time.
        case .timedOut: break
        // The namespace will try again by itself.
        case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .noMemory: steps.drop = .socket
        default: steps.send([.rst, .ack], at: 0)
        }
        steps.actions.insert(.close)
        return steps
    }

    /// Takes a segment while the handshake is not complete.
    ///
    /// - Parameters:
    ///   - segment: The segment.
    ///   - options: Its options, which have a meaning with SYN only.
    ///   - now: The moment in nanoseconds.
    /// - Returns: The steps.
    mutating func receiveInHandshake(_ segment: TCPSegment, options: TCPOptions, at now: Int64) -> TCPSteps {
        activity = now
        switch state {
        case .connecting:
            // The SYN is repeated when a connection is slow; a reset withdraws the attempt.
            var steps = TCPSteps()
            if segment.flags.contains(.rst), segment.sequence == receiveNext { steps.actions = .abort }
            return steps
        case .synSent:
            return receiveAnswer(segment, options: options)
        case .synReceived:
            return receiveHandshakeEnd(segment, at: now)
        case .established, .datagram, .free:
            return TCPSteps()
        }
    }

    /// Processes the namespace's answer to our SYN (RFC 9293 §3.10.7.3).
    private mutating func receiveAnswer(_ segment: TCPSegment, options: TCPOptions) -> TCPSteps {
        var steps = TCPSteps()
        guard segment.flags.contains(.ack), segment.acknowledgment == sendNext else {
            if !segment.flags.contains(.rst) { steps.actions = .refuse }
            return steps
        }
        if segment.flags.contains(.rst) {
            steps.actions = .abort
            return steps
        }
        guard segment.flags.contains(.syn) else { return steps }
        adopt(options)
        receiveNext = segment.sequence &+ 1
        receiveEdge = receiveNext
        sendUnacknowledged = segment.acknowledgment
        sendWindow = UInt32(segment.window)
        establish(&steps)
        flags.insert(.needsAck)
        return steps
    }

    /// Processes a segment that may be the third of the handshake (RFC 9293 §3.10.7.4, SYN-RECEIVED).
    private mutating func receiveHandshakeEnd(_ segment: TCPSegment, at now: Int64) -> TCPSteps {
        var steps = TCPSteps()
        if segment.flags.contains(.rst) {
            // Any other number may be an attacker's guess (RFC 5961 §3.2).
            if segment.sequence == receiveNext { steps.actions = .abort } else { scheduleAcknowledgment(&steps) }
            return steps
        }
        if segment.flags.contains(.syn) {
            guard segment.sequence &+ 1 == receiveNext else { return steps }
            return sendSynAck(again: true)
        }
        guard segment.flags.contains(.ack) else { return steps }
        guard segment.acknowledgment == sendHighest else {
            steps.actions = .refuse
            return steps
        }
        sendUnacknowledged = segment.acknowledgment
        sendNext = segment.acknowledgment
        establish(&steps)
        // The segment may carry data, and its window is the first one that is scaled.
        receive(segment, at: now, into: &steps)
        return steps
    }

    /// The handshake is complete.
    private mutating func establish(_ steps: inout TCPSteps) {
        state = .established
        retries = 0
        flags.insert(.readable)
        steps.actions.formUnion([.countAsConnection, .enqueue])
        steps.wait(TCPTime.keepalive)
    }

    /// Sends SYN, for the first time or again.
    mutating func sendSyn() -> TCPSteps {
        receiveNext = 0
        receiveEdge = 65535
        return sendFirst(.syn)
    }

    /// Sends SYN-ACK; with `again` because the namespace has repeated its SYN, which does not move the deadline.
    mutating func sendSynAck(again: Bool = false) -> TCPSteps {
        var steps = sendFirst([.syn, .ack])
        if again { steps.actions.remove(.wait) }
        return steps
    }

    private mutating func sendFirst(_ first: TCPFlags) -> TCPSteps {
        var steps = TCPSteps()
        sendNext = sendUnacknowledged &+ 1
        sendHighest = sendNext
        steps.send(first, at: sendUnacknowledged)
        steps.wait(TCPTime.handshake << Int64(retries))
        return steps
    }

    /// An initial sequence number that others cannot guess and that grows with time (RFC 6528).
    func initialSequence(at now: Int64) -> UInt32 {
        hash &* 0x9E37_79B1 &+ UInt32(truncatingIfNeeded: now >> 12)
    }
}
